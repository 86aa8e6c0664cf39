"""callbacks: functions of users that a loop calls, and that belong to no socket.

Owns the checks of such a function, and its call: in the context that was current when it was given, as asyncio does it.
Promises that no exception leaves this file: it takes the road of a handler's (see loop/failures).
Refused are `async def` functions: no socket waits for their end, and nobody would be told of their exception. A plain
function may start a task.
"""
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

cdef int callback_check(object callback) except -1:
    """TypeError: it cannot be called, or it is async."""
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {type(callback).__name__!r}")
    if is_async(callback):
        raise TypeError(f"callback must be a plain function, not an async one: {callback!r}. It may start a task")
    return 0


cdef double callback_seconds(object seconds) except -1:
    """A number of seconds, or TypeError or ValueError."""
    cdef double number = number_of_seconds("seconds", seconds)
    if not number >= 0:
        raise ValueError(f"seconds must not be negative or NaN, not {seconds!r}")
    return number


cdef void callback_run(Loop loop, str name, object vars, object callback, tuple args) noexcept:
    """Call it. name: of the function that it was given to. It may be freed meanwhile by the code that it runs, so the caller has references."""
    try:
        PyContext_Enter(vars)
        try:
            result = callback(*args)
        finally:
            PyContext_Exit(vars)
        if result is not None and is_coroutine(result):
            result.close()
            raise TypeError(f"callback must be a plain function, not an async one: {callback!r} returned a coroutine")
    except BaseException as error:
        failure_of_callback(loop, name, callback, error)
