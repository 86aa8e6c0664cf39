"""sink: the growable buffer that everything written is gathered in, and `ArrayBufferSink`.

Owns `chunk_t`, a run of bytes that grows behind, shrinks in front and takes bytes back in
front; the output of every socket is made of chunks, and so is a sink.

`ArrayBufferSink` is Bun's: write many small things, take them out as one. What `flush` and
`end` give never shares memory with what is written later: it is a copy, or, where that is
cheaper, the chunk itself, and the sink goes on with a new one.

Promises: all of a write is appended or none of it; order is the order of `write`, with what
`requeue` takes back in front of it.
Does not know sockets or the loop.
"""
cimport cython

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove


cdef enum:
    CHUNK_LEAST = 1024
    # Less is copied, and what fills less than half of its chunk: a kept view must not pin more.
    GIFT_LEAST = 8192

cdef size_t BYTES_MOST = <size_t>1 << 40     # a larger mark or limit is a mistake


cdef struct chunk_t:
    chunk_t* next               # the one that is sent after this; see tail
    size_t start                # the bytes are start..end
    size_t end
    size_t size
    size_t plain                # bytes of the user's that it stands for, where it is sealed; see sealing
    char memory[1]


# ---------------------------------------------------------------------------- chunks

cdef chunk_t* chunk_make(size_t size) noexcept nogil:
    """An empty chunk with room for `size` bytes. NULL: no memory."""
    cdef chunk_t* self = <chunk_t*>malloc(sizeof(chunk_t) + size)
    if self != NULL:
        self.start = self.end = 0
        self.size = size
    return self


cdef inline size_t chunk_length(chunk_t* self) noexcept nogil:
    return self.end - self.start if self != NULL else 0


cdef inline char* chunk_bytes(chunk_t* self) noexcept nogil:
    return self.memory + self.start


cdef chunk_t* chunk_reserve(chunk_t* self, size_t more, size_t most) noexcept nogil:
    """Room for `more` bytes at the end; may move the chunk. NULL: no memory, chunk unharmed.

    It grows by doubling, but not beyond `most` bytes unless they are needed.
    """
    cdef size_t size
    if self.size - self.end >= more:
        return self
    if self.start != 0:
        memmove(self.memory, chunk_bytes(self), chunk_length(self))
        self.end -= self.start
        self.start = 0
    if self.size - self.end >= more:
        return self
    size = max(min(self.size * 2, most), self.end + more)
    self = <chunk_t*>realloc(self, sizeof(chunk_t) + size)
    if self != NULL:
        self.size = size
    return self


cdef chunk_t* chunk_trim(chunk_t* self) noexcept nogil:
    """Give back the room behind the bytes, if it is worth it; may move the chunk."""
    cdef chunk_t* trimmed = NULL
    if self.size - self.end >= CHUNK_LEAST:
        trimmed = <chunk_t*>realloc(self, sizeof(chunk_t) + self.end)
    if trimmed == NULL:
        return self
    trimmed.size = trimmed.end
    return trimmed


cdef inline void chunk_append(chunk_t* self, const char* at, size_t size) noexcept nogil:
    """There is room: see `chunk_reserve`."""
    memcpy(self.memory + self.end, at, size)
    self.end += size


cdef void chunk_prepend(chunk_t* self, const char* at, size_t size) noexcept nogil:
    """In front of what is there. Room at either end will do."""
    if self.start < size:
        memmove(chunk_bytes(self) + size, chunk_bytes(self), chunk_length(self))
        self.end += size
        self.start += size
    self.start -= size
    memcpy(chunk_bytes(self), at, size)


# ---------------------------------------------------------------------------- ArrayBufferSink

@cython.final
cdef class ArrayBufferSink:
    """Write many small pieces, take them out as one.

        sink = ArrayBufferSink()
        sink.start(stream=True)
        sink.write("GET ")
        sink.write(b"key")
        data = sink.flush()                     # b"GET key"
        wrote = max(0, socket.write(data))
        sink.requeue(data[wrote:])              # the rest, in front of what was written since

    Not thread-safe. For a sink that sends by itself see `Socket.sink`.

    Source: Bun's `ArrayBufferSink`.
    Bun: options that are wrong are ignored and stay from one `start` to the next, the mark only
    preallocates, there is no `requeue`, and writing after `end` is accepted.
    """
    cdef chunk_t* chunk         # owned; NULL: nothing was written yet
    cdef size_t counted         # bytes of the chunk that `flush` has counted, not streaming
    cdef size_t mark
    cdef bint marked            # there is a mark
    cdef bint stream
    cdef bint as_memoryview
    cdef bint ended
    cdef bint closed

    def __init__(self):
        pass                    # refuses arguments: options are `start`'s

    def __dealloc__(self):
        free(self.chunk)

    def start(self, stream=False, high_water_mark=None, as_memoryview=False):
        """Begin anew with these options; what was not flushed is dropped. Not required.

        stream: `flush` gives the bytes written since the last one (False: counts them, and
        `end` gives all). high_water_mark: bytes, allocated now; at that length the sink is
        `full`. as_memoryview: `flush` and `end` give a read-only memoryview instead of bytes,
        and larger ones are not copied.

        Errors: TypeError, ValueError naming the option; MemoryError; ValueError once closed.
        """
        cdef bint streaming = sink_flag("stream", stream)
        cdef bint viewing = sink_flag("as_memoryview", as_memoryview)
        cdef bint marked = high_water_mark is not None
        cdef size_t mark = bytes_option("high_water_mark", high_water_mark, 0) if marked else 0
        cdef chunk_t* chunk = NULL
        if self.closed:
            raise ValueError("start: the sink is closed")
        if mark != 0:
            chunk = chunk_make(mark)
            if chunk == NULL:
                raise MemoryError()
        sink_forget(self)
        self.chunk = chunk
        self.mark = mark
        self.marked = marked
        self.stream = streaming
        self.as_memoryview = viewing
        self.ended = False

    def write(self, chunk, /):
        """Append a str (as UTF-8) or any C-contiguous buffer; the number of bytes.

        It is copied now. Errors: ValueError after `end` or `close`, TypeError, BufferError,
        UnicodeEncodeError, MemoryError: nothing is appended.
        """
        cdef slice_t piece
        slice_open(&piece, chunk)
        try:
            sink_open(self, "write")
            sink_reserve(self, piece.size)
            chunk_append(self.chunk, piece.at, piece.size)
        finally:
            slice_release(&piece)
        return piece.size

    def requeue(self, tail, /):
        """Put bytes that were flushed, and not sent, back in front of everything.

        Of two tails the later one goes back first. Errors as `write`.
        """
        cdef slice_t piece
        slice_open(&piece, tail)
        try:
            sink_open(self, "requeue")
            sink_put_back(self, piece.at, piece.size)
        finally:
            slice_release(&piece)

    def flush(self):
        """Streaming: what was written since the last flush, taken out. Else its byte count.

        Errors: ValueError after `end` or `close`.
        Bun: 0 when not streaming.
        """
        cdef size_t held = chunk_length(self.chunk)
        cdef size_t counted = self.counted
        sink_open(self, "flush")
        if self.stream:
            return sink_take(self)
        self.counted = held
        return held - counted

    def end(self):
        """Everything still held, as bytes or memoryview; the sink takes no more until `start`.

        Errors: ValueError after `end` or `close`.
        """
        sink_open(self, "end")
        self.ended = True
        try:
            held = sink_take(self)
        except MemoryError:
            self.ended = False
            raise
        sink_forget(self)
        return held

    def close(self):
        """Drop what is held, for good. Again: nothing happens."""
        sink_forget(self)
        self.closed = True

    def __len__(self):
        """Bytes held."""
        return chunk_length(self.chunk)

    @property
    def full(self):
        """Have `high_water_mark` bytes been written since the last flush? Without a mark, no."""
        return self.marked and chunk_length(self.chunk) - self.counted >= self.mark

    def __repr__(self):
        state = " closed" if self.closed else " ended" if self.ended else ""
        return f"<pybuntcp.ArrayBufferSink {chunk_length(self.chunk)} bytes{state}>"


cdef bint sink_flag(str name, object value) except -1:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__!r}")
    return value


cdef size_t bytes_option(str name, object value, size_t least) except? 0:
    """An option that is a number of bytes."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not 'bool'")
    return number_between(name, value, least, BYTES_MOST)


cdef int sink_open(ArrayBufferSink self, str verb) except -1:
    if self.closed or self.ended:
        raise ValueError(f"{verb}: the sink {'is closed' if self.closed else 'has ended'}")
    return 0


cdef int sink_reserve(ArrayBufferSink self, size_t more) except -1:
    """A chunk with room for `more` bytes."""
    cdef chunk_t* chunk
    if self.chunk == NULL:
        chunk = chunk_make(max(self.mark, more, <size_t>CHUNK_LEAST))
    else:
        chunk = chunk_reserve(self.chunk, more, SIZE_MAX)
    if chunk == NULL:
        raise MemoryError()
    self.chunk = chunk
    return 0


cdef int sink_put_back(ArrayBufferSink self, const char* at, size_t size) except -1:
    if self.chunk == NULL or self.chunk.start < size:
        sink_reserve(self, size)
    chunk_prepend(self.chunk, at, size)
    return 0


cdef object sink_take(ArrayBufferSink self):
    """All that is held, and the sink is empty.

    Making a memoryview may run the garbage collector, and so anybody's code: the bytes are taken
    away before, and put back if there is no memory for the view.
    """
    cdef size_t held = chunk_length(self.chunk)
    cdef bytes copy
    if self.as_memoryview and held >= GIFT_LEAST and held >= self.chunk.size // 2:
        return sink_give(self)
    copy = PyBytes_FromStringAndSize(chunk_bytes(self.chunk) if held else NULL, held)
    if self.chunk != NULL:
        self.chunk.start = self.chunk.end       # a requeued tail fits in before it
    self.counted = 0
    if not self.as_memoryview:
        return copy
    try:
        return PyMemoryView_FromObject(copy)
    except MemoryError:
        sink_put_back(self, PyBytes_AS_STRING(copy), held)
        raise


cdef object sink_give(ArrayBufferSink self):
    """The chunk itself, as a memoryview."""
    cdef Gift gift = Gift.__new__(Gift)
    gift.chunk = self.chunk
    self.chunk = NULL
    self.counted = 0
    try:
        return PyMemoryView_FromObject(gift)
    except MemoryError:
        sink_put_back(self, chunk_bytes(gift.chunk), chunk_length(gift.chunk))
        raise


cdef void sink_forget(ArrayBufferSink self) noexcept:
    free(self.chunk)
    self.chunk = NULL
    self.counted = 0


@cython.final
@cython.no_gc
@cython.internal
cdef class Gift:
    """A chunk given away: what a flushed memoryview keeps alive."""
    cdef chunk_t* chunk         # owned

    def __dealloc__(self):
        free(self.chunk)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, chunk_bytes(self.chunk), chunk_length(self.chunk), True, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass
