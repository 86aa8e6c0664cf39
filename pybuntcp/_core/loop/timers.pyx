"""timers: one timing wheel for all of a loop's deadlines.

Owns `alarm_t`, a list link inside the struct that has the deadline, and `wheel_t`: seven levels of 64 slots, one
millisecond the finest, each level 64 times coarser than the one below. An alarm is put into the level in which its time
first differs from now, and moves down as the wheel turns. So arming and disarming take a few instructions and allocate
nothing, and 100,000 alarms are one libuv timer.
Promises that no alarm fires before its time: deadlines are rounded up, the clock down. An alarm that fires is no longer
armed when its `fire` is called, so `fire` may arm it again.
A loop has two wheels: one for the deadlines of its sockets, and one for timers that are called in the order of their
time, to the nanosecond (see calls). One libuv timer serves both.
Owns also the clock, which `pybuntcp.testing` can turn ahead.
Does not know what the deadlines are for.
"""
from libc.stdint cimport UINT64_MAX, uint64_t
from libc.string cimport memset

from pybuntcp._c cimport uv

cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long)
    int __builtin_clzll(unsigned long long)

cdef enum:
    WHEEL_LEVELS = 7    # 2**42 ms: more than any uptime plus any deadline
    WHEEL_SLOTS = 64
    WHEEL_BITS = 6


ctypedef void (*alarm_fn)(alarm_t*) noexcept nogil

cdef struct alarm_t:
    alarm_t* next
    alarm_t** link  # the pointer that points to this alarm; NULL: not armed
    uint64_t when   # milliseconds of the loop's clock
    alarm_fn fire
    void* owner     # for `fire`

cdef struct wheel_t:
    uint64_t now        # every alarm up to this time has fired
    uint64_t due        # of the sockets' wheel: when the libuv timer expires; UINT64_MAX: it is stopped
    uint64_t used[7]    # one bit for each slot of a level: clear if the slot is empty
    alarm_t* slot[7][64]


cdef void wheel_init(wheel_t* self, uint64_t now) noexcept:
    memset(self, 0, sizeof(wheel_t))
    self.now = now
    self.due = UINT64_MAX


# How far tests have turned the clock ahead, in nanoseconds. Written with the GIL held.
cdef uint64_t _clock_turned = 0


cdef inline uint64_t clock_nanoseconds() noexcept nogil:
    return uv.uv_hrtime() + _clock_turned


cdef void clock_turn(double seconds) noexcept:
    """Turn the clock ahead, for every loop of this process. The caller restarts the wheels."""
    global _clock_turned
    _clock_turned += <uint64_t>(seconds * 1e9)


cdef inline uint64_t clock_now() noexcept nogil:
    """Milliseconds, rounded down."""
    return clock_nanoseconds() // 1000000


cdef inline uint64_t clock_of(loop_t* loop) noexcept nogil:
    """The same as libuv's turn knows it: the time at which its callbacks began, without a call to the kernel."""
    return uv.uv_now(&loop.uv) + _clock_turned // 1000000


cdef inline uint64_t deadline_after(double seconds) noexcept nogil:
    """The first millisecond that is not earlier than `seconds` (at most 30 years) from now."""
    cdef double milliseconds = clock_nanoseconds() / 1e6 + min(seconds, 1e9) * 1e3
    return <uint64_t>milliseconds + 1


cdef void alarm_arm(loop_t* loop, alarm_t* self, uint64_t when) noexcept nogil:
    """Fire at `when`. An alarm that is armed already is moved."""
    alarm_disarm(loop, self)
    self.when = when
    stats_add(&loop.count.armed_timers, 1)
    wheel_place(&loop.wheel, self)
    if self.when < loop.wheel.due:
        wheel_wake(loop, self.when)


cdef void alarm_disarm(loop_t* loop, alarm_t* self) noexcept nogil:
    if self.link == NULL:
        return
    alarm_unlink(self)
    stats_add(&loop.count.armed_timers, -1)


cdef inline void alarm_link(alarm_t* self, alarm_t** head) noexcept nogil:
    """Make it the first of a list."""
    self.next = head[0]
    self.link = head
    if self.next != NULL:
        self.next.link = &self.next
    head[0] = self


cdef inline void alarm_unlink(alarm_t* self) noexcept nogil:
    self.link[0] = self.next
    if self.next != NULL:
        self.next.link = self.link
    self.link = NULL


cdef void wheel_place(wheel_t* self, alarm_t* alarm) noexcept nogil:
    cdef uint64_t when = max(alarm.when, self.now + 1)
    cdef int level = (63 - __builtin_clzll((when ^ self.now) | (WHEEL_SLOTS - 1))) // WHEEL_BITS
    cdef int slot = (when >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1)
    alarm_link(alarm, &self.slot[level][slot])
    self.used[level] |= <uint64_t>1 << slot


cdef bint wheel_next(wheel_t* self, int* level, int* slot, uint64_t* when) noexcept nogil:
    """Find the first slot that may have an alarm, and the time at which it is reached. False: there is no alarm."""
    cdef uint64_t ahead
    cdef int here, i
    for i in range(WHEEL_LEVELS):
        if self.used[i] == 0:
            continue
        # The slots of this level up to `here` are in the past, and empty.
        here = (self.now >> (i * WHEEL_BITS)) & (WHEEL_SLOTS - 1)
        ahead = self.used[i] >> here
        if ahead == 0:
            self.used[i] = 0
            continue
        slot[0] = here + __builtin_ctzll(ahead)
        level[0] = i
        when[0] = (self.now >> ((i + 1) * WHEEL_BITS) << ((i + 1) * WHEEL_BITS)) \
            + (<uint64_t>slot[0] << (i * WHEEL_BITS))
        return True
    return False


cdef void wheel_turn(loop_t* loop, wheel_t* self, uint64_t until) noexcept nogil:
    """Fire every alarm that is due up to `until`."""
    cdef uint64_t when = 0
    cdef int level = 0
    cdef int slot = 0
    cdef alarm_t* taken
    while wheel_next(self, &level, &slot, &when) and when <= until:
        taken = self.slot[level][slot]
        self.slot[level][slot] = NULL
        self.used[level] &= ~(<uint64_t>1 << slot)
        self.now = max(self.now, when)
        if taken != NULL:
            taken.link = &taken
            wheel_fire(loop, self, &taken)
    self.now = max(self.now, until)


cdef void wheel_fire(loop_t* loop, wheel_t* self, alarm_t** head) noexcept nogil:
    """Fire the alarms of a slot that was reached; those that are not due yet move to a finer level."""
    cdef alarm_t* alarm
    while head[0] != NULL:
        alarm = head[0]
        alarm_unlink(alarm)
        if alarm.when > self.now:
            wheel_place(self, alarm)
            continue
        stats_add(&loop.count.armed_timers, -1)
        alarm.fire(alarm)


cdef void on_alarm(uv.uv_timer_t* handle) noexcept nogil:
    cdef loop_t* loop = loop_of(handle)
    cdef uint64_t when = 0
    cdef int level = 0
    cdef int slot = 0
    loop.wheel.due = UINT64_MAX
    wheel_turn(loop, &loop.wheel, clock_of(loop))
    timers_call(loop)
    if wheel_next(&loop.wheel, &level, &slot, &when):
        wheel_wake(loop, when)
    timers_wake(loop)


cdef void wheel_restart(loop_t* loop) noexcept nogil:
    """The clock was turned: look at once what is due by now."""
    if loop.wheel.due != UINT64_MAX:
        loop.wheel.due = UINT64_MAX
        wheel_wake(loop, 0)


cdef void wheel_stop(loop_t* loop) noexcept nogil:
    """Stop the libuv timer, which may be set for an alarm that was disarmed meanwhile. No alarm is armed."""
    loop.wheel.due = UINT64_MAX
    uv.uv_timer_stop(&loop.alarm)


cdef void wheel_wake(loop_t* loop, uint64_t when) noexcept nogil:
    """Set the libuv timer to `when`, unless it expires earlier. libuv counts from the loop's cached time."""
    cdef uint64_t now = clock_of(loop)
    if when >= loop.wheel.due:
        return
    loop.wheel.due = when
    uv.uv_timer_start(&loop.alarm, on_alarm, when - now if when > now else 0, 0)
    loop_wakeup(loop)
