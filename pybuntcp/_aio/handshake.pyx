"""handshake: how a connection becomes one with TLS.

The core makes the handshake (socket_start_tls), on the socket that there is, and calls `on_handshake` when it is done. asyncio's
order is kept: `connection_made`, then who waits for the handshake, then what the peer has sent with its last flight. If it fails
the protocol hears nothing, unless it knew the connection before: `start_tls`.

Owns how that begins, for a new connection and for one that was plain (`start_tls`), and how it ends.
"""
import ssl

from libc.errno cimport ETIMEDOUT

from pybuntcp cimport (
    handshake_slot,
    socket_error,
    socket_resume,
    socket_ssl_object,
    socket_start_tls,
    socket_t,
    socket_take_gil,
)


cdef int stream_start_tls(Stream self, object prepared, object waiter) except -1:
    """waiter: a future that is done when the handshake is, or has its error."""
    socket_start_tls(self.s, prepared, self.tls.secured.handshake_timeout)
    return stream_handshake_begun(self, waiter)


cdef int stream_handshake_begun(Stream self, object waiter) except -1:
    self.tls.waiter = waiter
    if host_is_debug(self.host):
        stream_log(self, "%r starts SSL handshake", (self.transport,), None)
        self.tls.began = self.host.loop.time()
    return 0


cdef int stream_wake_waiter(Stream self, object error) except -1:
    waiter, self.tls.waiter = self.tls.waiter, None
    if self.tls.accepted:               # what waits then is asyncio's own task, which debug mode alone hears
        self.tls.accepted = False
        if error is not None and host_is_debug(self.host):
            stream_report(self, "Error on transport creation for incoming connection", error)
    if waiter is None or waiter.done():
        return 0
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)
    return 0


# ---------------------------------------------------------------------------- done

cdef void on_handshake(socket_t* s, int success, long verify_result) noexcept nogil:
    socket_take_gil(s)
    (<handshake_slot><void*>stream_handshake_done)(s, success, verify_result)


cdef void stream_handshake_done(socket_t* s, int success, long verify_result) noexcept:
    cdef Stream self = stream_at(s)
    if self is None or self.lost != 0:
        return
    try:
        if success:
            stream_secured(self)
        else:
            stream_handshake_failed(self)
    except BaseException as error:
        stream_interrupted(self, error)


cdef int stream_secured(Stream self) except -1:
    cdef Tls tls = self.tls
    tls.handshaking = False
    tls.ssl_object = socket_ssl_object(self.s)
    if host_is_debug(self.host):
        took = (self.host.loop.time() - tls.began) * 1e3
        stream_log(self, "%r: SSL handshake took %.1f ms", (self.transport, took), None)
    if not tls.known and not stream_made_secured(self):
        return 0
    stream_wake_waiter(self, None)
    tls.closed_early = self.closing
    if self.s != NULL and self.lost == 0 and (self.closing or not self.paused):
        socket_resume(self.s)
    return 0


cdef bint stream_made_secured(Stream self) except -1:
    """`connection_made`. False: it has raised, which over TLS ends the connection, as in asyncio."""
    self.tls.known = True
    try:
        stream_call(self, self.protocol.connection_made, (self.transport,))
    except BaseException as error:
        if interrupts(error):
            raise
        stream_fatal_error(self, error, "Fatal error: protocol.buffer_updated() call failed.")
        return False
    return True


cdef int stream_handshake_failed(Stream self) except -1:
    """asyncio's difference: of a failure the protocol of `start_tls` is told, of a timeout not."""
    cdef int code = socket_error(self.s)
    stream_note_extra(self)             # while the descriptor is open
    if code == ETIMEDOUT:
        return stream_handshake_timed_out(self)
    error = stream_error_of(self, code)
    if isinstance(error, ssl.SSLEOFError):
        stream_log_fin(self)
        error = ConnectionResetError()  # what asyncio makes of it
    verifying = " on verifying the certificate" if isinstance(error, ssl.CertificateError) else ""
    self.tls.handshaking = False
    stream_fatal_error(self, error, f"SSL handshake failed{verifying}")
    return stream_wake_waiter(self, error)


cdef int stream_handshake_timed_out(Stream self) except -1:
    seconds = self.tls.secured.handshake_timeout
    if host_is_debug(self.host):
        stream_log(self, "%r: %s", (self.transport, "Fatal error on transport"), None)
    text = f"SSL handshake is taking longer than {seconds} seconds: aborting the connection"
    return stream_force_close(self, ConnectionAbortedError(text))


cdef int stream_log_fin(Stream self) except -1:
    """A FIN without close_notify. In asyncio, two log it: the transport below, and what makes TLS of it."""
    if host_is_debug(self.host):
        stream_log(self, "%r received EOF", (self.transport,), None)
        stream_log(self, "%r received EOF", (self.transport,), None)
    return 0


# ---------------------------------------------------------------------------- start_tls

async def start_tls(Host host, transport, protocol, Secured tls):
    """The connection of a SocketTransport goes on with TLS, with this protocol, on a transport that is returned.

    What was written before is sent in plain, before the first record. The old transport is closed for use: it calls nobody,
    and what is written to it is dropped. Errors: those of the handshake, and of SSLContext.wrap_bio.
    """
    cdef Stream self
    waiter = host.loop.create_future()
    self = stream_secure(stream_of(transport), protocol, tls, waiter)
    try:
        await waiter
    except BaseException:
        stream_abort(self)
        raise
    return self.transport       # None, as in asyncio, if it is lost by now


cdef Stream stream_secure(Stream old, object protocol, Secured secured, object waiter):
    """A Stream with TLS on the same socket. Errors: nothing has changed."""
    cdef Stream self
    stream_check_plain(old)
    prepared = secured_prepare(secured)
    stream_check_plain(old)             # which may have run a context's own code
    self = stream_make(old.host, PyContext_CopyCurrent(), secured)
    self.tls.known = True
    try:
        socket_start_tls(old.s, prepared, secured.handshake_timeout)
    except BaseException:
        self.transport = None
        raise
    stream_succeed(self, old, protocol)
    stream_handshake_begun(self, waiter)
    return self


cdef int stream_check_plain(Stream self) except -1:
    host_check_thread(self.host)
    if self.s == NULL or self.closing:
        raise ConnectionResetError("unable to start TLS; the transport is closed")
    if self.empty_waiter is not None:
        raise RuntimeError("unable to start TLS; sendfile is in progress")
    return 0


cdef int stream_succeed(Stream self, Stream old, object protocol) except -1:
    """The socket, and all that belongs to it, is this Stream's. asyncio's Server goes on with the transport that it knows."""
    self.fd, self.peer = old.fd, old.peer
    self.sock, old.sock = old.sock, None
    self.extra, old.extra = old.extra, None
    self.server, old.server = old.server, None
    if self.server is not None:
        self.tls.predecessor = old.transport
    stream_own(self, old.s)
    host_remove(self.host, old)
    host_add(self.host, self)
    stream_set_protocol(self, protocol)
    if old.write_paused and old.protocol is protocol:
        self.write_paused = True
        socket_want_drain(self.s, self.low)
    old.s = NULL
    old.closing, old.lost = True, 1
    old.protocol = old.transport = None
    old.successor = self
    Py_DECREF(old)
    return 0
