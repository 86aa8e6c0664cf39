"""writing: outgoing bytes, and when the protocol must wait.

A write is never refused for the peer's sake. After close() it is sent as long as something that was written before is
pending, as in asyncio; once `connection_lost` is on its way it is dropped, and from the fifth time on a warning says so.

The core gathers what one callback writes and sends it in one system call; a step of a task, which the event loop runs between
two turns of ours, has its writes sent when the next turn begins.

The rule for water marks: nothing is said before the kernel has had its chance. A write that brings the pending bytes over
`high` is flushed first; if more than `high` are pending still, `pause_writing` is called, once, inside that write, as in
asyncio. So whatever is only gathered never pauses anybody, and `drain()` of a stream does not wait for it. From then on the
core owes one drain, at `low` (socket_want_drain): that calls `resume_writing`, once.
"""
from asyncio import constants
from cpython.buffer cimport PyBUF_SIMPLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EPIPE
from libc.stdint cimport SIZE_MAX

from pybuntcp cimport (
    open_slot,
    socket_error,
    socket_flush,
    socket_part_t,
    socket_pending,
    socket_shutdown,
    socket_t,
    socket_take_gil,
    socket_want_drain,
    socket_write_all,
    socket_writev,
)


cdef enum:
    HIGH_WATER = 65536      # bytes
    LOW_WATER = 16384


cdef int stream_write(Stream self, object data) except -1:
    cdef Py_buffer view
    if PyBytes_CheckExact(data):
        stream_check_writable(self, "write")
        return stream_accept(self, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    bytes_like_open(data, &view)
    try:
        stream_check_writable(self, "write")
        return stream_accept(self, <const char*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef int bytes_like_open(object data, Py_buffer* view) except -1:
    """Borrow the bytes of any bytes-like object. TypeError: it is none."""
    try:
        PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    except TypeError:
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}") from None
    return 0


cdef inline int stream_check_writable(Stream self, str method) except -1:
    """RuntimeError: write_eof was called, or sendfile runs, or this is another thread than the event loop's."""
    if self.ended or self.empty_waiter is not None or host_is_elsewhere(self.host):
        stream_raise_unwritable(self, method)
    return 0


cdef int stream_raise_unwritable(Stream self, str method) except -1:
    host_check_thread(self.host)
    if self.ended:
        raise RuntimeError(f"Cannot call {method}() after write_eof()")
    raise RuntimeError(f"unable to {method}; sendfile is in progress")


cdef inline int stream_accept(Stream self, const char* data, size_t size) except -1:
    if size == 0:
        return 0
    if stream_drops_writes(self):
        stream_drop_write(self)
        return 0
    return stream_wrote(self, socket_write_all(self.s, data, size))


cdef inline bint stream_drops_writes(Stream self) noexcept:
    """Over TLS `close` has said that nothing more is sent."""
    return self.lost != 0 or self.closing and self.tls is not None


cdef inline int stream_wrote(Stream self, int rc) except -1:
    """What follows from a write. A program that never lets the loop turn must learn of a failure here."""
    if rc != 0:
        return stream_write_failed(self, rc)
    if stream_is_over(self, socket_pending(self.s)) or self.host.thread == 0:
        return stream_send_now(self)
    return 0


cdef inline bint stream_is_over(Stream self, size_t pending) noexcept:
    """More than `high` bytes are pending. Over TLS, as in asyncio, so many are enough."""
    return pending > self.high or pending == self.high and self.tls is not None and pending != 0


cdef int stream_write_failed(Stream self, int rc) except -1:
    cdef int error = socket_error(self.s)
    if rc == -2:
        raise MemoryError()
    if error == 0:
        error = EPIPE
    stream_fatal_error(self, stream_error_of(self, error), "Fatal write error on socket transport")
    return 0


cdef void stream_drop_write(Stream self) noexcept:
    """Nobody will get it."""
    if self.tls is not None:
        stream_drop_secured(self)
        return
    if self.lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
        logger.warning("socket.send() raised exception.")
    self.lost += 1


cdef int stream_write_lines(Stream self, object lines) except -1:
    """As one write of all of them, in one system call if they are too many to be gathered."""
    cdef list chunks = list(lines)
    cdef Py_ssize_t count = len(chunks), opened = 0, i
    cdef Py_buffer* views
    stream_check_writable(self, "writelines")
    if count == 0:
        return 0
    views = <Py_buffer*>PyMem_Malloc(count * (sizeof(Py_buffer) + sizeof(socket_part_t)))
    if views == NULL:
        raise MemoryError()
    try:
        for i in range(count):
            bytes_like_open(chunks[i], &views[i])
            opened += 1
        return stream_accept_lines(self, views, <socket_part_t*>(views + count), count)
    finally:
        for i in range(opened):
            PyBuffer_Release(&views[i])
        PyMem_Free(views)


cdef int stream_accept_lines(Stream self, Py_buffer* views, socket_part_t* parts, int count) except -1:
    cdef int i
    cdef size_t size = 0
    for i in range(count):
        parts[i].data = <const char*>views[i].buf
        parts[i].size = views[i].len
        size += parts[i].size
    if size == 0:
        return 0
    if stream_drops_writes(self):
        stream_drop_write(self)
        return 0
    return stream_wrote(self, socket_writev(self.s, parts, count))


cdef int stream_write_eof(Stream self) except -1:
    host_check_thread(self.host)
    if self.closing or self.ended:
        return 0
    error = stream_flush_error(self)
    if error is not None:
        stream_fatal_error(self, error, "Fatal write error on socket transport")
    elif self.s != NULL:
        self.ended = True
        socket_shutdown(self.s)
    return 0


# ---------------------------------------------------------------------------- water marks

cdef inline size_t stream_pending(Stream self) noexcept:
    return socket_pending(self.s) if self.s != NULL and self.lost == 0 else 0


cdef int stream_send_now(Stream self) except -1:
    """More than `high` bytes are pending, or no loop runs that would send them: send, and if too many are left tell the protocol."""
    socket_flush(self.s)
    if self.lost == 0 and socket_error(self.s) != 0:
        return stream_write_failed(self, -1)
    if self.write_paused or not stream_is_over(self, stream_pending(self)):
        return 0
    self.write_paused = True
    socket_want_drain(self.s, self.low)
    try:
        stream_call_in_context(self, self.protocol.pause_writing)
    except BaseException as error:
        if interrupts(error):
            raise
        stream_report(self, "protocol.pause_writing() failed", error)
    return 0


cdef int stream_call_in_context(Stream self, object method) except -1:
    """Inside any code: call it in the connection's context, which may be entered already."""
    try:
        PyContext_Enter(self.context)
    except RuntimeError:
        method()
        return 0
    try:
        method()
    finally:
        PyContext_Exit(self.context)
    return 0


cdef int stream_set_limits(Stream self, object high, object low) except -1:
    """As asyncio has them: high is 64 KiB, over TLS 512, or four times low; low is a quarter of high."""
    limits_read(high, low, HIGH_WATER if self.tls is None else SECURED_HIGH_WATER, &self.high, &self.low)
    if self.write_paused and self.lost == 0:
        if self.tls is not None and stream_pending(self) <= self.low:
            stream_resume_writing(self)     # asyncio's TLS does not wait for the next byte that goes out
        else:
            socket_want_drain(self.s, self.low)
    if self.lost == 0 and stream_is_over(self, stream_pending(self)):
        stream_send_now(self)
    return 0


cdef int limits_read(object high, object low, size_t usual, size_t* high_to, size_t* low_to) except -1:
    if high is None:
        high = usual if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    high_to[0], low_to[0] = <size_t>int(min(high, SIZE_MAX)), <size_t>int(min(low, SIZE_MAX))
    return 0


cdef void on_drain(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<open_slot><void*>stream_drained)(s)


cdef void stream_drained(socket_t* s) noexcept:
    """Few bytes are pending, or none: resume the protocol, then whatever waits for none."""
    cdef Stream self = stream_at(s)
    if self is None or self.lost != 0:
        return
    if self.write_paused:
        stream_resume_writing(self)
    if self.lost != 0 or not (self.closing or self.empty_waiter is not None):
        return
    if self.tls is not None and not self.tls.finishing:
        return                  # close() waits for the peer's end
    if stream_pending(self) != 0:
        stream_want_empty(self)
        return
    if self.empty_waiter is not None and not self.empty_waiter.done():
        self.empty_waiter.set_result(None)
    if self.closing:
        self.lost = 1
        stream_lose_now(self)


cdef inline void stream_want_empty(Stream self) noexcept:
    """Have `stream_drained` called when nothing is pending; a protocol that is paused comes first."""
    if not self.write_paused:
        socket_want_drain(self.s, 0)


cdef void stream_resume_writing(Stream self) noexcept:
    self.write_paused = False
    try:
        stream_call(self, self.protocol.resume_writing, ())
    except BaseException as error:
        if interrupts(error):
            stream_interrupted(self, error)
        else:
            stream_report(self, "protocol.resume_writing() failed", error)


# ---------------------------------------------------------------------------- sendfile
# The event loop writes to the descriptor by itself, for which asyncio's own code wants it to be nobody's meanwhile. If the
# connection is lost then, that would wait for ever for a descriptor that is closed: so its task is cancelled.

cdef int stream_lend(Stream self, object task) except -1:
    self.lent, self.sending = True, task
    return 0


cdef int stream_take_back(Stream self) except -1:
    self.lent, self.sending, self.empty_waiter = False, None, None
    return 0


cdef int stream_end_sending(Stream self) except -1:
    """The descriptor is going to be closed."""
    if self.sending is not None:
        self.host.loop.remove_writer(self.fd)
        self.sending.cancel()
    return 0


cdef object stream_make_empty_waiter(Stream self):
    """A future that is done when all is sent. Until `stream_take_back` nothing can be written."""
    if self.empty_waiter is not None:
        raise RuntimeError("Empty waiter is already set")
    self.empty_waiter = self.host.loop.create_future()
    if self.s == NULL or self.lost != 0:
        self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
        return self.empty_waiter
    socket_flush(self.s)
    if stream_pending(self) == 0:
        self.empty_waiter.set_result(None)
    else:
        stream_want_empty(self)
    return self.empty_waiter
