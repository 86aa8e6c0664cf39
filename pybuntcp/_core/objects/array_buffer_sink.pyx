"""array_buffer_sink: `ArrayBufferSink`, to write many small pieces and take them out as one.

Owns the class, which is Bun's. What `flush` and `end` return never shares memory with what is written later: it is a
copy, or, where that is cheaper, the chunk itself, and the sink continues with a new one.

Promises: a write is appended whole or not at all; the order is that of `write`, with what `requeue` puts back in
front of it. Where there is no GIL, calls of several threads are made one after the other, as a GIL would have them.
Does not know sockets or the loop.
"""
cimport cython

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport free

cdef extern from *:
    """
    /* The lock of an object, as `cython.critical_section` takes it. Where there is a GIL nothing is left of it. */
    #ifdef Py_GIL_DISABLED
    typedef PyCriticalSection pbt_lock_t;
    #define pbt_lock(lock, object) PyCriticalSection_Begin(lock, (PyObject*)(object))
    #define pbt_unlock(lock) PyCriticalSection_End(lock)
    #else
    typedef char pbt_lock_t;
    #define pbt_lock(lock, object) ((void)(lock))
    #define pbt_unlock(lock) ((void)(lock))
    #endif
    """
    ctypedef struct lock_t "pbt_lock_t":
        pass
    void lock_take "pbt_lock"(lock_t* lock, object owner) noexcept
    void lock_release "pbt_unlock"(lock_t* lock) noexcept


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
    Bun: invalid options are ignored and stay from one `start` to the next, the mark only
    preallocates, there is no `requeue`, and writing after `end` is accepted.
    """
    cdef chunk_t* chunk     # owned; NULL: nothing was written yet
    cdef size_t counted     # bytes of the chunk that `flush` has already counted, when not streaming
    cdef size_t mark
    cdef bint marked        # a high water mark was set
    cdef bint stream
    cdef bint as_memoryview
    cdef bint ended
    cdef bint closed

    def __init__(self):
        pass                    # refuses arguments: the options are those of `start`

    def __dealloc__(self):
        free(self.chunk)

    def start(self, stream=False, high_water_mark=None, as_memoryview=False):
        """Start over with these options; what was not flushed is dropped. Calling it is optional.

        stream: `flush` returns the bytes written since the last one (False: it only counts them, and
        `end` returns all). high_water_mark: bytes, allocated now; from that length on the sink is
        `full`. as_memoryview: `flush` and `end` return a read-only memoryview instead of bytes,
        and larger ones are not copied.

        Errors: TypeError, ValueError naming the option; MemoryError; ValueError once closed.
        """
        cdef bint streaming = bool_option("stream", stream)
        cdef bint viewing = bool_option("as_memoryview", as_memoryview)
        cdef bint marked = high_water_mark is not None
        cdef size_t mark = bytes_option("high_water_mark", high_water_mark, 0) if marked else 0
        cdef chunk_t* chunk = NULL
        cdef lock_t lock
        if self.closed:
            raise ValueError("start: the sink is closed")
        if mark != 0:
            chunk = chunk_make(mark)
            if chunk == NULL:
                raise MemoryError()
        lock_take(&lock, self)
        buffer_sink_clear(self)
        self.chunk = chunk
        self.mark = mark
        self.marked = marked
        self.stream = streaming
        self.as_memoryview = viewing
        self.ended = False
        lock_release(&lock)

    def write(self, chunk, /):
        """Append a str (as UTF-8) or any C-contiguous buffer. Returns the number of bytes.

        The bytes are copied now. Errors: ValueError after `end` or `close`, TypeError, BufferError,
        UnicodeEncodeError, MemoryError: nothing is appended.
        """
        cdef slice_t piece
        cdef lock_t lock
        slice_open(&piece, chunk)
        lock_take(&lock, self)
        try:
            buffer_sink_check_open(self, "write")
            buffer_sink_reserve(self, piece.size)
            chunk_append(self.chunk, piece.at, piece.size)
        finally:
            lock_release(&lock)
            slice_release(&piece)
        return piece.size

    def requeue(self, tail, /):
        """Put back bytes that were flushed and not sent, in front of everything else.

        To put back two tails, begin with the later one. Errors as `write`.
        """
        cdef slice_t piece
        cdef lock_t lock
        slice_open(&piece, tail)
        lock_take(&lock, self)
        try:
            buffer_sink_check_open(self, "requeue")
            buffer_sink_put_back(self, piece.at, piece.size)
        finally:
            lock_release(&lock)
            slice_release(&piece)

    def flush(self):
        """Streaming: take out what was written since the last flush. Otherwise return its byte count.

        Errors: ValueError after `end` or `close`.
        Bun: 0 when not streaming.
        """
        cdef lock_t lock
        lock_take(&lock, self)
        try:
            return buffer_sink_flush(self)
        finally:
            lock_release(&lock)

    def end(self):
        """Take out everything still held, as bytes or memoryview; the sink accepts nothing more until `start`.

        Errors: ValueError after `end` or `close`.
        """
        cdef lock_t lock
        lock_take(&lock, self)
        try:
            return buffer_sink_end(self)
        finally:
            lock_release(&lock)

    def close(self):
        """Drop what is held, for good. A second call does nothing."""
        cdef lock_t lock
        lock_take(&lock, self)
        buffer_sink_clear(self)
        self.closed = True
        lock_release(&lock)

    def __len__(self):
        """Bytes held."""
        return buffer_sink_held(self)

    @property
    def full(self):
        """True if `high_water_mark` bytes were written since the last flush. Always False without a mark."""
        return buffer_sink_is_full(self)

    def __repr__(self):
        state = " closed" if self.closed else " ended" if self.ended else ""
        return f"<pybuntcp.ArrayBufferSink {buffer_sink_held(self)} bytes{state}>"


cdef bint bool_option(str name, object value) except -1:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__!r}")
    return value


cdef size_t bytes_option(str name, object value, size_t minimum) except? 0:
    """An option that is a number of bytes."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not 'bool'")
    return number_between(name, value, minimum, BYTES_MAX)


cdef int buffer_sink_check_open(ArrayBufferSink self, str verb) except -1:
    if self.closed or self.ended:
        raise ValueError(f"{verb}: the sink {'is closed' if self.closed else 'has ended'}")
    return 0


cdef size_t buffer_sink_held(ArrayBufferSink self) noexcept:
    cdef lock_t lock
    cdef size_t held
    lock_take(&lock, self)
    held = chunk_length(self.chunk)
    lock_release(&lock)
    return held


cdef bint buffer_sink_is_full(ArrayBufferSink self) noexcept:
    """By numbers of one moment: a flush of another thread may count off what this one has seen."""
    cdef lock_t lock
    cdef bint full
    lock_take(&lock, self)
    full = self.marked and chunk_length(self.chunk) - self.counted >= self.mark
    lock_release(&lock)
    return full


cdef object buffer_sink_flush(ArrayBufferSink self):
    cdef size_t held = chunk_length(self.chunk)
    cdef size_t counted = self.counted
    buffer_sink_check_open(self, "flush")
    if self.stream:
        return buffer_sink_take(self)
    self.counted = held
    return held - counted


cdef object buffer_sink_end(ArrayBufferSink self):
    buffer_sink_check_open(self, "end")
    self.ended = True
    try:
        held = buffer_sink_take(self)
    except MemoryError:
        self.ended = False
        raise
    buffer_sink_clear(self)
    return held


cdef int buffer_sink_reserve(ArrayBufferSink self, size_t more) except -1:
    """Make space for `more` bytes."""
    cdef chunk_t* chunk
    if self.chunk == NULL:
        chunk = chunk_make(max(self.mark, more, <size_t>CHUNK_MIN))
    else:
        chunk = chunk_reserve(self.chunk, more, SIZE_MAX)
    if chunk == NULL:
        raise MemoryError()
    self.chunk = chunk
    return 0


cdef int buffer_sink_put_back(ArrayBufferSink self, const char* data, size_t size) except -1:
    if self.chunk == NULL or self.chunk.start < size:
        buffer_sink_reserve(self, size)
    chunk_prepend(self.chunk, data, size)
    return 0


cdef object buffer_sink_take(ArrayBufferSink self):
    """Return all that is held, and empty the sink.

    Making a memoryview may run the garbage collector, and so user code: the bytes are removed before, and put back if
    there is no memory for the view.
    """
    cdef size_t held = chunk_length(self.chunk)
    cdef bytes copy
    if self.as_memoryview and held >= HANDOVER_MIN and held >= self.chunk.size // 2:
        return buffer_sink_give(self)
    copy = PyBytes_FromStringAndSize(chunk_bytes(self.chunk) if held else NULL, held)
    if self.chunk != NULL:
        self.chunk.start = self.chunk.end       # a requeued tail fits in front
    self.counted = 0
    if not self.as_memoryview:
        return copy
    try:
        return PyMemoryView_FromObject(copy)
    except MemoryError:
        buffer_sink_put_back(self, PyBytes_AS_STRING(copy), held)
        raise


cdef object buffer_sink_give(ArrayBufferSink self):
    """The chunk itself, as a memoryview."""
    cdef ChunkOwner owner = ChunkOwner.__new__(ChunkOwner)
    owner.chunk = self.chunk
    self.chunk = NULL
    self.counted = 0
    try:
        return PyMemoryView_FromObject(owner)
    except MemoryError:
        buffer_sink_put_back(self, chunk_bytes(owner.chunk), chunk_length(owner.chunk))
        raise


cdef void buffer_sink_clear(ArrayBufferSink self) noexcept:
    free(self.chunk)
    self.chunk = NULL
    self.counted = 0


@cython.final
@cython.no_gc
@cython.internal
cdef class ChunkOwner:
    """Owns a chunk that left its sink: what a flushed memoryview keeps alive."""
    cdef chunk_t* chunk     # owned

    def __dealloc__(self):
        free(self.chunk)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, chunk_bytes(self.chunk), chunk_length(self.chunk), True, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass
