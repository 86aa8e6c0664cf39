"""socket: the verbs of a connection, and what its events lead to.

Owns the rules of CONTRACT's "Writing" and "Reading and closing": which verb may still do
something, when FIN goes out, when the descriptor does.

  end        takes no more; sends what is pending, then FIN; reads on until the peer's FIN, for as
             long as the peer takes something in each linger_timeout (see clocks)
  close      takes and tells no more; sends what is pending, for as long as that. Where
             close(2) would lose bytes under way (see stream_would_lose), FIN goes out first,
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
    cdef socket_t* s = socket_new(loop, context)
    cdef int rc
    if s == NULL:
        return uv.UV_ENOMEM
    rc = uv.uv_tcp_open(&s.tcp, fd)
    if rc < 0:
        stream_close(s)
        return rc
    net.pbt_no_sigpipe(fd)
    descriptor_own(fd, stamp)
    made[0] = s
    return 0


cdef void socket_stands(socket_t* s) noexcept nogil:
    """The peer accepted it, or we did the peer: it is open, or its handshake begins."""
    if context_of(s).tls != NULL:
        secure_begin(s, True)
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
    clocks_start_idle(s)
    emit_event(s, context.table.slots.open)
    stream_read(s)


# ---------------------------------------------------------------------------- verbs

cdef inline bint socket_writable(socket_t* s) noexcept nogil:
    return not s.flags & (S_ENDED | S_CLOSED | S_BROKEN)


cdef Py_ssize_t socket_write(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Bytes accepted, or -1: this side is done."""
    cdef ssize_t taken
    if not socket_writable(s) or size > <size_t>PY_SSIZE_T_MAX:
        return -1
    taken = output_write(s, at, size, context_of(s).high_water_mark)
    return taken if taken >= 0 else -1


cdef int socket_end(socket_t* s, const char* at=NULL, size_t size=0) noexcept nogil:
    """Accept all, then FIN. -1: this side was done before, or is broken; -2: no memory."""
    cdef ssize_t taken
    if not socket_writable(s) or size > <size_t>PY_SSIZE_T_MAX:
        return -1
    taken = output_write(s, at, size, SIZE_MAX)
    if taken < 0 or s.flags & S_BROKEN:
        return -1
    if <size_t>taken != size:
        return -2
    s.flags |= S_ENDED | S_LINGER
    s.flags &= ~S_SHORT
    if not output_corked(s):
        output_flush(s)         # what a sink coalesces does not wait for a turn that may not come
    if output_pending(s) == 0:
        socket_send_fin(s)
    else:
        clocks_start_linger(s)
    return 0


cdef int socket_close(socket_t* s) noexcept nogil:
    if s.flags & (S_CLOSED | S_CLOSING):
        return -1
    output_flush(s)
    if s.flags & S_CLOSED:
        return 0                # a write that failed had nothing more to wait for
    s.flags |= S_ENDED | S_CLOSING
    stream_rest(s)
    if s.flags & S_READER:
        reader_stop(s)
    clocks_forget_user(s)
    if output_pending(s) == 0 or s.flags & S_BROKEN:
        socket_leave(s)
    else:
        clocks_start_linger(s)
    return 0


cdef int socket_terminate(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED:
        return -1
    stream_reset_on_close(s)
    stream_close(s)
    return 0


cdef int socket_shutdown(socket_t* s, bint half_close=False) noexcept nogil:
    if half_close:
        return socket_deafen(s)
    if not socket_writable(s):
        return -1
    output_flush(s)
    s.flags |= S_ENDED
    s.flags &= ~S_SHORT
    clocks_begin_ending(s)
    if output_pending(s) == 0:
        socket_send_fin(s)
    return 0


cdef int socket_deafen(socket_t* s) noexcept nogil:
    """shutdown(True): what comes is read and thrown away, so that our FIN is not a reset."""
    if s.flags & (S_CLOSED | S_CLOSING):
        return -1
    s.flags |= S_DEAF
    if s.flags & S_READER:
        reader_stop(s)
        stream_stop(s)          # it is read into the slab from now on
    if s.flags & S_FIN_SENT:
        socket_close(s)
        return 0
    s.flags &= ~S_PAUSED
    stream_read(s)
    return 0


cdef int socket_pause(socket_t* s) noexcept nogil:
    if s.flags & (S_CLOSED | S_CLOSING | S_DEAF):
        return -1
    s.flags |= S_PAUSED
    stream_rest(s)
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
    output_settle(s)
    return 0


cdef int socket_cork(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSED or s.corks == MOST_CORKS:
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
    if s.flags & (S_CLOSED | S_CLOSING) or not seconds >= 0:
        return -1
    return 0 if clocks_set_timeout(s, seconds) else -2


cdef int socket_state(socket_t* s) noexcept nogil:
    if s.flags & (S_CLOSED | S_CLOSING):
        return SOCKET_CLOSED if s.flags & S_OPENED else SOCKET_DETACHED
    if not s.flags & S_OPENED or s.flags & S_SECURING:
        return SOCKET_OTHER
    return SOCKET_SHUTDOWN if s.flags & (S_ENDED | S_BROKEN) else SOCKET_ESTABLISHED


cdef inline void socket_fail(socket_t* s, int code) noexcept nogil:
    """The error it will close with; the first one counts."""
    if s.error == 0:
        s.error = code


# ---------------------------------------------------------------------------- events

cdef void socket_received(socket_t* s, const char* at, size_t size) noexcept nogil:
    if s.clocks != NULL:
        clocks_touch(s)
    if not s.flags & (S_DEAF | S_READER | S_SECURE):
        emit_data(s, at, size)
    elif s.flags & S_SECURE:
        secure_received(s, at, size)
    elif not s.flags & S_DEAF:
        reader_received(s, at, size)


cdef void socket_ended(socket_t* s, int code) noexcept nogil:
    if code != uv.UV_EOF:
        socket_fail(s, code)
        stream_close(s)
    elif s.flags & (S_SECURE | S_DEAF | S_BROKEN) == S_SECURE:
        secure_cut(s)
    else:
        socket_eof(s)


cdef void socket_eof(socket_t* s) noexcept nogil:
    """The peer sends no more."""
    s.flags |= S_EOF
    if s.flags & S_BROKEN:
        stream_close(s)
    elif s.flags & S_READER and not s.flags & S_DEAF:
        reader_ended(s)             # its user is given what came before, ...
        if s.flags & S_ENDED:
            s.flags |= S_END_READ   # ... and can do no more
            socket_end_read(s)
    elif not s.flags & S_DEAF:
        socket_tell_end(s)
    elif s.flags & S_CLOSING:
        stream_close(s)


cdef void socket_tell_end(socket_t* s) noexcept nogil:
    emit_event(s, context_of(s).table.slots.end)
    if not s.flags & S_BUSY:
        socket_peer_ended(s)


cdef void socket_end_read(socket_t* s) noexcept nogil:
    """The user of its reader was given the end, and has had the time to write an answer."""
    if s.flags & (S_BUSY | S_CLOSED | S_CLOSING | S_DEAF):
        return
    s.flags &= ~S_END_READ
    socket_tell_end(s)


cdef void socket_peer_ended(socket_t* s) noexcept nogil:
    """The peer's FIN was told: unless half-open is allowed, finish what is pending and go."""
    if s.flags & S_CLOSED:
        return
    if s.flags & S_ENDED or not context_of(s).allow_half_open:
        socket_close(s)


cdef void socket_flushed(socket_t* s) noexcept nogil:
    if s.flags & (S_ENDED | S_CLOSING) == S_ENDED and context_of(s).heir != NULL:
        heir_go(s)
        return
    if s.flags & S_CLOSING:
        if not s.flags & S_FIN_SENT:
            socket_leave(s)     # else it is leaving already: flush() asks again and again
    elif s.flags & S_ENDED:
        socket_send_fin(s)
    elif s.flags & S_SHORT and not s.flags & S_BUSY:
        s.flags &= ~S_SHORT
        loop_of(s).count.drains += 1
        emit_event(s, context_of(s).table.slots.drain)


cdef void socket_broken(socket_t* s) noexcept nogil:
    if s.flags & (S_EOF | S_DEAF | S_CLOSING) or context_of(s).heir != NULL:
        stream_close(s)
        return
    stream_read(s)              # unless paused: then `resume` tells, ...
    clocks_start_linger(s)      # ... or the clock, for who waits for a drain that never comes


cdef void socket_closing(socket_t* s) noexcept nogil:
    if s.face == NULL and socket_will_need_face(s):
        face_prepare(s)         # may run anybody's finalizer; what it armed is stopped here
    clocks_stop(s)
    if s.face != NULL:
        record_addresses(s)


cdef bint socket_will_need_face(socket_t* s) noexcept nogil:
    """A Python `close` handler will ask for the addresses, and nobody has looked before."""
    return s.flags & S_OPENED and not loop_of(s).dead and context_of(s).table.slots.close == py_close


cdef bint socket_closed(socket_t* s) noexcept nogil:
    """The last event: tell `close`, let go of the face and the context.

    False: an async handler of it runs. When that has ended, this is called again.
    """
    cdef loop_t* loop = loop_of(s)
    cdef context_t* context
    if s.flags & S_QUEUED:
        secure_forget(s)
    if s.flags & S_AWAITED:
        sink_tell(s)
    if s.flags & S_SECURE:
        secure_gone(s)
    context = context_of(s)
    if context.heir != NULL:
        heir_orphan(s)
    if context.forebear != NULL:
        heir_gone(s)
    if context.dialer != NULL and context.dialer.won == s:
        connector_lost(context.dialer)
    if s.flags & S_READER:
        reader_closed(s)
    if s.flags & S_WATCHED:
        face_tell_closed(s)
    if s.flags & S_OPENED and not s.flags & (S_TOLD | S_BUSY):
        s.flags |= S_TOLD
        emit_close(s, s.error)
    if context.heirs != 0 and s.error != 0 and not (s.flags & (S_OPENED | S_TOLD) or loop.dead):
        heir_tell_failure(s)
    if s.flags & S_BUSY and not loop.dead:
        s.flags |= S_GONE
        return False
    if s.flags & S_COUNTED:
        loop.count.open_sockets -= 1
        loop.count.closed += 1
    if s.face != NULL:
        gil_take(loop)
        (<event_slot><void*>face_detach)(s)
    context = context_of(s)
    if context.server != NULL and s.flags & S_COUNTED:
        listener_lost_one(context.server)
    if s.flags & S_SECURE:
        secure_free(s)
    context_release(loop, context)
    return True


cdef void socket_go_on(socket_t* s, unsigned int events) noexcept nogil:
    """Async handlers for `events` (bits) have ended, and none runs: what was waiting for that."""
    if context_of(s).heir != NULL and not s.flags & S_GONE:
        return                      # what it was is another's
    if s.flags & S_SECURE:
        secure_tell_owed(s)
    if events & 1 << E_TIMEOUT:
        timeout_told(s)
    if s.flags & S_GONE:
        if socket_closed(s):
            stream_free(s)
        return
    if events & 1 << E_END:
        socket_peer_ended(s)
    if s.flags & S_SHORT and output_pending(s) == 0 and socket_writable(s):
        socket_flushed(s)
    if s.flags & (S_OVERDUE | S_BUSY | S_CLOSED) == S_OVERDUE:
        clocks_resume(s)
    if s.flags & (S_END_READ | S_BUSY | S_CLOSED) == S_END_READ:
        socket_end_read(s)
    if not s.flags & S_BUSY:
        stream_read(s)
