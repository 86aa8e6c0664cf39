"""slabs: the memory that a loop reads into, and how much one read takes.

The problem: a system call of 64 KiB costs more in waking the peer, and in the acknowledgements that its window needs, than in
copying; reads of 256 KiB halve what a mebibyte costs. That much memory is not kept for a loop that seldom needs it, or for
each connection.
The rule: there is one slab, of the loop, and its sockets are read one after the other. A read that fills it doubles it for
the next one, up to READ_SIZE_MAX. READ_PEAK_MS later the loop looks back: a slab twice as large as the largest read since then
is given back.

A large chunk is the slab's own `bytes` object (see base/buffers). Mostly its user has dropped it when the next read comes, so
that reads into the same memory, which is in the cache, and neither the allocator nor the kernel's page tables are asked.

Owns the loop's slab, `read_size` and the timer. Promises that no memory is read into that a user still sees; that what a
user keeps of a slab is at least half of it, and nearly all of it once it has been seen that chunks are kept; and that a
loop at rest holds no more than SLAB_SIZE. Does not know sockets: what one of them may read in a turn, see connection/stream.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF

from pybuntcp._c cimport uv


cdef enum:
    READ_PEAK_MS = 1000


cdef inline char* loop_slab(loop_t* loop) noexcept nogil:
    """The memory to read into. NULL: there is none to be had, and libuv reports UV_ENOBUFS."""
    cdef bint lent, borrowed
    if loop.slab == NULL:
        lent = loop.slab_owner != NULL and loop.slab_size == loop_slab_size(loop)
        borrowed = gil_borrow(loop)
        (<loop_fn><void*>loop_renew_slab)(loop)
        if borrowed and not lent:       # it was lent to a handler in Python, which probably is next
            gil_release(loop)
    return loop.slab


cdef void loop_renew_slab(loop_t* loop) noexcept:
    """A slab of the right size that no user sees: this one, if that is so, or a new one."""
    if loop_slab_is_free(loop) and loop.slab_size == loop_slab_size(loop):
        loop.slab = (<Slab>loop.slab_owner).memory
        return
    loop.slab = NULL        # reading into it would change what its user sees
    Py_CLEAR(loop.slab_owner)
    try:
        loop_set_slab(loop, Slab(loop_slab_size(loop)))
    except MemoryError as error:
        loop_fail(loop, error)


cdef inline size_t loop_slab_size(loop_t* loop) noexcept nogil:
    return max(loop.read_size, <size_t>SLAB_SIZE)


cdef bint loop_slab_is_free(loop_t* loop) noexcept:
    """True if nobody has a view of it, nor, if it was lent, the chunk."""
    if loop.slab_owner == NULL or Py_REFCNT(loop.slab_owner) != 1:
        return False
    if loop.slab != NULL:
        return True
    loop.chunks_kept = not slab_take_back(<Slab>loop.slab_owner)
    return not loop.chunks_kept


cdef void loop_set_slab(loop_t* loop, Slab slab) noexcept:
    Py_INCREF(slab)
    loop.slab_owner = <PyObject*>slab
    loop.slab = slab.memory
    loop.slab_size = slab.size


cdef bytes loop_chunk(loop_t* loop, const char* data, size_t size):
    """The bytes that a read has left at the beginning of the slab: the slab's own object, or a copy if that is too large."""
    cdef size_t least = loop.slab_size - loop.slab_size // 8 if loop.chunks_kept else loop.slab_size // 2
    if size < least or Py_REFCNT(loop.slab_owner) != 1:
        return PyBytes_FromStringAndSize(data, size)
    loop.slab = NULL
    return slab_lend(<Slab>loop.slab_owner, size)


cdef void loop_note_large_read(loop_t* loop, size_t size) noexcept nogil:
    """After a read that was larger than `read_peak`, and its handler: the next reads may be larger, too."""
    loop.read_peak = size
    if loop.read_size <= size and loop.read_size < READ_SIZE_MAX:
        loop.read_size *= 2
        loop.slab = NULL
        uv.uv_timer_start(&loop.read_peak_over, on_read_peak_over, READ_PEAK_MS, READ_PEAK_MS)
        loop_wakeup(loop)


cdef void on_read_peak_over(uv.uv_timer_t* handle) noexcept nogil:
    cdef loop_t* self = loop_of(handle)
    cdef size_t before = self.read_size
    cdef bint borrowed
    while self.read_size > READ_SIZE and self.read_peak < self.read_size // 2:
        self.read_size //= 2
    self.read_peak = READ_SIZE - 1
    if self.read_size == READ_SIZE:
        uv.uv_timer_stop(handle)
    if self.read_size < before:
        borrowed = gil_borrow(self)
        (<loop_fn><void*>loop_drop_slab)(self)
        if borrowed:
            gil_release(self)


cdef void loop_drop_slab(loop_t* loop) noexcept:
    """The next read makes another one."""
    loop.slab = NULL
    Py_CLEAR(loop.slab_owner)
