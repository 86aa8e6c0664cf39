"""chunk: a growable buffer.

Owns `chunk_t`, a run of bytes: bytes are appended at its end, taken from its front, and put back at its front. The
unsent output of a socket is a list of chunks (see connection/output, connection/send_queue), and an ArrayBufferSink has
one chunk.
Promises that all of a write is appended or none of it, and that a chunk stays as it is if there is no memory to grow.
Does not know sockets or the loop.
"""
from libc.stdlib cimport malloc, realloc
from libc.string cimport memcpy, memmove


cdef enum:
    CHUNK_MIN = 1024
    # A sink's result is a copy if it is smaller than this, or if it fills less than half of its chunk: a view that the
    # user keeps must not keep much more memory than it shows.
    HANDOVER_MIN = 8192

cdef size_t BYTES_MAX = <size_t>1 << 40     # options of sinks and readers that count bytes may not be larger


cdef struct chunk_t:
    chunk_t* next   # the chunk that is sent after this one; see connection/send_queue
    size_t start    # its bytes are memory[start:end]
    size_t end
    size_t size     # bytes of `memory`
    size_t plain    # of ciphertext: the plaintext bytes in it; see connection/tls_output
    char memory[1]


cdef chunk_t* chunk_make(size_t size) noexcept nogil:
    """An empty chunk with a capacity of `size` bytes. NULL: no memory."""
    cdef chunk_t* self = <chunk_t*>malloc(sizeof(chunk_t) + size)
    if self != NULL:
        self.start = self.end = 0
        self.size = size
    return self


cdef inline size_t chunk_length(chunk_t* self) noexcept nogil:
    return self.end - self.start if self != NULL else 0


cdef inline char* chunk_bytes(chunk_t* self) noexcept nogil:
    return self.memory + self.start


cdef chunk_t* chunk_reserve(chunk_t* self, size_t more, size_t maximum) noexcept nogil:
    """Make space for `more` bytes at the end. Returns the chunk, which may have moved; NULL: no memory, no change.

    The size doubles, but does not exceed `maximum` unless `more` needs it.
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
    size = max(min(self.size * 2, maximum), self.end + more)
    self = <chunk_t*>realloc(self, sizeof(chunk_t) + size)
    if self != NULL:
        self.size = size
    return self


cdef chunk_t* chunk_trim(chunk_t* self) noexcept nogil:
    """Release the unused memory at the end, if it is at least CHUNK_MIN. Returns the chunk, which may have moved."""
    cdef chunk_t* trimmed = NULL
    if self.size - self.end >= CHUNK_MIN:
        trimmed = <chunk_t*>realloc(self, sizeof(chunk_t) + self.end)
    if trimmed == NULL:
        return self
    trimmed.size = trimmed.end
    return trimmed


cdef inline void chunk_append(chunk_t* self, const char* data, size_t size) noexcept nogil:
    """The caller has made space by `chunk_reserve`."""
    memcpy(self.memory + self.end, data, size)
    self.end += size


cdef void chunk_prepend(chunk_t* self, const char* data, size_t size) noexcept nogil:
    """Insert bytes before the others. The chunk has space for them, at either end."""
    if self.start < size:
        memmove(chunk_bytes(self) + size, chunk_bytes(self), chunk_length(self))
        self.end += size
        self.start += size
    self.start -= size
    memcpy(chunk_bytes(self), data, size)
