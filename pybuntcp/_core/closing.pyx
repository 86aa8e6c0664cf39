"""closing: our FIN, and when the descriptor may go without a loss.

The problem: for bytes of the peer that lie unread at close(2), or come later, a kernel answers with a
reset, which takes along what we have sent and is not acknowledged.
The rule: where that may be, FIN goes out, what comes is thrown away, and the descriptor is given back
when the peer has everything or has ended. The linger time (see clocks) guards all of it.
"""
from pybuntcp._c cimport net


cdef void socket_send_fin(socket_t* s) noexcept nogil:
    """Everything is with the kernel: FIN, and the end if the peer had ended."""
    if s.flags & (S_FIN_SENT | S_CLOSED):
        return
    if s.flags & S_SECURE and not sealing_farewell(s):
        clocks_linger_for_farewell(s)
        return
    stream_fin(s)
    if s.flags & S_EOF:
        stream_close(s)
    elif s.flags & S_DEAF:
        socket_close(s)
    elif s.flags & S_LINGER:
        clocks_start_linger(s)


cdef void socket_leave(socket_t* s) noexcept nogil:
    """Closing, and nothing is pending: give the descriptor back as soon as that loses nothing."""
    if s.flags & S_SECURING:
        if context_of(s).forebear == NULL:      # else that one has something to send: see heir_go
            secure_close(s)
        return
    if s.flags & S_SECURE and not s.flags & S_BROKEN and not sealing_farewell(s):
        clocks_linger_for_farewell(s)
        return
    if s.flags & (S_EOF | S_BROKEN) or not stream_would_lose(s):
        stream_close(s)
        return
    stream_fin(s)
    s.flags &= ~S_PAUSED
    s.flags |= S_DEAF
    stream_read(s)
    clocks_start_linger(s)
    clocks_look_again(s)


cdef void socket_look_again(socket_t* s) noexcept nogil:
    """The kernel has no event for "all is acknowledged", after which a reset loses nothing."""
    if net.pbt_under_way(stream_fd(s), False) == 0:
        stream_close(s)
    else:
        clocks_look_again(s)
