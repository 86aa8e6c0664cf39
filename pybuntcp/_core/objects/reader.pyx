"""reader: `SocketReader`, to read a socket with `await`.

Owns `reader_t`: the bytes that arrived and were not read yet, in one chunk (see chunk) of at most `limit` bytes. The
loop reads no more than there is space for, and stops when there is none. From the call of `Socket.reader` on all input
goes to the reader (`S_RECEIVER`). A socket without one pays nothing: the flag is tested together with others.

The peer's end: `end` is called when a read has returned the end, not when the FIN arrives, so that the user reads
everything first (S_EOF_DELIVERED, see events).

Promises: cancelling a read loses nothing; bytes that arrived before a reset or an end are returned before it is
reported. Does not know TLS, which delivers plaintext here.
"""
cimport cython

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp

from pybuntcp._c cimport uv


cdef enum reader_state_t:
    READER_FLOWING          # the socket is read
    READER_FULL             # the socket is not read, because there is no space
    READER_ENDED            # nothing more will arrive
    READER_END_DELIVERED    # nothing more will arrive, and a read has returned the end

cdef struct reader_t:
    chunk_t* held           # owned: bytes that arrived and were not read yet; NULL: none
    size_t limit
    size_t minimum          # bytes that the waiting read needs; 0: no read waits
    reader_state_t state    # moves forward only, but FULL may turn into FLOWING again
    int code                # the error that the connection ended with


@cython.final
cdef class SocketReader:
    """Reads what a socket receives, with `await`: made by `socket.reader()`. It returns bytes, whatever `binary_type` is.

    Names and errors are those of `asyncio.StreamReader`. One read at a time: a second one while
    another waits raises RuntimeError. If the connection was reset, its error is raised after the
    bytes that arrived before it; if it was closed, or had ended already, reads return the end.

    After a read has returned the peer's end, `end` is called, and unless `allow_half_open` the socket
    closes. An answer can be written before that: immediately after the read, or, in an `async def`
    handler, until the handler returns.
    """
    cdef Socket _socket
    cdef Loop loop              # None: the connection was gone when this was made
    cdef reader_t c
    cdef InlineFuture future    # what the waiting read awaits

    def __init__(self):
        raise TypeError("readers are made by socket.reader()")

    def __dealloc__(self):
        if self.c.held != NULL:
            free(self.c.held)

    async def read(self, n=-1):
        """1..n bytes, as soon as there are any; n < 0: all until the end. b"" at the end."""
        cdef ssize_t maximum = number_signed("n", n)
        cdef size_t minimum = SIZE_MAX if maximum < 0 else 1
        reader_enter(self)
        if maximum == 0:
            return b""
        if reader_needs_more(self, minimum):
            await _reader_wait(self, minimum)
        reader_check_end(self, minimum)
        return reader_take(self, SIZE_MAX if maximum < 0 else maximum, maximum < 0)

    async def readexactly(self, n):
        """Exactly n bytes. Errors: asyncio.IncompleteReadError, with `partial`, if the end comes first."""
        cdef ssize_t wanted = number_signed("n", n)
        if wanted < 0:
            raise ValueError(f"n must not be negative, not {n!r}")
        reader_enter(self)
        if reader_needs_more(self, wanted):
            await _reader_wait(self, wanted)
        if chunk_length(self.c.held) < <size_t>wanted:
            raise reader_incomplete(self, wanted)
        return reader_take(self, wanted, False)

    async def readuntil(self, separator=b"\n"):
        """Bytes up to and including the separator.

        Errors: asyncio.IncompleteReadError, with `partial`, if the end comes first;
        asyncio.LimitOverrunError if it is not among the first `limit` bytes: nothing is read then.
        """
        cdef ssize_t size = await _reader_find(self, separator)
        if size < 0:
            raise reader_incomplete(self, None)
        if size == 0:
            raise host_asyncio("LimitOverrunError")(
                f"no separator among the first {self.c.limit} bytes", chunk_length(self.c.held)
            )
        return reader_take(self, size, False)

    async def readline(self):
        """Bytes up to and including the next newline; the last line may have none; b"" at the end.

        Errors: ValueError if there is none among the first `limit` bytes: nothing is read then.
        """
        cdef ssize_t size = await _reader_find(self, b"\n")
        if size == 0:
            raise ValueError(f"no end of line among the first {self.c.limit} bytes")
        if size < 0:
            reader_check_end(self, SIZE_MAX)
            return reader_take(self, SIZE_MAX, True)
        return reader_take(self, size, False)

    def at_eof(self):
        """True if the end has arrived and everything is read."""
        return reader_has_ended(&self.c) and self.c.held == NULL

    @property
    def socket(self):
        """The `Socket` that is read."""
        return self._socket

    @property
    def limit(self):
        """The most bytes that are held, unless a read needs more."""
        return self.c.limit

    def __repr__(self):
        cdef bint looks = self.loop is not None and loop_may_look(self.loop.c)
        return f"<pybuntcp.SocketReader of {self._socket!r}, {chunk_length(self.c.held) if looks else 0} bytes held>"


@cython.final
@cython.internal
cdef class Chunks:
    """`async for chunk in socket`"""
    cdef SocketReader reader

    def __aiter__(self):
        return self

    async def __anext__(self):
        chunk = await self.reader.read(self.reader.c.limit)
        if not chunk:
            raise StopAsyncIteration
        return chunk


cdef Chunks reader_chunks(Socket socket):
    cdef Chunks self = Chunks.__new__(Chunks)
    self.reader = reader_of(socket, 65536)
    return self


cdef SocketReader reader_of(Socket socket, object limit):
    """The socket's one reader, made now if it has none."""
    cdef size_t maximum = bytes_option("limit", limit, 1)
    cdef SocketReader self
    cdef socket_t* s = NULL
    if wrapper_is_open(socket) and is_piped(socket.s):
        raise piping_refusal()
    with cython.critical_section(socket):   # any thread may ask for the reader of a socket that is closed
        if socket.own_reader is not None:
            return <SocketReader>socket.own_reader
    self = SocketReader.__new__(SocketReader)
    self._socket, self.c.limit = socket, maximum
    self.c.state = READER_ENDED
    if wrapper_is_open(socket):
        s = socket.s
        self.loop = <Loop>loop_of(s).owner
        self.future = inline_future_new(self.loop)
        snapshot_addresses(s)
        if socket.snapshot == NULL:
            raise MemoryError()
        socket.snapshot.reader = &self.c
        self.c.state = READER_ENDED if is_input_over(s) else READER_FLOWING
    with cython.critical_section(socket):
        socket.own_reader = self
    if not reader_has_ended(&self.c):
        s.flags = (s.flags | S_RECEIVER) & ~S_PAUSED
        stream_stop(s)
        stream_read(s)
    return self


cdef inline reader_t* reader_at(socket_t* s) noexcept nogil:
    """The reader of a socket that has S_RECEIVER."""
    return (<Socket>s.wrapper).snapshot.reader


# ---------------------------------------------------------------------------- input

cdef inline size_t reader_capacity_left(reader_t* self) noexcept nogil:
    """Bytes that may arrive. A read that needs more than `limit` raises it."""
    cdef size_t limit = max(self.limit, self.minimum)
    cdef size_t held = chunk_length(self.held)
    return limit - held if limit > held else 0


cdef inline bint reader_has_ended(const reader_t* self) noexcept nogil:
    return self.state >= READER_ENDED


cdef inline void reader_note_end(reader_t* self) noexcept nogil:
    if not reader_has_ended(self):
        self.state = READER_ENDED


cdef inline void reader_note_full(reader_t* self) noexcept nogil:
    if self.state == READER_FLOWING:
        self.state = READER_FULL


cdef inline bint reader_has_space(reader_t* self) noexcept nogil:
    """Is the socket to be read on?"""
    if reader_capacity_left(self) == 0:
        reader_note_full(self)
        return False
    if self.state == READER_FULL:
        self.state = READER_FLOWING
    return True


cdef size_t reader_capacity(socket_t* s) noexcept nogil:
    """The capacity left, of a socket that has a reader."""
    return reader_capacity_left(reader_at(s))


cdef void reader_read(socket_t* s) noexcept nogil:
    """As `stream_read`, for a socket that has a reader."""
    cdef reader_t* self = reader_at(s)
    if reader_has_space(self):
        stream_start(s, on_reader_alloc, on_read)


cdef void on_reader_alloc(uv.uv_handle_t* handle, size_t suggested, uv.uv_buf_t* buffer) noexcept nogil:
    cdef socket_t* s = <socket_t*>handle
    cdef size_t size = stream_read_size(s)
    if size == 0:
        return
    buffer.base = loop_slab(loop_of(handle))
    buffer.len = min(size, max(reader_capacity_left(reader_at(s)), <size_t>READ_MIN if s.flags & S_TLS else 1))


cdef void reader_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Append the bytes; wake the waiting read if it has enough."""
    cdef reader_t* self = reader_at(s)
    cdef chunk_t* chunk = self.held
    if chunk == NULL:
        chunk = spare_take(loop_of(s), size, SIZE_MAX)
    else:
        chunk = chunk_reserve(chunk, size, max(self.limit, self.minimum))
    if chunk == NULL:
        socket_fail(s, uv.UV_ENOMEM)
        stream_close(s)
        return
    self.held = chunk
    chunk_append(chunk, data, size)
    if reader_capacity_left(self) == 0:
        reader_note_full(self)
        stream_stop(s)
    if self.minimum != 0 and (self.state == READER_FULL or chunk_length(chunk) >= self.minimum):
        socket_call_with_gil(s, reader_wake_now)


cdef void reader_ended(socket_t* s) noexcept nogil:
    """The peer's FIN. If the socket is piped, its target gets it, and no read does."""
    reader_note_end(reader_at(s))
    if is_piped(s):
        reader_at(s).state = READER_END_DELIVERED
    if reader_at(s).minimum != 0:
        socket_call_with_gil(s, reader_wake_soon)


cdef void reader_stop(socket_t* s) noexcept with gil:
    """close() or shutdown(True): nothing more is read."""
    reader_note_end(reader_at(s))
    reader_wake_soon(s)


cdef void reader_closed(socket_t* s) noexcept nogil:
    """The connection is gone; the reader lives on by itself."""
    socket_call_with_gil(s, reader_detach)


cdef void reader_detach(socket_t* s) noexcept:
    cdef SocketReader self = <SocketReader>(<Socket>s.wrapper).own_reader
    if not reader_has_ended(&self.c):
        self.c.code = s.error
    reader_note_end(&self.c)
    reader_wake_soon(s)
    inline_future_clear(self.future)    # it refers to the asyncio loop, which would be kept alive
    s.flags &= ~S_RECEIVER


cdef void reader_wake_soon(socket_t* s) noexcept:
    """Have the waiting read look again, from the asyncio loop."""
    if not loop_of(s).dead:
        inline_future_wake_soon((<SocketReader>(<Socket>s.wrapper).own_reader).future)


cdef void reader_wake_now(socket_t* s) noexcept:
    """Run the waiting read at once. Only for input, which arrives in turns alone, outside any handler."""
    cdef SocketReader self = <SocketReader>(<Socket>s.wrapper).own_reader
    inline_future_wake_now(self.future)


# ---------------------------------------------------------------------------- reads

cdef inline bint reader_needs_more(SocketReader self, size_t minimum) noexcept:
    return chunk_length(self.c.held) < minimum and not reader_has_ended(&self.c)


cdef int reader_enter(SocketReader self) except -1:
    """A read begins. RuntimeError: in the wrong thread, or while another one waits."""
    if self.loop is not None and not loop_check(self.loop.c):
        self.c.held = NULL
        reader_note_end(&self.c)
    if self._socket.s != NULL and is_piped(self._socket.s):
        raise piping_refusal()
    if self.c.minimum != 0:
        raise RuntimeError("a read of this socket waits already: one at a time")
    return 0


async def _reader_wait(SocketReader self, size_t minimum):
    """Wait until `minimum` bytes are held, or for the end."""
    self.c.minimum = minimum
    try:
        while reader_needs_more(self, minimum):
            reader_resume_reading(self)
            await inline_future_await(self.future)
    finally:
        reader_wait_done(self)


cdef int reader_resume_reading(SocketReader self) except -1:
    """A read waits: read the socket, if that had stopped for want of space."""
    if self.c.state == READER_FULL and self._socket.s != NULL:
        stream_read(self._socket.s)
    return 0


cdef int reader_wait_done(SocketReader self) except -1:
    """The read waits no more. The space that it needed beyond `limit` goes away."""
    inline_future_clear(self.future)
    self.c.minimum = 0
    if self.c.state == READER_FLOWING and reader_capacity_left(&self.c) == 0:
        self.c.state = READER_FULL
        if self._socket.s != NULL and not self.loop.c.dead:
            stream_pause_reading(self._socket.s)
    return 0


cdef bytes reader_take(SocketReader self, size_t maximum, bint to_the_end):
    """Up to `maximum` of the bytes held. b"" delivers the end, and so does a read that reads to it."""
    cdef chunk_t* chunk = self.c.held
    cdef size_t size = min(maximum, chunk_length(chunk))
    cdef bytes piece = b""
    if size != 0:
        piece = PyBytes_FromStringAndSize(chunk_bytes(chunk), size)
        chunk.start += size
        if chunk.start == chunk.end:
            reader_free_chunk(self)
        if self.c.state == READER_FULL and chunk_length(self.c.held) <= self.c.limit // 2:
            reader_resume_reading(self)
    if self.c.held == NULL and reader_has_ended(&self.c) and (size == 0 or to_the_end):
        reader_eof_delivered(self)
    return piece


cdef int reader_free_chunk(SocketReader self) except -1:
    """Give the empty chunk back."""
    cdef chunk_t* chunk = self.c.held
    self.c.held = NULL
    if self.loop.c.closed:
        free(chunk)
    else:
        spare_give_back(self.loop.c, chunk)
    return 0


cdef int reader_check_end(SocketReader self, size_t minimum) except -1:
    """Raise the connection's error, if it came before `minimum` bytes had."""
    if self.c.code != 0 and chunk_length(self.c.held) < minimum:
        raise wrapper_error(self._socket, self.c.code, "read")
    return 0


cdef inline bint reader_owes_end(socket_t* s) noexcept nogil:
    """`end` is still to be called, when a read has returned the end."""
    return s.flags & S_EOF and s.flags & S_RECEIVER and not s.flags & S_CLOSED


cdef int reader_eof_delivered(SocketReader self) except -1:
    """The user has read the end: when the turn ends, `end` is called; until then an answer can be written."""
    cdef socket_t* s = self._socket.s
    if self.c.state != READER_END_DELIVERED and s != NULL and reader_owes_end(s):
        reader_note_end_delivered(s, &self.c)
    return 0


cdef void reader_note_end_delivered(socket_t* s, reader_t* self) noexcept nogil:
    self.state = READER_END_DELIVERED
    s.flags |= S_EOF_DELIVERED
    output_list_add(s, &loop_of(s).turn_flush, S_TURN_FLUSH)


cdef object reader_incomplete(SocketReader self, object expected):
    """The end came too early: asyncio's exception with the bytes there are, or the connection's error."""
    reader_check_end(self, SIZE_MAX)
    return host_asyncio("IncompleteReadError")(reader_take(self, SIZE_MAX, True), expected)


async def _reader_find(SocketReader self, separator):
    """Length up to and including the separator; 0: it is not within `limit`; -1: not before the end."""
    cdef bytes wanted = bytes(memoryview(separator))
    cdef ssize_t at = 0
    cdef size_t looked = 0
    if not wanted:
        raise ValueError("separator must not be empty")
    reader_enter(self)
    while True:
        at = reader_find(self.c.held, wanted, looked)
        if at >= 0:
            return at + len(wanted) if at + len(wanted) <= <ssize_t>self.c.limit else 0
        if chunk_length(self.c.held) >= self.c.limit:
            return 0
        if reader_has_ended(&self.c):
            return -1
        looked = chunk_length(self.c.held)
        await _reader_wait(self, looked + 1)


cdef ssize_t reader_find(chunk_t* self, bytes wanted, size_t looked) except -2:
    """Where the separator begins, or -1. It is known that the first `looked` bytes do not contain all of it."""
    cdef const char* at
    cdef const char* found
    cdef const char* pattern = wanted
    cdef size_t size = len(wanted)
    cdef size_t held = chunk_length(self)
    cdef size_t begin = looked - size + 1 if looked >= size else 0
    while begin + size <= held:
        at = chunk_bytes(self) + begin
        found = <const char*>memchr(at, pattern[0], held - begin - size + 1)
        if found == NULL:
            return -1
        if memcmp(found, pattern, size) == 0:
            return found - chunk_bytes(self)
        begin += found - at + 1
    return -1
