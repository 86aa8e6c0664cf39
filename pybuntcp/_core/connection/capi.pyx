"""capi: the functions of the C API that are not verbs; see _core.pxd.

Owns the functions that a Cython user's slots call to query their socket: the user's own bytes behind it, its counters,
addresses and options. Nothing here allocates or needs the GIL. (`socket_object`, which does both, is in wrapper.)
"""
from libc.string cimport memcpy, strlen

from pybuntcp._c cimport net


cdef enum:
    KEEP_ALIVE_MAX = 32767000   # milliseconds; the kernel's own limit


cdef void* socket_ext(socket_t* s) noexcept nogil:
    return <char*>s + stream_ext_start() if context_of(s).ext_size != 0 else NULL


cdef void* socket_user(socket_t* s) noexcept nogil:
    return context_of(s).table.slots.user


cdef void socket_take_gil(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))


cdef void socket_interrupted(socket_t* s, object error) noexcept:
    loop_fail(loop_of(s), error)


cdef int socket_error(socket_t* s) noexcept nogil:
    return -s.error


# ---------------------------------------------------------------------------- counters

cdef size_t socket_pending(socket_t* s) noexcept nogil:
    return output_unsent(s)


cdef unsigned long long socket_bytes_written(socket_t* s) noexcept nogil:
    return output_written(s)


cdef unsigned long long socket_bytes_read(socket_t* s) noexcept nogil:
    return s.bytes_read


# ---------------------------------------------------------------------------- names

cdef int socket_fileno(socket_t* s) noexcept nogil:
    return stream_fd(s) if not s.flags & S_CLOSED else -1


cdef Py_ssize_t socket_remote_address(socket_t* s, char* text, size_t capacity) noexcept nogil:
    return socket_address(s, True, text, capacity)


cdef Py_ssize_t socket_local_address(socket_t* s, char* text, size_t capacity) noexcept nogil:
    return socket_address(s, False, text, capacity)


cdef Py_ssize_t socket_address(socket_t* s, bint peer, char* text, size_t capacity) noexcept nogil:
    cdef address_t name
    cdef char literal[64]
    cdef const char* found = literal
    cdef size_t length = 0
    if not socket_name(s, peer, &name):
        return -1
    if address_literal(&name, literal, sizeof(literal)):
        length = strlen(literal)
    else:
        found = address_path(&name, &length)
    if length >= capacity:
        return -1
    memcpy(text, found, length)
    text[length] = 0
    return length


cdef int socket_remote_port(socket_t* s) noexcept nogil:
    cdef address_t name
    return address_port_number(&name) if socket_name(s, True, &name) else -1


cdef int socket_local_port(socket_t* s) noexcept nogil:
    cdef address_t name
    return address_port_number(&name) if socket_name(s, False, &name) else -1


cdef bint socket_name(socket_t* s, bint peer, address_t* name) noexcept nogil:
    """Read the address from the kernel. False: the socket is closed, or has none."""
    name.size = 0
    if not s.flags & S_CLOSED:
        address_of_fd(name, stream_fd(s), peer)
    return name.size != 0


# ---------------------------------------------------------------------------- options

cdef int socket_set_no_delay(socket_t* s, bint enable) noexcept nogil:
    return socket_set_option(s, net.IPPROTO_TCP, net.TCP_NODELAY, enable)


cdef int socket_set_keep_alive(socket_t* s, bint enable, unsigned int milliseconds) noexcept nogil:
    """The kernel counts in seconds: `milliseconds` is rounded up. 0 leaves the kernel's own time."""
    cdef int rc
    if milliseconds > KEEP_ALIVE_MAX:
        return -1
    rc = socket_set_option(s, net.SOL_SOCKET, net.SO_KEEPALIVE, enable)
    if rc == 0 and enable and milliseconds != 0:
        rc = socket_set_option(s, net.IPPROTO_TCP, net.PBT_KEEPIDLE, (milliseconds + 999) // 1000)
    return rc


cdef int socket_set_option(socket_t* s, int level, int option, int value) noexcept nogil:
    """-1: closed, or not TCP, for which these options mean nothing."""
    cdef int probe = 0
    cdef net.socklen_t size = sizeof(probe)
    cdef int fd = socket_fileno(s)
    if net.getsockopt(fd, net.IPPROTO_TCP, net.TCP_NODELAY, &probe, &size) != 0:
        return -1
    return net.setsockopt(fd, level, option, &value, sizeof(value))
