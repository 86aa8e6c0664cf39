# cython: language_level=3, freethreading_compatible=True
"""The slots: what happens to a connection, in C, without the GIL and without a Python object.

Owns the rest that a slow client is still owed; memory for it exists only while there is one.
Promises that nothing is lost and that memory stays bounded: a client that sends and does not
read is not read from until it has taken what is owed to it. Does not know where it listens.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pybuntcp cimport (
    handlers_from_slots, new_slots, slots_t, socket_ext, socket_pause, socket_resume, socket_t, socket_terminate, socket_write,
)


cdef struct rest_t:         # behind every socket, zeroed when it is born
    char* at
    size_t size


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Send it back. `socket_write` says how much it took: all of it, unless the client is slow."""
    cdef Py_ssize_t taken = socket_write(s, at, size)
    if 0 <= taken < <Py_ssize_t>size:       # -1: the connection is gone, and its bytes with it
        keep(s, at + taken, size - taken)


cdef void keep(socket_t* s, const char* at, size_t size) noexcept nogil:
    """The rest waits for the drain, and no more is read until then: `at` is ours only in the slot."""
    cdef rest_t* rest = <rest_t*>socket_ext(s)
    rest.at = <char*>malloc(size)
    if rest.at == NULL:
        socket_terminate(s)
        return
    memcpy(rest.at, at, size)
    rest.size = size
    socket_pause(s)


cdef void on_drain(socket_t* s) noexcept nogil:
    """The client has caught up: send the rest, then read on."""
    cdef rest_t* rest = <rest_t*>socket_ext(s)
    cdef char* at = rest.at
    rest.at = NULL
    socket_resume(s)
    on_data(s, at, rest.size)
    free(at)


cdef void on_close(socket_t* s, int error) noexcept nogil:
    """What is behind a socket is freed with it; what that points to is ours."""
    free((<rest_t*>socket_ext(s)).at)


def handlers():
    """The slots as `Handlers`: what `pybuntcp.listen(socket=...)` takes."""
    cdef slots_t slots = new_slots()
    slots.ext_size = sizeof(rest_t)
    slots.data = on_data
    slots.drain = on_drain
    slots.close = on_close
    return handlers_from_slots(&slots)
