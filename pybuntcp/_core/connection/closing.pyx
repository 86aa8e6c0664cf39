"""closing: our FIN, and when the descriptor may be closed without a loss.

The problem: if the peer's bytes lie unread at close(2), or arrive later, the kernel answers with RST. The peer then
loses those of our bytes that it has not acknowledged.
The rule: where that may happen, FIN goes out first, input is read and dropped, and the descriptor is closed when the
peer has acknowledged everything or has ended. The linger time (see deadlines) bounds all of it.

Does not know handlers, nor why the connection ends: see verbs and events.
"""
from pybuntcp._c cimport net


cdef void closing_send_fin(socket_t* s) noexcept nogil:
    """Everything is with the kernel: send FIN, and close if the peer has ended, too."""
    if not may_send_fin(s):
        return
    if s.flags & S_TLS and not tls_close_notify(s):
        deadlines_linger_for_close_notify(s)
        return
    if s.flags & S_TLS and stays_open(s):
        return                  # close_notify has ended our side, and FIN follows when a verb closes it
    closing_shutdown_write(s)
    if s.flags & S_EOF and not stays_open(s):
        stream_close(s)
    elif s.flags & S_DISCARD:
        socket_close(s)
    elif s.flags & S_FIN_WAIT:
        deadlines_start_linger(s)


cdef void closing_linger(socket_t* s) noexcept nogil:
    """Closing, and nothing is pending: close the descriptor as soon as that loses nothing."""
    if s.flags & S_HANDSHAKE:
        if context_of(s).upgraded_from == NULL:      # else the plain socket still sends: see upgrade_raw_flushed
            tls_close(s)
        return
    if s.flags & S_TLS and not s.flags & S_BROKEN and not tls_close_notify(s):
        deadlines_linger_for_close_notify(s)
        return
    if s.flags & S_EOF or s.flags & S_BROKEN or not closing_would_reset(s):
        stream_close(s)
        return
    closing_shutdown_write(s)
    s.flags &= ~S_PAUSED
    s.flags |= S_DISCARD
    stream_read(s)
    deadlines_start_linger(s)
    deadlines_poll_acked(s)


cdef void closing_check_acked(socket_t* s) noexcept nogil:
    """After everything is acknowledged a reset loses nothing. The kernel has no event for that, so poll."""
    if net.pbt_under_way(stream_fd(s), False) == 0:
        stream_close(s)
    else:
        deadlines_poll_acked(s)


# ---------------------------------------------------------------------------- what the kernel does at close(2)

cdef void closing_shutdown_write(socket_t* self) noexcept nogil:
    """Send FIN now. The send queue is empty, so `uv_shutdown` would only delay it by a turn."""
    if may_send_fin(self):
        self.flags |= S_FIN_SENT
        net.shutdown(stream_fd(self), net.SHUT_WR)


cdef bint closing_would_reset(socket_t* self) noexcept nogil:
    """Would close(2) lose bytes that the peer has not acknowledged?

    When input lies unread at close(2), or arrives later, the kernel sends RST, and our unacknowledged bytes are lost.
    Unread input is read and dropped here. A peer that was sending is assumed to send on for as long as it has not
    acknowledged all; any other, for as long as bytes of ours are not even on the wire.
    """
    cdef int fd = stream_fd(self)
    cdef bint sending = net.pbt_discard(fd) != 0
    return net.pbt_under_way(fd, not sending) != 0


cdef void closing_with_reset(socket_t* self) noexcept nogil:
    """Let close(2) send RST instead of FIN."""
    cdef net.linger linger
    linger.l_onoff = 1
    linger.l_linger = 0
    net.setsockopt(stream_fd(self), net.SOL_SOCKET, net.SO_LINGER, &linger, sizeof(linger))
