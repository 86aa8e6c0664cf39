"""closing: our FIN, and when the descriptor may go without a loss.

The problem: for bytes of the peer that lie unread at close(2), or come later, a kernel answers with a
reset, which takes along what we have sent and is not acknowledged.
The rule: where that may be, FIN goes out, what comes is thrown away, and the descriptor is given back
when the peer has everything or has ended. The linger time (see deadlines) guards all of it.
"""
from pybuntcp._c cimport net


cdef void closing_send_fin(socket_t* s) noexcept nogil:
    """Everything is with the kernel: FIN, and the end if the peer had ended."""
    if not may_send_fin(s):
        return
    if s.flags & S_TLS and not tls_close_notify(s):
        deadlines_linger_for_close_notify(s)
        return
    stream_fin(s)
    if s.flags & S_EOF:
        stream_close(s)
    elif s.flags & S_DISCARD:
        socket_close(s)
    elif s.flags & S_FIN_WAIT:
        deadlines_start_linger(s)


cdef void closing_linger(socket_t* s) noexcept nogil:
    """Closing, and nothing is pending: give the descriptor back as soon as that loses nothing."""
    if s.flags & S_HANDSHAKE:
        if context_of(s).upgraded_from == NULL:      # else that one has something to send: see upgrade_raw_flushed
            tls_close(s)
        return
    if s.flags & S_TLS and not s.flags & S_BROKEN and not tls_close_notify(s):
        deadlines_linger_for_close_notify(s)
        return
    if s.flags & S_EOF or s.flags & S_BROKEN or not stream_close_would_reset(s):
        stream_close(s)
        return
    stream_fin(s)
    s.flags &= ~S_PAUSED
    s.flags |= S_DISCARD
    stream_read(s)
    deadlines_start_linger(s)
    deadlines_poll_acked(s)


cdef void closing_check_acked(socket_t* s) noexcept nogil:
    """The kernel has no event for "all is acknowledged", after which a reset loses nothing."""
    if net.pbt_under_way(stream_fd(s), False) == 0:
        stream_close(s)
    else:
        deadlines_poll_acked(s)
