"""calls: the functions of users that a loop calls later, in the order of their times.

The problem: a wheel knows milliseconds, and the alarms of one slot have no order. But users expect two timers to be
called in the order of their time, and those of the same time in the order in which they were made; and they expect a
call that waits for nothing to be made at once, not at the next millisecond.
The rule: timers have a wheel of their own, in which one lies at its millisecond rounded down. When that is reached, it
moves to `reached`, and from there, sorted by nanoseconds, to `due`. Those that are due by the clock are called. The rest
of `due` belongs to the millisecond that has begun, and waits for its end. A timer that waits for nothing goes to
`reached` at once, so it is called behind all that were due before it.

Owns `timer_t`, embedded in the object that waits: arming allocates nothing, and the sort needs no memory. Owns also
their references to the loop, and the end of them all with the loop (`timers_abandon`).
Promises: no timer is called early, nor after `timer_disarm`; one that is armed while others are called waits for the
next turn; when an exception stops the loop, those that are due stay armed.
Does not know what is called.
"""
from libc.stdint cimport uint64_t

cdef enum:
    SORT_BINS = 32      # 2**32 timers


ctypedef void (*timer_fn)(timer_t*) noexcept nogil

cdef struct timer_t:
    alarm_t alarm       # first: the wheel's pointer is a timer_t*
    loop_t* loop
    uint64_t at         # when it is due, in nanoseconds of the clock
    uint64_t number     # counts the loop's timers: those of the same time are called in this order
    timer_fn fire       # called when it is due; it is not armed any more
    timer_fn dropped    # called instead if the loop ends
    bint unreferenced

cdef struct timers_t:
    wheel_t wheel
    alarm_t* reached    # their millisecond has begun; in no order
    alarm_t* due        # likewise, in the order of their time
    size_t armed
    uint64_t armed_ever
    uint64_t took       # milliseconds that this turn's calls have taken; see loop_note_turn


cdef uint64_t timer_after(double seconds) noexcept nogil:
    """The first nanosecond that is not earlier than `seconds` (at most 30 years) from now."""
    cdef double nanoseconds = min(seconds, 1e9) * 1e9
    cdef uint64_t whole = <uint64_t>nanoseconds
    return clock_nanoseconds() + whole + (whole < nanoseconds)


cdef void timer_arm(timer_t* self, uint64_t at, bint soon) noexcept nogil:
    """Call `fire` at this time. soon: it is now. The timer is not armed yet."""
    cdef loop_t* loop = self.loop
    self.at = at
    self.number = loop.timers.armed_ever
    self.alarm.when = at // 1000000
    self.alarm.fire = on_timer_reached
    loop.timers.armed_ever += 1
    loop.timers.armed += 1
    stats_add(&loop.count.armed_timers, 1)
    loop.calls += 1
    if not self.unreferenced:
        loop_ref(loop)
    if self.alarm.when <= loop.timers.wheel.now:
        alarm_link(&self.alarm, &loop.timers.reached)
    else:
        wheel_place(&loop.timers.wheel, &self.alarm)
    wheel_wake(loop, clock_of(loop) if soon else self.alarm.when + 1)


cdef void timer_disarm(timer_t* self) noexcept nogil:
    if self.alarm.link != NULL:
        alarm_disarm(self.loop, &self.alarm)
        self.loop.timers.armed -= 1
        self.loop.calls -= 1
        if not self.unreferenced:
            loop_unref(self.loop)


cdef inline bint timer_is_armed(timer_t* self) noexcept nogil:
    return self.alarm.link != NULL


cdef void timer_set_referenced(timer_t* self, bint referenced) noexcept nogil:
    if self.unreferenced == referenced:
        self.unreferenced = not referenced
        if self.alarm.link != NULL and referenced:
            loop_ref(self.loop)
        elif self.alarm.link != NULL:
            loop_unref(self.loop)


cdef void on_timer_reached(alarm_t* alarm) noexcept nogil:
    cdef loop_t* loop = (<timer_t*>alarm).loop
    stats_add(&loop.count.armed_timers, 1)        # the wheel has counted it off
    alarm_link(alarm, &loop.timers.reached)


# ---------------------------------------------------------------------------- calling those that are due

cdef void timers_call(loop_t* loop) noexcept nogil:
    """Call the timers that are due now. Those that are armed meanwhile have the next turn."""
    cdef timers_t* self = &loop.timers
    cdef uint64_t now
    if self.armed == 0:
        return
    now = clock_nanoseconds()
    wheel_turn(loop, &self.wheel, now // 1000000)
    timers_sort(self)
    while self.due != NULL and (<timer_t*>self.due).at <= now and not loop.failed:
        timer_call(<timer_t*>self.due)
    self.took = (clock_nanoseconds() - now) // 1000000


cdef void timer_call(timer_t* self) noexcept nogil:
    cdef loop_t* loop = self.loop
    timer_disarm(self)
    handler_enter(loop)
    self.fire(self)             # the timer may be freed in here
    handler_leave(loop)


cdef void timers_wake(loop_t* loop) noexcept nogil:
    """See to it that the libuv timer expires for the next one."""
    cdef uint64_t when = 0
    cdef int level = 0
    cdef int slot = 0
    if loop.timers.armed == 0:
        return                  # and the wheel, which was not turned, may have slots in the past, empty by now
    if loop.timers.due != NULL:
        wheel_wake(loop, loop.timers.due.when + 1)
    if wheel_next(&loop.timers.wheel, &level, &slot, &when):
        wheel_wake(loop, when + 1)


cdef void timers_abandon(loop_t* loop) noexcept nogil:
    """The loop ends: disarm them all, and say so."""
    cdef timers_t* self = &loop.timers
    cdef int level, slot
    timers_drop(&self.reached)
    timers_drop(&self.due)
    for level in range(WHEEL_LEVELS):
        for slot in range(WHEEL_SLOTS):
            timers_drop(&self.wheel.slot[level][slot])


cdef void timers_drop(alarm_t** head) noexcept nogil:
    cdef timer_t* each
    while head[0] != NULL:
        each = <timer_t*>head[0]
        timer_disarm(each)
        if each.dropped != NULL:
            each.dropped(each)


# ---------------------------------------------------------------------------- sorting

cdef void timers_sort(timers_t* self) noexcept nogil:
    """Move what was reached to `due`, by a merge sort of the list. Only the `next` pointers are used meanwhile."""
    cdef alarm_t* bins[SORT_BINS]       # the n-th is empty, or has 2**n sorted timers
    cdef alarm_t* carry
    cdef int i
    if self.reached == NULL:
        return
    for i in range(SORT_BINS):
        bins[i] = NULL
    while self.reached != NULL:
        carry = self.reached
        self.reached = carry.next
        carry.next = NULL
        i = 0
        while bins[i] != NULL:
            carry = timers_merge(bins[i], carry)
            bins[i] = NULL
            i += 1
        bins[i] = carry
    for i in range(SORT_BINS):
        self.due = timers_merge(self.due, bins[i])
    timers_relink(&self.due)


cdef alarm_t* timers_merge(alarm_t* a, alarm_t* b) noexcept nogil:
    """Two sorted lists as one."""
    cdef alarm_t* first = NULL
    cdef alarm_t** end = &first
    while a != NULL and b != NULL:
        if timer_is_before(<timer_t*>a, <timer_t*>b):
            end[0] = a
            a = a.next
        else:
            end[0] = b
            b = b.next
        end = &end[0].next
    end[0] = a if a != NULL else b
    return first


cdef inline bint timer_is_before(timer_t* a, timer_t* b) noexcept nogil:
    return a.at < b.at or (a.at == b.at and a.number < b.number)


cdef void timers_relink(alarm_t** head) noexcept nogil:
    """Set each `link` by the `next` pointers."""
    while head[0] != NULL:
        head[0].link = head
        head = &head[0].next
