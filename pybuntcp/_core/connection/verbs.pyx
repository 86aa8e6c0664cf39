"""verbs: what a user may do with a connection, and how it begins.

Owns the rules of CONTRACT's "Writing" and "Reading and closing": which verb still has an effect, when FIN goes out,
when the descriptor is closed. (How FIN and the descriptor go: see closing.)

  end        takes no more; sends what is pending, then FIN; reads on until the peer's FIN, for as
             long as the peer takes something in each linger_timeout (see deadlines)
  close      takes no more, and only `close` is called from now on; sends what is pending, for as long as that. Where
             close(2) would lose bytes under way (see closing_would_reset), FIN goes out first,
             and input is dropped until the peer's FIN
  close_now  drops what is pending and closes the descriptor; what the kernel has taken it still sends
  terminate  drops what is pending and resets
  shutdown   FIN after what is pending, and no deadline; shutdown(True): reads and drops the input

The verbs are the C API's, too (see _core.pxd): 0, or -1 when there was nothing to do. A connection is closed
(`stream_close`) when both FINs have been seen, or when close has sent everything.

A write that fails for good does not close at once: what the peer sent before it is still in the kernel and is delivered
first (`S_BROKEN`). The read side then ends the connection, with the error of the write.

Promises that no verb calls a handler before it returns. All of it is `nogil`.
"""
from libc.stdint cimport SIZE_MAX

from pybuntcp._c cimport net, uv


# ---------------------------------------------------------------------------- birth

cdef int socket_adopt(loop_t* loop, context_t* context, int fd, unsigned long stamp, socket_t** made) noexcept nogil:
    """A socket on a connected descriptor, which it adopts, unless the code is negative. stamp: see descriptors."""
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
    """The connection is established, in either direction: begin its handshake, or call `open`."""
    if context_of(s).tls != NULL:
        tls_begin(s, True)
    else:
        socket_opened(s)


cdef void socket_count(socket_t* s) noexcept nogil:
    if not s.flags & S_COUNTED:
        s.flags |= S_COUNTED
        stats_add(&loop_of(s).count.open_sockets, 1)


cdef void socket_opened(socket_t* s) noexcept nogil:
    """Call `open`, then read."""
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
    """Bytes accepted, or -1: this side has ended or is broken."""
    cdef ssize_t taken
    if not may_write(s) or size > <size_t>PY_SSIZE_T_MAX:
        return -1
    taken = output_write(s, data, size, context_of(s).high_water_mark)
    return taken if taken >= 0 else -1


cdef int socket_end(socket_t* s, const char* data=NULL, size_t size=0) noexcept nogil:
    """Accept all, then FIN. -1: this side had ended before, or is broken; -2: no memory."""
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
    if s.pipe != NULL:
        pipe_release_sources(s)
    if not output_corked(s):
        output_flush(s)         # gathered by a sink: it does not wait for a turn that may never run
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
        return 0                # the write failed, and had nothing left to wait for
    s.flags |= S_ENDED | S_CLOSING
    stream_pause_reading(s)
    socket_drop_receiver(s)
    if s.pipe != NULL:
        pipe_release_sources(s)
        if s.flags & S_CLOSED:
            return 0            # its target has failed, and was piped into it
    deadlines_drop_user(s)
    if output_pending(s) == 0 or s.flags & S_BROKEN:
        closing_linger(s)
    else:
        deadlines_start_linger(s)
    return 0


cdef int socket_close_now(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    stream_close(s)
    return 0


cdef int socket_terminate(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    if s.pipe != NULL:
        pipe_reset_others(s)
    closing_with_reset(s)
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
    if s.pipe != NULL:
        pipe_release_sources(s)
    deadlines_begin_ending(s)
    if output_pending(s) == 0:
        closing_send_fin(s)
    return 0


cdef int socket_shutdown_read(socket_t* s) noexcept nogil:
    """shutdown(True): input is read and dropped, so that the kernel never answers it with RST."""
    if is_closing(s):
        return -1
    s.flags |= S_DISCARD
    if s.flags & S_RECEIVER:
        socket_drop_receiver(s)
        if s.flags & S_CLOSED:
            return 0
        stream_stop(s)          # restarted below: input goes to the slab from now on
    if s.flags & S_FIN_SENT:
        socket_close(s)
        return 0
    s.flags &= ~S_PAUSED
    stream_read(s)
    return 0


cdef void socket_drop_receiver(socket_t* s) noexcept nogil:
    """Its user wants no more input: to a target that is the source's end, and to a reader its own."""
    pipe_leave(s)
    if s.flags & S_RECEIVER:
        upcalls.reader_stop(s)


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
    """The error that `close` will report; the first one counts."""
    if s.error == 0:
        s.error = code
