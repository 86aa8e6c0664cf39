"""tls_input: what arrives at a TLS socket, and its handshake as its user sees it.

  on_read -> events_received -> tls_received -> tls_feed -> engine.feed -> tls_deliver         -> `data`, the reader
                                     |             ^             |-> tls_deliver_eof   -> events_eof -> `end`
               in the handshake,     v             |             |-> tls_handshake_done        -> `handshake`, `open`
               or deferred:  tls_buffer_input      |             |-> tls_failed, tls_truncated -> `error`, `close`
                                     |         tls_resume        '-> its user allows no event now: the rest is buffered
                                     v             ^                   |
                              tls_defer_input -> a turn                v
                                                   ^----- stream_read, when its user allows events again

Owns the calls to and from the engine (`filter_t`) in this direction. The engine receives ciphertext (`feed`) and calls
back with what it found: data, the peer's close_notify, the handshake's outcome, an error. What must not be emitted now,
since the socket is paused, an async handler runs, or the reader is full, stays in the engine or, as ciphertext, in
`tls_t.buffered`. One step of a handshake costs as much as fifty messages, so its input is deferred, too, and processed
after the events of the turn: see tls_scheduling.

Two flags. S_INPUT_DEFERRED: something waits, so the socket is not read. S_IN_DEFERRED: the socket is in
`loop.deferred_input`, so the next turn tries again (tls_process_pending). A socket whose user allows no event has the
first flag alone; `stream_read`, which runs when the user allows it again, sets the second.
Reading stops for that, and as for any socket: a pause, an async handler, a full reader, EOF, close. A pause does not
stop it during a handshake, or while a write waits for input (S_TLS_WANT_READ).

Re-entrancy: callbacks of an SSLContext are user code inside `SSL_*` functions, and may call any verb of any socket.
Therefore a handshake writes to a buffer of its connection (`flight`, see engine), not to the loop's. While the loop's
scratch buffers are in use, TLS writes of all sockets are only gathered (tls_scratch_in_use). And after each call of the
engine S_CLOSED is checked; the memory is still there, because only libuv's close callback frees a socket.

Every refusal ends in `stream_close`, and is reported from there: by `close`, or, for an outgoing connection that was
not open for its user yet, by its connector.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from pybuntcp._c cimport net, uv


cdef enum:
    PLAINTEXT_CAPACITY = 98304      # a full slab, and a record that had begun before it, decrypted
    CIPHERTEXT_CAPACITY = 69632     # TLS_WRITE_MAX bytes, encrypted


# ---------------------------------------------------------------------------- the loop's scratch buffers

cdef tls_scratch_t* tls_scratch(socket_t* s) noexcept nogil:
    """The loop's scratch buffers, made when first needed. NULL: no memory."""
    cdef tls_scratch_t* scratch = &loop_of(s).scratch
    if scratch.plain == NULL:
        scratch.plain = <char*>malloc(PLAINTEXT_CAPACITY)
        scratch.plain_capacity = PLAINTEXT_CAPACITY if scratch.plain != NULL else 0
    return scratch if scratch.plain != NULL else NULL


cdef bint tls_scratch_reserve(tls_scratch_t* scratch, size_t more) noexcept nogil:
    """Make space for `more` bytes of ciphertext. False: no memory."""
    cdef char* grown
    cdef size_t size
    if scratch.out_capacity - scratch.out_size >= more:
        return True
    size = max(scratch.out_size + more, <size_t>CIPHERTEXT_CAPACITY)
    grown = <char*>realloc(scratch.out, size)
    if grown == NULL:
        return False
    scratch.out = grown
    scratch.out_capacity = size
    return True


# ---------------------------------------------------------------------------- begin and end

cdef void tls_begin(socket_t* s, bint server) noexcept nogil:
    """Use TLS on an established connection. `open` is called before the handshake if there is a `handshake` handler."""
    cdef loop_t* loop = loop_of(s)
    cdef uint64_t started = tls_begin_cost(loop)
    tls_attach(s, server)
    tls_end_cost(loop, started)


cdef void tls_attach(socket_t* s, bint server) noexcept nogil:
    s.flags |= S_HANDSHAKE
    gil_take(loop_of(s))
    if not upcalls.tls_make_connection(s, server):
        s.flags &= ~S_HANDSHAKE
        stats_add(&loop_of(s).count.handshake_failures, 1)
        socket_fail(s, uv.UV_EPROTO)
        stream_close(s)
        return
    if not s.flags & S_CLOSED:      # user code may have run, and closed it
        tls_start(s, server)


cdef void tls_start(socket_t* s, bint server) noexcept nogil:
    deadlines_start_handshake(s, context_of(s).handshake_timeout)
    if context_of(s).table.slots.handshake != NULL:
        socket_opened(s)
    if not s.flags & S_CLOSED:
        tls_start_steps(s, server)


cdef void tls_start_in_place(socket_t* s, bint server, double handshake_timeout) noexcept nogil:
    """The same, where `open` was called long ago. What is still to be sent in plain goes first: see tls_take_over_output."""
    s.flags |= S_HANDSHAKE
    deadlines_start_handshake(s, handshake_timeout)
    tls_start_steps(s, server)


cdef void tls_start_steps(socket_t* s, bint server) noexcept nogil:
    """A client sends first, and what is buffered has arrived: then the next turn makes the first step."""
    if server and tls_of(s).buffered_size == 0:
        stream_read(s)
    else:
        tls_defer_input(s)


cdef void tls_free(socket_t* s) noexcept nogil:
    """The socket is gone: release the engine's part of it."""
    cdef tls_t* self = tls_of(s)
    free(self.buffered)
    self.buffered = NULL
    s.flags &= ~S_TLS
    engine.detach(self, s)


# ---------------------------------------------------------------------------- input

cdef void tls_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    s.bytes_read -= size            # tls_deliver counts the plaintext instead
    stats_add(&loop_of(s).count.bytes_read, -<int64_t>size)
    if s.flags & S_CLOSING and not is_tls_blocked(s):
        return
    if s.flags & S_HANDSHAKE or s.flags & S_INPUT_DEFERRED:
        tls_buffer_input(s, data, size)
        tls_defer_input(s)
    else:
        tls_feed(s, data, size)


cdef void tls_defer_input(socket_t* s) noexcept nogil:
    """Stop reading, and have the next turn process what waits."""
    s.flags |= S_INPUT_DEFERRED
    stream_stop(s)
    stream_queue_deferred(s)


cdef void tls_buffer_input(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Append it to the ciphertext that waits."""
    cdef tls_t* self = tls_of(s)
    cdef char* grown
    if size == 0:
        return
    grown = <char*>realloc(self.buffered, self.buffered_size + size)
    if grown == NULL:
        socket_fail(s, uv.UV_ENOMEM)
        stream_close(s)
        return
    memcpy(grown + self.buffered_size, data, size)
    self.buffered = grown
    self.buffered_size += size


cdef void tls_feed(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Pass it to the engine, which emits what it may; buffer the rest."""
    cdef tls_t* self = tls_of(s)
    cdef size_t taken
    self.undelivered = False
    taken = engine.feed(self, s, data, size)
    tls_send_ciphertext(s, 0)          # even if it is closed: the next socket needs the scratch buffer empty
    if s.flags & S_CLOSED:
        return
    if taken < size or self.undelivered:
        tls_buffer_input(s, data + taken, size - taken)
        s.flags |= S_INPUT_DEFERRED
        stream_stop(s)
        if tls_may_deliver(s) and not s.flags & S_CLOSED:
            stream_queue_deferred(s)         # the user allows more: it is the engine that lets other sockets go first
    if s.flags & S_TLS_WANT_READ:
        tls_retry_write(s)


cdef void tls_resume(socket_t* s) noexcept nogil:
    """In a turn: go on with the deferred input, if the user allows it."""
    cdef tls_t* self = tls_of(s)
    cdef char* buffered
    if may_open(s) and context_of(s).table.slots.handshake != NULL:
        socket_opened(s)            # an upgrade: it could not be called before this turn
        if s.flags & S_CLOSED:
            return
    if s.flags & S_BROKEN and s.error == uv.UV_EPROTO:
        tls_failed(s)            # a write could not be encrypted, and nothing more will arrive
        return
    buffered = self.buffered
    cdef size_t size = self.buffered_size
    self.buffered = NULL
    self.buffered_size = 0
    s.flags &= ~S_INPUT_DEFERRED
    tls_feed(s, buffered, size)
    free(buffered)
    if not s.flags & S_CLOSED and not s.flags & S_INPUT_DEFERRED:
        stream_read(s)


# ---------------------------------------------------------------------------- called by the engine

cdef bint tls_may_deliver(socket_t* s) noexcept nogil:
    """May the engine emit data, or the end, now?"""
    if s.flags & S_DISCARD:
        return True
    if not wants_data(s):
        return False
    if s.flags & S_RECEIVER:
        return receiver_has_space(s)
    return not s.flags & S_HANDLER_TASK


cdef bint tls_wants_read(socket_t* s) noexcept nogil:
    """Did the engine last return SEAL_WANT_READ?"""
    return s.flags & S_TLS_WANT_READ != 0


cdef void tls_deliver(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Decrypted data, in the scratch buffer."""
    tls_send_ciphertext(s, 0)
    s.bytes_read += size
    stats_add(&loop_of(s).count.bytes_read, size)
    if s.flags & S_DISCARD or s.flags & S_CLOSED:
        return
    if s.flags & S_RECEIVER:
        receiver_received(s, data, size)
    else:
        emit_data(s, data, size)


cdef void tls_deliver_eof(socket_t* s) noexcept nogil:
    """The peer's close_notify, or a FIN that counts as one: what a FIN is to a plain socket."""
    tls_send_ciphertext(s, 0)
    if not s.flags & S_CLOSED:
        stream_stop(s)
        events_eof(s)


cdef void tls_handshake_done(socket_t* s, bint success, long verify_result) noexcept nogil:
    """The handshake has succeeded or failed: report it, once."""
    tls_send_ciphertext(s, 0)
    if s.flags & S_CLOSED:
        return
    deadlines_end_handshake(s)
    s.flags &= ~S_HANDSHAKE
    if success:
        stats_add(&loop_of(s).count.handshakes, 1)
    else:
        stats_add(&loop_of(s).count.handshake_failures, 1)
        socket_fail(s, uv.UV_EPROTO)
        output_drop_gathered(s)
        s.flags |= S_ENDED | S_BROKEN
    tls_of(s).handshake_pending = s.flags & S_OPENED != 0
    tls_of(s).success = success
    tls_of(s).verify_result = verify_result
    tls_emit_handshake(s)
    if s.flags & S_CLOSED:
        return
    if not success:
        tls_end(s)
        return
    if context_of(s).connector != NULL:
        upcalls.connector_handshake_done(context_of(s).connector)
    elif may_open(s):
        socket_opened(s)
    if not s.flags & S_CLOSED:
        tls_flush_early_writes(s)


cdef void tls_emit_handshake(socket_t* s) noexcept nogil:
    """`handshake`, once. It waits for an async `open`, which may read and write meanwhile."""
    cdef tls_t* self = tls_of(s)
    if self.handshake_pending and may_emit_handshake(s):
        self.handshake_pending = False
        emit_handshake(s, self.success, self.verify_result)


cdef void tls_socket_closed(socket_t* s) noexcept nogil:
    """The socket has closed, perhaps in its handshake. If its own user closed it, the handshake has not failed."""
    if s.flags & S_HANDSHAKE and s.error != 0:
        s.flags &= ~S_HANDSHAKE
        stats_add(&loop_of(s).count.handshake_failures, 1)
        if may_open(s) and context_of(s).table.slots.handshake != NULL:
            socket_opened(s)        # an upgrade that no turn has processed yet
        tls_of(s).handshake_pending = s.flags & S_OPENED != 0
        tls_of(s).success = False
    tls_emit_handshake(s)


cdef void tls_flush_early_writes(socket_t* s) noexcept nogil:
    """Send what was written before the handshake was done."""
    stream_stop(s)
    stream_read(s)
    output_flush(s)
    if may_send(s) and output_pending(s) == 0:
        events_flushed(s)


cdef void tls_handshake_timed_out(socket_t* s) noexcept nogil:
    """`handshake_timeout` has passed."""
    if s.error == 0:
        gil_take(loop_of(s))
        upcalls.tls_note_timeout(s)
    socket_fail(s, uv.UV_ETIMEDOUT)
    tls_handshake_done(s, False, 0)


cdef void tls_failed(socket_t* s) noexcept nogil:
    """A record that cannot be decrypted, or an alert: `error`, then `close` with the same."""
    tls_send_ciphertext(s, 0)
    if s.flags & S_CLOSED:
        return
    if tls_is_leaving(s):
        tls_close(s)
        return
    socket_fail(s, uv.UV_EPROTO)
    output_drop_gathered(s)
    s.flags |= S_ENDED | S_BROKEN | S_BYTES_LOST
    gil_take(loop_of(s))
    upcalls.tls_emit_error(s)
    if not s.flags & S_CLOSED:
        tls_end(s)


cdef void tls_peer_fin(socket_t* s) noexcept nogil:
    """The peer's FIN, with or without a close_notify before it."""
    if tls_is_leaving(s):
        stream_close(s)
    else:
        engine.eof(tls_of(s), s)


cdef void tls_truncated(socket_t* s) noexcept nogil:
    """A FIN without close_notify (RFC 8446, 6.1: truncation), or no memory to decrypt: close with an error."""
    socket_fail(s, uv.UV_EPROTO)
    stream_close(s)


cdef bint tls_accepts_fin(socket_t* s) noexcept nogil:
    """Is a FIN without close_notify an end like any other? Only for a user who closes it himself, and can ask for the error."""
    return stays_open(s) and may_emit_error(s) and not s.flags & S_TLS_WANT_READ


cdef inline bint tls_is_leaving(socket_t* s) noexcept nogil:
    """Its user has closed it, and only our close_notify waits: what the peer does is not reported any more."""
    return s.flags & S_CLOSING and s.flags & S_TLS_WANT_READ and output_pending(s) == 0


cdef void tls_take_gil(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))


cdef void tls_end(socket_t* s) noexcept nogil:
    """TLS has failed, and our alert is sent: close, unless a verb of its user's does that: then `broken` is called."""
    if not stays_open(s) or not may_emit_error(s) or context_of(s).connector != NULL:
        tls_close(s)
        return
    net.pbt_discard(stream_fd(s))
    stream_stop(s)
    s.flags |= S_EOF
    output_fail(s, uv.UV_EPROTO)


cdef void tls_close(socket_t* s) noexcept nogil:
    """Close after an alert. Unread input is dropped first: the kernel would reset, and the alert would be lost."""
    net.pbt_discard(stream_fd(s))
    stream_close(s)
