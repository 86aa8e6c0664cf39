"""secured_reading: incoming bytes over TLS.

The core gives plaintext as it opens records, in its own memory, so a BufferedProtocol's buffers are filled from there. What such
a protocol has not had when it pauses is held until it reads on. The peer's end is its close_notify, or, as asyncio takes it, a FIN
without one: `eof_received` is called, and nothing keeps the connection open.
"""
import ssl

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from pybuntcp cimport socket_exception, socket_resume


cdef void stream_opened(Stream self, const char* data, size_t size) noexcept:
    """Plaintext has arrived."""
    if self.lost != 0 or size == 0:
        return
    if self.closing and not self.tls.closed_early:
        stream_refuse(self)
        return
    self.tls.closed_early = False
    if own_of(self.s).buffered:
        stream_fill_buffers(self, data, size)
    else:
        stream_data_received(self, data, size)


cdef int stream_fill_buffers(Stream self, const char* data, size_t size) except -1:
    """One buffer of the protocol's after the other, until it pauses, ends, or is no BufferedProtocol any more."""
    cdef size_t taken
    while size != 0 and self.lost == 0:
        if self.closing:
            stream_refuse(self)
        elif self.paused:
            self.tls.held = PyBytes_FromStringAndSize(data, size)
            return 0
        elif not own_of(self.s).buffered:
            return stream_data_received(self, data, size)
        else:
            taken = stream_fill_buffer(self, data, size)
            if taken == 0:
                return 0
            data += taken
            size -= taken
            stream_buffer_updated(self, taken)
    return 0


cdef size_t stream_fill_buffer(Stream self, const char* data, size_t size) noexcept:
    """Bytes that one buffer has taken. 0: it has failed, which is reported, or the protocol has closed the connection."""
    cdef Py_buffer view
    try:
        buffer = stream_call(self, self.protocol.get_buffer, (size,))
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        if self.lost != 0:
            return 0
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        size = min(size, <size_t>view.len)
        memcpy(view.buf, data, size)
        PyBuffer_Release(&view)
        return size
    except BaseException as error:
        stream_protocol_failed(self, error, "get_buffer")
        return 0


# ---------------------------------------------------------------------------- what a BufferedProtocol has not had

cdef bint stream_holds_data(Stream self) except -1:
    """It reads on: the event loop gives it what is held, and only then the core is read."""
    if self.tls.held is None:
        return False
    self.host.call_soon(self.deliver_held)
    return True


cdef int stream_deliver_held(Stream self) except -1:
    """With the protocol that is set now."""
    held = self.tls.held
    if held is None or self.paused or self.lost != 0:
        return 0
    self.tls.held = None
    stream_opened(self, PyBytes_AS_STRING(held), PyBytes_GET_SIZE(held))
    if self.tls.held is None and self.lost == 0 and not self.paused:
        socket_resume(self.s)
    return 0


# ---------------------------------------------------------------------------- the peer's end

cdef void stream_peer_ended_secured(Stream self) noexcept:
    if self.lost != 0 or self.tls.finishing:
        return
    self.tls.peer_ended = True
    try:
        self.tls.cut = isinstance(socket_exception(self.s), ssl.SSLEOFError)
        if self.tls.cut and host_is_debug(self.host):
            stream_log_fin(self)
        if stream_call(self, self.protocol.eof_received, ()):
            logger.warning("returning true from eof_received() has no effect when using ssl")
    except BaseException as error:
        if interrupts(error):
            stream_interrupted(self, error)
        else:
            stream_fatal_error(self, error, "Error calling eof_received()")
    try:
        stream_finish_secured(self)
    except BaseException as error:
        stream_interrupted(self, error)
