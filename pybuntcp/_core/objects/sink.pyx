"""sink: `SocketSink`, many small writes to one socket that leave together.

Owns the class, and the waiters for a drain. A sink holds no bytes: they wait for the end of the turn in the same chunk
in which corked writes are gathered, so the order is kept however both are mixed (see output).

Waiters are kept by the loop (`drain_waiters`), by socket, and called once: from `output_flush_after_turn` or
`send_queue_pop` when everything has reached the kernel, or before `close` when it never will.

Promises that no waiter is called inside a verb. Does not know how bytes are sent.
"""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport SIZE_MAX

from pybuntcp._c cimport uv


@cython.final
cdef class SocketSink:
    """Many small writes to one socket, sent together: `socket.sink()`.

    What is written is sent at the end of the turn (one iteration of the loop), or as soon as
    `high_water_mark` bytes are gathered. What the kernel does not accept is kept, up to `limit` bytes,
    and is sent later without further calls. The socket may be written to directly as well: the order is
    kept. What is written while the loop does not run is sent in the first turn of `run()`, or by `flush`.

    After `end` or `close` of the sink, write, flush and end raise ValueError. If the socket is ended or
    closed in another way, `write` and `drain` raise its error, or BrokenPipeError if it had none.

    Source: Bun's `ArrayBufferSink` in stream mode, joined to its `Socket`.
    """
    cdef Socket _socket
    cdef size_t mark
    cdef size_t maximum     # SIZE_MAX: no limit
    cdef bint ended

    def __cinit__(self):
        self.ended = True

    def __init__(self):
        raise TypeError("sinks are made by socket.sink()")

    def write(self, data, /):
        """Accept all of a str (as UTF-8) or any C-contiguous buffer. Returns its number of bytes.

        The buffer is not referenced afterwards.
        Errors: BufferError when more than `limit` bytes would be unsent: nothing is accepted then;
        ValueError after `end`; the socket's error; UnicodeEncodeError, TypeError, MemoryError.
        """
        if PyBytes_CheckExact(data):
            return sink_write(self, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return sink_write_buffer(self, data)

    def flush(self):
        """Send now what is gathered."""
        sink_check_open(self, "flush")
        self._socket.flush()

    async def drain(self):
        """Wait until everything written to the socket, before and during the wait, is passed to the kernel.

        Errors: the socket's error, or BrokenPipeError, if that will never happen; RuntimeError in
        another asyncio loop than the one the socket was opened in.
        """
        cdef Waiter waiter
        if not sink_begin_drain(self):
            return
        waiter = waiter_new(<Loop>loop_of(self._socket.s).owner)
        sink_wait(self, waiter)
        try:
            await waiter
        finally:
            sink_remove_waiter(self, waiter)
        if waiter.error is not None:
            raise waiter.error
        if not waiter.done:
            raise sink_error(self._socket)       # its loop is closed, and calls no waiter any more

    def add_drain_callback(self, callback, /):
        """Call `callback(error)` once, from the loop, when `drain` would return or raise.

        error: None, or the exception. An exception of the callback goes to the `error` handler.
        Errors: TypeError for a callback that is not callable; the socket's error if it is closed.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__!r}")
        sink_begin_drain(self)
        sink_wait(self, callback)

    def end(self, data=None):
        """Write `data`, then end the socket as `Socket.end` does. Returns the length of `data`.

        Errors as `write`; the sink is then not ended.
        """
        cdef slice_t piece
        slice_open(&piece, b"" if data is None else data)
        try:
            sink_end(self, piece.at, piece.size)
        finally:
            slice_release(&piece)
        return piece.size

    def close(self):
        """Close the socket as `Socket.close` does: what is pending is sent first."""
        self._socket.close()
        self.ended = True

    @property
    def socket(self):
        """The `Socket` that is written to."""
        return self._socket

    @property
    def pending(self):
        """Bytes that the socket has accepted and not yet passed to the kernel."""
        return self._socket.pending

    @property
    def full(self):
        """True if `high_water_mark` bytes are unsent: it is time to wait for a drain."""
        return self._socket.pending >= self.mark

    @property
    def high_water_mark(self):
        """As soon as this many bytes are gathered, they are sent; otherwise at the end of the turn."""
        return self.mark

    @property
    def limit(self):
        """Bytes the socket may hold unsent; None = no limit."""
        return None if self.maximum == SIZE_MAX else self.maximum

    def __repr__(self):
        return f"<pybuntcp.SocketSink of {self._socket!r}, {self._socket.pending} bytes pending>"


cdef SocketSink sink_new(Socket socket, object mark, object limit):
    cdef SocketSink self = SocketSink.__new__(SocketSink)
    self.mark = bytes_option("high_water_mark", mark, 0)
    self.maximum = SIZE_MAX if limit is None else bytes_option("limit", limit, 1)
    self._socket = socket
    self.ended = False
    return self


# ---------------------------------------------------------------------------- writing

cdef int sink_check_open(SocketSink self, str verb) except -1:
    if self.ended:
        raise ValueError(f"{verb}: the sink has ended")
    return 0


cdef object sink_error(Socket socket):
    """Why nothing can be written: the connection's error, or BrokenPipeError."""
    cdef int code = socket.s.error if socket.s != NULL else wrapper_snapshot(socket).error
    return wrapper_error(socket, code if code != 0 else uv.UV_EPIPE, "write")


cdef ssize_t sink_write(SocketSink self, const char* data, size_t size) except -1:
    cdef ssize_t taken
    sink_check_open(self, "write")
    if not wrapper_is_open(self._socket) or not may_write(self._socket.s):
        raise sink_error(self._socket)
    taken = output_coalesce(self._socket.s, data, size, self.mark, self.maximum)
    if taken < 0:
        raise sink_refusal(self, <int>taken, size)
    return taken


cdef ssize_t sink_write_buffer(SocketSink self, object data) except -1:
    cdef slice_t piece
    slice_open(&piece, data)
    try:
        return sink_write(self, piece.at, piece.size)
    finally:
        slice_release(&piece)


cdef object sink_refusal(SocketSink self, int code, size_t size):
    """Why a write accepted nothing."""
    if code == uv.UV_ENOMEM and not self._socket.s.flags & S_BROKEN:
        return MemoryError()
    if code != uv.UV_ENOBUFS:
        return sink_error(self._socket)
    return BufferError(
        f"{size} bytes more than the {self._socket.pending} unsent pass the limit of {self.maximum}"
    )


cdef int sink_end(SocketSink self, const char* data, size_t size) except -1:
    sink_check_open(self, "end")
    sink_write(self, data, size)
    output_flush(self._socket.s)
    if socket_end(self._socket.s) < 0:
        raise sink_error(self._socket)
    self.ended = True
    return 0


# ---------------------------------------------------------------------------- waiting

cdef bint sink_begin_drain(SocketSink self) except -1:
    """Is there anything to wait for? Raises if nothing will ever leave."""
    cdef Socket socket = self._socket
    if socket is None:
        raise TypeError("sinks are made by socket.sink()")
    if not wrapper_is_open(socket) or not may_send(socket.s):
        raise sink_error(socket)
    return output_pending(socket.s) != 0


cdef int sink_wait(SocketSink self, object callback) except -1:
    """Have `callback` called from the loop."""
    cdef list first = []
    cdef socket_t* s = self._socket.s        # read here: making objects may run user code (finalizers)
    if s == NULL:
        raise sink_error(self._socket)
    s.flags |= S_DRAIN_WAITERS
    output_list_add(s, &loop_of(s).turn_flush, S_TURN_FLUSH)
    (<list>(<Loop>loop_of(s).owner).drain_waiters.setdefault(self._socket, first)).append(callback)
    return 0


cdef int sink_remove_waiter(SocketSink self, Waiter waiter) except -1:
    """It waits no more. If it was called already, nothing happens.

    Any thread may destroy a coroutine that waits. Where there is no GIL, another thread than the loop's leaves the list alone:
    the loop may go through it just now, and would pass over one that waits. The call of this waiter then resumes nobody.
    """
    cdef list waiting
    if not loop_may_look(waiter.loop.c):
        return 0
    waiting = waiter.loop.drain_waiters.get(self._socket)
    for i, each in enumerate(waiting or ()):
        if each is waiter:          # not ==, which may run user code
            del waiting[i]
            break
    return 0


cdef void sink_wake(socket_t* s) noexcept nogil:
    """Everything is with the kernel, or never will be: call the waiters."""
    s.flags &= ~S_DRAIN_WAITERS
    handler_enter(loop_of(s))
    socket_call_with_gil(s, sink_call_waiters)
    handler_leave(loop_of(s))


cdef void sink_call_waiters(socket_t* s) noexcept:
    cdef loop_t* loop = loop_of(s)
    cdef object socket = wrapper_of(s)
    cdef int code = 0
    if s.flags & S_BYTES_LOST:
        code = s.error if s.error != 0 else uv.UV_EPIPE
    for callback in (<Loop>loop.owner).drain_waiters.pop(socket, ()):
        if not loop.dead:
            try:
                callback(None if code == 0 else wrapper_error(socket, code, "write"))
            except BaseException as error:
                exception_raised(s, E_DRAIN, callback, error)
