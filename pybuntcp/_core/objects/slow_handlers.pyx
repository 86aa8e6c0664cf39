"""slow_handlers: handlers that block their loop for long, reported in the log.

The problem: while a handler runs, no other connection of its loop is served, and nobody sees which handler it was.
The rule: with the option `slow_handler=`, and in asyncio's debug mode, each handler is installed inside a `SlowHandler`,
which measures the call. One that takes longer is logged, by the logger "pybuntcp", as a WARNING with the handler's name,
the peer's address and the seconds. Without both nothing is wrapped, and nothing is measured.
Of an async handler each step is measured, from one suspension to the next: only while a step runs does the loop wait.

Owns this wrapper, and the limit that applies (`slow_limit`). Promises that what the handler returns and raises passes
through. Does not measure the C functions of Cython users.
"""
cimport cython
from collections.abc import Coroutine

from libc.math cimport isinf

from pybuntcp._c cimport uv


@cython.final
@cython.internal
cdef class SlowHandler:
    """A handler that is measured."""
    cdef object handler
    cdef str name
    cdef double limit

    def __call__(self, *arguments):
        cdef uint64_t began = uv.uv_hrtime()
        try:
            result = self.handler(*arguments)
        finally:
            slow_look(self, arguments[0], began)
        if result is not None and is_coroutine(result):
            return slow_steps(self, arguments[0], result)
        return result

    def __repr__(self):
        return repr(self.handler)


@cython.final
@cython.internal
cdef class SlowSteps:
    """The coroutine of an async handler, each step of which is measured."""
    cdef SlowHandler handler
    cdef object socket
    cdef object coroutine

    def send(self, value):
        cdef uint64_t began = uv.uv_hrtime()
        try:
            return self.coroutine.send(value)
        finally:
            slow_look(self.handler, self.socket, began)

    def throw(self, *error):
        cdef uint64_t began = uv.uv_hrtime()
        try:
            return self.coroutine.throw(*error)
        finally:
            slow_look(self.handler, self.socket, began)

    def close(self):
        self.coroutine.close()

    def __await__(self):
        return self.coroutine.__await__()

    def __getattr__(self, name):
        return getattr(self.coroutine, name)    # cr_frame, __qualname__: what asyncio shows of a task

    def __repr__(self):
        return repr(self.coroutine)


Coroutine.register(SlowSteps)


cdef SlowHandler slow_handler_of(object handler, str name, double limit):
    cdef SlowHandler self = SlowHandler.__new__(SlowHandler)
    self.handler, self.name, self.limit = handler, name, limit
    return self


cdef SlowSteps slow_steps(SlowHandler handler, object socket, object coroutine):
    cdef SlowSteps self = SlowSteps.__new__(SlowSteps)
    self.handler, self.socket, self.coroutine = handler, socket, coroutine
    return self


cdef double slow_limit(object host, double option) except -1:
    """The seconds from which on a handler is slow: the option, or else asyncio's if its debug mode is on; or infinity."""
    if isinf(option) and host is not None and host.get_debug():
        return getattr(host, "slow_callback_duration", option)
    return option


cdef int slow_look(SlowHandler self, object socket, uint64_t began) except -1:
    """A call has ended. KeyboardInterrupt and SystemExit of a log handler pass; its other exceptions are reported."""
    cdef double seconds = (uv.uv_hrtime() - began) / 1e9
    if seconds < self.limit:
        return 0
    try:
        slow_log(self.name, socket, seconds)
    except Exception as error:
        report_unraisable(error, self.handler)
    return 0


cdef int slow_log(str name, object socket, double seconds) except -1:
    import logging      # not before somebody asks for it

    place, extra = failure_place(name, socket)
    logging.getLogger("pybuntcp").warning(
        f"Slow handler ({place}): {seconds:.3f} seconds", extra={**extra, "seconds": seconds}
    )
    return 0
