"""engine: the handshake, and the functions by which the core calls the engines.

The problem: records have to be handled in C, without the GIL, while a handshake is full of Python: its errors, the
context's callbacks, and the rules of a configuration (see tls/config.py).
The rule: in both engines the handshake is the standard library's own `do_handshake`. What comes after is done by
borrowed, on the `SSL*`, or by fallback, on the Python object:

  the core calls   here                   handshake: both engines    afterwards: SSL*        the Python object
  feed             engine_feed            tls_handshake_step         borrowed_open           fallback_open
  seal             engine_seal                                       borrowed_seal           fallback_seal
  close_notify     engine_close_notify                               borrowed_close_notify   fallback_close_notify
  eof              engine_eof             the handshake fails        truncated, or an end that the context accepts
  detach           engine_detach

`feed` calls back: tls_handshake_done, tls_deliver for each buffer of plaintext, tls_deliver_eof, tls_failed. It stops
when the core allows no more (tls_may_deliver), and returns how much it has consumed; the core buffers the rest. The
input is borrowed for that call: `input`..`input_end` is empty outside of it.

Where output goes: `tls_connection_t.scratch` points at the loop's scratch buffers during a call, and is NULL otherwise.
In a handshake it points at `flight`, a buffer of the connection: callbacks of the context may use other sockets, which
need the loop's. `flight_flush` moves it to the loop's, in front of what is there.

A KeyboardInterrupt or SystemExit that is raised in an engine ends the connection, too; it is kept in
`TLSConnection.interrupt` until the engine has returned, and then stops the loop (tls_raise_interrupt).

Who frees: the socket's reference to the TLSConnection is released by `tls_detach`, which also cuts the `SSL*` off.

Owns the five functions of `filter_t`, and `begin`, which makes a connection of a configuration. Does not know sockets:
it passes them on.
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
    tls_accepts_fin,
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


cdef unsigned long IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)     # not in OpenSSL 1.1.1


cdef inline TLSConnection tls_connection_of(tls_connection_t* self):
    return <TLSConnection>self.core.wrapper


# ---------------------------------------------------------------------------- beginning

def begin(config, bint server):
    """A connection of this configuration. Errors: the context's own."""
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
            borrowed_detach(&self.c)    # user code may keep the ssl.SSLObject
        raise
    return self


cdef int tls_wrap(TLSConnection self) except -1:
    """Make the ssl.SSLObject, and choose the engine: the `SSL*` if it can be found, else the object."""
    cdef list made = []
    cdef tuple ends = (ssl.MemoryBIO(), ssl.MemoryBIO())
    cdef dict options = {"server_side": self.server, "server_hostname": self.config.server_name}
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
    """One step of the handshake, with all the input there is."""
    cdef TLSConnection wrapper = tls_connection_of(self)
    cdef bint done = False
    try:
        if self.ssl == NULL:
            hello_note(wrapper)
            fallback_take_in(wrapper, self.input_end - self.input)
        self.scratch = &self.flight
        self.progress = TLS_STARTED
        try:
            wrapper.object.do_handshake()
            wrapper.c.progress = TLS_AGREED
            wrapper.config.settled(wrapper)
            done = True
        except ssl.SSLWantReadError as more:
            if isinstance(more.__context__, (KeyboardInterrupt, SystemExit)):
                tls_note_error(wrapper, more.__context__)    # it was raised in a callback of the context
        finally:
            self.scratch = NULL
    except BaseException as error:
        tls_note_error(wrapper, error)
    tls_handshake_settle(wrapper, s, done)
    tls_raise_interrupt(wrapper, s)


cdef int tls_handshake_settle(TLSConnection self, socket_t* s, bint done) except -1:
    """Report the handshake's outcome.

    On success its last flight is not flushed here: it leaves with the first reply.
    """
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
    """Move the handshake's output to the loop's scratch buffer, in front of what is there."""
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
        self.empty_reads = INT_MIN       # no limit: a step consumes all the input
        tls_take_gil(s)
        (<step_fn><void*>tls_handshake_step)(self, s)
    if not self.handshaking:
        self.empty_reads = 0
    if not self.handshaking and engine_may_open(self, s):
        engine_open(self, s)
        if self.end != TLS_OPEN:
            self.input = self.input_end      # after close_notify all input is dropped
        core.undelivered = self.outcome == MORE or self.end == TLS_PEER_CLOSED
    if self.flight.out_size != 0:
        flight_flush(self, tls_scratch(s))
    size = self.input - data
    self.input = self.input_end = NULL
    return size


ctypedef void (*step_fn)(tls_connection_t*, socket_t*) noexcept nogil
ctypedef size_t (*open_slot)(tls_connection_t*, socket_t*, tls_scratch_t*) noexcept nogil
ctypedef void (*step_slot)(tls_connection_t*, socket_t*, tls_scratch_t*) noexcept nogil


cdef bint engine_may_open(tls_connection_t* self, socket_t* s) noexcept nogil:
    """May data be decrypted now? Not before the core may deliver it.

    One exception: while a write waits for the rest of the peer's message (tls_wants_read), that message is processed
    all the same, and nothing behind it. False: a part of it is still missing, or the connection has failed.
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
    engine_note_end(self)
    if self.outcome == FAILED:
        engine_break(self, s)
    return self.outcome == MORE or self.end != TLS_OPEN


cdef inline void engine_note_end(tls_connection_t* self) noexcept nogil:
    if self.outcome == FINISHED and self.end == TLS_OPEN:
        self.end = TLS_PEER_CLOSED


cdef void step_by_object(tls_connection_t* self, socket_t* s, tls_scratch_t* scratch) noexcept:
    fallback_step(tls_connection_of(self), scratch)
    tls_raise_interrupt(tls_connection_of(self), s)


cdef void engine_break(tls_connection_t* self, socket_t* s) noexcept nogil:
    """The connection has failed: note the error, and report it."""
    self.input = self.input_end
    engine_note_error(self)
    tls_failed(s)


cdef void engine_open(tls_connection_t* self, socket_t* s) noexcept nogil:
    """Decrypt the input and deliver it, as long as the core allows that."""
    cdef tls_scratch_t* scratch = tls_scratch(s)
    cdef size_t size
    if scratch == NULL:
        tls_truncated(s)
        return
    self.outcome = MORE
    while self.outcome == MORE and self.end == TLS_OPEN and tls_may_deliver(s):
        if self.ssl != NULL:
            size = borrowed_open(self, scratch)
        else:
            tls_take_gil(s)
            size = (<open_slot><void*>open_by_object)(self, s, scratch)
        engine_note_end(self)
        if scratch.out_size != 0:
            flight_flush(self, scratch)
        if self.outcome == FAILED:
            engine_note_error(self)          # noted before a handler writes, which would fail, too
        if size != 0:
            tls_deliver(s, scratch.plain, size)
        if self.outcome == FAILED:
            self.input = self.input_end
            tls_failed(s)
            return
    if self.end == TLS_PEER_CLOSED and tls_may_deliver(s):
        self.end = TLS_EOF_DELIVERED
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
    if rc == SEALED or rc == SEAL_WANT_READ and self.end == TLS_OPEN:
        return rc
    if rc == SEAL_WANT_READ:
        engine_note_peer_error(self)
    else:
        engine_note_error(self)
    return -1


cdef void engine_note_error(tls_connection_t* self) noexcept with gil:
    """OpenSSL's error becomes the connection's, unless it has one.

    Takes the GIL itself: a verb may call this, with or without it.
    """
    if tls_connection_of(self).error is None:
        tls_note_error(tls_connection_of(self), borrowed_error(self))


cdef void engine_note_peer_error(tls_connection_t* self) noexcept with gil:
    """The peer's close_notify is inside of its message, for the rest of which OpenSSL would wait for ever."""
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
    return SEALED if self.end != TLS_OPEN else rc


cdef int close_notify_by_object(tls_connection_t* self, socket_t* s, tls_scratch_t* scratch) noexcept with gil:
    cdef int rc = fallback_close_notify(tls_connection_of(self), scratch)
    tls_raise_interrupt(tls_connection_of(self), s)
    return rc


cdef void tls_raise_interrupt(TLSConnection self, socket_t* s) noexcept:
    """KeyboardInterrupt or SystemExit was raised while an engine ran Python: stop the loop."""
    interrupt, self.interrupt = self.interrupt, None
    if interrupt is not None:
        tls_interrupted(s, interrupt)


cdef void engine_eof(tls_t* core, socket_t* s) noexcept nogil:
    tls_take_gil(s)
    (<step_fn><void*>tls_eof)(<tls_connection_t*>core, s)


cdef void tls_eof(tls_connection_t* self, socket_t* s) noexcept:
    """The peer's FIN without close_notify: what it sent may have been cut off on the way (RFC 8446, 6.1)."""
    cdef TLSConnection wrapper = tls_connection_of(self)
    if not self.handshaking and not tls_wants_read(s) and ignores_eof(wrapper):
        self.end = TLS_EOF_DELIVERED
        tls_deliver_eof(s)
        return
    wrapper.error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol: the connection was cut off")
    if self.handshaking:
        self.handshaking = False
        tls_handshake_done(s, False, 0)
    elif tls_accepts_fin(s):
        self.end = TLS_EOF_DELIVERED
        tls_deliver_eof(s)
    else:
        tls_truncated(s)


cdef bint ignores_eof(TLSConnection self) noexcept:
    """OP_IGNORE_UNEXPECTED_EOF: the user accepts a FIN as a close_notify."""
    if self.c.ssl != NULL:
        return openssl.SSL_set_options(self.c.ssl, 0) & IGNORE_UNEXPECTED_EOF != 0
    return self.object.context.options & IGNORE_UNEXPECTED_EOF != 0


cdef void engine_detach(tls_t* core, socket_t* s) noexcept nogil:
    tls_take_gil(s)
    (<step_fn><void*>tls_detach)(<tls_connection_t*>core, s)


cdef void tls_detach(tls_connection_t* self, socket_t* s) noexcept:
    """The connection is gone. The object may live on, and can be queried."""
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
tls_register(&_filter, begin)    # last, so that a module whose import failed is not used


def engine_info():
    """`tls_engine_info()`: which engine, and why not the other."""
    return {
        "engine": "borrowed" if _borrowing else "stdlib",
        "reason": _reason or None,
        "openssl": ssl.OPENSSL_VERSION,
    }
