"""secured_ending: how a connection with TLS ends.

    close()              what was written goes out, then close_notify; then the peer's is waited for, at most ssl_shutdown_timeout
    the peer has ended   `eof_received`; what was written goes out, then our close_notify, if it has said so by its own

Both lead to `stream_finish`, where it goes on as without TLS. As in asyncio, nothing is written after close(), and a peer that
sends data after it has our close_notify ends the connection with an error. abort() sends nothing.
"""
import ssl
from asyncio import exceptions

from pybuntcp cimport open_slot, socket_resume, socket_shutdown, socket_t, socket_take_gil, socket_timeout


cdef int stream_close_secured(Stream self) except -1:
    if self.tls.handshaking:
        return stream_abort(self)
    if self.tls.peer_ended:
        return stream_finish_secured(self)      # eof_received has closed it
    self.closing = True
    socket_timeout(self.s, self.tls.secured.shutdown_timeout)
    socket_shutdown(self.s)
    if self.s == NULL:
        return 0
    if self.tls.held is not None:
        stream_refuse(self)
    else:
        socket_resume(self.s)       # for its close_notify, also if the protocol has paused
    return 0


cdef int stream_finish_secured(Stream self) except -1:
    if self.lost != 0 or self.tls.finishing:
        return 0
    self.tls.finishing = True
    socket_timeout(self.s, 0)
    return stream_finish(self)


cdef void stream_refuse(Stream self) noexcept:
    """Data after close(): what OpenSSL says to asyncio."""
    error = ssl.SSLError(int(ssl.SSL_ERROR_SSL), "[SSL: APPLICATION_DATA_AFTER_CLOSE_NOTIFY] application data after close notify")
    error.library, error.reason = "SSL", "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
    stream_fatal_error(self, error, "Fatal error on transport")


cdef void on_timeout(socket_t* s) noexcept nogil:
    if own_of(s).stream != NULL:
        socket_take_gil(s)
        (<open_slot><void*>stream_shutdown_timed_out)(s)


cdef void stream_shutdown_timed_out(socket_t* s) noexcept:
    """The peer has not answered our close_notify, or does not take what is pending. A listener's own deadlines come here, too."""
    cdef Stream self = stream_at(s)
    if self.tls is None or not self.closing or self.lost != 0:
        return
    socket_timeout(s, 0)            # else the core closes it now, and not when `connection_lost` has returned
    try:
        stream_force_close(self, exceptions.TimeoutError("SSL shutdown timed out"))
    except BaseException as error:
        stream_interrupted(self, error)


cdef int stream_lose_secured(Stream self, object error) except -1:
    """As in asyncio, where two transports are lost one after the other: the descriptor is closed, and `connection_lost` follows.

    It does not if the handshake was not done; see also `stream_handshake_failed`.
    """
    protocol = self.protocol
    stream_release(self, error)
    if protocol is not None and self.tls.known and not self.tls.handshaking:
        self.host.call_soon(protocol.connection_lost, error, context=self.context)
    return stream_wake_waiter(self, error)


cdef object stream_forget_tls(Stream self, object transport):
    """The connection is gone. Returns the transport that asyncio's Server knows."""
    cdef Stream before
    self.tls.held = None
    self.tls.dropped += 1
    predecessor, self.tls.predecessor = self.tls.predecessor, None
    if predecessor is None:
        return transport
    before = stream_of(predecessor)
    before.successor = None
    return predecessor


cdef void stream_drop_secured(Stream self) noexcept:
    if self.tls.dropped >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
        logger.warning("SSL connection is closed")
    self.tls.dropped += 1
