"""engine: the handshake, and what the engines tell the core.

Owns the five functions of `filter_t`, and `begin`, which makes a connection of a configuration
(see tls/config.py). The handshake is the standard library's own, `do_handshake`, in both engines: its
errors are Python's, and a context's callbacks run in it. They may use other sockets, so what a
handshake has to send is kept apart until it returns.
"""
from cpython.ref cimport PyObject, Py_DECREF
from libc.limits cimport INT_MIN
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove

from pybuntcp._core cimport (
    SEAL_WANT_READ,
    SEALED,
    filter_t,
    tls_scratch_t,
    tls_failed,
    tls_deliver_eof,
    tls_wants_read,
    tls_may_deliver,
    tls_deliver,
    tls_register,
    tls_scratch_reserve,
    tls_scratch,
    tls_handshake_done,
    tls_interrupted,
    tls_t,
    tls_take_gil,
    tls_truncated,
    socket_t,
)


cdef unsigned long IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)     # OpenSSL 1.1.1 has none


cdef inline TLSConnection tls_connection_of(tls_connection_t* self):
    return <TLSConnection>self.core.wrapper


# ---------------------------------------------------------------------------- beginning

def begin(config, bint server):
    """A connection. Errors: what the context has to say."""
    cdef TLSConnection self = TLSConnection.__new__(TLSConnection)
    self.c.core.wrapper = <PyObject*>self
    self.c.handshaking = True
    self.config = config
    self.server = server
    self.server_hostname = config.server_name
    tls_wrap(self)
    try:
        config.prepare(self)
    except BaseException:
        if self.c.ssl != NULL:
            borrowed_detach(&self.c)    # the user's own code may hold its object
        raise
    return self


cdef int tls_wrap(TLSConnection self) except -1:
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

cdef void tls_handshake_step(tls_connection_t* self, socket_t* s) noexcept:
    """One step of it, with all that came."""
    cdef TLSConnection wrapper = tls_connection_of(self)
    cdef bint done = False
    try:
        if self.ssl == NULL:
            hello_note(wrapper)
            fallback_take_in(wrapper, self.input_end - self.input)
        self.scratch = &self.flight
        self.handshake_started = True
        try:
            wrapper.object.do_handshake()
            wrapper.c.handshake_done = True
            wrapper.config.settled(wrapper)
            done = True
        except ssl.SSLWantReadError as more:
            if isinstance(more.__context__, (KeyboardInterrupt, SystemExit)):
                tls_note_error(wrapper, more.__context__)    # raised in a callback of the context
        finally:
            self.scratch = NULL
    except BaseException as error:
        tls_note_error(wrapper, error)
    tls_handshake_settle(wrapper, s, done)
    tls_raise_interrupt(wrapper, s)


cdef int tls_handshake_settle(TLSConnection self, socket_t* s, bint done) except -1:
    """Tell, if it has ended. What is sent last when it is done may go together with what is answered first."""
    if self.c.ssl == NULL:
        fallback_take_out(self, &self.c.flight)
    if self.error is not None:
        self.c.handshaking = False
        if self.authorization_error is None and isinstance(self.error, ssl.SSLError):
            self.authorization_error = self.error
        flight_flush(&self.c, tls_scratch(s))
        tls_handshake_done(s, False, getattr(self.error, "verify_code", 0) or 0)
    elif done:
        self.c.handshaking = False
        tls_handshake_done(s, True, openssl.SSL_get_verify_result(self.c.ssl) if self.c.ssl != NULL else 0)
    return 0


cdef void flight_flush(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    """What the handshake has to send goes into the room, in front of what is there."""
    cdef tls_scratch_t* flight = &self.flight
    if flight.out_size == 0 or scratch == NULL or not tls_scratch_reserve(scratch, flight.out_size):
        return
    memmove(scratch.out + flight.out_size, scratch.out, scratch.out_size)
    memcpy(scratch.out, flight.out, flight.out_size)
    scratch.out_size += flight.out_size
    free(flight.out)
    flight.out = NULL
    flight.out_size = flight.out_capacity = 0


# ---------------------------------------------------------------------------- filter_t

cdef size_t engine_feed(tls_t* core, socket_t* s, const char* data, size_t size) noexcept nogil:
    cdef tls_connection_t* self = <tls_connection_t*>core
    self.input, self.input_end = data, data + size
    if self.handshaking:
        self.empty_reads = INT_MIN       # a step takes all that came
        tls_take_gil(s)
        (<step_fn><void*>tls_handshake_step)(self, s)
    if not self.handshaking:
        self.empty_reads = 0
    if not self.handshaking and engine_may_open(self, s):
        engine_open(self, s)
        if self.peer_closed:
            self.input = self.input_end      # nothing more may come
        core.undelivered = self.outcome == MORE or self.peer_closed and not self.eof_delivered
    if self.flight.out_size != 0:
        flight_flush(self, tls_scratch(s))
    size = self.input - data
    self.input = self.input_end = NULL
    return size


ctypedef void (*step_fn)(tls_connection_t*, socket_t*) noexcept nogil
ctypedef size_t (*open_slot)(tls_connection_t*, socket_t*, tls_scratch_t*) noexcept nogil
ctypedef void (*step_slot)(tls_connection_t*, socket_t*, tls_scratch_t*) noexcept nogil


cdef bint engine_may_open(tls_connection_t* self, socket_t* s) noexcept nogil:
    """Data that may not be told stays sealed; a half message that it waits behind is gone on with all the same.

    False: half of it is still to come, or the connection has failed.
    """
    cdef tls_scratch_t* scratch
    if not tls_wants_read(s) or tls_may_deliver(s):
        return True
    scratch = tls_scratch(s)
    if scratch == NULL:
        return True
    if self.ssl != NULL:
        borrowed_step(self, scratch)
    else:
        tls_take_gil(s)
        (<step_slot><void*>step_by_object)(self, s, scratch)
    self.peer_closed = self.outcome == FINISHED
    if self.outcome == FAILED:
        engine_break(self, s)
    return self.outcome == MORE or self.peer_closed


cdef void step_by_object(tls_connection_t* self, socket_t* s, tls_scratch_t* scratch) noexcept:
    fallback_step(tls_connection_of(self), scratch)
    tls_raise_interrupt(tls_connection_of(self), s)


cdef void engine_break(tls_connection_t* self, socket_t* s) noexcept nogil:
    self.input = self.input_end
    engine_note_error(self)
    tls_failed(s)


cdef void engine_open(tls_connection_t* self, socket_t* s) noexcept nogil:
    """Open what came, and tell it, for as long as that is allowed."""
    cdef tls_scratch_t* scratch = tls_scratch(s)
    cdef size_t size
    if scratch == NULL:
        tls_truncated(s)
        return
    self.outcome = MORE
    while self.outcome == MORE and not self.peer_closed and tls_may_deliver(s):
        if self.ssl != NULL:
            size = borrowed_open(self, scratch)
        else:
            tls_take_gil(s)
            size = (<open_slot><void*>open_by_object)(self, s, scratch)
        self.peer_closed = self.outcome == FINISHED
        if scratch.out_size != 0:
            flight_flush(self, scratch)
        if self.outcome == FAILED:
            engine_note_error(self)          # before anybody writes, and fails, too
        if size != 0:
            tls_deliver(s, scratch.plain, size)
        if self.outcome == FAILED:
            self.input = self.input_end
            tls_failed(s)
            return
    if self.peer_closed and not self.eof_delivered and tls_may_deliver(s):
        self.eof_delivered = True
        tls_deliver_eof(s)


cdef size_t open_by_object(tls_connection_t* self, socket_t* s, tls_scratch_t* scratch) noexcept:
    cdef size_t size = fallback_open(tls_connection_of(self), scratch)
    tls_raise_interrupt(tls_connection_of(self), s)
    return size


cdef int engine_seal(tls_t* core, socket_t* s, const char* data, size_t size) noexcept nogil:
    cdef tls_connection_t* self = <tls_connection_t*>core
    cdef tls_scratch_t* scratch = tls_scratch(s)
    cdef int rc
    if scratch == NULL:
        return -1
    flight_flush(self, scratch)
    if self.ssl == NULL:
        rc = seal_by_object(self, s, scratch, data, size)
    else:
        rc = borrowed_seal(self, scratch, data, size)
    if rc == SEALED or rc == SEAL_WANT_READ and not self.peer_closed:
        return rc
    if rc == SEAL_WANT_READ:
        engine_note_peer_error(self)
    else:
        engine_note_error(self)
    return -1


cdef void engine_note_error(tls_connection_t* self) noexcept with gil:
    """OpenSSL's error is the connection's, unless that has one. A verb may call it, and nobody knows who has the GIL then."""
    if tls_connection_of(self).error is None:
        tls_note_error(tls_connection_of(self), borrowed_error(self))


cdef void engine_note_peer_error(tls_connection_t* self) noexcept with gil:
    """Its farewell came in the middle of its message, for which OpenSSL would wait for ever."""
    tls_note_error(tls_connection_of(self), ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer ended in the middle of a message"))


cdef int seal_by_object(tls_connection_t* self, socket_t* s, tls_scratch_t* scratch, const char* data, size_t size) noexcept with gil:
    cdef int rc = fallback_seal(tls_connection_of(self), scratch, data, size)
    tls_raise_interrupt(tls_connection_of(self), s)
    return rc


cdef int engine_close_notify(tls_t* core, socket_t* s) noexcept nogil:
    cdef tls_connection_t* self = <tls_connection_t*>core
    cdef tls_scratch_t* scratch = tls_scratch(s)
    cdef int rc
    if scratch == NULL:
        return SEALED
    flight_flush(self, scratch)
    if self.ssl != NULL:
        rc = borrowed_close_notify(self, scratch)
    else:
        rc = close_notify_by_object(self, s, scratch)
    return SEALED if self.peer_closed else rc


cdef int close_notify_by_object(tls_connection_t* self, socket_t* s, tls_scratch_t* scratch) noexcept with gil:
    cdef int rc = fallback_close_notify(tls_connection_of(self), scratch)
    tls_raise_interrupt(tls_connection_of(self), s)
    return rc


cdef void tls_raise_interrupt(TLSConnection self, socket_t* s) noexcept:
    """Python noticed Ctrl-C while an engine used it."""
    stop, self.stop = self.stop, None
    if stop is not None:
        tls_interrupted(s, stop)


cdef void engine_eof(tls_t* core, socket_t* s) noexcept nogil:
    tls_take_gil(s)
    (<step_fn><void*>tls_eof)(<tls_connection_t*>core, s)


cdef void tls_eof(tls_connection_t* self, socket_t* s) noexcept:
    """The peer's FIN, without a word before it: what it sent may have been cut off by anybody."""
    cdef TLSConnection wrapper = tls_connection_of(self)
    if not self.handshaking and not tls_wants_read(s) and ignores_eof(wrapper):
        self.peer_closed = self.eof_delivered = True
        tls_deliver_eof(s)
        return
    wrapper.error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol: the connection was cut off")
    if self.handshaking:
        self.handshaking = False
        tls_handshake_done(s, False, 0)
    else:
        tls_truncated(s)


cdef bint ignores_eof(TLSConnection self) noexcept:
    """OP_IGNORE_UNEXPECTED_EOF: the user takes it for a farewell."""
    if self.c.ssl != NULL:
        return openssl.SSL_set_options(self.c.ssl, 0) & IGNORE_UNEXPECTED_EOF != 0
    return self.object.context.options & IGNORE_UNEXPECTED_EOF != 0


cdef void engine_detach(tls_t* core, socket_t* s) noexcept nogil:
    tls_take_gil(s)
    (<step_fn><void*>tls_detach)(<tls_connection_t*>core, s)


cdef void tls_detach(tls_connection_t* self, socket_t* s) noexcept:
    cdef TLSConnection wrapper = tls_connection_of(self)
    if self.ssl != NULL:
        borrowed_detach(self)
    wrapper.incoming = wrapper.outgoing = None
    self.detached = True
    Py_DECREF(wrapper)


cdef filter_t _filter
_filter.feed = engine_feed
_filter.seal = engine_seal
_filter.close_notify = engine_close_notify
_filter.eof = engine_eof
_filter.detach = engine_detach


# ---------------------------------------------------------------------------- which engine

_reason = selftest()
_borrowing = _reason == ""
borrowing = _borrowing
tls_register(&_filter, begin)    # last: a module that is half there serves nobody


def engine_info():
    """`tls_engine_info()`"""
    return {
        "engine": "borrowed" if _borrowing else "stdlib",
        "reason": _reason or None,
        "openssl": ssl.OPENSSL_VERSION,
    }
