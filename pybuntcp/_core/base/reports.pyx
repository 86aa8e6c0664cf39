"""reports: where an exception is reported that no code can catch.

The rule: if the program has configured logging for the logger "pybuntcp", the exception is logged there. If it has not,
`sys.unraisablehook` gets it, which prints it. A hook that the program has set itself gets it in both cases, because the
program expects all of them there.

Owns `report_error`, and that rule. Promises that logging is not imported by a program that does not use it, and that a
logging handler or a hook that raises does no harm.
Does not know loops: see loop/failures, which asks the asyncio loop first.
"""
import sys

from cpython.ref cimport PyObject, Py_INCREF

cdef extern from "Python.h":
    void PyErr_Restore(PyObject*, PyObject*, PyObject*)
    void PyErr_WriteUnraisable(PyObject*)


cdef dict _RECORD = {"handler": None, "remote_address": None, "remote_port": None}     # of every record, for formats


cdef object report_error(str message, object error, object where, dict extra):
    """Log the exception, or pass it to `sys.unraisablehook`, or both.

    where: the object that the hook gets. extra: attributes of the log record, or None.
    Returns None, or the KeyboardInterrupt or SystemExit that a logging handler has raised; the caller stops its loop.
    """
    cdef object stop = None
    cdef bint logged = False
    try:
        logged = report_log(message, error, extra)
    except (KeyboardInterrupt, SystemExit) as raised:
        stop = raised
    except BaseException as second:
        report_unraisable(second, where)
    if not logged or sys.unraisablehook is not sys.__unraisablehook__:
        report_unraisable(error, where)
    return stop


cdef bint report_log(str message, object error, dict extra) except -1:
    """Log the exception. False: the program has not configured logging."""
    logger = report_logger()
    if logger is None or not logger.hasHandlers():
        return False
    logger.error(message, exc_info=error, extra={**_RECORD, **(extra or {})})
    return True


cdef object report_logger():
    """The logger "pybuntcp"; None: nothing has imported logging, so nobody has configured it."""
    get_logger = getattr(sys.modules.get("logging"), "getLogger", None)    # None: a thread is importing logging now
    return None if get_logger is None else get_logger("pybuntcp")


cdef void report_unraisable(object error, object where) noexcept:
    """Report an exception by `sys.unraisablehook`, with its traceback."""
    cdef object kind = type(error)
    cdef object trace = error.__traceback__
    Py_INCREF(kind)
    Py_INCREF(error)
    Py_INCREF(trace)
    PyErr_Restore(<PyObject*>kind, <PyObject*>error, <PyObject*>trace)
    PyErr_WriteUnraisable(<PyObject*>where)
