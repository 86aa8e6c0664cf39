"""seam: the names that the transports use of the C API, CPython and asyncio.

Owns `interrupts`, the question which exceptions no loop catches. Nothing here has a state.
"""
import logging

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef extern from "structmember.h":
    """
    static Py_ssize_t pbt_slot_offset(PyObject* descriptor) {
        return ((PyMemberDescrObject*)descriptor)->d_member->offset;
    }
    """
    Py_ssize_t pbt_slot_offset(object descriptor)       # where an instance has a member of `__slots__`


cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    enum { PBT_HAS_GIL = 0 };
    #else
    enum { PBT_HAS_GIL = 1 };
    #endif
    """
    enum: PBT_HAS_GIL


cdef extern from *:
    ctypedef bint flag_t "unsigned char"    # in a Stream: a `bint` is four bytes


cdef object logger = logging.getLogger("asyncio")       # where asyncio's own transports log


cdef inline bint interrupts(object error) noexcept:
    """An exception that ends the program: no loop catches it."""
    return isinstance(error, (SystemExit, KeyboardInterrupt))
