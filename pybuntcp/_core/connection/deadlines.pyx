"""deadlines: the deadlines of one socket, on one alarm of the wheel.

Owns `deadlines_t`: `timeout(seconds)`, `idle_timeout` and `read_timeout`, the handshake's timeout, and the linger time
after `end` and `close`. Made once, when a socket first needs a deadline; re-arming allocates nothing.

Every byte restarts the idle time, and every byte that arrives the read time. A restart only notes the time; the alarm
stays where it is, and when it fires too early it is set again for the time that is left. The read time is that of a
peer that is listened to: it does not run while the socket is not read, and starts anew when it is (`stream_start`).

While our side ends, progress is also what the peer takes from the kernel, not only what the kernel takes from us: a
slow reader may need minutes for what one `end` handed to the kernel. The kernel has no event for that. So when the
alarm fires, which it does ACK_POLLS times in each linger or idle time, the kernel is asked how much is not
acknowledged; if that changed, the time starts anew. A peer that stops is noticed at most an eighth of the time late,
never early, and the data path pays nothing.

Promises: `timeout` is emitted once for each arming and never early; nothing here is a default that the user did not
ask for, `linger_timeout` apart. Does not know what is read or written.
"""
from libc.math cimport isinf
from libc.stdint cimport UINT64_MAX, uint64_t
from libc.stdlib cimport calloc

from pybuntcp._c cimport net, uv


cdef enum:
    ACK_POLL_MILLISECONDS = 20
    ACK_POLLS = 8


cdef enum deadline_t:    # what has expired, as the error of `close` says
    DEADLINE_NONE, DEADLINE_TIMEOUT, DEADLINE_IDLE, DEADLINE_READ, DEADLINE_LINGER

cdef struct deadlines_t:
    alarm_t alarm               # first: the wheel's pointer is a deadlines_t*
    uint64_t timeout_at         # the loop's milliseconds; 0 = not set
    uint64_t handshake_at       # when the handshake must be done
    uint64_t linger_ms          # milliseconds; 0 = not lingering
    uint64_t progress_at        # when the peer, or the kernel, last took something
    double idle_timeout         # seconds, as set; infinity = no limit
    double read_timeout
    uint64_t idle_ms            # milliseconds; 0 = no limit, or it does not run now
    uint64_t read_ms
    uint64_t active_at          # when a byte last moved
    uint64_t received_at        # when a byte last arrived
    deadline_t expired          # which one it was that `timeout` was emitted for, or the linger time
    uint64_t acked_checked_at   # when the unacknowledged bytes were last counted
    int unacked                 # how many they were then
    unsigned int ending_before  # S_FIN_WAIT and S_CLOSING as they were when `timeout` was emitted
    bint rearmed                # timeout() was called since the alarm fired


cdef deadlines_t* deadlines_of(socket_t* s) noexcept nogil:
    """The socket's deadlines, made when first needed. NULL: no memory."""
    if s.deadlines == NULL:
        s.deadlines = <deadlines_t*>calloc(1, sizeof(deadlines_t))
        if s.deadlines != NULL:
            s.deadlines.alarm.fire = on_deadline_fired
            s.deadlines.alarm.owner = s
            s.deadlines.idle_timeout = context_of(s).idle_timeout
            s.deadlines.read_timeout = context_of(s).read_timeout
            deadlines_restart(s)
            deadlines_begin_ending(s)
    return s.deadlines


cdef void deadlines_restart(socket_t* s) noexcept nogil:
    """The idle time and the read time start anew. They run from `open` until the user is done with the socket."""
    cdef deadlines_t* self = s.deadlines
    cdef bint run = s.flags & S_OPENED and not is_closing(s)
    self.idle_ms = milliseconds_up(self.idle_timeout) if run and not isinf(self.idle_timeout) else 0
    self.read_ms = milliseconds_up(self.read_timeout) if run and not isinf(self.read_timeout) else 0
    self.active_at = self.received_at = clock_now()


cdef inline uint64_t milliseconds_up(double seconds) noexcept nogil:
    """Rounded up; at most 1e9 seconds."""
    return <uint64_t>(min(seconds, 1e9) * 1e3) + 1


cdef uint64_t deadlines_next(socket_t* s) noexcept nogil:
    """The earliest deadline, or poll of the acknowledged bytes; UINT64_MAX: none."""
    cdef deadlines_t* self = s.deadlines
    cdef uint64_t due = UINT64_MAX
    if self.timeout_at != 0:
        due = self.timeout_at
    if self.handshake_at != 0:
        due = min(due, self.handshake_at)
    if self.linger_ms != 0:
        due = min(due, min(self.progress_at + self.linger_ms + 1, self.acked_checked_at + self.linger_ms // ACK_POLLS + 1))
    if self.idle_ms != 0:
        due = min(due, self.active_at + self.idle_ms + 1)
    if self.idle_ms != 0 and is_awaiting_acks(s):
        due = min(due, self.acked_checked_at + self.idle_ms // ACK_POLLS + 1)
    if self.read_ms != 0 and stream_is_read(s):
        due = min(due, self.received_at + self.read_ms + 1)
    return due


cdef void deadlines_arm(socket_t* s) noexcept nogil:
    """Have the alarm fire no later than the earliest deadline."""
    cdef deadlines_t* self = s.deadlines
    cdef uint64_t due = deadlines_next(s)
    if s.flags & S_CLOSED:
        return          # its alarm is stopped, and must not be armed once more
    if due == UINT64_MAX:
        alarm_disarm(loop_of(s), &self.alarm)
    elif self.alarm.link == NULL or due < self.alarm.when:
        alarm_arm(loop_of(s), &self.alarm, due)


cdef void deadlines_touch(socket_t* s) noexcept nogil:
    """A byte arrived. The caller has checked that the socket has deadlines."""
    if s.deadlines.idle_ms + s.deadlines.read_ms != 0:
        s.deadlines.active_at = s.deadlines.received_at = clock_now()


cdef void deadlines_sent(socket_t* s) noexcept nogil:
    """The kernel took bytes. The caller has checked that the socket has deadlines."""
    if s.deadlines.idle_ms + s.deadlines.linger_ms != 0:
        s.deadlines.active_at = s.deadlines.progress_at = clock_now()


cdef void deadlines_piped(socket_t* s) noexcept nogil:
    """A byte arrived, and is passed on: a peer that sends is not cut, though our side has ended.

    The caller has checked that the socket has deadlines.
    """
    if s.deadlines.linger_ms != 0:
        s.deadlines.progress_at = clock_now()


cdef bint deadlines_set_timeout(socket_t* s, double seconds) noexcept nogil:
    """Restart `timeout(seconds)`; 0 clears. False: no memory."""
    if seconds == 0 and s.deadlines == NULL:
        return True
    if deadlines_of(s) == NULL:
        return False
    s.deadlines.rearmed = True
    if s.flags & S_TIMEOUT_DEFERRED:
        deadlines_clear_deferred(s)
    s.deadlines.timeout_at = 0 if seconds == 0 or isinf(seconds) else deadline_after(seconds)
    deadlines_arm(s)
    return True


cdef void deadlines_start_idle(socket_t* s) noexcept nogil:
    """`open` is about to be called."""
    if s.deadlines == NULL and isinf(context_of(s).idle_timeout) and isinf(context_of(s).read_timeout):
        return
    if deadlines_of(s) != NULL:
        deadlines_restart(s)
        deadlines_arm(s)


cdef void deadlines_start_read(socket_t* s) noexcept nogil:
    """The socket is read from now on. The caller has checked that it has deadlines."""
    if s.deadlines.read_ms != 0:
        s.deadlines.received_at = clock_now()
        deadlines_arm(s)


cdef double deadlines_setting(socket_t* s, deadline_t which) noexcept nogil:
    """`idle_timeout` or `read_timeout`, in seconds; infinity = no limit."""
    if s.deadlines != NULL:
        return s.deadlines.read_timeout if which == DEADLINE_READ else s.deadlines.idle_timeout
    return context_of(s).read_timeout if which == DEADLINE_READ else context_of(s).idle_timeout


cdef bint deadlines_set(socket_t* s, deadline_t which, double seconds) noexcept nogil:
    """Set one of them and start it anew; the other one goes on. False: no memory."""
    cdef uint64_t active_at
    if is_closing(s) or s.deadlines == NULL and isinf(seconds) and isinf(deadlines_setting(s, which)):
        return True
    if deadlines_of(s) == NULL:
        return False
    s.deadlines.rearmed = True
    if s.flags & S_TIMEOUT_DEFERRED:
        deadlines_clear_deferred(s)
    if which == DEADLINE_READ:
        active_at = s.deadlines.active_at
        s.deadlines.read_timeout = seconds
        deadlines_restart(s)
        s.deadlines.active_at = active_at
    else:
        active_at = s.deadlines.received_at
        s.deadlines.idle_timeout = seconds
        deadlines_restart(s)
        s.deadlines.received_at = active_at
    deadlines_arm(s)
    return True


cdef void deadlines_start_handshake(socket_t* s, double seconds) noexcept nogil:
    if not isinf(seconds) and deadlines_of(s) != NULL:
        s.deadlines.handshake_at = deadline_after(seconds)
        deadlines_arm(s)


cdef void deadlines_end_handshake(socket_t* s) noexcept nogil:
    if s.deadlines != NULL:
        s.deadlines.handshake_at = 0
        deadlines_arm(s)


cdef void deadlines_start_linger(socket_t* s) noexcept nogil:
    """From now on the peer has `linger_timeout` to end, or to take something."""
    cdef double seconds = context_of(s).linger_timeout
    deadlines_begin_ending(s)
    if isinf(seconds) or deadlines_of(s) == NULL:
        return
    s.deadlines.linger_ms = milliseconds_up(seconds)
    s.deadlines.progress_at = clock_now()
    deadlines_arm(s)


cdef void deadlines_linger_for_close_notify(socket_t* s) noexcept nogil:
    """close_notify could not be sent yet. `shutdown` has no deadline, so nothing starts for it.

    The linger time does not restart each time an engine that waits for input is tried again: that is no progress.
    """
    if s.flags & S_HANDSHAKE or s.flags & S_CLOSED or not is_ending(s):
        return
    if not s.flags & S_TLS_WANT_READ or s.deadlines == NULL or s.deadlines.linger_ms == 0:
        deadlines_start_linger(s)


cdef void deadlines_begin_ending(socket_t* s) noexcept nogil:
    """Our side has ended: from now on what the peer acknowledges counts as progress."""
    if s.deadlines != NULL and not s.flags & S_CLOSED:
        s.deadlines.acked_checked_at = clock_now()
        s.deadlines.unacked = net.pbt_untaken(stream_fd(s))
        deadlines_arm(s)


cdef void deadlines_drop_user(socket_t* s) noexcept nogil:
    """The socket closes: `timeout` is not emitted any more, and only the linger time may cut it short."""
    s.flags &= ~S_TIMEOUT_DEFERRED
    if s.deadlines != NULL:
        s.deadlines.timeout_at = s.deadlines.idle_ms = s.deadlines.read_ms = 0
        deadlines_arm(s)


cdef void deadlines_poll_acked(socket_t* s) noexcept nogil:
    """Poll again in 20 ms whether the peer has acknowledged everything.

    Reuses `timeout_at`: after close() no user timeout can be set.
    """
    if deadlines_of(s) != NULL:
        s.deadlines.timeout_at = clock_now() + ACK_POLL_MILLISECONDS
        deadlines_arm(s)


cdef void deadlines_stop(socket_t* s) noexcept nogil:
    if s.deadlines != NULL:
        alarm_disarm(loop_of(s), &s.deadlines.alarm)


cdef void deadlines_check_acked(socket_t* s) noexcept nogil:
    """Note whether the peer has taken something since the last look."""
    cdef deadlines_t* self = s.deadlines
    cdef int unacked = net.pbt_untaken(stream_fd(s))
    self.acked_checked_at = clock_now()
    if unacked != self.unacked:
        self.progress_at = self.active_at = self.acked_checked_at
    self.unacked = unacked


cdef void on_deadline_fired(alarm_t* alarm) noexcept nogil:
    cdef deadlines_t* self = <deadlines_t*>alarm
    cdef socket_t* s = <socket_t*>alarm.owner
    cdef uint64_t now = clock_of(loop_of(s))
    if (self.linger_ms != 0 or self.idle_ms != 0 and is_awaiting_acks(s)) and not s.flags & S_BROKEN:
        deadlines_check_acked(s)
    if self.linger_ms != 0 and pipe_waits_for_target(s):
        self.progress_at = clock_now()      # its peer may want to end, and is not read
    if self.linger_ms != 0 and now >= self.progress_at + self.linger_ms + 1:
        linger_expired(s)
    elif self.handshake_at != 0 and now >= self.handshake_at:
        tls_handshake_timed_out(s)
    elif self.timeout_at != 0 and now >= self.timeout_at:
        self.timeout_at = 0
        if is_close_lingering(s):
            closing_check_acked(s)
        else:
            timeout_expired(s, DEADLINE_TIMEOUT)
    elif self.idle_ms != 0 and now >= self.active_at + self.idle_ms + 1:
        timeout_expired(s, DEADLINE_IDLE)
    elif self.read_ms != 0 and now >= self.received_at + self.read_ms + 1 and stream_is_read(s):
        timeout_expired(s, DEADLINE_READ)
    if not s.flags & S_CLOSED:
        deadlines_arm(s)
    state_check(s)


cdef void linger_expired(socket_t* s) noexcept nogil:
    """The peer took nothing for the linger time, and did not end: reset."""
    if s.error == 0:
        s.deadlines.expired = DEADLINE_LINGER
    socket_fail(s, uv.UV_ETIMEDOUT)
    closing_with_reset(s)
    stream_close(s)


cdef void timeout_expired(socket_t* s, deadline_t which) noexcept nogil:
    """`timeout`, then close, unless the handler asked for more time or closes by itself."""
    cdef socket_fn slot = context_of(s).table.slots.timeout
    s.deadlines.expired = which
    if s.flags & S_HANDLER_TASK and slot != NULL:
        timeout_defer(s)
        return
    s.deadlines.rearmed = False
    s.deadlines.ending_before = ending_verbs(s)
    emit_event(s, slot)
    if not s.flags & S_HANDLER_TASK or slot == NULL:
        timeout_after_handler(s)
    else:
        s.deadlines.active_at = s.deadlines.received_at = clock_now()


cdef void timeout_after_handler(socket_t* s) noexcept nogil:
    if s.deadlines.rearmed:
        s.deadlines.active_at = s.deadlines.received_at = clock_now()
        s.deadlines.expired = DEADLINE_NONE
        return
    socket_fail(s, uv.UV_ETIMEDOUT)
    if s.flags & S_CLOSED or ending_verbs(s) != s.deadlines.ending_before:
        s.deadlines.idle_ms = s.deadlines.read_ms = 0   # emitted once; the linger time bounds the rest
        return
    if output_pending(s) != 0:
        closing_with_reset(s)    # bytes are lost: to the peer it must not look like an orderly end
    elif s.flags & S_TLS:
        tls_close_notify(s)
    stream_close(s)


cdef void timeout_defer(socket_t* s) noexcept nogil:
    """An async handler runs: `timeout` waits until it has ended.

    The handler may wait for the very peer that is overdue, so the linger time bounds this.
    """
    s.flags |= S_TIMEOUT_DEFERRED
    s.deadlines.idle_ms = s.deadlines.read_ms = 0
    if s.deadlines.linger_ms == 0:
        deadlines_start_linger(s)


cdef void deadlines_clear_deferred(socket_t* s) noexcept nogil:
    """`timeout` is no longer deferred: the idle time runs again."""
    s.flags &= ~S_TIMEOUT_DEFERRED
    deadlines_restart(s)
    if not is_ending(s) and not s.flags & S_BROKEN:
        s.deadlines.linger_ms = 0


cdef void deadlines_resume(socket_t* s) noexcept nogil:
    """The async handler has ended in time: emit the deferred `timeout` now."""
    deadlines_clear_deferred(s)
    timeout_expired(s, s.deadlines.expired)
    if not s.flags & S_CLOSED:
        deadlines_arm(s)
