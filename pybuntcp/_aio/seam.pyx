"""seam: what the transports use of others: the C API, CPython, asyncio.

Owns `interrupts`, the question which exceptions no loop catches. Nothing here has a state.
"""
cimport cython
import asyncio
import logging
import warnings

from asyncio import BufferedProtocol, constants
from asyncio.transports import _FlowControlMixin
from asyncio.trsock import TransportSocket
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from libc.string cimport strerror

from pybuntcp cimport (
    SLOTS_OPEN_UNTIL_CLOSED,
    SOCKET_ESTABLISHED,
    alloc_slot,
    broken_slot,
    close_slot,
    data_slot,
    handlers_from_slots,
    new_slots,
    open_slot,
    slots_t,
    socket_bytes,
    socket_close,
    socket_close_now,
    socket_error,
    socket_ext,
    socket_fileno,
    socket_flush,
    socket_from_fd,
    socket_interrupted,
    socket_part_t,
    socket_pause,
    socket_pending,
    socket_resume,
    socket_set_no_delay,
    socket_shutdown,
    socket_state,
    socket_t,
    socket_take_gil,
    socket_user,
    socket_want_drain,
    socket_write_all,
    socket_writev,
)

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


cdef object logger = logging.getLogger("asyncio")       # where asyncio's own transports log


cdef inline bint interrupts(object error) noexcept:
    """An exception that ends the program: no loop catches it."""
    return isinstance(error, (SystemExit, KeyboardInterrupt))
