"""ending: how a connection ends.

As in asyncio, `connection_lost` is called by the event loop, once, last, and the descriptor is open until it has returned.
Whoever ends the connection goes through one of two functions:

    stream_close         close(), the peer's FIN: what is pending is sent first
    stream_force_close   abort(), a failure: it is dropped

Both lead to `stream_lose`, which calls `connection_lost`, gives the socket back to the core, and lets go of everything. The
core then closes the descriptor without a loss (socket_close), or, after a failure, at once (socket_close_now).
"""
import warnings
from os import strerror

from libc.errno cimport EPIPE, EPROTO

from pybuntcp cimport (
    broken_slot,
    close_slot,
    socket_close,
    socket_close_now,
    socket_error,
    socket_exception,
    socket_flush,
    socket_pause,
    socket_shutdown,
    socket_t,
    socket_take_gil,
)


cdef int stream_close(Stream self) except -1:
    if self.successor is not None:
        return stream_close(self.successor)
    if self.closing:
        return 0
    if self.tls is not None:
        return stream_close_secured(self)
    return stream_finish(self)


cdef int stream_finish(Stream self) except -1:
    """Nothing more is read. What is pending is sent first; over TLS also that we send no more, to a peer that has said so."""
    self.closing = True
    socket_pause(self.s)
    if self.tls is None or self.tls.cut:
        socket_flush(self.s)
    else:
        socket_shutdown(self.s)
    if self.s == NULL:
        return 0                # the flush failed, and the core has nothing to wait for: see on_close
    if stream_pending(self) != 0:
        stream_want_empty(self)
    elif self.ended or socket_error(self.s) == 0:
        stream_lose_soon(self, None)
    return 0                    # otherwise the flush failed: see on_broken


cdef int stream_abort(Stream self) except -1:
    if self.successor is not None:
        return stream_abort(self.successor)
    self.aborted = True
    return stream_force_close(self, None)


cdef int stream_force_close(Stream self, object error) except -1:
    if self.lost != 0:
        return 0
    if self.s != NULL:
        if error is None:
            error = stream_flush_error(self)
        if self.s != NULL:
            socket_pause(self.s)
    self.closing = True
    return stream_lose_soon(self, error)


cdef int stream_lose_soon(Stream self, object error) except -1:
    self.lost = 1
    self.host.call_soon(self.connection_lost, error, context=self.context)
    return 0


cdef object stream_flush_error(Stream self):
    """Send what is gathered, as asyncio's write would have done. The error that this has found, or None."""
    cdef int code
    socket_flush(self.s)
    code = socket_error(self.s) if self.s != NULL else 0
    return stream_error_of(self, code)


cdef object stream_error_of(Stream self, int code):
    """The exception for what the core has found; None for 0. TLS has exceptions of its own."""
    error = None
    if code == EPROTO and self.tls is not None:
        error = socket_exception(self.s)
    if error is None and code != 0:
        error = OSError(code, strerror(code))
    return error


cdef void stream_fatal_error(Stream self, object error, str message) noexcept:
    """A failure that ends the connection. Errors of the system are everyday life, and only debug mode logs them."""
    if error is not None and not isinstance(error, OSError):
        stream_report(self, message, error)
    elif host_is_debug(self.host):
        stream_log(self, "%r: %s", (self.transport, message), error)
    try:
        stream_force_close(self, error)
    except BaseException as failure:
        stream_interrupted(self, failure)


cdef int stream_lose(Stream self, object error) except -1:
    """`connection_lost`, whatever that raises, and then the end of everything."""
    cdef object protocol = self.protocol
    if self.tls is not None:
        return stream_lose_secured(self, error)
    try:
        if protocol is not None:
            protocol.connection_lost(error)
    finally:
        stream_release(self, error)
    return 0


cdef void stream_lose_now(Stream self) noexcept:
    """As above, from a slot: what `connection_lost` raises is reported as that of any callback."""
    protocol = self.protocol
    try:
        PyContext_Enter(self.context)
        try:
            stream_lose(self, None)
        finally:
            PyContext_Exit(self.context)
    except BaseException as error:
        if interrupts(error):
            self.host.call_soon(raise_, error)
        else:
            stream_report(self, f"Exception in callback {protocol!r}.connection_lost(None)", error)


cdef int stream_release(Stream self, object error) except -1:
    cdef socket_t* s = self.s
    server, self.server = self.server, None
    waiter, transport = self.empty_waiter, self.transport
    if s != NULL:
        stream_end_sending(self)
        kept = stream_keep_name(self)
        stream_disown(self)
        if kept is not None:
            self.sock = kept
        if error is None and not self.aborted and (self.tls is None or not self.tls.cut):
            socket_close(s)
        else:
            socket_close_now(s)
    self.protocol = self.transport = None
    if self.tls is not None:
        transport = stream_forget_tls(self, transport)
    if server is not None:
        server_detach(server, transport)
    if waiter is not None and not waiter.done():
        waiter.set_exception(ConnectionError("Connection is closed by peer"))
    return 0


cdef int stream_leave_unclosed(Stream self) except -1:
    """Its event loop is closed, and nobody has closed it."""
    transport = self.transport
    self.closing, self.lost = True, 1
    stream_warn_unclosed(transport)
    stream_release(self, ConnectionAbortedError())
    return 0


cdef void stream_warn_unclosed(object transport) noexcept:
    """A filter may make an error of the warning. That is reported as of a finalizer, and the other transports are closed."""
    warnings.warn(f"unclosed transport {transport!r}", ResourceWarning, source=transport, stacklevel=3)


cdef void on_abandoned(socket_t* s) noexcept nogil:
    if own_of(s).stream != NULL:
        socket_take_gil(s)
        (<open_slot><void*>stream_abandoned)(s)


cdef void stream_abandoned(socket_t* s) noexcept:
    """A foreign event loop was closed or dropped, or its thread ends: it calls nothing any more, and futures of it call nobody."""
    cdef Stream self = stream_at(s)
    self.server = self.empty_waiter = self.sending = None
    socket_flush(s)
    if self.s == NULL:
        return
    try:
        stream_leave_unclosed(self)
    except BaseException as error:
        stream_interrupted(self, error)


cdef int stream_forget(Stream self) except -1:
    """In a forked child: the socket is freed already, and `connection_lost` is not called."""
    self.closing, self.lost = True, 1
    stream_let_go(self)
    return 0


# ---------------------------------------------------------------------------- what the core reports

cdef void on_broken(socket_t* s, int error) noexcept nogil:
    socket_take_gil(s)
    (<broken_slot><void*>stream_broken)(s, error)


cdef void stream_broken(socket_t* s, int error) noexcept:
    """A write has failed for good, or the peer has reset the connection, or TLS has failed."""
    cdef Stream self = stream_at(s)
    if self is None or self.lost != 0:
        return
    what = "write" if error == EPIPE else "read"
    failed = stream_error_of(self, error)
    if self.tls is not None and error == EPROTO:
        stream_fatal_error(self, failed, "Fatal error on SSL protocol")
    else:
        stream_fatal_error(self, failed, f"Fatal {what} error on socket transport")


cdef void on_close(socket_t* s, int error) noexcept nogil:
    if own_of(s).stream != NULL:
        socket_take_gil(s)
        (<close_slot><void*>stream_closed)(s, error)


cdef void stream_closed(socket_t* s, int error) noexcept:
    """The core has closed it: the peer has reset it, or a deadline has passed."""
    cdef Stream self = stream_at(s)
    if self.lost == 0:
        stream_fatal_error(self, stream_error_of(self, error), "Fatal read error on socket transport")
    stream_disown(self)         # not before: what logs the error may use the transport
