"""exceptions: what becomes of an exception that a handler raised.

It goes to the table's `error` handler; without one, or if that raises, to the exception handler of the asyncio loop;
without such a loop, to sys.unraisablehook. KeyboardInterrupt and SystemExit stop the loop instead, and `run` raises them.
Promises that nothing else leaves this file: a server lives on whatever its handlers raise.
"""
from cpython.ref cimport PyObject


cdef void exception_raised(socket_t* s, int event, object handler, object error) noexcept:
    """Pass it to the `error` handler that the table has now. Without one, report it."""
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if error_stops(error):
        loop_fail(loop_of(s), error)
        return
    error = error_plain(error)
    if report == NULL:
        exception_report(s, handler, error)
        return
    handler = <object>report
    try:
        result = handler(wrapper_of(s), error)
        if result is not None:
            task_of_result(s, event, handler, result, error)
    except BaseException as second:
        if error_stops(second):
            loop_fail(loop_of(s), second)
        else:
            exception_of_error_handler(s, handler, error_plain(second), error)


cdef void exception_of_error_handler(socket_t* s, object handler, object second, object first) noexcept:
    """The `error` handler raised, too: report both, the first as the context of the second."""
    if second.__context__ is None and second is not first:
        second.__context__ = first
    exception_report(s, handler, second)


cdef void exception_report(socket_t* s, object handler, object error) noexcept:
    """Report to the asyncio loop's exception handler, or else `sys.unraisablehook`. The loop goes on."""
    try:
        if host_report(<Loop>loop_of(s).owner, "Unhandled exception in a handler", error, wrapper_of(s)):
            return
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop_of(s), stop)
        return
    except BaseException as second:
        error = second
    report_unraisable(error, handler)
