"""errors: from libuv's codes to Python exceptions.

Owns the only mapping from libuv's negative codes to `OSError` subclasses and `socket.gaierror`, and the attributes that
every such error has: `errno`, `code` ("ECONNREFUSED"), `syscall`, `address`, `port`. Owns also the two questions about
an exception of a handler: does it stop the loop, and which exception is reported for it (see reports).
Promises that Python code never gets a bare number in place of an exception.
Does not know sockets, loops or handlers.
"""
import socket as _stdlib_socket

from pybuntcp._c cimport uv


# libuv has its own numbers for the resolver's errors; these are the system's numbers of the same names.
cdef dict _RESOLVER_ERRORS = {
    <int>uv.UV_EAI_ADDRFAMILY: getattr(_stdlib_socket, "EAI_ADDRFAMILY", -9),
    <int>uv.UV_EAI_AGAIN: _stdlib_socket.EAI_AGAIN,
    <int>uv.UV_EAI_BADFLAGS: _stdlib_socket.EAI_BADFLAGS,
    <int>uv.UV_EAI_FAIL: _stdlib_socket.EAI_FAIL,
    <int>uv.UV_EAI_FAMILY: _stdlib_socket.EAI_FAMILY,
    <int>uv.UV_EAI_MEMORY: _stdlib_socket.EAI_MEMORY,
    <int>uv.UV_EAI_NODATA: getattr(_stdlib_socket, "EAI_NODATA", -5),
    <int>uv.UV_EAI_NONAME: _stdlib_socket.EAI_NONAME,
    <int>uv.UV_EAI_OVERFLOW: getattr(_stdlib_socket, "EAI_OVERFLOW", -12),
    <int>uv.UV_EAI_SERVICE: _stdlib_socket.EAI_SERVICE,
    <int>uv.UV_EAI_SOCKTYPE: _stdlib_socket.EAI_SOCKTYPE,
}


cdef object error_from_code(int code, str syscall, object address=None, object port=None):
    """The exception for a negative libuv code. Its message names the call, the address and the port."""
    cdef str name = uv.uv_err_name(code).decode()
    cdef str where = error_place(f"{syscall} {address}" if address else syscall, port)
    number = _RESOLVER_ERRORS.get(code)
    if number is None and -3100 < code <= -3000:
        number = _stdlib_socket.EAI_FAIL        # a resolver error that only libuv has
    if number is not None:
        error = _stdlib_socket.gaierror(number, f"{uv.uv_strerror(code).decode()} ({where})")
    else:
        error = OSError(-code, f"{os.strerror(-code)} ({where})")
    error.code = name
    error.syscall = syscall
    error.address = address
    error.port = port
    return error


cdef str error_place(object address, object port):
    """An address as texts name it."""
    return str(address) if port is None else f"{address} port {port}"


cdef int errno_of(object error) except? -1:
    """The number that slots get: a positive errno, or a negative EAI_* code for a name (negative on every system)."""
    return -abs(error.errno) if isinstance(error, _stdlib_socket.gaierror) else error.errno


class NestedLoopError(RuntimeError, KeyboardInterrupt):
    """A RuntimeError that asyncio does not catch. It ends a loop that was run inside a handler; see loop/nested."""


cdef bint error_stops(object error) except -1:
    """True if an exception that a handler raised stops the loop."""
    return isinstance(error, (KeyboardInterrupt, SystemExit)) and not isinstance(error, NestedLoopError)


cdef object error_plain(object error):
    """The exception to report for a handler's exception: a RuntimeError in place of a NestedLoopError, else itself."""
    if not isinstance(error, NestedLoopError):
        return error
    plain = RuntimeError(*error.args).with_traceback(error.__traceback__)
    plain.__context__, plain.__suppress_context__ = error.__context__, error.__suppress_context__
    return plain
