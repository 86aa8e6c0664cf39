# cython: language_level=3, cdivision=True
"""The clock: calls `tick` so many times a second, and measures how well it kept its time.

It is a connection, one end of a socketpair, for the sake of its `timeout` slot: `clock_handlers` is to be
given to `connect(fd=...)`. Closing the other end stops it.

Moment n is planned for start + n / hz, whatever became of the ones before, so lateness does not add up. A
moment that has passed a whole period ago is given up and counted: a server that is too slow ticks less
often and never twice in a row to catch up.

`socket_timeout` never rings early, and up to two milliseconds late: it counts in whole ones. So it is asked
to ring that much too early, and the rest is slept. That is the one place where a slot may block, since it
is known for how little: what arrives meanwhile is read after the tick.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec

from pybuntcp cimport handlers_from_slots, new_slots, slots_t, socket_close, socket_t, socket_timeout, socket_user

cdef int64_t SECOND = 1000000000
cdef int64_t EARLY = 2000000


cdef int clock_init(clock_t* clock, int64_t hz, int64_t most) except -1:
    clock.hz = hz
    clock.most = most
    clock.late = <int64_t*>calloc(most, sizeof(int64_t))
    clock.took = <int64_t*>calloc(most, sizeof(int64_t))
    if clock.late == NULL or clock.took == NULL:
        raise MemoryError()
    return 0


cdef void clock_free(clock_t* clock) noexcept nogil:
    free(clock.late)
    free(clock.took)


cdef object clock_handlers(clock_t* clock, object owner):
    """The slots of the clock's connection, and who owns `clock`."""
    cdef slots_t slots = new_slots()
    slots.user = clock
    slots.open = on_open
    slots.data = on_data
    slots.timeout = on_timeout
    slots.close = on_close
    return handlers_from_slots(&slots, None, owner)


cdef void clock_start(clock_t* clock) noexcept nogil:
    """The first tick is a period from now. Once started it is on its way."""
    if clock.start == 0:
        clock.start = now()
        clock.moment = 1
        if clock.socket != NULL:
            clock_arm(clock)


# --- slots

cdef void on_open(socket_t* s) noexcept nogil:
    cdef clock_t* clock = <clock_t*>socket_user(s)
    clock.socket = s
    if clock.start != 0:
        clock_arm(clock)


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Nobody sends anything; but a table needs `data` or `drain`."""


cdef void on_timeout(socket_t* s) noexcept nogil:
    cdef clock_t* clock = <clock_t*>socket_user(s)
    cdef int64_t planned = clock_planned(clock)
    cdef int64_t began = sleep_until(planned)
    clock.tick(clock.user, clock.ticks + 1)
    clock.late[clock.ticks] = began - planned
    clock.took[clock.ticks] = now() - began
    clock.ticks += 1
    if clock.ticks == clock.most:
        socket_close(s)
    else:
        clock_advance(clock)
        clock_arm(clock)


cdef void on_close(socket_t* s, int error) noexcept nogil:
    cdef clock_t* clock = <clock_t*>socket_user(s)
    clock.socket = NULL
    clock.over(clock.user)


# --- the schedule

cdef inline int64_t clock_planned(const clock_t* clock) noexcept nogil:
    return clock.start + clock.moment * SECOND // clock.hz


cdef void clock_advance(clock_t* clock) noexcept nogil:
    """To the next moment, or to the last one that has passed if there are several."""
    cdef int64_t passed = (now() - clock.start) * clock.hz // SECOND
    cdef int64_t following = max(clock.moment + 1, passed)
    clock.missed += following - clock.moment - 1
    clock.moment = following


cdef void clock_arm(clock_t* clock) noexcept nogil:
    """Ring before the planned moment, or as soon as can be: 0 would mean never."""
    cdef double seconds = <double>(clock_planned(clock) - now() - EARLY) / SECOND
    socket_timeout(clock.socket, max(seconds, 1e-9))


cdef int64_t sleep_until(int64_t planned) noexcept nogil:
    """What time it is afterwards; at once if it is late already."""
    cdef int64_t time = now()
    cdef timespec rest
    while time < planned:
        rest.tv_sec = 0
        rest.tv_nsec = <long>(planned - time)
        nanosleep(&rest, NULL)
        time = now()
    return time


cdef inline int64_t now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * SECOND + time.tv_nsec
