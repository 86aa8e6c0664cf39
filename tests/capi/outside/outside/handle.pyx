# cython: language_level=3, freethreading_compatible=True
"""handle: every verb of the C API, for Python.

Owns `Handle`, one `socket_t*` with the verbs as methods. Each is one call, and gives back what that gave, so that tests
read what Cython users read. Made at a socket's `open` (or when a slot first meets it) and emptied after its last event:
a verb on an emptied one is a ReferenceError, not a crash.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pybuntcp cimport (
    socket_bytes_read,
    socket_bytes_written,
    socket_close,
    socket_cork,
    socket_end,
    socket_ext,
    socket_fileno,
    socket_flush,
    socket_local_address,
    socket_local_port,
    socket_object,
    socket_pause,
    socket_pending,
    socket_pipe,
    socket_ref,
    socket_remote_address,
    socket_remote_port,
    socket_resume,
    socket_set_keep_alive,
    socket_set_no_delay,
    socket_shutdown,
    socket_state,
    socket_t,
    socket_terminate,
    socket_timeout,
    socket_uncork,
    socket_unpipe,
    socket_unref,
    socket_user,
    socket_write,
)

cdef dict _handles = {}         # by address


cdef Handle handle_new(socket_t* s):
    """The handle of a socket that is just born."""
    cdef Handle handle = Handle.__new__(Handle)
    handle.s = s
    _handles[<uintptr_t>s] = handle
    return handle


cdef Handle handle_of(socket_t* s):
    cdef Handle found = _handles.get(<uintptr_t>s)
    return found if found is not None else handle_new(s)


cdef int handle_lost(socket_t* s) except -1:
    """Its last event has been told."""
    cdef Handle handle = _handles.pop(<uintptr_t>s, None)
    if handle is not None:
        handle.s = NULL
    return 0


def forget_all():
    """Empty every handle: of sockets whose end no slot was told."""
    for address in list(_handles):
        handle_lost(<socket_t*><uintptr_t>address)


cdef socket_t* alive(Handle self) except NULL:
    if self.s == NULL:
        raise ReferenceError("the connection is gone")
    return self.s


ctypedef Py_ssize_t (*address_verb)(socket_t*, char*, size_t) noexcept nogil

cdef object address_of_socket(address_verb verb, socket_t* s, size_t size):
    """The bytes, after a look at the NUL behind them and at what lies behind the buffer; or -1."""
    cdef char* text = <char*>malloc(size + 8)
    cdef Py_ssize_t length
    try:
        memcpy(text + size, "GUARDED!", 8)
        length = verb(s, text, size)
        if (text + size)[:8] != b"GUARDED!":
            raise AssertionError("written past the buffer")
        if length < 0:
            return length
        if text[length] != 0:
            raise AssertionError("no NUL behind the address")
        return text[:length]
    finally:
        free(text)


cdef class Handle:
    """One connection, as Cython code sees it."""

    @property
    def gone(self):
        return self.s == NULL

    @property
    def where(self):
        return <uintptr_t>self.s

    # ------------------------------------------------------------------ writing

    def write(self, data, size_t offset=0, length=None):
        """`socket_write`; offset and length as `Socket.write`."""
        cdef bytes piece = bytes(memoryview(data)[offset:None if length is None else offset + length])
        return socket_write(alive(self), piece, len(piece))

    def write_nothing(self):
        return socket_write(alive(self), NULL, 0)

    def end(self, bytes data=None):
        """`socket_end(s)` without data, else `socket_end(s, at, size)`."""
        if data is None:
            return socket_end(alive(self))
        return socket_end(alive(self), data, len(data))

    def flush(self):
        return socket_flush(alive(self))

    def cork(self):
        return socket_cork(alive(self))

    def uncork(self):
        return socket_uncork(alive(self))

    @property
    def pending(self):
        return socket_pending(alive(self))

    @property
    def bytes_written(self):
        return socket_bytes_written(alive(self))

    @property
    def bytes_read(self):
        return socket_bytes_read(alive(self))

    # ------------------------------------------------------------------ life

    def close(self):
        return socket_close(alive(self))

    def terminate(self):
        return socket_terminate(alive(self))

    def shutdown(self, half_close=None):
        """`socket_shutdown(s)` without an argument, else `socket_shutdown(s, half_close)`."""
        if half_close is None:
            return socket_shutdown(alive(self))
        return socket_shutdown(alive(self), half_close)

    def pause(self):
        return socket_pause(alive(self))

    def resume(self):
        return socket_resume(alive(self))

    def pipe(self, Handle target, end=True):
        return socket_pipe(alive(self), alive(target), bool(end))

    def unpipe(self):
        return socket_unpipe(alive(self))

    def ref(self):
        return socket_ref(alive(self))

    def unref(self):
        return socket_unref(alive(self))

    def timeout(self, double seconds):
        return socket_timeout(alive(self), seconds)

    @property
    def state(self):
        return socket_state(alive(self))

    # ------------------------------------------------------------------ identity

    @property
    def ext(self):
        """Where the socket's own bytes are; 0: NULL."""
        return <uintptr_t>socket_ext(alive(self))

    def ext_read(self, size_t size):
        return PyBytes_FromStringAndSize(<char*>socket_ext(alive(self)), size)

    def ext_write(self, bytes data):
        memcpy(socket_ext(alive(self)), <const char*>data, len(data))

    @property
    def user(self):
        return <uintptr_t>socket_user(alive(self))

    def fileno(self):
        return socket_fileno(alive(self))

    def remote_address(self, size_t size=256):
        return address_of_socket(socket_remote_address, alive(self), size)

    def local_address(self, size_t size=256):
        return address_of_socket(socket_local_address, alive(self), size)

    @property
    def remote_port(self):
        return socket_remote_port(alive(self))

    @property
    def local_port(self):
        return socket_local_port(alive(self))

    def set_no_delay(self, bint enable):
        return socket_set_no_delay(alive(self), enable)

    def set_keep_alive(self, bint enable, unsigned int milliseconds):
        return socket_set_keep_alive(alive(self), enable, milliseconds)

    def object(self):
        """Its `Socket`."""
        return socket_object(alive(self))
