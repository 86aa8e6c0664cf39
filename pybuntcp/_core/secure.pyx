"""secure: the way in of a secured socket, and its handshake as its user sees it.

Owns the seam to the engine in this direction. An engine is given bytes (`feed`) and says what was
in them: the handshake's verdict, data, the peer's end, an error. What may not be told now, since
the socket is paused, or an async handler runs, or a reader is full, stays with the engine or as
ciphertext (`S_HELD`): nothing more is read, and a turn of the loop goes on with it (`secure_turn`)
when the user allows it.

A step of a handshake costs fifty times what a message costs. What comes for one is held, too, and looked at when
the events of the turn were handled: see scheduling, which owns what each gets of a turn.

Every refusal ends in `stream_close`, and is told from there: to `close`, or, of an outgoing
connection that was not open for its user yet, by its connector.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from pybuntcp._c cimport net, uv

cdef enum:
    PLAIN_ROOM = 98304          # what a slab that is full, and a record that was begun, open to
    SEALED_ROOM = 69632         # what SEALED_AT_ONCE seals to


cdef object _begin_secured      # _tls's: (config, server) -> its object, with the address of its secure_t


cdef void secure_register(const filter_t* filter, object begin) noexcept:
    """Called by `_tls` when it is imported."""
    global engine, _begin_secured
    engine = filter
    _begin_secured = begin


# ---------------------------------------------------------------------------- the loop's room

cdef room_t* secure_room(socket_t* s) noexcept nogil:
    cdef room_t* room = &loop_of(s).room
    if room.plain == NULL:
        room.plain = <char*>malloc(PLAIN_ROOM)
        room.plain_room = PLAIN_ROOM if room.plain != NULL else 0
    return room if room.plain != NULL else NULL


cdef bint secure_reserve(room_t* room, size_t more) noexcept nogil:
    cdef char* grown
    cdef size_t size
    if room.out_room - room.out_size >= more:
        return True
    size = max(room.out_size + more, <size_t>SEALED_ROOM)
    grown = <char*>realloc(room.out, size)
    if grown == NULL:
        return False
    room.out = grown
    room.out_room = size
    return True


# ---------------------------------------------------------------------------- birth and death

cdef void secure_begin(socket_t* s, bint server) noexcept nogil:
    """The connection stands, and is secured from here on. `open` may be told before the handshake."""
    cdef loop_t* loop = loop_of(s)
    cdef uint64_t begun = uv.uv_hrtime() if loop.shook_at != 0 else 0
    secure_attach(s, server)
    if begun != 0:
        loop.shook_at += uv.uv_hrtime() - begun


cdef void secure_attach(socket_t* s, bint server) noexcept nogil:
    s.flags |= S_SECURING
    gil_take(loop_of(s))
    if not (<secure_slot><void*>secure_make)(s, server):
        s.flags &= ~S_SECURING
        loop_of(s).count.handshake_failures += 1
        socket_fail(s, uv.UV_EPROTO)
        stream_close(s)
        return
    if not s.flags & S_CLOSED:      # the user's own code may have made it
        secure_start(s, server)


cdef void secure_start(socket_t* s, bint server) noexcept nogil:
    clocks_start_handshake(s)
    if context_of(s).table.slots.handshake != NULL:
        socket_opened(s)
    if s.flags & S_CLOSED:
        return
    if server:
        stream_read(s)
    else:
        secure_hold(s)              # it has the first word


ctypedef bint (*secure_slot)(socket_t*, bint) noexcept nogil

cdef bint secure_make(socket_t* s, bint server) noexcept:
    """The engine's object, which the socket owns."""
    cdef object made
    try:
        made = _begin_secured(<object>context_of(s).tls, server)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop_of(s), stop)
        return False
    except BaseException as error:
        if context_of(s).dialer != NULL:
            connector_blame(context_of(s).dialer, error)
        else:
            report_unraisable(error, <object>context_of(s).tls)
        return False
    secure_place(s)[0] = <secure_t*><size_t>made.address
    Py_INCREF(made)
    s.flags |= S_SECURE
    if s.face != NULL:
        (<Socket>s.face).secure = made
    return True


cdef void secure_free(socket_t* s) noexcept nogil:
    cdef secure_t* self = secure_of(s)
    free(self.kept)
    self.kept = NULL
    s.flags &= ~S_SECURE
    engine.forget(self, s)


# ---------------------------------------------------------------------------- what comes

cdef void secure_received(socket_t* s, const char* at, size_t size) noexcept nogil:
    s.bytes_read -= size            # it counts when it is opened
    loop_of(s).count.bytes_read -= size
    if s.flags & (S_CLOSING | S_SECURING | S_MUTE) == S_CLOSING:
        return
    if s.flags & (S_SECURING | S_HELD):
        secure_keep(s, at, size)
        secure_hold(s)
    else:
        secure_feed(s, at, size)


cdef void secure_hold(socket_t* s) noexcept nogil:
    """Something waits for a turn."""
    s.flags |= S_HELD
    stream_stop(s)
    stream_queue(s)


cdef void secure_keep(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Behind what is kept already."""
    cdef secure_t* self = secure_of(s)
    cdef char* grown
    if size == 0:
        return
    grown = <char*>realloc(self.kept, self.kept_size + size)
    if grown == NULL:
        socket_fail(s, uv.UV_ENOMEM)
        stream_close(s)
        return
    memcpy(grown + self.kept_size, at, size)
    self.kept = grown
    self.kept_size += size


cdef void secure_feed(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Give it to the engine, which tells what it may."""
    cdef secure_t* self = secure_of(s)
    cdef size_t taken
    self.untold = False
    taken = engine.feed(self, s, at, size)
    sealing_emit(s, 0)          # of a closed one: it must not lie in the room that is everybody's
    if s.flags & S_CLOSED:
        return
    if taken < size or self.untold:
        secure_keep(s, at + taken, size - taken)
        s.flags |= S_HELD
        stream_stop(s)
        if secure_may_tell(s) and not s.flags & S_CLOSED:
            stream_queue(s)         # it is the engine that wants others to go on first
    if s.flags & S_MUTE:
        sealing_try_again(s)


cdef void secure_go_on(socket_t* s) noexcept nogil:
    cdef secure_t* self = secure_of(s)
    cdef char* kept
    if not s.flags & (S_OPENED | S_CLOSING) and context_of(s).table.slots.handshake != NULL:
        socket_opened(s)            # of an heir it could not be told before
        if s.flags & S_CLOSED:
            return
    if s.flags & S_BROKEN and s.error == uv.UV_EPROTO:
        secure_broken(s)            # it could not seal, and nothing more will come
        return
    kept = self.kept
    cdef size_t size = self.kept_size
    self.kept = NULL
    self.kept_size = 0
    s.flags &= ~S_HELD
    secure_feed(s, kept, size)
    free(kept)
    if not s.flags & (S_CLOSED | S_HELD):
        stream_read(s)


# ---------------------------------------------------------------------------- what the engine tells

cdef bint secure_may_tell(socket_t* s) noexcept nogil:
    if s.flags & S_DEAF:
        return True
    if s.flags & (S_CLOSED | S_CLOSING | S_PAUSED | S_EOF) or not s.flags & S_OPENED:
        return False
    if s.flags & S_READER:
        return reader_room(reader_at(s)) != 0
    return not s.flags & S_BUSY


cdef bint secure_is_mute(socket_t* s) noexcept nogil:
    return s.flags & S_MUTE != 0


cdef void secure_opened(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Data."""
    sealing_emit(s, 0)
    s.bytes_read += size
    loop_of(s).count.bytes_read += size
    if s.flags & (S_DEAF | S_CLOSED):
        return
    if s.flags & S_READER:
        reader_received(s, at, size)
    else:
        emit_data(s, at, size)


cdef void secure_ended(socket_t* s) noexcept nogil:
    """Nothing more comes: as a FIN is to others."""
    sealing_emit(s, 0)
    if not s.flags & S_CLOSED:
        stream_stop(s)
        socket_eof(s)


cdef void secure_settled(socket_t* s, bint success, long verify_result) noexcept nogil:
    """The handshake is done, or has failed: its user is told, once."""
    sealing_emit(s, 0)
    if s.flags & S_CLOSED:
        return
    clocks_end_handshake(s)
    s.flags &= ~S_SECURING
    if success:
        loop_of(s).count.handshakes += 1
    else:
        loop_of(s).count.handshake_failures += 1
        socket_fail(s, uv.UV_EPROTO)
        output_forget(s)
        s.flags |= S_ENDED | S_BROKEN
    secure_of(s).owed = s.flags & S_OPENED != 0
    secure_of(s).success = success
    secure_of(s).verify_result = verify_result
    secure_tell_owed(s)
    if s.flags & S_CLOSED:
        return
    if not success:
        secure_close(s)
        return
    if context_of(s).dialer != NULL:
        connector_secured(context_of(s).dialer)
    elif not s.flags & (S_OPENED | S_CLOSING):
        socket_opened(s)
    if not s.flags & S_CLOSED:
        secure_let_out(s)


cdef void secure_tell_owed(socket_t* s) noexcept nogil:
    """`handshake`, once; it waits for an async `open`, which may well read and write meanwhile."""
    cdef secure_t* self = secure_of(s)
    if self.owed and not s.flags & (S_BUSY | S_CLOSING):
        self.owed = False
        emit_handshake(s, self.success, self.verify_result)


cdef void secure_gone(socket_t* s) noexcept nogil:
    """In the middle of its handshake, perhaps. One that its own user has closed has not failed."""
    if s.flags & S_SECURING and s.error != 0:
        s.flags &= ~S_SECURING
        loop_of(s).count.handshake_failures += 1
        if not s.flags & (S_OPENED | S_CLOSING) and context_of(s).table.slots.handshake != NULL:
            socket_opened(s)        # an heir, which no turn has looked at
        secure_of(s).owed = s.flags & S_OPENED != 0
        secure_of(s).success = False
    secure_tell_owed(s)


cdef void secure_let_out(socket_t* s) noexcept nogil:
    """What was written before the handshake was done."""
    stream_stop(s)
    stream_read(s)
    output_flush(s)
    if not s.flags & (S_CLOSED | S_BROKEN) and output_pending(s) == 0:
        up.flushed(s)


cdef void secure_expired(socket_t* s) noexcept nogil:
    """`handshake_timeout`"""
    if s.error == 0:
        gil_take(loop_of(s))
        (<event_slot><void*>secure_note_expired)(s)
    socket_fail(s, uv.UV_ETIMEDOUT)
    secure_settled(s, False, 0)


cdef void secure_note_expired(socket_t* s) noexcept:
    """The error says which of the timeouts it was."""
    cdef address_t name
    address_of_fd(&name, stream_fd(s), True)
    error = error_from_code(uv.UV_ETIMEDOUT, "handshake", address_host(&name), address_port(&name))
    (<object>secure_of(s).face).error = error


cdef void secure_broken(socket_t* s) noexcept nogil:
    """A record that will not open, or an alert: `error`, then `close` with the same."""
    sealing_emit(s, 0)
    if s.flags & S_CLOSED:
        return
    if secure_is_leaving(s):
        secure_close(s)
        return
    socket_fail(s, uv.UV_EPROTO)
    output_forget(s)
    s.flags |= S_ENDED | S_BROKEN | S_LOST
    gil_take(loop_of(s))
    (<event_slot><void*>secure_tell_error)(s)
    if not s.flags & S_CLOSED:
        secure_close(s)


cdef void secure_cut(socket_t* s) noexcept nogil:
    """The peer's FIN, with or without a word before it."""
    if secure_is_leaving(s):
        stream_close(s)
    else:
        engine.cut(secure_of(s), s)


cdef void secure_truncated(socket_t* s) noexcept nogil:
    socket_fail(s, uv.UV_EPROTO)
    stream_close(s)


cdef void secure_stopped(socket_t* s, object error) noexcept:
    loop_fail(loop_of(s), error)


cdef inline bint secure_is_leaving(socket_t* s) noexcept nogil:
    """Its user has closed it, and nothing but our farewell waits: what becomes of the peer is no news."""
    return s.flags & (S_CLOSING | S_MUTE) == S_CLOSING | S_MUTE and output_pending(s) == 0


cdef void secure_take_gil(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))


cdef void secure_close(socket_t* s) noexcept nogil:
    """What lies unread would have the kernel reset, and the alert be lost."""
    net.pbt_discard(stream_fd(s))
    stream_close(s)


cdef void secure_tell_error(socket_t* s) noexcept:
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if report == NULL or loop_of(s).dead or s.flags & (S_OPENED | S_CLOSING) != S_OPENED:
        return
    handler_enter(loop_of(s))
    handler_raised(s, E_DATA, <object>report, (<object>secure_of(s).face).error)
    handler_leave(loop_of(s))


cdef object secure_verdict(socket_t* s):
    """What `handshake` is told: what was checked and failed."""
    if s.error != 0:
        return socket_error(s, s.error)
    return (<object>secure_of(s).face).authorization_error


cdef object secure_failure(socket_t* s):
    """What the engine has to say of a connection that is gone; None: nothing."""
    return secure_error(<object>secure_of(s).face, s.error) if s.flags & S_SECURE else None


cdef object secure_error(object engine_face, int code):
    """The same of any code: it is the engine's, or that of `handshake_timeout`."""
    error = engine_face.error
    if code == uv.UV_EPROTO or code == uv.UV_ETIMEDOUT and isinstance(error, TimeoutError):
        return error
    return None
