"""tls_scheduling: which deferred TLS input a turn processes, and how much of it.

The problem: one step of a handshake costs as much as fifty messages. With several steps in a turn, established
connections wait (with five, their p99 latency under a flood was four times as long, and no more handshakes were done);
with one, new connections run into their timeout where turns are long.
The rule: established connections go first, and wait for one step. Where everything else takes long (events, handlers,
an asyncio loop's own callbacks), handshakes get as much time as that took, since they were last served or in the
interval before that, whichever was shorter, and HANDSHAKES_MAX_NS at most. A step counts for at least
HANDSHAKE_STEP_MIN_NS, so there is more than one only where it is not noticed, and never more than HANDSHAKE_STEPS_MAX.
One exception: after LONG_TURNS turns of LONG_TURN_NS in a row, which a busy machine alone does not produce, each
further one doubles that number. `tls_begin`, most of the cost of accepting, counts as time of the handshakes.

Input of established connections gets a part of its own, DELIVERY_MAX_NS: a slab with thousands of records without data
is not processed to its end in one turn, but goes on in the next. Both kinds are served in the order in which they came,
at least one socket of each kind in a turn.

Does not know engines: see tls_input.
"""
from libc.stdint cimport uint64_t
from libc.string cimport memmove

from pybuntcp._c cimport uv


cdef enum:
    HANDSHAKES_MAX_NS = 20000000        # nanoseconds of a turn for handshakes
    HANDSHAKE_STEP_MIN_NS = 3000000     # what a step counts for at least
    HANDSHAKE_STEPS_MAX = 5             # steps in a turn
    LONG_TURN_NS = 15000000             # HANDSHAKE_STEPS_MAX times HANDSHAKE_STEP_MIN_NS
    LONG_TURNS = 3                      # in a row; fewer may be chance
    DELIVERY_MAX_NS = 5000000           # nanoseconds of a turn for input of established connections


cdef struct share_t:
    # A part of a turn, in nanoseconds.
    uint64_t maximum
    uint64_t minimum    # one piece of work counts for at least this
    uint64_t spent


cdef inline uint64_t tls_begin_cost(loop_t* loop) noexcept nogil:
    """A connection object is made, which is most of the cost of accepting. Returns the time now; 0: no handshake waits."""
    return uv.uv_hrtime() if loop.handshakes_served_at != 0 else 0


cdef inline void tls_end_cost(loop_t* loop, uint64_t started) noexcept nogil:
    """It is made: what that took counts as time of the handshakes, and not as other work."""
    if started != 0:
        loop.handshakes_served_at += uv.uv_hrtime() - started


cdef void tls_unqueue(socket_t* s) noexcept nogil:
    """The socket is gone: remove it from the list."""
    cdef socket_list_t* deferred = &loop_of(s).deferred_input
    cdef size_t i = 0
    while deferred.at[i] != s:
        i += 1
    deferred.count -= 1
    memmove(deferred.at + i, deferred.at + i + 1, (deferred.count - i) * sizeof(socket_t*))
    s.flags &= ~S_IN_DEFERRED


cdef void tls_process_pending(loop_t* loop) noexcept nogil:
    """Process deferred input, in the order of the list, as far as this turn has time for it."""
    cdef share_t shares[2]
    cdef size_t count = loop.deferred_input.count
    cdef size_t kept = 0
    cdef size_t i
    cdef socket_t* s
    cdef uint64_t now = uv.uv_hrtime()
    tls_share_turn(loop, now, shares)
    for i in range(count):
        s = loop.deferred_input.at[i]
        if s.flags & S_CLOSED:
            s.flags &= ~S_IN_DEFERRED
        elif not tls_serve(s, &shares[s.flags & S_HANDSHAKE != 0], &now):
            loop.deferred_input.at[kept] = s
            kept += 1
    memmove(loop.deferred_input.at + kept, loop.deferred_input.at + count, (loop.deferred_input.count - count) * sizeof(socket_t*))
    loop.deferred_input.count -= count - kept
    loop.handshakes_served_at = now if loop.deferred_input.count != 0 else 0
    if loop.deferred_input.count != 0:
        loop_request_turn(loop)


cdef void tls_share_turn(loop_t* loop, uint64_t now, share_t* shares) noexcept nogil:
    """The time that established connections ([0]) and handshakes ([1]) get of this turn."""
    cdef uint64_t other_work_ns = now - loop.handshakes_served_at if loop.handshakes_served_at != 0 else 0
    cdef unsigned int doubled
    cdef uint64_t twice = min(other_work_ns, loop.other_work_ns)
    loop.other_work_ns = other_work_ns
    loop.long_turns = loop.long_turns + 1 if twice >= LONG_TURN_NS else 0
    shares[0].maximum, shares[0].minimum = DELIVERY_MAX_NS, 0
    shares[1].maximum = min(max(twice, <uint64_t>HANDSHAKE_STEP_MIN_NS), <uint64_t>HANDSHAKES_MAX_NS)
    shares[1].minimum = HANDSHAKE_STEP_MIN_NS
    if loop.long_turns != 0:
        doubled = min(max(loop.long_turns, <unsigned int>LONG_TURNS) - LONG_TURNS, <unsigned int>HANDSHAKE_STEPS_MAX)
        shares[1].minimum = shares[1].maximum // (HANDSHAKE_STEPS_MAX << doubled) + 1
    shares[0].spent = shares[1].spent = 0


cdef bint tls_serve(socket_t* s, share_t* share, uint64_t* now) noexcept nogil:
    """Process one socket, and advance the clock. False: its kind has used up its time."""
    cdef uint64_t started = now[0]
    if share.spent >= share.maximum:
        return False
    s.flags &= ~S_IN_DEFERRED
    tls_resume(s)
    state_check(s)
    now[0] = uv.uv_hrtime()
    share.spent += max(now[0] - started, share.minimum)
    return True
