"""scheduling: what secured sockets hold, and what each of them gets of a turn.

The problem: a step of a handshake costs fifty times what a message costs. With several steps a turn open connections
wait (with five, their p99 latency was four times as long under a flood, and no more handshakes were done); with one,
new connections run into their timeout where turns are long.
The rule: open connections go first, and wait for one step. Where everything else takes long (events, handlers, an
asyncio loop's own callbacks), handshakes get as much time as that took since they last had their part and the time
before, the shorter of both, SHAKING_MOST at most. A step counts for STEP_LEAST, whatever it took, so that there is more
than one only where nobody can tell, and never more than STEPS; but for turns that are LONG one after the other, which a
busy machine alone does not make: each then allows for twice as many. `secure_begin`, most of what accepting costs, is
the handshakes' own time.

What open connections hold gets its own part, TELLING_MOST: a slab that was not opened to its end, since there were
thousands of records without data in it, goes on in the next turn. Both are served in the order in which they came, one
of each kind a turn at least.
"""
from libc.stdint cimport uint64_t
from libc.string cimport memmove

from pybuntcp._c cimport uv

cdef enum:
    SHAKING_MOST = 20000000     # nanoseconds of a turn for handshakes
    STEP_LEAST = 3000000
    STEPS = 5
    LONG = 15000000             # STEPS times STEP_LEAST
    LONG_TURNS = 3              # may be chance
    TELLING_MOST = 5000000      # nanoseconds of a turn for what open connections hold


cdef struct share_t:
    # A part of a turn, in nanoseconds.
    uint64_t most
    uint64_t least              # ... that one piece of work counts for
    uint64_t spent


cdef void secure_forget(socket_t* s) noexcept nogil:
    """It is gone, and no turn may look at it."""
    cdef roll_t* held = &loop_of(s).held
    cdef size_t i = 0
    while held.at[i] != s:
        i += 1
    held.count -= 1
    memmove(held.at + i, held.at + i + 1, (held.count - i) * sizeof(socket_t*))
    s.flags &= ~S_QUEUED


cdef void secure_turn(loop_t* loop) noexcept nogil:
    """Go on with what is held, as far as that is allowed now: first come, first served."""
    cdef share_t shares[2]
    cdef size_t count = loop.held.count
    cdef size_t kept = 0
    cdef size_t i
    cdef socket_t* s
    cdef uint64_t now = uv.uv_hrtime()
    secure_share(loop, now, shares)
    for i in range(count):
        s = loop.held.at[i]
        if s.flags & S_CLOSED:
            s.flags &= ~S_QUEUED
        elif not secure_serve(s, &shares[s.flags & S_SECURING != 0], &now):
            loop.held.at[kept] = s
            kept += 1
    memmove(loop.held.at + kept, loop.held.at + count, (loop.held.count - count) * sizeof(socket_t*))
    loop.held.count -= count - kept
    loop.shook_at = now if loop.held.count != 0 else 0
    if loop.held.count != 0:
        loop_again(loop)


cdef void secure_share(loop_t* loop, uint64_t now, share_t* shares) noexcept nogil:
    """What open connections get of this turn, and what handshakes do."""
    cdef uint64_t elsewhere = now - loop.shook_at if loop.shook_at != 0 else 0
    cdef unsigned int doubled
    cdef uint64_t twice = min(elsewhere, loop.elsewhere)
    loop.elsewhere = elsewhere
    loop.long_turns = loop.long_turns + 1 if twice >= LONG else 0
    shares[0].most, shares[0].least = TELLING_MOST, 0
    shares[1].most = min(max(twice, <uint64_t>STEP_LEAST), <uint64_t>SHAKING_MOST)
    shares[1].least = STEP_LEAST
    if loop.long_turns != 0:
        doubled = min(max(loop.long_turns, <unsigned int>LONG_TURNS) - LONG_TURNS, <unsigned int>STEPS)
        shares[1].least = shares[1].most // (STEPS << doubled) + 1
    shares[0].spent = shares[1].spent = 0


cdef bint secure_serve(socket_t* s, share_t* share, uint64_t* now) noexcept nogil:
    """Its turn, as the clock goes on. False: its kind has had its part."""
    cdef uint64_t begun = now[0]
    if share.spent >= share.most:
        return False
    s.flags &= ~S_QUEUED
    secure_go_on(s)
    now[0] = uv.uv_hrtime()
    share.spent += max(now[0] - begun, share.least)
    return True
