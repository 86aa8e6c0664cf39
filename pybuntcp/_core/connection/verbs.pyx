"""verbs: the verbs of a connection, and what its events lead to.

Owns the rules of CONTRACT's "Writing" and "Reading and closing": which verb may still do
something, when FIN goes out, when the descriptor does.

  end        takes no more; sends what is pending, then FIN; reads on until the peer's FIN, for as
             long as the peer takes something in each linger_timeout (see deadlines)
  close      takes and tells no more; sends what is pending, for as long as that. Where
             close(2) would lose bytes under way (see stream_close_would_reset), FIN goes out first,
             and what comes is thrown away until the peer's FIN
  terminate  drops what is pending and resets
  shutdown   FIN after what is pending, and no clock; shutdown(True): reads and throws away

The verbs are the C API's, too (see _core.pxd): 0, or -1 when there was nothing they could do.
Our FIN and the peer's both seen, or a close flushed: `stream_close`.

A write that fails for good does not close at once: what the peer sent before is still in the
kernel and is delivered first (`S_BROKEN`); the read side then ends the connection, with the
error of the write.

Promises that no verb calls a handler before it returns. All of it is `nogil`.
"""
from libc.stdint cimport SIZE_MAX

from pybuntcp._c cimport net, uv

cdef extern from *:
    Py_ssize_t PY_SSIZE_T_MAX


# ---------------------------------------------------------------------------- birth

cdef int socket_adopt(loop_t* loop, context_t* context, int fd, unsigned long stamp, socket_t** made) noexcept nogil:
    """A socket on a connected descriptor, which it adopts; a negative code leaves it alone. stamp: see descriptors."""
    cdef socket_t* s = stream_new(loop, context)
    cdef int rc
    if s == NULL:
        return uv.UV_ENOMEM
    rc = uv.uv_tcp_open(&s.tcp, fd)
    if rc < 0:
        stream_close(s)
        return rc
    net.pbt_no_sigpipe(fd)
    descriptor_track(fd, stamp)
    made[0] = s
    return 0


cdef void socket_established(socket_t* s) noexcept nogil:
    """The peer accepted it, or we did the peer: it is open, or its handshake begins."""
    if context_of(s).tls != NULL:
        tls_begin(s, True)
    else:
        socket_opened(s)


cdef void socket_count(socket_t* s) noexcept nogil:
    if not s.flags & S_COUNTED:
        s.flags |= S_COUNTED
        loop_of(s).count.open_sockets += 1


cdef void socket_opened(socket_t* s) noexcept nogil:
    """The connection stands: tell `open`, then read."""
    cdef context_t* context = context_of(s)
    s.flags |= S_OPENED
    socket_count(s)
    if context.pause_on_connect:
        s.flags |= S_PAUSED
    deadlines_start_idle(s)
    emit_event(s, context.table.slots.open)
    stream_read(s)


# ---------------------------------------------------------------------------- verbs

cdef Py_ssize_t socket_write(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Bytes accepted, or -1: this side is done."""
    cdef ssize_t taken
    if not may_write(s) or size > <size_t>PY_SSIZE_T_MAX:
        return -1
    taken = output_write(s, data, size, context_of(s).high_water_mark)
    return taken if taken >= 0 else -1


cdef int socket_end(socket_t* s, const char* data=NULL, size_t size=0) noexcept nogil:
    """Accept all, then FIN. -1: this side was done before, or is broken; -2: no memory."""
    cdef ssize_t taken
    if not may_write(s) or size > <size_t>PY_SSIZE_T_MAX:
        return -1
    taken = output_write(s, data, size, SIZE_MAX)
    if taken < 0 or s.flags & S_BROKEN:
        return -1
    if <size_t>taken != size:
        return -2
    s.flags |= S_ENDED | S_FIN_WAIT
    s.flags &= ~S_NEED_DRAIN
    if not output_corked(s):
        output_flush(s)         # what a sink coalesces does not wait for a turn that may not come
    if output_pending(s) == 0:
        closing_send_fin(s)
    else:
        deadlines_start_linger(s)
    return 0


cdef int socket_close(socket_t* s) noexcept nogil:
    if is_closing(s):
        return -1
    output_flush(s)
    if s.flags & S_CLOSED:
        return 0                # a write that failed had nothing more to wait for
    s.flags |= S_ENDED | S_CLOSING
    stream_pause_reading(s)
    if s.flags & S_READER:
        upcalls.reader_stop(s)
    deadlines_drop_user(s)
    if output_pending(s) == 0 or s.flags & S_BROKEN:
        closing_linger(s)
    else:
        deadlines_start_linger(s)
    return 0


cdef int socket_terminate(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    stream_reset_on_close(s)
    stream_close(s)
    return 0


cdef int socket_shutdown(socket_t* s, bint half_close=False) noexcept nogil:
    if half_close:
        return socket_shutdown_read(s)
    if not may_write(s):
        return -1
    output_flush(s)
    s.flags |= S_ENDED
    s.flags &= ~S_NEED_DRAIN
    deadlines_begin_ending(s)
    if output_pending(s) == 0:
        closing_send_fin(s)
    return 0


cdef int socket_shutdown_read(socket_t* s) noexcept nogil:
    """shutdown(True): what comes is read and thrown away, so that our FIN is not a reset."""
    if is_closing(s):
        return -1
    s.flags |= S_DISCARD
    if s.flags & S_READER:
        upcalls.reader_stop(s)
        stream_stop(s)          # it is read into the slab from now on
    if s.flags & S_FIN_SENT:
        socket_close(s)
        return 0
    s.flags &= ~S_PAUSED
    stream_read(s)
    return 0


cdef int socket_pause(socket_t* s) noexcept nogil:
    if is_closing(s) or s.flags & S_DISCARD:
        return -1
    s.flags |= S_PAUSED
    stream_pause_reading(s)
    return 0


cdef int socket_resume(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    s.flags &= ~S_PAUSED
    if s.flags & S_OPENED:
        stream_read(s)
    return 0


cdef int socket_flush(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    output_flush_and_notify(s)
    return 0


cdef int socket_cork(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED or s.corks == CORKS_MAX:
        return -1
    s.corks += 1
    return 0


cdef int socket_uncork(socket_t* s) noexcept nogil:
    if s.corks == 0 or s.flags & S_CLOSED:
        return -1
    output_uncork(s)
    return 0


cdef int socket_ref(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    if s.flags & S_UNREF:
        s.flags &= ~S_UNREF
        loop_ref(loop_of(s))
    return 0


cdef int socket_unref(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    if not s.flags & S_UNREF:
        s.flags |= S_UNREF
        loop_unref(loop_of(s))
    return 0


cdef int socket_timeout(socket_t* s, double seconds) noexcept nogil:
    """-1: closed, or `seconds` is negative or NaN; -2: no memory."""
    if is_closing(s) or not seconds >= 0:
        return -1
    return 0 if deadlines_set_timeout(s, seconds) else -2


cdef int socket_state(socket_t* s) noexcept nogil:
    if is_closing(s):
        return SOCKET_CLOSED if s.flags & S_OPENED else SOCKET_DETACHED
    if not s.flags & S_OPENED or s.flags & S_HANDSHAKE:
        return SOCKET_OTHER
    return SOCKET_ESTABLISHED if may_write(s) else SOCKET_SHUTDOWN


cdef inline void socket_fail(socket_t* s, int code) noexcept nogil:
    """The error it will close with; the first one counts."""
    if s.error == 0:
        s.error = code


# ---------------------------------------------------------------------------- events
