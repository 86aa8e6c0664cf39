# cython: language_level=3
"""A clock of planned moments: see clock.pyx. Knows no game."""
from libc.stdint cimport int64_t

from pybuntcp cimport socket_t

ctypedef void (*tick_slot)(void* user, int64_t tick) noexcept nogil
ctypedef void (*over_slot)(void* user) noexcept nogil

cdef struct clock_t:
    int64_t hz
    int64_t most                # ticks, after which it stops by itself
    tick_slot tick              # called with 1, 2, 3 ...
    over_slot over              # called once: no tick will follow
    void* user                  # theirs
    socket_t* socket            # NULL: not open
    int64_t start               # 0: not started; all times are nanoseconds
    int64_t moment              # the next one, counted from the start
    int64_t ticks               # done
    int64_t missed              # moments that passed while a tick was running
    int64_t* late               # owned: of each tick, its start after the planned moment
    int64_t* took               # owned: of each tick, how long it ran

cdef int clock_init(clock_t* clock, int64_t hz, int64_t most) except -1
cdef void clock_free(clock_t* clock) noexcept nogil
cdef object clock_handlers(clock_t* clock, object owner)
cdef void clock_start(clock_t* clock) noexcept nogil
