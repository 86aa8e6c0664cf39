# cython: language_level=3, freethreading_compatible=True
"""released: verbs where the caller has let the GIL go, in the middle of a garbage collection, or with a size that is none.

Owns the functions that do one verb to a `Handle` in such a place and give back what it gave.
"""
from outside.handle cimport Handle
from pybuntcp cimport socket_close, socket_end, socket_object, socket_shutdown, socket_t, socket_terminate, socket_write

cdef extern from "Python.h":
    int PyGC_Enable()
    int PyGC_Disable()

cdef enum:
    DO_CLOSE, DO_TERMINATE, DO_SHUTDOWN_READING

VERB_NAMES = ("close", "terminate", "shutdown(True)")

cdef const char* _block = "?"


cdef int perform(socket_t* s, int verb) noexcept nogil:
    if verb == DO_CLOSE:
        return socket_close(s)
    if verb == DO_TERMINATE:
        return socket_terminate(s)
    return socket_shutdown(s, True)


def without_the_gil(Handle handle, verb):
    """Do it `with nogil`."""
    cdef socket_t* s = handle.s
    cdef int which = VERB_NAMES.index(verb)
    cdef int given
    with nogil:
        given = perform(s, which)
    return given


def collecting(Handle handle, verb):
    """Do it so that the first object it makes starts the garbage collector, whose threshold was passed before.

    "object": `socket_object`, whose object is given back.
    """
    cdef int which = -1 if verb == "object" else VERB_NAMES.index(verb)
    cdef int given = 0
    sock = None
    PyGC_Enable()
    if which < 0:
        sock = socket_object(handle.s)
    else:
        given = perform(handle.s, which)
    PyGC_Disable()
    return given if which >= 0 else sock


def write_sized(Handle handle, size_t size):
    """`socket_write` of so many bytes, whatever lies behind the first."""
    return socket_write(handle.s, _block, size)


def end_sized(Handle handle, size_t size):
    """`socket_end` with so many bytes."""
    return socket_end(handle.s, _block, size)
