"""reading: `SocketReader`, for those who think in awaits.

Owns `reader_t`, what came and was not read yet, in one chunk (see sink) of at most `limit`
bytes: the loop reads no more than there is room for, and stops when there is none. From the call
of `Socket.reader` on all that comes is for the reader (`S_READER`); a socket without one has no
part in this but for a flag that is looked at together with another.

Promises: cancelling a read loses nothing; what came before a reset or an end is given first.
"""
cimport cython

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp

from pybuntcp._c cimport uv

cdef enum:
    READ_LEAST = 16640          # a record: read whole, even if its reader has room for less


cdef struct reader_t:
    chunk_t* held               # what came and was not read yet
    size_t limit
    size_t least                # bytes that a read which waits cannot do without; 0: none waits
    bint full                   # the socket is not read, for want of room
    bint ended                  # nothing more will come
    bint told                   # ... and the user knows
    int code                    # the error it ended with


@cython.final
cdef class SocketReader:
    """What a socket receives, to be awaited: `socket.reader()`. Bytes, whatever `binary_type`.

    Names and errors are those of `asyncio.StreamReader`. One read at a time: a second one while
    one waits is a RuntimeError. A connection that was reset raises its error, after what came
    before it; one that was closed, or was dead already, has come to its end.

    The peer's end: when a read has told of it, `end` is called, and unless `allow_half_open` the
    socket closes, which leaves the time to write an answer at once, or until an `async def`
    handler returns.
    """
    cdef readonly Socket socket
    cdef Loop loop              # None: the socket was gone before
    cdef reader_t c
    cdef Arrival arrival        # what the read that waits awaits

    def __init__(self):
        raise TypeError("readers are made by socket.reader()")

    def __dealloc__(self):
        if self.c.held != NULL:
            free(self.c.held)

    async def read(self, n=-1):
        """1..n bytes, as soon as there are any; n < 0: all until the end. b"" at the end."""
        cdef ssize_t most = n
        cdef size_t least = SIZE_MAX if most < 0 else 1
        reader_enter(self)
        if most == 0:
            return b""
        if reader_lacks(self, least):
            await _reader_wait(self, least)
        reader_check_end(self, least)
        return reader_take(self, SIZE_MAX if most < 0 else most, most < 0)

    async def readexactly(self, n):
        """n bytes. Errors: asyncio.IncompleteReadError, with `partial`, if the end comes before."""
        cdef ssize_t wanted = n
        if wanted < 0:
            raise ValueError(f"n must not be negative, not {n!r}")
        reader_enter(self)
        if reader_lacks(self, wanted):
            await _reader_wait(self, wanted)
        if chunk_length(self.c.held) < <size_t>wanted:
            raise reader_incomplete(self, wanted)
        return reader_take(self, wanted, False)

    async def readuntil(self, separator=b"\n"):
        """Bytes up to and with the separator.

        Errors: asyncio.IncompleteReadError, with `partial`, if the end comes before;
        asyncio.LimitOverrunError if it is not among the first `limit` bytes: nothing is read.
        """
        cdef ssize_t size = await _reader_find(self, separator)
        if size < 0:
            raise reader_incomplete(self, None)
        if size == 0:
            raise asyncio_of("LimitOverrunError")(
                f"no separator among the first {self.c.limit} bytes", chunk_length(self.c.held)
            )
        return reader_take(self, size, False)

    async def readline(self):
        """Bytes up to and with the next newline; without one at the end; b"" after it.

        Errors: ValueError if there is none among the first `limit` bytes: nothing is read.
        """
        cdef ssize_t size = await _reader_find(self, b"\n")
        if size == 0:
            raise ValueError(f"no end of line among the first {self.c.limit} bytes")
        if size < 0:
            reader_check_end(self, SIZE_MAX)
            return reader_take(self, SIZE_MAX, True)
        return reader_take(self, size, False)

    def at_eof(self):
        """Has the end come, and is everything read?"""
        return self.c.ended and self.c.held == NULL

    @property
    def limit(self):
        """Bytes that are held at most, unless a read needs more."""
        return self.c.limit

    def __repr__(self):
        return f"<pybuntcp.SocketReader of {self.socket!r}, {chunk_length(self.c.held)} bytes held>"


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


cdef Chunks chunks_of(Socket socket):
    cdef Chunks self = Chunks.__new__(Chunks)
    self.reader = reader_of(socket, 65536)
    return self


cdef SocketReader reader_of(Socket socket, object limit):
    """The socket's one reader, made now if it has none."""
    cdef size_t most = bytes_option("limit", limit, 1)
    cdef SocketReader self
    cdef socket_t* s = NULL
    if socket.own_reader is not None:
        return <SocketReader>socket.own_reader
    self = SocketReader.__new__(SocketReader)
    self.socket = socket
    self.c.limit = most
    self.c.ended = True
    if face_alive(socket):
        s = socket.s
        self.loop = <Loop>loop_of(s).owner
        self.arrival = arrival_new(self.loop)
        record_addresses(s)
        if socket.record == NULL:
            raise MemoryError()
        socket.record.reader = &self.c
        self.c.ended = s.flags & (S_EOF | S_DEAF | S_CLOSING | S_CLOSED) != 0
    socket.own_reader = self
    if not self.c.ended:
        s.flags = (s.flags | S_READER) & ~S_PAUSED
        stream_stop(s)
        stream_read(s)
    return self


cdef inline reader_t* reader_at(socket_t* s) noexcept nogil:
    """The reader of a socket that has S_READER."""
    return (<Socket>s.face).record.reader


# ---------------------------------------------------------------------------- what comes

cdef inline size_t reader_room(reader_t* self) noexcept nogil:
    """Bytes that may come; a read that needs more than `limit` makes the room."""
    cdef size_t limit = max(self.limit, self.least)
    cdef size_t held = chunk_length(self.held)
    return limit - held if limit > held else 0


cdef void reader_read_on(socket_t* s) noexcept nogil:
    """As `stream_read`, for a socket that has a reader."""
    cdef reader_t* self = reader_at(s)
    self.full = reader_room(self) == 0
    if not self.full:
        uv.uv_read_start(<uv.uv_stream_t*>s, on_reader_alloc, on_read)
        loop_kick(loop_of(s))


cdef void on_reader_alloc(uv.uv_handle_t* handle, size_t suggested, uv.uv_buf_t* buffer) noexcept nogil:
    cdef socket_t* s = <socket_t*>handle
    if not stream_has_turn(s):
        return
    buffer.base = loop_slab(loop_of(handle))
    buffer.len = min(<size_t>READ_MOST, max(reader_room(reader_at(s)), <size_t>READ_LEAST if s.flags & S_SECURE else 1))


cdef void reader_received(socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef reader_t* self = reader_at(s)
    cdef chunk_t* chunk = self.held
    if chunk == NULL:
        chunk = chunk_new(loop_of(s), size, SIZE_MAX)
    else:
        chunk = chunk_reserve(chunk, size, max(self.limit, self.least))
    if chunk == NULL:
        socket_fail(s, uv.UV_ENOMEM)
        stream_close(s)
        return
    self.held = chunk
    chunk_append(chunk, at, size)
    if reader_room(self) == 0:
        self.full = True
        stream_stop(s)
    if self.least != 0 and (self.full or chunk_length(chunk) >= self.least):
        gil_take(loop_of(s))
        (<event_slot><void*>reader_go_on)(s)


cdef void reader_ended(socket_t* s) noexcept nogil:
    """The peer's FIN."""
    reader_at(s).ended = True
    if reader_at(s).least != 0:
        gil_take(loop_of(s))
        (<event_slot><void*>reader_tell)(s)


cdef void reader_stop(socket_t* s) noexcept with gil:
    """We want no more of it."""
    reader_at(s).ended = True
    reader_tell(s)


cdef void reader_closed(socket_t* s) noexcept nogil:
    """The connection is gone; the reader lives on by itself."""
    gil_take(loop_of(s))
    (<event_slot><void*>reader_part)(s)


cdef void reader_part(socket_t* s) noexcept:
    cdef SocketReader self = <SocketReader>(<Socket>s.face).own_reader
    if not self.c.ended:
        self.c.code = s.error
    self.c.ended = True
    reader_tell(s)
    arrival_forget(self.arrival)    # it would keep an asyncio loop that tells nobody any more
    s.flags &= ~S_READER


cdef void reader_tell(socket_t* s) noexcept:
    """Have the read that waits look again, soon."""
    if not loop_of(s).dead:
        arrival_tell((<SocketReader>(<Socket>s.face).own_reader).arrival)


cdef void reader_go_on(socket_t* s) noexcept:
    """... or now. What comes is told in turns alone, outside of any handler."""
    cdef SocketReader self = <SocketReader>(<Socket>s.face).own_reader
    arrival_go_on(self.arrival)


# ---------------------------------------------------------------------------- reads

cdef inline bint reader_lacks(SocketReader self, size_t least) noexcept:
    return chunk_length(self.c.held) < least and not self.c.ended


cdef int reader_enter(SocketReader self) except -1:
    """A read begins. RuntimeError: in the wrong thread, or while another one waits."""
    if self.loop is not None and not loop_check(self.loop.c):
        self.c.held, self.c.ended = NULL, True
    if self.c.least != 0:
        raise RuntimeError("a read of this socket waits already: one at a time")
    return 0


async def _reader_wait(SocketReader self, size_t least):
    """Until so many bytes are held, or the end."""
    self.c.least = least
    try:
        while reader_lacks(self, least):
            reader_make_room(self)
            await arrival_await(self.arrival)
    finally:
        reader_waited(self)


cdef int reader_make_room(SocketReader self) except -1:
    """The socket must be read."""
    if self.c.full and self.socket.s != NULL:
        stream_read(self.socket.s)
    return 0


cdef int reader_waited(SocketReader self) except -1:
    """It waits no more; the room it wanted beyond `limit` is not wanted any more."""
    arrival_forget(self.arrival)
    self.c.least = 0
    if not self.c.ended and not self.c.full and reader_room(&self.c) == 0:
        self.c.full = True
        if self.socket.s != NULL and not self.loop.c.dead:
            stream_rest(self.socket.s)
    return 0


cdef bytes reader_take(SocketReader self, size_t most, bint to_the_end):
    """Up to `most` bytes of what is held. The end is told by b"", or by who reads to it."""
    cdef chunk_t* chunk = self.c.held
    cdef size_t size = min(most, chunk_length(chunk))
    cdef bytes piece = b""
    if size != 0:
        piece = PyBytes_FromStringAndSize(chunk_bytes(chunk), size)
        chunk.start += size
        if chunk.start == chunk.end:
            reader_give_back(self)
        if self.c.full and chunk_length(self.c.held) <= self.c.limit // 2:
            reader_make_room(self)
    if self.c.held == NULL and self.c.ended and (size == 0 or to_the_end):
        reader_tell_end(self)
    return piece


cdef int reader_give_back(SocketReader self) except -1:
    """The empty chunk."""
    cdef chunk_t* chunk = self.c.held
    self.c.held = NULL
    if self.loop.c.closed:
        free(chunk)
    else:
        chunk_free(self.loop.c, chunk)
    return 0


cdef int reader_check_end(SocketReader self, size_t least) except -1:
    """Raise the connection's error, if that is what came instead of so many bytes."""
    if self.c.code != 0 and chunk_length(self.c.held) < least:
        raise face_error(self.socket, self.c.code, "read")
    return 0


cdef int reader_tell_end(SocketReader self) except -1:
    """The user knows: the socket goes on, or closes, when that one had the time to answer."""
    cdef socket_t* s = self.socket.s
    if not self.c.told and s != NULL and s.flags & (S_EOF | S_READER | S_CLOSED) == S_EOF | S_READER:
        self.c.told = True
        s.flags |= S_END_READ
        output_mark(s, &loop_of(s).late, S_LATE)
    return 0


cdef object reader_incomplete(SocketReader self, object expected):
    """The end came too early: what there is, in asyncio's exception; or the connection's error."""
    reader_check_end(self, SIZE_MAX)
    return asyncio_of("IncompleteReadError")(reader_take(self, SIZE_MAX, True), expected)


async def _reader_find(SocketReader self, separator):
    """Bytes up to the end of the separator; 0: it is not within `limit`; -1: nor before the end."""
    cdef bytes wanted = bytes(memoryview(separator))
    cdef ssize_t at = 0
    cdef size_t looked = 0
    if not wanted:
        raise ValueError("separator must not be empty")
    reader_enter(self)
    while True:
        at = chunk_find(self.c.held, wanted, looked)
        if at >= 0:
            return at + len(wanted) if at + len(wanted) <= <ssize_t>self.c.limit else 0
        if chunk_length(self.c.held) >= self.c.limit:
            return 0
        if self.c.ended:
            return -1
        looked = chunk_length(self.c.held)
        await _reader_wait(self, looked + 1)


cdef ssize_t chunk_find(chunk_t* self, bytes wanted, size_t looked) except -2:
    """Where it begins, or -1; the first `looked` bytes do not hold all of it."""
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
