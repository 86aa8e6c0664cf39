"""address: socket names, between the kernel's structs and Python.

Owns `address_t`, which holds any name that a stream socket can have, and what Python sees of it: host, port and family
("IPv4", "IPv6", "unix").
Does not resolve names (see endpoints/resolve) and opens nothing.
"""
import os

from libc.string cimport memcmp, memcpy, memset

from pybuntcp._c cimport net, uv

cdef extern from "string.h" nogil:
    size_t strnlen(const char*, size_t)


cdef union address_u:
    net.sockaddr any
    net.sockaddr_in v4
    net.sockaddr_in6 v6
    net.sockaddr_un path

cdef struct address_t:
    net.socklen_t size  # 0 = unknown
    address_u name


cdef int address_parse(address_t* self, bytes host, int port) noexcept:
    """Read an IPv4 or IPv6 literal. Returns 1 if it is one, 0 if not, -ENODEV if its zone names no interface."""
    cdef bytes literal, percent, zone
    memset(self, 0, sizeof(address_t))
    literal, percent, zone = host.partition(b"%")
    if uv.uv_ip4_addr(host, port, &self.name.v4) == 0:
        self.size = sizeof(net.sockaddr_in)
    elif uv.uv_ip6_addr(literal, port, &self.name.v6) == 0:
        self.size = sizeof(net.sockaddr_in6)
        if percent:
            self.name.v6.sin6_scope_id = net.pbt_zone_index(zone)
            return 1 if self.name.v6.sin6_scope_id != 0 else -net.ENODEV
    return self.size != 0


cdef void address_any(address_t* self, int family, int port) noexcept nogil:
    """Any address of a family, on one port."""
    memset(self, 0, sizeof(address_t))
    self.name.any.sa_family = family
    if family == net.AF_INET:
        self.size = sizeof(net.sockaddr_in)
        self.name.v4.sin_port = net.htons(port)
    else:
        self.size = sizeof(net.sockaddr_in6)
        self.name.v6.sin6_port = net.htons(port)


cdef int address_from_path(address_t* self, bytes path) except -1:
    """Read a unix socket's path, or an abstract name, which has a leading NUL. ValueError: it is too long."""
    cdef size_t size = len(path)
    cdef bint abstract = path[:1] == b"\0"
    memset(self, 0, sizeof(address_t))
    # `size` alone ends an abstract name; a path ends with a NUL inside sun_path.
    if size + (not abstract) > sizeof(self.name.path.sun_path):
        raise ValueError("too long")
    self.name.path.sun_family = net.AF_UNIX
    memcpy(self.name.path.sun_path, <const char*>path, size)
    self.size = net.PBT_SUN_PATH_AT + size + (not abstract)
    return 0


cdef void address_of_fd(address_t* self, int fd, bint peer) noexcept nogil:
    """Ask the kernel for a socket's own name, or its peer's. `size` is 0 if the kernel has none."""
    cdef int rc
    self.size = sizeof(self.name)
    if peer:
        rc = net.pbt_peername(fd, &self.name.any, &self.size)
    else:
        rc = net.getsockname(fd, &self.name.any, &self.size)
    if rc != 0:
        self.size = 0


cdef bint address_is(const address_t* self, const address_t* other) noexcept nogil:
    """True if both are the same IP address and port."""
    if self.size == 0 or self.name.any.sa_family != other.name.any.sa_family:
        return False
    if address_port_number(self) != address_port_number(other):
        return False
    if self.name.any.sa_family == net.AF_INET:
        return self.name.v4.sin_addr.s_addr == other.name.v4.sin_addr.s_addr
    return (self.name.v6.sin6_scope_id == other.name.v6.sin6_scope_id
            and memcmp(&self.name.v6.sin6_addr, &other.name.v6.sin6_addr, sizeof(net.in6_addr)) == 0)


cdef bint address_is_any(const address_t* self) noexcept nogil:
    """True for 0.0.0.0 and ::, which stand for all addresses of their family."""
    cdef net.in6_addr zero
    if self.name.any.sa_family == net.AF_INET:
        return self.name.v4.sin_addr.s_addr == 0
    memset(&zero, 0, sizeof(zero))
    return memcmp(&self.name.v6.sin6_addr, &zero, sizeof(zero)) == 0


cdef bint address_covers(const address_t* self, const address_t* other, bint dual) noexcept nogil:
    """True if a listener at `self` gets all connections to the IP address `other`. dual: :: takes IPv4, too."""
    if address_is(self, other):
        return True
    if not address_is_any(self):
        return False
    return self.name.any.sa_family == other.name.any.sa_family or dual and self.name.any.sa_family == net.AF_INET6


cdef void address_set_port(address_t* self, int port) noexcept nogil:
    """Of an IP address."""
    if self.name.any.sa_family == net.AF_INET:
        self.name.v4.sin_port = net.htons(port)
    else:
        self.name.v6.sin6_port = net.htons(port)


cdef bint address_literal(const address_t* self, char* text, size_t capacity) noexcept nogil:
    """Write the IP literal, with its zone, so that one can connect to it. False: this is no IP address."""
    cdef size_t end
    if self.name.any.sa_family == net.AF_INET:
        return uv.uv_inet_ntop(net.AF_INET, &self.name.v4.sin_addr, text, capacity) == 0
    if self.name.any.sa_family == net.AF_INET6:
        if uv.uv_inet_ntop(net.AF_INET6, &self.name.v6.sin6_addr, text, capacity) != 0:
            return False
        end = strnlen(text, capacity)
        if self.name.v6.sin6_scope_id != 0 and end + 1 + net.IF_NAMESIZE <= capacity:
            text[end] = c"%"
            net.pbt_zone_name(self.name.v6.sin6_scope_id, text + end + 1)
        return True
    return False


cdef const char* address_path(const address_t* self, size_t* length) noexcept nogil:
    """A unix socket's path, or its abstract name with the leading NUL; borrowed."""
    cdef const char* path = <const char*>self.name.path.sun_path
    length[0] = self.size - net.PBT_SUN_PATH_AT if self.size > net.PBT_SUN_PATH_AT else 0
    if length[0] != 0 and path[0] != 0:
        length[0] = strnlen(path, length[0])
    return path


cdef int address_port_number(const address_t* self) noexcept nogil:
    """The port; -1 if this is no IP address."""
    if self.size != 0 and self.name.any.sa_family == net.AF_INET:
        return net.ntohs(self.name.v4.sin_port)
    if self.size != 0 and self.name.any.sa_family == net.AF_INET6:
        return net.ntohs(self.name.v6.sin6_port)
    return -1


cdef object address_host(const address_t* self):
    """The IP literal, or a unix socket's path ("" if it has none). None: the address is unknown."""
    cdef char text[64]          # INET6_ADDRSTRLEN, a percent sign, IF_NAMESIZE
    cdef const char* path
    cdef size_t length = 0
    if self.size == 0:
        return None
    if address_literal(self, text, sizeof(text)):
        return os.fsdecode(text)
    path = address_path(self, &length)
    return os.fsdecode(path[:length])


cdef object address_port(const address_t* self):
    cdef int port = address_port_number(self)
    return port if port >= 0 else None


cdef object address_family(const address_t* self):
    if self.size == 0:
        return None
    if self.name.any.sa_family == net.AF_INET:
        return "IPv4"
    return "IPv6" if self.name.any.sa_family == net.AF_INET6 else "unix"
