"""chunk: the growable buffer that everything written is gathered in, and `ArrayBufferSink`.

Owns `chunk_t`, a run of bytes that grows behind, shrinks in front and takes bytes back in
front; the output of every socket is made of chunks, and so is a sink.

`ArrayBufferSink` is Bun's: write many small things, take them out as one. What `flush` and
`end` give never shares memory with what is written later: it is a copy, or, where that is
cheaper, the chunk itself, and the sink goes on with a new one.

Promises: all of a write is appended or none of it; order is the order of `write`, with what
`requeue` takes back in front of it.
Does not know sockets or the loop.
"""
from libc.stdlib cimport malloc, realloc
from libc.string cimport memcpy, memmove


cdef enum:
    CHUNK_MIN = 1024
    # Less is copied, and what fills less than half of its chunk: a kept view must not pin more.
    HANDOVER_MIN = 8192

cdef size_t BYTES_MAX = <size_t>1 << 40     # a larger mark or limit is a mistake


cdef struct chunk_t:
    chunk_t* next   # the one that is sent after this; see send_queue
    size_t start    # the bytes are start..end
    size_t end
    size_t size
    size_t plain    # bytes of the user's that it stands for, where it is sealed; see tls_output
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


cdef chunk_t* chunk_reserve(chunk_t* self, size_t more, size_t maximum) noexcept nogil:
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
    size = max(min(self.size * 2, maximum), self.end + more)
    self = <chunk_t*>realloc(self, sizeof(chunk_t) + size)
    if self != NULL:
        self.size = size
    return self


cdef chunk_t* chunk_trim(chunk_t* self) noexcept nogil:
    """Give back the room behind the bytes, if it is worth it; may move the chunk."""
    cdef chunk_t* trimmed = NULL
    if self.size - self.end >= CHUNK_MIN:
        trimmed = <chunk_t*>realloc(self, sizeof(chunk_t) + self.end)
    if trimmed == NULL:
        return self
    trimmed.size = trimmed.end
    return trimmed


cdef inline void chunk_append(chunk_t* self, const char* data, size_t size) noexcept nogil:
    """There is room: see `chunk_reserve`."""
    memcpy(self.memory + self.end, data, size)
    self.end += size


cdef void chunk_prepend(chunk_t* self, const char* data, size_t size) noexcept nogil:
    """In front of what is there. Room at either end will do."""
    if self.start < size:
        memmove(chunk_bytes(self) + size, chunk_bytes(self), chunk_length(self))
        self.end += size
        self.start += size
    self.start -= size
    memcpy(chunk_bytes(self), data, size)


# ---------------------------------------------------------------------------- ArrayBufferSink
