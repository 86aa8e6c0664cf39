"""clocks: the deadlines of one socket, on one alarm of the wheel.

Owns `clocks_t`: `timeout(seconds)`, the listener's `idle_timeout`, and the linger time after
`end` and `close`. Made once, when a socket first needs a deadline; re-arming allocates nothing.

The idle clock is restarted by every byte, so a restart only notes the time; the alarm stays
where it is, and when it rings too soon it is set again for the time that is left.

While we end, bytes that the peer takes count, too, and not only those that the kernel takes from
us: a slow reader may need minutes for what one `end` gave to the kernel. The kernel has no event
for that. It is asked how much is not acknowledged, when the alarm rings, LOOKS times in each linger
or idle time; if that changed, the time begins anew. So a peer that stops is found out an eighth
of the time late at most, never early, and the way of the data pays nothing.

Promises: `timeout` is told once for each arming and never early; nothing here is a default
the user did not ask for, but for `linger_timeout`.
"""
from libc.math cimport isinf
from libc.stdint cimport UINT64_MAX, uint64_t
from libc.stdlib cimport calloc

from pybuntcp._c cimport net, uv


cdef enum:
    LOOK_AGAIN_MILLISECONDS = 20
    LOOKS = 8


cdef struct clocks_t:
    alarm_t alarm               # first: the wheel's pointer is ours
    uint64_t timeout_at         # the loop's milliseconds; 0 = not set
    uint64_t shake_at           # when the handshake must be done
    uint64_t linger_for         # milliseconds; 0 = it does not linger
    uint64_t taken              # when the peer, or the kernel, was last seen to take something
    uint64_t idle_for           # milliseconds; 0 = for ever
    uint64_t touched            # when a byte last moved
    uint64_t looked             # when it was last asked what is under way, ...
    int under_way               # ... and how much that was
    unsigned int ending         # how far it had ended when `timeout` was told
    bint renewed                # timeout() was called since the clock rang


cdef clocks_t* clocks_of(socket_t* s) noexcept nogil:
    """The socket's clocks, made when first asked for. NULL: no memory."""
    if s.clocks == NULL:
        s.clocks = <clocks_t*>calloc(1, sizeof(clocks_t))
        if s.clocks != NULL:
            s.clocks.alarm.ring = on_ring
            s.clocks.alarm.owner = s
            s.clocks.idle_for = clocks_idle(s) if s.flags & S_OPENED else 0
            s.clocks.touched = clock_now()
            clocks_begin_ending(s)
    return s.clocks


cdef uint64_t clocks_idle(socket_t* s) noexcept nogil:
    """`idle_timeout` in milliseconds; 0 = for ever."""
    cdef double idle = context_of(s).idle_timeout
    return 0 if isinf(idle) else milliseconds_up(idle)


cdef inline uint64_t milliseconds_up(double seconds) noexcept nogil:
    return <uint64_t>(min(seconds, 1e9) * 1e3) + 1


cdef uint64_t clocks_due(socket_t* s) noexcept nogil:
    """The earliest deadline, or moment to look; UINT64_MAX: none."""
    cdef clocks_t* self = s.clocks
    cdef uint64_t due = UINT64_MAX
    if self.timeout_at != 0:
        due = self.timeout_at
    if self.shake_at != 0:
        due = min(due, self.shake_at)
    if self.linger_for != 0:
        due = min(due, min(self.taken + self.linger_for + 1, self.looked + self.linger_for // LOOKS + 1))
    if self.idle_for != 0:
        due = min(due, self.touched + self.idle_for + 1)
    if self.idle_for != 0 and clocks_ending(s):
        due = min(due, self.looked + self.idle_for // LOOKS + 1)
    return due


cdef void clocks_arm(socket_t* s) noexcept nogil:
    """Have the alarm ring no later than the earliest deadline."""
    cdef clocks_t* self = s.clocks
    cdef uint64_t due = clocks_due(s)
    if s.flags & S_CLOSED:
        return          # its alarm is stopped, and would outlive it
    if due == UINT64_MAX:
        alarm_disarm(loop_of(s), &self.alarm)
    elif self.alarm.link == NULL or due < self.alarm.when:
        alarm_arm(loop_of(s), &self.alarm, due)


cdef void clocks_touch(socket_t* s) noexcept nogil:
    """A byte came, and the socket has clocks."""
    if s.clocks.idle_for != 0:
        s.clocks.touched = clock_now()


cdef void clocks_moved(socket_t* s) noexcept nogil:
    """The kernel took bytes of ours, and the socket has clocks."""
    if s.clocks.idle_for + s.clocks.linger_for != 0:
        s.clocks.touched = s.clocks.taken = clock_now()


cdef bint clocks_set_timeout(socket_t* s, double seconds) noexcept nogil:
    """Restart `timeout(seconds)`; 0 clears. False: no memory."""
    if seconds == 0 and s.clocks == NULL:
        return True
    if clocks_of(s) == NULL:
        return False
    s.clocks.renewed = True
    if s.flags & S_OVERDUE:
        clocks_forgive(s)
    s.clocks.timeout_at = 0 if seconds == 0 or isinf(seconds) else deadline_after(seconds)
    clocks_arm(s)
    return True


cdef void clocks_start_idle(socket_t* s) noexcept nogil:
    if not isinf(context_of(s).idle_timeout) and clocks_of(s) != NULL:
        s.clocks.idle_for = clocks_idle(s)
        s.clocks.touched = clock_now()
        clocks_arm(s)


cdef void clocks_start_handshake(socket_t* s) noexcept nogil:
    cdef double seconds = context_of(s).handshake_timeout
    if not isinf(seconds) and clocks_of(s) != NULL:
        s.clocks.shake_at = deadline_after(seconds)
        clocks_arm(s)


cdef void clocks_end_handshake(socket_t* s) noexcept nogil:
    if s.clocks != NULL:
        s.clocks.shake_at = 0
        clocks_arm(s)


cdef void clocks_start_linger(socket_t* s) noexcept nogil:
    """From now on the peer has `linger_timeout` to let us go, or to take something."""
    cdef double seconds = context_of(s).linger_timeout
    clocks_begin_ending(s)
    if isinf(seconds) or clocks_of(s) == NULL:
        return
    s.clocks.linger_for = milliseconds_up(seconds)
    s.clocks.taken = clock_now()
    clocks_arm(s)


cdef void clocks_linger_for_farewell(socket_t* s) noexcept nogil:
    """It could not be said yet. To ask a mute engine again is no progress; `shutdown` has no clock."""
    if s.flags & (S_SECURING | S_CLOSED) or not s.flags & (S_LINGER | S_CLOSING):
        return
    if not s.flags & S_MUTE or s.clocks == NULL or s.clocks.linger_for == 0:
        clocks_start_linger(s)


cdef void clocks_begin_ending(socket_t* s) noexcept nogil:
    """We are done: from now on what the peer takes counts."""
    if s.clocks != NULL and not s.flags & S_CLOSED:
        s.clocks.looked = clock_now()
        s.clocks.under_way = net.pbt_untaken(stream_fd(s))
        clocks_arm(s)


cdef inline bint clocks_ending(socket_t* s) noexcept nogil:
    return s.flags & (S_ENDED | S_BROKEN) == S_ENDED


cdef void clocks_forget_user(socket_t* s) noexcept nogil:
    """It closes: `timeout` is not told any more, and only the linger time may cut it short."""
    s.flags &= ~S_OVERDUE
    if s.clocks != NULL:
        s.clocks.timeout_at = s.clocks.idle_for = 0
        clocks_arm(s)


cdef void clocks_look_again(socket_t* s) noexcept nogil:
    """While a close lingers the user's timeout has no meaning; its place serves to look again."""
    if clocks_of(s) != NULL:
        s.clocks.timeout_at = clock_now() + LOOK_AGAIN_MILLISECONDS
        clocks_arm(s)


cdef void clocks_stop(socket_t* s) noexcept nogil:
    if s.clocks != NULL:
        alarm_disarm(loop_of(s), &s.clocks.alarm)


cdef void clocks_look(socket_t* s) noexcept nogil:
    """Has the peer taken something since last looked?"""
    cdef clocks_t* self = s.clocks
    cdef int under_way = net.pbt_untaken(stream_fd(s))
    self.looked = clock_now()
    if under_way != self.under_way:
        self.taken = self.touched = self.looked
    self.under_way = under_way


cdef void on_ring(alarm_t* alarm) noexcept nogil:
    cdef clocks_t* self = <clocks_t*>alarm
    cdef socket_t* s = <socket_t*>alarm.owner
    cdef uint64_t now = uv.uv_now(&loop_of(s).uv)
    if (self.linger_for != 0 or self.idle_for != 0 and clocks_ending(s)) and not s.flags & S_BROKEN:
        clocks_look(s)
    if self.linger_for != 0 and now >= self.taken + self.linger_for + 1:
        linger_expired(s)
    elif self.shake_at != 0 and now >= self.shake_at:
        secure_expired(s)
    elif self.timeout_at != 0 and now >= self.timeout_at:
        self.timeout_at = 0
        if s.flags & S_CLOSING and s.flags & S_DEAF:
            socket_look_again(s)
        else:
            timeout_expired(s)
    elif self.idle_for != 0 and now >= self.touched + self.idle_for + 1:
        timeout_expired(s)
    if not s.flags & S_CLOSED:
        clocks_arm(s)


cdef void linger_expired(socket_t* s) noexcept nogil:
    """The peer takes nothing, and would not let go: reset."""
    socket_fail(s, uv.UV_ETIMEDOUT)
    stream_reset_on_close(s)
    stream_close(s)


cdef void timeout_expired(socket_t* s) noexcept nogil:
    """`timeout`, then close, unless the handler asked for more time or closes by itself."""
    cdef event_slot slot = context_of(s).table.slots.timeout
    if s.flags & S_BUSY and slot != NULL:
        timeout_waits(s)
        return
    s.clocks.renewed = False
    s.clocks.ending = s.flags & (S_LINGER | S_CLOSING)
    emit_event(s, slot)
    if not s.flags & S_BUSY or slot == NULL:
        timeout_told(s)
    else:
        s.clocks.touched = clock_now()


cdef void timeout_told(socket_t* s) noexcept nogil:
    if s.clocks.renewed:
        s.clocks.touched = clock_now()
        return
    socket_fail(s, uv.UV_ETIMEDOUT)
    if s.flags & S_CLOSED or s.flags & (S_LINGER | S_CLOSING) != s.clocks.ending:
        s.clocks.idle_for = 0       # told once; the linger time guards the rest
        return
    if output_pending(s) != 0:
        stream_reset_on_close(s)    # bytes are lost: the peer must not take it for an end
    elif s.flags & S_SECURE:
        sealing_farewell(s)
    stream_close(s)


cdef void timeout_waits(socket_t* s) noexcept nogil:
    """An async handler runs. It may wait for the very peer that is overdue: not for ever, then."""
    s.flags |= S_OVERDUE
    s.clocks.idle_for = 0
    if s.clocks.linger_for == 0:
        clocks_start_linger(s)


cdef void clocks_forgive(socket_t* s) noexcept nogil:
    """`timeout` waits no longer: the idle clock runs again."""
    s.flags &= ~S_OVERDUE
    s.clocks.idle_for = clocks_idle(s)
    s.clocks.touched = clock_now()
    if not s.flags & (S_LINGER | S_CLOSING | S_BROKEN):
        s.clocks.linger_for = 0


cdef void clocks_resume(socket_t* s) noexcept nogil:
    """The async handler has ended in time: now `timeout` is told."""
    clocks_forgive(s)
    timeout_expired(s)
    if not s.flags & S_CLOSED:
        clocks_arm(s)
