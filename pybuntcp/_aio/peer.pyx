"""peer: the addresses of a connection, as the kernel gives them.

That of the peer is noted when the connection begins, since after a reset the kernel does not tell it any more; our own when it
ends. Python objects are made of them when a program asks.
"""
import socket

cdef extern from "<netinet/in.h>" nogil:
    """
    typedef union { struct sockaddr any; struct sockaddr_in four; struct sockaddr_in6 six; } pbt_peer_t;
    """
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        sa_family_t sa_family
    struct sockaddr_in:
        unsigned short sin_port
        unsigned int sin_addr
    struct sockaddr_in6:
        unsigned short sin6_port
        unsigned int sin6_flowinfo
        unsigned int sin6_scope_id
        unsigned char sin6_addr[16]
    ctypedef union peer_t "pbt_peer_t":
        sockaddr any
        sockaddr_in four
        sockaddr_in6 six
    int getpeername(int fd, sockaddr* name, socklen_t* size)
    int getsockname(int fd, sockaddr* name, socklen_t* size)
    unsigned short ntohs(unsigned short)
    unsigned int ntohl(unsigned int)
    enum: AF_INET, AF_INET6, AF_UNSPEC


cdef void peer_note(peer_t* self, int fd) noexcept:
    cdef socklen_t size = sizeof(peer_t)
    if getpeername(fd, &self.any, &size) != 0:
        self.any.sa_family = AF_UNSPEC


cdef inline bint peer_is_known(peer_t* self) noexcept:
    return self.any.sa_family == AF_INET or self.any.sa_family == AF_INET6


cdef object peer_note_local(int fd):
    """The other end, `peer_t` in bytes; None: it has no address of the internet."""
    cdef peer_t local
    cdef socklen_t size = sizeof(peer_t)
    if getsockname(fd, &local.any, &size) != 0 or not peer_is_known(&local):
        return None
    return (<char*>&local)[:sizeof(peer_t)]


cdef object peer_name(peer_t* self):
    """As `socket.getpeername()`; None: it has none of the internet's."""
    if self.any.sa_family == AF_INET:
        return socket.inet_ntop(AF_INET, (<char*>&self.four.sin_addr)[:4]), ntohs(self.four.sin_port)
    if self.any.sa_family != AF_INET6:
        return None
    return (
        socket.inet_ntop(AF_INET6, (<char*>&self.six.sin6_addr)[:16]),
        ntohs(self.six.sin6_port),
        ntohl(self.six.sin6_flowinfo),
        self.six.sin6_scope_id,
    )
