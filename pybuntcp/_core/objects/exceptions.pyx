"""exceptions: what happens to an exception of a handler.

It goes to the table's `error` handler; without one, or if that raises, it is reported: to the exception handler of the
asyncio loop; without such a loop, to logging, sys.unraisablehook, or both (see loop/failures and base/reports).
KeyboardInterrupt and SystemExit stop the loop instead, and `run` raises them.
Promises that nothing else leaves this file: a server lives on whatever its handlers raise. And that `handler_errors` of
`stats()` counts each exception once, whoever gets it.
"""
from cpython.ref cimport PyObject


cdef void exception_raised(socket_t* s, int event, object handler, object error) noexcept:
    """Count it, and pass it on. KeyboardInterrupt and SystemExit stop the loop."""
    if error_stops(error):
        loop_fail(loop_of(s), error)
        return
    stats_add(&loop_of(s).count.handler_errors, 1)
    exception_deliver(s, event, handler, error_plain(error))


cdef void exception_deliver(socket_t* s, int event, object handler, object error) noexcept:
    """Pass it to the `error` handler that the table has now. Without one, report it."""
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if report == NULL:
        exception_report(s, event, handler, error)
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
    stats_add(&loop_of(s).count.handler_errors, 1)
    if second.__context__ is None and second is not first:
        second.__context__ = first
    exception_report(s, E_ERROR, handler, second)


cdef void exception_report(socket_t* s, int event, object handler, object error) noexcept:
    """No `error` handler has taken it: report it with the handler's name and the peer's address."""
    failure_of_handler(<Loop>loop_of(s).owner, _EVENT_NAMES[event], handler, error, wrapper_of(s))
