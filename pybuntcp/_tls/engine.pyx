"""engine: the handshake, and what the engines tell the core.

Owns the five functions of `filter_t`, and `begin`, which makes a connection of a configuration
(see tls.py). The handshake is the standard library's own, `do_handshake`, in both engines: its
errors are Python's, and a context's callbacks run in it. They may use other sockets, so what a
handshake has to send is kept apart until it returns.
"""
from cpython.ref cimport PyObject, Py_DECREF
from libc.limits cimport INT_MIN
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove

from pybuntcp._core cimport (
    SEAL_LATER,
    SEALED,
    filter_t,
    room_t,
    secure_broken,
    secure_ended,
    secure_is_mute,
    secure_may_tell,
    secure_opened,
    secure_register,
    secure_reserve,
    secure_room,
    secure_settled,
    secure_stopped,
    secure_t,
    secure_take_gil,
    secure_truncated,
    socket_t,
)


cdef unsigned long IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)     # OpenSSL 1.1.1 has none


cdef inline Secured face_of(secured_t* self):
    return <Secured>self.core.face


# ---------------------------------------------------------------------------- beginning

def begin(config, bint server):
    """A connection. Errors: what the context has to say."""
    cdef Secured self = Secured.__new__(Secured)
    self.c.core.face = <PyObject*>self
    self.c.shaking = True
    self.config = config
    self.server = server
    self.expected = config.server_name
    secured_wrap(self)
    try:
        config.prepare(self)
    except BaseException:
        if self.c.ssl != NULL:
            borrowed_detach(&self.c)    # the user's own code may hold its object
        raise
    return self


cdef int secured_wrap(Secured self) except -1:
    cdef list made = []
    cdef tuple ends = (ssl.MemoryBIO(), ssl.MemoryBIO())
    cdef dict options = {"server_side": self.server}
    if not self.server:
        options["server_hostname"] = self.config.server_name
    if _borrowing:
        self.c.ssl = openssl_wrap(self.config.context, ends, options, made)
    else:
        made.append(self.config.context.wrap_bio(*ends, **options))
    self.object = made[0]
    if self.c.ssl != NULL and is_plain_object(self.object):
        borrowed_attach(&self.c)
        if self.server:
            name_watch(self.c.ssl)
    else:
        self.c.ssl = NULL
        self.incoming, self.outgoing = ends
        if self.server and hasattr(self.config, "host"):
            self.hello = bytearray()
    return 0


# ---------------------------------------------------------------------------- the handshake

cdef void secured_shake(secured_t* self, socket_t* s) noexcept:
    """One step of it, with all that came."""
    cdef Secured face = face_of(self)
    cdef bint done = False
    try:
        if self.ssl == NULL:
            hello_note(face)
            fallback_take_in(face, self.end - self.at)
        self.room = &self.flight
        self.begun = True
        try:
            face.object.do_handshake()
            face.c.agreed = True
            face.config.settled(face)
            done = True
        except ssl.SSLWantReadError as more:
            if isinstance(more.__context__, (KeyboardInterrupt, SystemExit)):
                secured_note(face, more.__context__)    # raised in a callback of the context
        finally:
            self.room = NULL
    except BaseException as error:
        secured_note(face, error)
    secured_settle(face, s, done)
    secured_stop(face, s)


cdef int secured_settle(Secured self, socket_t* s, bint done) except -1:
    """Tell, if it has ended. What is sent last when it is done may go together with what is answered first."""
    if self.c.ssl == NULL:
        fallback_take_out(self, &self.c.flight)
    if self.error is not None:
        self.c.shaking = False
        if self.authorization_error is None and isinstance(self.error, ssl.SSLError):
            self.authorization_error = self.error
        flight_leave(&self.c, secure_room(s))
        secure_settled(s, False, getattr(self.error, "verify_code", 0) or 0)
    elif done:
        self.c.shaking = False
        secure_settled(s, True, api.SSL_get_verify_result(self.c.ssl) if self.c.ssl != NULL else 0)
    return 0


cdef void flight_leave(secured_t* self, room_t* room) noexcept nogil:
    """What the handshake has to send goes into the room, in front of what is there."""
    cdef room_t* flight = &self.flight
    if flight.out_size == 0 or room == NULL or not secure_reserve(room, flight.out_size):
        return
    memmove(room.out + flight.out_size, room.out, room.out_size)
    memcpy(room.out, flight.out, flight.out_size)
    room.out_size += flight.out_size
    free(flight.out)
    flight.out = NULL
    flight.out_size = flight.out_room = 0


# ---------------------------------------------------------------------------- filter_t

cdef size_t engine_feed(secure_t* core, socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef secured_t* self = <secured_t*>core
    self.at, self.end = at, at + size
    if self.shaking:
        self.silent = INT_MIN       # a step takes all that came
        secure_take_gil(s)
        (<shake_slot><void*>secured_shake)(self, s)
    if not self.shaking:
        self.silent = 0
    if not self.shaking and engine_may_open(self, s):
        engine_open(self, s)
        if self.finished:
            self.at = self.end      # nothing more may come
        core.untold = self.outcome == MORE or self.finished and not self.told
    if self.flight.out_size != 0:
        flight_leave(self, secure_room(s))
    size = self.at - at
    self.at = self.end = NULL
    return size


ctypedef void (*shake_slot)(secured_t*, socket_t*) noexcept nogil
ctypedef size_t (*open_slot)(secured_t*, socket_t*, room_t*) noexcept nogil
ctypedef void (*step_slot)(secured_t*, socket_t*, room_t*) noexcept nogil


cdef bint engine_may_open(secured_t* self, socket_t* s) noexcept nogil:
    """Data that may not be told stays sealed; a half message that it waits behind is gone on with all the same.

    False: half of it is still to come, or the connection has failed.
    """
    cdef room_t* room
    if not secure_is_mute(s) or secure_may_tell(s):
        return True
    room = secure_room(s)
    if room == NULL:
        return True
    if self.ssl != NULL:
        borrowed_step(self, room)
    else:
        secure_take_gil(s)
        (<step_slot><void*>step_by_object)(self, s, room)
    self.finished = self.outcome == FINISHED
    if self.outcome == FAILED:
        engine_break(self, s)
    return self.outcome == MORE or self.finished


cdef void step_by_object(secured_t* self, socket_t* s, room_t* room) noexcept:
    fallback_step(face_of(self), room)
    secured_stop(face_of(self), s)


cdef void engine_break(secured_t* self, socket_t* s) noexcept nogil:
    self.at = self.end
    engine_blame(self)
    secure_broken(s)


cdef void engine_open(secured_t* self, socket_t* s) noexcept nogil:
    """Open what came, and tell it, for as long as that is allowed."""
    cdef room_t* room = secure_room(s)
    cdef size_t size
    if room == NULL:
        secure_truncated(s)
        return
    self.outcome = MORE
    while self.outcome == MORE and not self.finished and secure_may_tell(s):
        if self.ssl != NULL:
            size = borrowed_open(self, room)
        else:
            secure_take_gil(s)
            size = (<open_slot><void*>open_by_object)(self, s, room)
        self.finished = self.outcome == FINISHED
        if room.out_size != 0:
            flight_leave(self, room)
        if self.outcome == FAILED:
            engine_blame(self)          # before anybody writes, and fails, too
        if size != 0:
            secure_opened(s, room.plain, size)
        if self.outcome == FAILED:
            self.at = self.end
            secure_broken(s)
            return
    if self.finished and not self.told and secure_may_tell(s):
        self.told = True
        secure_ended(s)


cdef size_t open_by_object(secured_t* self, socket_t* s, room_t* room) noexcept:
    cdef size_t size = fallback_open(face_of(self), room)
    secured_stop(face_of(self), s)
    return size


cdef int engine_seal(secure_t* core, socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef secured_t* self = <secured_t*>core
    cdef room_t* room = secure_room(s)
    cdef int rc
    if room == NULL:
        return -1
    flight_leave(self, room)
    if self.ssl == NULL:
        rc = seal_by_object(self, s, room, at, size)
    else:
        rc = borrowed_seal(self, room, at, size)
    if rc == SEALED or rc == SEAL_LATER and not self.finished:
        return rc
    if rc == SEAL_LATER:
        engine_blame_peer(self)
    else:
        engine_blame(self)
    return -1


cdef void engine_blame(secured_t* self) noexcept with gil:
    """OpenSSL's error is the connection's, unless that has one. A verb may call it, and nobody knows who has the GIL then."""
    if face_of(self).error is None:
        secured_note(face_of(self), borrowed_error(self))


cdef void engine_blame_peer(secured_t* self) noexcept with gil:
    """Its farewell came in the middle of its message, for which OpenSSL would wait for ever."""
    secured_note(face_of(self), ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer ended in the middle of a message"))


cdef int seal_by_object(secured_t* self, socket_t* s, room_t* room, const char* at, size_t size) noexcept with gil:
    cdef int rc = fallback_seal(face_of(self), room, at, size)
    secured_stop(face_of(self), s)
    return rc


cdef int engine_notify(secure_t* core, socket_t* s) noexcept nogil:
    cdef secured_t* self = <secured_t*>core
    cdef room_t* room = secure_room(s)
    cdef int rc
    if room == NULL:
        return SEALED
    flight_leave(self, room)
    if self.ssl != NULL:
        rc = borrowed_notify(self, room)
    else:
        rc = notify_by_object(self, s, room)
    return SEALED if self.finished else rc


cdef int notify_by_object(secured_t* self, socket_t* s, room_t* room) noexcept with gil:
    cdef int rc = fallback_notify(face_of(self), room)
    secured_stop(face_of(self), s)
    return rc


cdef void secured_stop(Secured self, socket_t* s) noexcept:
    """Python noticed Ctrl-C while an engine used it."""
    stop, self.stop = self.stop, None
    if stop is not None:
        secure_stopped(s, stop)


cdef void engine_cut(secure_t* core, socket_t* s) noexcept nogil:
    secure_take_gil(s)
    (<shake_slot><void*>secured_cut)(<secured_t*>core, s)


cdef void secured_cut(secured_t* self, socket_t* s) noexcept:
    """The peer's FIN, without a word before it: what it sent may have been cut off by anybody."""
    cdef Secured face = face_of(self)
    if not self.shaking and not secure_is_mute(s) and ignores_cut(face):
        self.finished = self.told = True
        secure_ended(s)
        return
    face.error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol: the connection was cut off")
    if self.shaking:
        self.shaking = False
        secure_settled(s, False, 0)
    else:
        secure_truncated(s)


cdef bint ignores_cut(Secured self) noexcept:
    """OP_IGNORE_UNEXPECTED_EOF: the user takes it for a farewell."""
    if self.c.ssl != NULL:
        return api.SSL_set_options(self.c.ssl, 0) & IGNORE_UNEXPECTED_EOF != 0
    return self.object.context.options & IGNORE_UNEXPECTED_EOF != 0


cdef void engine_forget(secure_t* core, socket_t* s) noexcept nogil:
    secure_take_gil(s)
    (<shake_slot><void*>secured_forget)(<secured_t*>core, s)


cdef void secured_forget(secured_t* self, socket_t* s) noexcept:
    cdef Secured face = face_of(self)
    if self.ssl != NULL:
        borrowed_detach(self)
    face.incoming = face.outgoing = None
    self.gone = True
    Py_DECREF(face)


cdef filter_t _filter
_filter.feed = engine_feed
_filter.seal = engine_seal
_filter.notify = engine_notify
_filter.cut = engine_cut
_filter.forget = engine_forget


# ---------------------------------------------------------------------------- which engine

_reason = trial()
_borrowing = _reason == ""
borrowing = _borrowing
secure_register(&_filter, begin)    # last: a module that is half there serves nobody


def engine_info():
    """`tls_engine_info()`"""
    return {
        "engine": "borrowed" if _borrowing else "stdlib",
        "reason": _reason or None,
        "openssl": ssl.OPENSSL_VERSION,
    }
