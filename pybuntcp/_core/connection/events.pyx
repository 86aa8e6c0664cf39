"""events: what happens to a connection, and which handler that calls.

  the kernel or the engine reports      what is done                                              handler
  ---------------------------------     ------------------------------------------------------    -------------------
  bytes (on_read)                       the idle deadline restarts; then they are dropped if
                                        S_DISCARD, decrypted if S_TLS, copied if S_RECEIVER, or     `data`
  the peer's FIN (UV_EOF)               with TLS the engine decides first, a reader's user
                                        reads to the end first; afterwards socket_close,
                                        unless `allow_half_open`                                  `end`
  a read error                          noted, the descriptor is closed; with
                                        SLOTS_OPEN_UNTIL_CLOSED a verb closes it: `broken`          `close`, with it
  close_notify, a decrypted record      tls_deliver_eof, tls_deliver: as FIN and bytes            `end`, `data`
  all output is with the kernel         closing: closing_linger; ended: FIN; an upgrade goes
                                        on; after a short write                                   `drain`
  a write failed for good               S_BROKEN: read on, so that what the peer sent before
                                        is delivered; close if nothing more can come              `close`, with it
  a deadline passed                     see deadlines                                             `timeout`
  libuv has closed the handle           leave all lists, wake waiters, release                    `close`
  an async handler has ended            events_run_deferred: emit what waited for it              those deferred

While an async handler runs (S_HANDLER_TASK) no other handler of its socket starts. What happens meanwhile is kept in
flags (S_NEED_DRAIN, S_TIMEOUT_DEFERRED, S_EOF_DELIVERED, S_CLOSE_DEFERRED) and emitted by `events_run_deferred`.

Who frees: `on_closed` calls `events_closed` and frees the socket if that returns True. If an async handler still runs,
it returns False, and the socket is freed when that handler has ended, or when the loop dies (`tasks_abandon`).
"""
from pybuntcp._c cimport uv


cdef void events_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    """`size` bytes are in the slab."""
    if s.deadlines != NULL:
        deadlines_touch(s)
    if receives_directly(s):
        emit_data(s, data, size)
    elif s.flags & S_TLS:
        tls_received(s, data, size)
    elif not s.flags & S_DISCARD:
        receiver_received(s, data, size)


cdef void events_ended(socket_t* s, int code) noexcept nogil:
    """Nothing more can be read: UV_EOF is the peer's FIN, any other code an error."""
    if code != uv.UV_EOF:
        events_read_failed(s, code)
    elif is_fin_for_tls(s):
        tls_peer_fin(s)
    else:
        events_eof(s)


cdef void events_read_failed(socket_t* s, int code) noexcept nogil:
    """Close it. A user who wants it open until a verb closes it is told by `broken` instead, as of a write."""
    if stays_open(s) and not is_closing(s) and not s.flags & S_BROKEN:
        s.flags |= S_EOF
        output_fail(s, code)
        return
    socket_fail(s, code)
    stream_close(s)


cdef void events_eof(socket_t* s) noexcept nogil:
    """The peer sends no more: its FIN, or close_notify."""
    s.flags |= S_EOF
    if s.flags & S_BROKEN:
        stream_close(s)
    elif s.flags & S_RECEIVER and not s.flags & S_DISCARD:
        receiver_ended(s)
    elif not s.flags & S_DISCARD:
        events_emit_end(s)
    elif s.flags & S_CLOSING:
        stream_close(s)


cdef void events_emit_end(socket_t* s) noexcept nogil:
    """`end`, then the consequences, unless the handler still runs as a task."""
    emit_event(s, context_of(s).table.slots.end)
    if not s.flags & S_HANDLER_TASK:
        events_peer_ended(s)


cdef void events_eof_delivered(socket_t* s) noexcept nogil:
    """The user of the SocketReader has read the end, and has had a turn to write an answer."""
    if not may_emit_end(s):
        return
    s.flags &= ~S_EOF_DELIVERED
    events_emit_end(s)


cdef void events_peer_ended(socket_t* s) noexcept nogil:
    """`end` was emitted: unless half-open is allowed, or a pipe goes on, send what is pending and close."""
    if s.flags & S_CLOSED or stays_open(s):
        return
    if s.flags & S_ENDED or not (context_of(s).allow_half_open or is_piped_into(s)):
        socket_close(s)


cdef void events_flushed(socket_t* s) noexcept nogil:
    """Nothing is pending: all accepted bytes are with the kernel."""
    if s.flags & S_CLOSING:
        if not s.flags & S_FIN_SENT:
            closing_linger(s)     # once: flush() may be called again while it lingers
    elif s.flags & S_ENDED and context_of(s).upgraded_to != NULL:
        upcalls.upgrade_raw_flushed(s)
    elif s.flags & S_ENDED:
        closing_send_fin(s)
    elif s.flags & S_NEED_DRAIN and not s.flags & S_HANDLER_TASK:
        s.flags &= ~S_NEED_DRAIN
        stats_add(&loop_of(s).count.drains, 1)
        emit_event(s, context_of(s).table.slots.drain)
    if is_piped_into(s):
        pipe_flushed(s)


cdef void events_broken(socket_t* s) noexcept nogil:
    """A write failed for good. What the peer sent before it is still delivered; then the connection closes."""
    if stays_open(s) and is_failure_owed(s) and is_input_over(s):
        return                  # its user closes it
    if is_input_over(s) or context_of(s).upgraded_to != NULL:
        stream_close(s)
        return
    stream_read(s)              # the read error or FIN closes it; a paused socket waits for resume()
    deadlines_start_linger(s)   # closes it if the user never resumes, and waits for a drain that cannot happen


cdef bint events_closed(socket_t* s) noexcept nogil:
    """The last event: notify everything linked to the socket, then release what it owns. True: `s` may be freed.

    False: an async handler of it still runs. This is called again when that has ended.
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
    """Remove it from the loop's lists, and unlink sinks, its TLS engine, an upgrade, its connector."""
    cdef context_t* context
    if s.flags & S_IN_DEFERRED:
        tls_unqueue(s)
    if s.flags & S_DRAIN_WAITERS:
        upcalls.drained(s)
    if s.flags & S_TLS:
        tls_socket_closed(s)
    context = context_of(s)         # read here: a handler may have reloaded the socket
    if context.upgraded_to != NULL:
        upcalls.upgrade_raw_lost(s)
    if context.upgraded_from != NULL:
        upcalls.upgrade_tls_closed(s)
    if context.connector != NULL:
        upcalls.connector_socket_closed(context.connector, s)


cdef void events_wake_waiters(socket_t* s) noexcept nogil:
    """Wake reads that wait, and `async with socket`."""
    if s.flags & S_RECEIVER:
        upcalls.reader_closed(s)
    if s.flags & S_CLOSE_WAITERS:
        upcalls.wrapper_closed(s)


cdef void events_emit_close(socket_t* s) noexcept nogil:
    """`close`, once, if `open` was called. An upgrade that was never open reports its error instead."""
    if may_emit_close(s):
        s.flags |= S_CLOSE_EMITTED
        emit_close(s, s.error)
    if context_of(s).upgrade_role != 0 and s.error != 0 and is_unreported(s) and not loop_of(s).dead:
        upcalls.upgrade_emit_failure(s)


cdef void events_release(socket_t* s) noexcept nogil:
    """Update the counters; release the Socket, the listener's count, the engine and the context."""
    cdef loop_t* loop = loop_of(s)
    cdef context_t* context
    if s.flags & S_COUNTED:
        stats_add(&loop.count.open_sockets, -1)
        stats_add(&loop.count.closed, 1)
    if s.flags & S_TLS:
        tls_free(s)             # before the Socket is detached: from then on any thread may query the engine's object
    if s.wrapper != NULL:
        gil_take(loop)
        upcalls.wrapper_detach(s)
    context = context_of(s)
    if context.server != NULL and s.flags & S_COUNTED:
        upcalls.listener_socket_closed(context.server)
    context_release(loop, context)


cdef void events_run_deferred(socket_t* s, unsigned int events) noexcept nogil:
    """The async handlers for `events` (bits) have ended and none runs now: emit what waited for them."""
    if context_of(s).upgraded_to != NULL and not s.flags & S_CLOSE_DEFERRED:
        return                      # an upgrade: the connection belongs to the TLS socket now
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
    unbounded_tell_at_turn_end(s)
    if may_emit_timeout(s):
        deadlines_resume(s)
    if s.flags & S_EOF_DELIVERED:
        events_eof_delivered(s)
    if not s.flags & S_HANDLER_TASK:
        stream_read(s)
