"""peer: the address of a connection's peer, as the kernel gives it.

Noted when the connection begins, since after a reset the kernel does not tell it any more.
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
    unsigned short ntohs(unsigned short)
    unsigned int ntohl(unsigned int)
    enum: AF_INET, AF_INET6, AF_UNSPEC


cdef void peer_note(peer_t* self, int fd) noexcept:
    cdef socklen_t size = sizeof(peer_t)
    if getpeername(fd, &self.any, &size) != 0:
        self.any.sa_family = AF_UNSPEC


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
