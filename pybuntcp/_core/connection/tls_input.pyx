"""tls_input: the way in of a secured socket, and its handshake as its user sees it.

Owns the seam to the engine in this direction. An engine is given bytes (`feed`) and says what was
in them: the handshake's verdict, data, the peer's end, an error. What may not be told now, since
the socket is paused, or an async handler runs, or a reader is full, stays with the engine or as
ciphertext (`S_INPUT_DEFERRED`): nothing more is read, and a turn of the loop goes on with it (`tls_process_pending`)
when the user allows it.

A step of a handshake costs fifty times what a message costs. What comes for one is held, too, and looked at when
the events of the turn were handled: see tls_scheduling, which owns what each gets of a turn.

Every refusal ends in `stream_close`, and is told from there: to `close`, or, of an outgoing
connection that was not open for its user yet, by its connector.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from pybuntcp._c cimport net, uv


cdef enum:
    PLAINTEXT_CAPACITY = 98304      # what a slab that is full, and a record that was started, open to
    CIPHERTEXT_CAPACITY = 69632     # what TLS_WRITE_MAX seals to


# ---------------------------------------------------------------------------- the loop's room

cdef tls_scratch_t* tls_scratch(socket_t* s) noexcept nogil:
    cdef tls_scratch_t* scratch = &loop_of(s).scratch
    if scratch.plain == NULL:
        scratch.plain = <char*>malloc(PLAINTEXT_CAPACITY)
        scratch.plain_capacity = PLAINTEXT_CAPACITY if scratch.plain != NULL else 0
    return scratch if scratch.plain != NULL else NULL


cdef bint tls_scratch_reserve(tls_scratch_t* scratch, size_t more) noexcept nogil:
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


# ---------------------------------------------------------------------------- birth and death

cdef void tls_begin(socket_t* s, bint server) noexcept nogil:
    """The connection stands, and is secured from here on. `open` may be told before the handshake."""
    cdef loop_t* loop = loop_of(s)
    cdef uint64_t started = uv.uv_hrtime() if loop.handshakes_served_at != 0 else 0
    tls_attach(s, server)
    if started != 0:
        loop.handshakes_served_at += uv.uv_hrtime() - started


cdef void tls_attach(socket_t* s, bint server) noexcept nogil:
    s.flags |= S_HANDSHAKE
    gil_take(loop_of(s))
    if not upcalls.tls_make_connection(s, server):
        s.flags &= ~S_HANDSHAKE
        loop_of(s).count.handshake_failures += 1
        socket_fail(s, uv.UV_EPROTO)
        stream_close(s)
        return
    if not s.flags & S_CLOSED:      # the user's own code may have made it
        tls_start(s, server)


cdef void tls_start(socket_t* s, bint server) noexcept nogil:
    deadlines_start_handshake(s)
    if context_of(s).table.slots.handshake != NULL:
        socket_opened(s)
    if s.flags & S_CLOSED:
        return
    if server:
        stream_read(s)
    else:
        tls_defer_input(s)              # it has the first word


cdef void tls_free(socket_t* s) noexcept nogil:
    cdef tls_t* self = tls_of(s)
    free(self.buffered)
    self.buffered = NULL
    s.flags &= ~S_TLS
    engine.detach(self, s)


# ---------------------------------------------------------------------------- what comes

cdef void tls_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    s.bytes_read -= size            # it counts when it is opened
    loop_of(s).count.bytes_read -= size
    if s.flags & S_CLOSING and not is_tls_blocked(s):
        return
    if s.flags & S_HANDSHAKE or s.flags & S_INPUT_DEFERRED:
        tls_buffer_input(s, data, size)
        tls_defer_input(s)
    else:
        tls_feed(s, data, size)


cdef void tls_defer_input(socket_t* s) noexcept nogil:
    """Something waits for a turn."""
    s.flags |= S_INPUT_DEFERRED
    stream_stop(s)
    stream_queue_deferred(s)


cdef void tls_buffer_input(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Behind what is kept already."""
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
    """Give it to the engine, which tells what it may."""
    cdef tls_t* self = tls_of(s)
    cdef size_t taken
    self.undelivered = False
    taken = engine.feed(self, s, data, size)
    tls_send_ciphertext(s, 0)          # of a closed one: it must not lie in the room that is everybody's
    if s.flags & S_CLOSED:
        return
    if taken < size or self.undelivered:
        tls_buffer_input(s, data + taken, size - taken)
        s.flags |= S_INPUT_DEFERRED
        stream_stop(s)
        if tls_may_deliver(s) and not s.flags & S_CLOSED:
            stream_queue_deferred(s)         # it is the engine that wants others to go on first
    if s.flags & S_TLS_WANT_READ:
        tls_retry_write(s)


cdef void tls_resume(socket_t* s) noexcept nogil:
    cdef tls_t* self = tls_of(s)
    cdef char* buffered
    if may_open(s) and context_of(s).table.slots.handshake != NULL:
        socket_opened(s)            # of an heir it could not be told before
        if s.flags & S_CLOSED:
            return
    if s.flags & S_BROKEN and s.error == uv.UV_EPROTO:
        tls_failed(s)            # it could not seal, and nothing more will come
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


# ---------------------------------------------------------------------------- what the engine tells

cdef bint tls_may_deliver(socket_t* s) noexcept nogil:
    if s.flags & S_DISCARD:
        return True
    if not wants_data(s):
        return False
    if s.flags & S_READER:
        return upcalls.reader_capacity(s) != 0
    return not s.flags & S_HANDLER_TASK


cdef bint tls_wants_read(socket_t* s) noexcept nogil:
    return s.flags & S_TLS_WANT_READ != 0


cdef void tls_deliver(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Data."""
    tls_send_ciphertext(s, 0)
    s.bytes_read += size
    loop_of(s).count.bytes_read += size
    if s.flags & S_DISCARD or s.flags & S_CLOSED:
        return
    if s.flags & S_READER:
        upcalls.reader_received(s, data, size)
    else:
        emit_data(s, data, size)


cdef void tls_deliver_eof(socket_t* s) noexcept nogil:
    """Nothing more comes: as a FIN is to others."""
    tls_send_ciphertext(s, 0)
    if not s.flags & S_CLOSED:
        stream_stop(s)
        events_eof(s)


cdef void tls_handshake_done(socket_t* s, bint success, long verify_result) noexcept nogil:
    """The handshake is done, or has failed: its user is told, once."""
    tls_send_ciphertext(s, 0)
    if s.flags & S_CLOSED:
        return
    deadlines_end_handshake(s)
    s.flags &= ~S_HANDSHAKE
    if success:
        loop_of(s).count.handshakes += 1
    else:
        loop_of(s).count.handshake_failures += 1
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
        tls_close(s)
        return
    if context_of(s).connector != NULL:
        upcalls.connector_handshake_done(context_of(s).connector)
    elif may_open(s):
        socket_opened(s)
    if not s.flags & S_CLOSED:
        tls_flush_early_writes(s)


cdef void tls_emit_handshake(socket_t* s) noexcept nogil:
    """`handshake`, once; it waits for an async `open`, which may well read and write meanwhile."""
    cdef tls_t* self = tls_of(s)
    if self.handshake_pending and may_emit_handshake(s):
        self.handshake_pending = False
        emit_handshake(s, self.success, self.verify_result)


cdef void tls_socket_closed(socket_t* s) noexcept nogil:
    """In the middle of its handshake, perhaps. One that its own user has closed has not failed."""
    if s.flags & S_HANDSHAKE and s.error != 0:
        s.flags &= ~S_HANDSHAKE
        loop_of(s).count.handshake_failures += 1
        if may_open(s) and context_of(s).table.slots.handshake != NULL:
            socket_opened(s)        # an heir, which no turn has looked at
        tls_of(s).handshake_pending = s.flags & S_OPENED != 0
        tls_of(s).success = False
    tls_emit_handshake(s)


cdef void tls_flush_early_writes(socket_t* s) noexcept nogil:
    """What was written before the handshake was done."""
    stream_stop(s)
    stream_read(s)
    output_flush(s)
    if may_send(s) and output_pending(s) == 0:
        events_flushed(s)


cdef void tls_handshake_timed_out(socket_t* s) noexcept nogil:
    """`handshake_timeout`"""
    if s.error == 0:
        gil_take(loop_of(s))
        upcalls.tls_note_timeout(s)
    socket_fail(s, uv.UV_ETIMEDOUT)
    tls_handshake_done(s, False, 0)


cdef void tls_failed(socket_t* s) noexcept nogil:
    """A record that will not open, or an alert: `error`, then `close` with the same."""
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
        tls_close(s)


cdef void tls_peer_fin(socket_t* s) noexcept nogil:
    """The peer's FIN, with or without a word before it."""
    if tls_is_leaving(s):
        stream_close(s)
    else:
        engine.eof(tls_of(s), s)


cdef void tls_truncated(socket_t* s) noexcept nogil:
    socket_fail(s, uv.UV_EPROTO)
    stream_close(s)


cdef inline bint tls_is_leaving(socket_t* s) noexcept nogil:
    """Its user has closed it, and nothing but our farewell waits: what becomes of the peer is no news."""
    return s.flags & S_CLOSING and s.flags & S_TLS_WANT_READ and output_pending(s) == 0


cdef void tls_take_gil(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))


cdef void tls_close(socket_t* s) noexcept nogil:
    """What lies unread would have the kernel reset, and the alert be lost."""
    net.pbt_discard(stream_fd(s))
    stream_close(s)
