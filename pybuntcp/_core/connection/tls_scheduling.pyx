"""tls_scheduling: what secured sockets hold, and what each of them gets of a turn.

The problem: a step of a handshake costs fifty times what a message costs. With several steps a turn open connections
wait (with five, their p99 latency was four times as long under a flood, and no more handshakes were done); with one,
new connections run into their timeout where turns are long.
The rule: open connections go first, and wait for one step. Where everything else takes long (events, handlers, an
asyncio loop's own callbacks), handshakes get as much time as that took since they last had their part and the time
before, the shorter of both, HANDSHAKES_MAX_NS at most. A step counts for HANDSHAKE_STEP_MIN_NS, whatever it took, so that there is more
than one only where nobody can tell, and never more than STEPS; but for turns that are LONG one after the other, which a
busy machine alone does not make: each then allows for twice as many. `tls_begin`, most of what accepting costs, is
the handshakes' own time.

What open connections hold gets its own part, DELIVERY_MAX_NS: a slab that was not opened to its end, since there were
thousands of records without data in it, goes on in the next turn. Both are served in the order in which they came, one
of each kind a turn at least.
"""
from libc.stdint cimport uint64_t
from libc.string cimport memmove

from pybuntcp._c cimport uv


cdef enum:
    HANDSHAKES_MAX_NS = 20000000    # nanoseconds of a turn for handshakes
    HANDSHAKE_STEP_MIN_NS = 3000000
    HANDSHAKE_STEPS_MAX = 5
    LONG_TURN_NS = 15000000         # STEPS times HANDSHAKE_STEP_MIN_NS
    LONG_TURNS = 3                  # may be chance
    DELIVERY_MAX_NS = 5000000       # nanoseconds of a turn for what open connections hold


cdef struct share_t:
    # A part of a turn, in nanoseconds.
    uint64_t maximum
    uint64_t minimum              # ... that one piece of work counts for
    uint64_t spent


cdef void tls_unqueue(socket_t* s) noexcept nogil:
    """It is gone, and no turn may look at it."""
    cdef socket_list_t* held = &loop_of(s).deferred_input
    cdef size_t i = 0
    while held.at[i] != s:
        i += 1
    held.count -= 1
    memmove(held.at + i, held.at + i + 1, (held.count - i) * sizeof(socket_t*))
    s.flags &= ~S_IN_DEFERRED


cdef void tls_process_pending(loop_t* loop) noexcept nogil:
    """Go on with what is held, as far as that is allowed now: first come, first served."""
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
    """What open connections get of this turn, and what handshakes do."""
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
    """Its turn, as the clock goes on. False: its kind has had its part."""
    cdef uint64_t started = now[0]
    if share.spent >= share.maximum:
        return False
    s.flags &= ~S_IN_DEFERRED
    tls_resume(s)
    state_check(s)
    now[0] = uv.uv_hrtime()
    share.spent += max(now[0] - started, share.minimum)
    return True
