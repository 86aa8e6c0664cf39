"""events: what the kernel's events lead to."""
from pybuntcp._c cimport uv


cdef void events_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    if s.deadlines != NULL:
        deadlines_touch(s)
    if receives_directly(s):
        emit_data(s, data, size)
    elif s.flags & S_TLS:
        tls_received(s, data, size)
    elif not s.flags & S_DISCARD:
        upcalls.reader_received(s, data, size)


cdef void events_ended(socket_t* s, int code) noexcept nogil:
    if code != uv.UV_EOF:
        socket_fail(s, code)
        stream_close(s)
    elif is_fin_for_tls(s):
        tls_peer_fin(s)
    else:
        events_eof(s)


cdef void events_eof(socket_t* s) noexcept nogil:
    """The peer sends no more."""
    s.flags |= S_EOF
    if s.flags & S_BROKEN:
        stream_close(s)
    elif s.flags & S_READER and not s.flags & S_DISCARD:
        upcalls.reader_ended(s)             # its user is given what came before, ...
        if s.flags & S_ENDED:
            s.flags |= S_EOF_DELIVERED   # ... and can do no more
            events_eof_delivered(s)
    elif not s.flags & S_DISCARD:
        events_emit_end(s)
    elif s.flags & S_CLOSING:
        stream_close(s)


cdef void events_emit_end(socket_t* s) noexcept nogil:
    emit_event(s, context_of(s).table.slots.end)
    if not s.flags & S_HANDLER_TASK:
        events_peer_ended(s)


cdef void events_eof_delivered(socket_t* s) noexcept nogil:
    """The user of its reader was given the end, and has had the time to write an answer."""
    if not may_emit_end(s):
        return
    s.flags &= ~S_EOF_DELIVERED
    events_emit_end(s)


cdef void events_peer_ended(socket_t* s) noexcept nogil:
    """The peer's FIN was told: unless half-open is allowed, finish what is pending and go."""
    if s.flags & S_CLOSED:
        return
    if s.flags & S_ENDED or not context_of(s).allow_half_open:
        socket_close(s)


cdef void events_flushed(socket_t* s) noexcept nogil:
    if s.flags & S_CLOSING:
        if not s.flags & S_FIN_SENT:
            closing_linger(s)     # else it is leaving already: flush() asks again and again
    elif s.flags & S_ENDED and context_of(s).upgraded_to != NULL:
        upcalls.upgrade_raw_flushed(s)
    elif s.flags & S_ENDED:
        closing_send_fin(s)
    elif s.flags & S_NEED_DRAIN and not s.flags & S_HANDLER_TASK:
        s.flags &= ~S_NEED_DRAIN
        loop_of(s).count.drains += 1
        emit_event(s, context_of(s).table.slots.drain)


cdef void events_broken(socket_t* s) noexcept nogil:
    if is_input_over(s) or context_of(s).upgraded_to != NULL:
        stream_close(s)
        return
    stream_read(s)              # unless paused: then `resume` tells, ...
    deadlines_start_linger(s)      # ... or the clock, for who waits for a drain that never comes


cdef bint events_closed(socket_t* s) noexcept nogil:
    """The last event: tell everyone who is interested, then give everything back. True: `s` may be freed.

    False: an async handler of it still runs. When that has ended, this is called again.
    """
    events_leave_lists(s)
    events_wake_waiters(s)
    events_emit_close(s)
    if s.flags & S_HANDLER_TASK and not loop_of(s).dead:
        s.flags |= S_CLOSE_DEFERRED
        return False
    events_release(s)
    return True


cdef void events_leave_lists(socket_t* s) noexcept nogil:
    """What is queued for it, and what is linked to it: sinks that wait, its TLS engine, an upgrade, its connector."""
    cdef context_t* context
    if s.flags & S_IN_DEFERRED:
        tls_unqueue(s)
    if s.flags & S_DRAIN_WAITERS:
        upcalls.drained(s)
    if s.flags & S_TLS:
        tls_socket_closed(s)
    context = context_of(s)         # a handler may have reloaded the socket
    if context.upgraded_to != NULL:
        upcalls.upgrade_raw_lost(s)
    if context.upgraded_from != NULL:
        upcalls.upgrade_tls_closed(s)
    if context.connector != NULL:
        upcalls.connector_socket_closed(context.connector, s)


cdef void events_wake_waiters(socket_t* s) noexcept nogil:
    if s.flags & S_READER:
        upcalls.reader_closed(s)
    if s.flags & S_CLOSE_WAITERS:
        upcalls.wrapper_closed(s)


cdef void events_emit_close(socket_t* s) noexcept nogil:
    """`close`, once, if `open` was called; of an upgrade that never was open, what it failed with."""
    if may_emit_close(s):
        s.flags |= S_CLOSE_EMITTED
        emit_close(s, s.error)
    if context_of(s).upgrade_role != 0 and s.error != 0 and is_unreported(s) and not loop_of(s).dead:
        upcalls.upgrade_emit_failure(s)


cdef void events_release(socket_t* s) noexcept nogil:
    """Leave the counters, and let go of the Socket, the listener, the engine and the context."""
    cdef loop_t* loop = loop_of(s)
    cdef context_t* context
    if s.flags & S_COUNTED:
        loop.count.open_sockets -= 1
        loop.count.closed += 1
    if s.wrapper != NULL:
        gil_take(loop)
        upcalls.wrapper_detach(s)
    context = context_of(s)
    if context.server != NULL and s.flags & S_COUNTED:
        upcalls.listener_socket_closed(context.server)
    if s.flags & S_TLS:
        tls_free(s)
    context_release(loop, context)


cdef void events_run_deferred(socket_t* s, unsigned int events) noexcept nogil:
    """Async handlers for `events` (bits) have ended, and none runs: what was waiting for that."""
    if context_of(s).upgraded_to != NULL and not s.flags & S_CLOSE_DEFERRED:
        return                      # what it was is another's
    if s.flags & S_TLS:
        tls_emit_handshake(s)
    if events & 1 << E_TIMEOUT:
        timeout_after_handler(s)
    if s.flags & S_CLOSE_DEFERRED:
        if events_closed(s):
            stream_free(s)
        return
    if events & 1 << E_END:
        events_peer_ended(s)
    if s.flags & S_NEED_DRAIN and output_pending(s) == 0 and may_write(s):
        events_flushed(s)
    if may_emit_timeout(s):
        deadlines_resume(s)
    if s.flags & S_EOF_DELIVERED:
        events_eof_delivered(s)
    if not s.flags & S_HANDLER_TASK:
        stream_read(s)
