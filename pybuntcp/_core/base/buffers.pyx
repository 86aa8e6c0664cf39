"""buffers: bytes on their way in and out of Python.

Owns `slice_t`, the caller's str or buffer, borrowed for the length of one call; `Slab`, the memory that the kernel
reads into; and `Lease`, a read-only view of a part of a slab. A slab's memory is that of a `bytes` object: a large chunk is
that object itself, cut to its length, and not a copy. If its user keeps it, the slab is gone; otherwise it is read into again.
Promises that nothing references the caller's buffer after `slice_release`, and that what a user was given of a slab stays
valid and unchanged as long as the user has it.
Does not know sockets or the loop.
"""
cimport cython
import operator

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.ref cimport PyObject

cdef extern from *:
    """
    /* Another length for a `bytes` that nobody else refers to, in the memory that it has. */
    static inline void pbt_bytes_cut(PyObject *bytes, Py_ssize_t size) {
        Py_SET_SIZE((PyVarObject *)bytes, size);
        PyBytes_AS_STRING(bytes)[size] = 0;
    #if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    #endif
        ((PyBytesObject *)bytes)->ob_shash = -1;
    #if defined(__GNUC__)
    #pragma GCC diagnostic pop
    #endif
    }
    """
    void pbt_bytes_cut(bytes of, Py_ssize_t size)

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef enum:
    SLAB_SIZE = 81920   # of a slab, unless reads have grown; TLS reads as much at once, since records add bytes
    READ_SIZE = 65536   # bytes for one read of plain TCP at most, until a read fills that
    READ_SIZE_MAX = 262144  # what it grows to; see loop/slabs
    READ_MIN = 16640    # a full TLS record: read whole, even if its receiver has less space
    LEASE_MIN = 8192    # smaller chunks are copied even for a view: a view that is kept must not keep a whole slab
    PAGE = 4096
    SLAB_ATTEMPTS = 3


cdef struct slice_t:
    const char* at
    size_t size
    bint held   # `buffer` is open: slice_release must release it
    Py_buffer buffer


cdef int slice_open(slice_t* self, object data) except -1:
    """Borrow the bytes of a str (as UTF-8) or of any C-contiguous buffer. Pair with `slice_release`."""
    cdef Py_ssize_t size = 0
    self.held = False
    if PyBytes_CheckExact(data):
        self.at = PyBytes_AS_STRING(data)
        self.size = PyBytes_GET_SIZE(data)
    elif isinstance(data, str):
        self.at = PyUnicode_AsUTF8AndSize(data, &size)
        self.size = size
    else:
        slice_open_buffer(self, data)
    return 0


cdef int slice_open_buffer(slice_t* self, object data) except -1:
    try:
        PyObject_GetBuffer(data, &self.buffer, PyBUF_SIMPLE)
    except ValueError as error:     # numpy raises this where the protocol asks for BufferError
        raise BufferError(f"data must be a C-contiguous buffer: {error}") from error
    except TypeError as error:
        raise TypeError(
            f"data must be str or a bytes-like object, not {type(data).__name__!r}"
        ) from error
    self.at = <const char*>self.buffer.buf
    self.size = self.buffer.len
    self.held = True
    return 0


cdef int slice_narrow(slice_t* self, object offset, object length) except -1:
    """Keep `length` bytes (None = the rest) from `offset`. ValueError: they are out of range."""
    cdef size_t first = number_between("offset", offset, 0, self.size)
    cdef size_t rest = self.size - first
    if length is not None:
        rest = number_between("length", length, 0, rest)
    self.at += first
    self.size = rest
    return 0


cdef size_t number_between(str name, object value, size_t minimum, size_t maximum) except? 0:
    """An integer argument of a method. TypeError and ValueError name it."""
    if value is True or value is False:
        raise TypeError(f"{name} must be an integer, not 'bool'")
    try:
        number = operator.index(value)      # once only: `__index__` may be the caller's code
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__!r}") from None
    if not minimum <= number <= maximum:
        raise ValueError(f"{name} must be in {minimum}..{maximum}, not {number}")
    return number


cdef ssize_t number_signed(str name, object value) except? -1:
    """An integer argument that may be negative. TypeError names it."""
    if value is True or value is False:
        raise TypeError(f"{name} must be an integer, not 'bool'")
    return value


cdef double number_of_seconds(str name, object value) except? -1:
    """An argument that is a number of seconds. TypeError names it."""
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__!r}")
    try:
        return value
    except OverflowError:           # an integer that no float is as large as
        return float("inf") if value > 0 else -1.0


cdef inline void slice_release(slice_t* self) noexcept:
    if self.held:
        PyBuffer_Release(&self.buffer)


@cython.final
@cython.no_gc
@cython.internal
cdef class Slab:
    """The memory that a loop reads into. The loop and every lease hold a reference."""
    cdef bytes block
    cdef char* memory
    cdef size_t size

    def __cinit__(self, size_t size):
        cdef list others = []       # kept until there is a better one, which then lies elsewhere
        self.block = PyBytes_FromStringAndSize(NULL, size)
        while slab_is_misplaced(self.block) and len(others) < SLAB_ATTEMPTS:
            others.append(self.block)
            self.block = PyBytes_FromStringAndSize(NULL, size)
        self.memory = PyBytes_AS_STRING(self.block)
        self.size = size


cdef inline bint slab_is_misplaced(bytes block) noexcept:
    """True if it begins at most 31 bytes before or after a page, and not at a multiple of 32.

    The kernel copies with `rep movsb` between it and memory that begins at a page, or 32 bytes behind. On the processor where
    this was measured, an AMD EPYC, that is 17 times slower if one begins 16 bytes before the other, counted from the beginning
    of their pages.
    """
    cdef size_t at = <size_t>PyBytes_AS_STRING(block)
    return (at + 31) % PAGE < 63 and at % 32 != 0


cdef bytes slab_lend(Slab self, size_t size):
    """Its memory as a `bytes` of the first `size` bytes. It is not read into until `slab_take_back` returns True.

    The caller has checked that no lease exists.
    """
    pbt_bytes_cut(self.block, size)
    return self.block


cdef bint slab_take_back(Slab self) noexcept:
    """Nobody refers any more to what was lent. False: somebody does, and the memory is theirs."""
    if Py_REFCNT(<PyObject*>self.block) != 1:
        return False
    pbt_bytes_cut(self.block, self.size)
    return True


@cython.final
@cython.no_gc
@cython.internal
cdef class Lease:
    """A read-only part of a slab. A `memoryview` of it keeps the slab alive."""
    cdef Slab slab
    cdef char* at
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.at, self.size, True, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass


cdef object slab_lease(Slab slab, const char* data, size_t size):
    """A memoryview of `size` bytes at `data` inside the slab, without a copy."""
    cdef Lease lease = Lease.__new__(Lease)
    lease.slab = slab
    lease.at = <char*>data
    lease.size = size
    return PyMemoryView_FromObject(lease)
