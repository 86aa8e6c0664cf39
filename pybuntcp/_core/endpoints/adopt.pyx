"""adopt: a connected descriptor becomes a socket at once.

The C API's way to give this thread's loop a connection that other code has made: no `Connecting`, no `open`, and nothing
is read before its user says so. The Python way is connect(fd=): see connector.
"""
from pybuntcp._c cimport net, uv


cdef enum:      # as connect() has them
    ADOPTED_HIGH_WATER_MARK = 65536
    ADOPTED_LINGER_SECONDS = 30


cdef socket_t* socket_from_fd(int fd, object handlers) except NULL:
    """OSError: no connected stream socket, or no memory; then the descriptor is left to the caller, and open.

    One that its peer has reset meanwhile is taken: what it fails with is told as of any other.
    """
    cdef Loop loop = current_loop()
    cdef Handlers table = <Handlers?>handlers
    cdef context_t* context
    cdef socket_t* s = NULL
    cdef int rc = adopt_check(fd)
    if rc < 0 and not (rc == uv.UV_ENOTCONN and net.pbt_has_failed(fd)):
        raise error_from_code(rc, "connect", f"fd {fd}")
    context = context_with_table(&table.table, None)
    context.high_water_mark = ADOPTED_HIGH_WATER_MARK
    context.linger_timeout = ADOPTED_LINGER_SECONDS
    rc = socket_adopt(loop.c, context, fd, descriptors_fork_stamp(), &s)
    context_release(loop.c, context)
    if rc < 0:
        raise error_from_code(rc, "connect", f"fd {fd}")
    net.pbt_set_cloexec(fd)
    s.flags |= S_OPENED | S_PAUSED
    socket_count(s)
    return s


cdef int adopt_check(int fd) noexcept nogil:
    """0: a connected stream socket, which no loop of ours has. Else a negative code."""
    return uv.UV_EEXIST if descriptor_is_owned(fd) else net.pbt_check_connected(fd)
