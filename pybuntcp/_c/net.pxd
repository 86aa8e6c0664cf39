# cython: language_level=3
"""net: the kernel's socket interface, as far as pybuntcp uses it. Used as `net.x`, never shipped.

Owns small C functions (`pbt_*`) where systems differ, or where one call of ours is several of the kernel's. They return
what the kernel returns or, where it is said, a negative errno. Knows no struct of ours.
"""
from libc.stdint cimport uint16_t, uint32_t

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <limits.h>
    #include <net/if.h>
    #include <netdb.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <poll.h>
    #include <stddef.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #ifdef __linux__
    #include <linux/sockios.h>
    #endif
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/uio.h>
    #include <sys/un.h>
    #ifdef __linux__
    #include <sys/epoll.h>
    #else
    #include <sys/event.h>
    #endif
    #include <unistd.h>

    /* accept4, pipe2 and SOCK_CLOEXEC are not on macOS. */
    static int pbt_cloexec_nonblock(int fd) {
        if (fd < 0) return fd;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)) {
            int saved = errno;
            close(fd);
            errno = saved;
            return -1;
        }
        return fd;
    }
    static int pbt_accept(int fd) {
    #if defined(__linux__) || defined(__FreeBSD__)
        return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    #else
        return pbt_cloexec_nonblock(accept(fd, NULL, NULL));
    #endif
    }
    static int pbt_socket(int family) {
    #if defined(__linux__) || defined(__FreeBSD__)
        return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    #else
        return pbt_cloexec_nonblock(socket(family, SOCK_STREAM, 0));
    #endif
    }
    static int pbt_duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }
    static int pbt_pipe(int fds[2]) {
    #if defined(__linux__) || defined(__FreeBSD__)
        return pipe2(fds, O_NONBLOCK | O_CLOEXEC);
    #else
        if (pipe(fds)) return -1;
        if (pbt_cloexec_nonblock(fds[0]) < 0) { close(fds[1]); return -1; }
        if (pbt_cloexec_nonblock(fds[1]) < 0) { close(fds[0]); return -1; }
        return 0;
    #endif
    }
    /* Programs that this one starts do not inherit the descriptor. */
    static void pbt_set_cloexec(int fd) { fcntl(fd, F_SETFD, FD_CLOEXEC); }
    /* Try to send once. Returns the bytes sent, 0 if the kernel takes none now, or -errno. send(2) is cheaper than the
       write(2) of uv_try_write, which goes through the code for files, and never raises SIGPIPE. */
    static ssize_t pbt_send(int fd, const struct iovec* parts, int count) {
        struct msghdr message = {0};
        ssize_t sent;
    #ifndef MSG_NOSIGNAL
        enum { MSG_NOSIGNAL = 0 };      /* see pbt_no_sigpipe */
    #endif
        message.msg_iov = (struct iovec*)parts;
        message.msg_iovlen = count;
        do {
            sent = count == 1 ? send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL)
                              : sendmsg(fd, &message, MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR);
        if (sent >= 0) return sent;
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -errno;
    }
    /* Write bytes to a wakeup descriptor of other code: a socket or a pipe, whose other end may be closed. */
    static void pbt_pass_on(int fd, const void* bytes, size_t size) {
        struct pollfd end = {.fd = fd};
    #ifdef MSG_NOSIGNAL
        if (send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno != ENOTSOCK) return;
    #endif
        if (poll(&end, 1, 0) >= 0 && !(end.revents & (POLLERR | POLLHUP | POLLNVAL)))
            (void)!write(fd, bytes, size);
    }
    /* macOS has no MSG_NOSIGNAL; there it is an option of the descriptor. */
    static void pbt_no_sigpipe(int fd) {
    #ifdef SO_NOSIGPIPE
        int on = 1;
        setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
    #endif
        (void)fd;
    }
    /* A watch: a descriptor that is readable while one of the sockets that were added to it is writable. */
    #ifdef __linux__
    static int pbt_watch_new(void) { return epoll_create1(EPOLL_CLOEXEC); }
    static int pbt_watch_add(int watch, int fd, void* owner) {
        struct epoll_event event = {.events = EPOLLOUT, .data = {.ptr = owner}};
        return epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
    }
    static void pbt_watch_remove(int watch, int fd) {
        struct epoll_event event = {0};
        epoll_ctl(watch, EPOLL_CTL_DEL, fd, &event);
    }
    /* Store the owners of the sockets that are writable now, and whether both directions of each have ended. Returns
       their number, at most 64. */
    static int pbt_watch_ready(int watch, void** owners, int* gone) {
        struct epoll_event events[64];
        int count = epoll_wait(watch, events, 64, 0);
        for (int i = 0; i < count; i++) {
            owners[i] = events[i].data.ptr;
            gone[i] = (events[i].events & EPOLLHUP) != 0;
        }
        return count;
    }
    /* Whether an epoll instance of other code has a descriptor that is ready. -1 counts: they will find out why. */
    static int pbt_poll_is_ready(int poll_fd) {
        struct epoll_event event;
        return epoll_wait(poll_fd, &event, 1, 0) != 0;
    }
    #else
    static int pbt_poll_is_ready(int poll_fd) {
        struct kevent event;
        struct timespec now = {0};
        return kevent(poll_fd, NULL, 0, &event, 1, &now) != 0;
    }
    static int pbt_watch_new(void) {
        int fd = kqueue();
        if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
        return fd;
    }
    static int pbt_watch_add(int watch, int fd, void* owner) {
        struct kevent event;
        EV_SET(&event, fd, EVFILT_WRITE, EV_ADD, 0, 0, owner);
        return kevent(watch, &event, 1, NULL, 0, NULL) ? -errno : 0;
    }
    static void pbt_watch_remove(int watch, int fd) {
        struct kevent event;
        EV_SET(&event, fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
        kevent(watch, &event, 1, NULL, 0, NULL);
    }
    static int pbt_watch_ready(int watch, void** owners, int* gone) {
        struct kevent events[64];
        struct timespec now = {0, 0};
        int count = kevent(watch, NULL, 0, events, 64, &now);
        for (int i = 0; i < count; i++) {
            owners[i] = (void*)events[i].udata;
            gone[i] = (events[i].flags & EV_EOF) != 0;
        }
        return count;
    }
    #endif
    /* In a forked child: put an empty watch under the same number. The parent's watch is left alone. */
    static void pbt_watch_renew(int watch) {
        int fresh = pbt_watch_new();
        if (fresh < 0 || fresh == watch) return;
        dup2(fresh, watch);
        fcntl(watch, F_SETFD, FD_CLOEXEC);
        close(fresh);
    }
    /* After the peer has reset the connection, getpeername() fails with ENOTCONN. Linux still has the name, as
       SO_PEERNAME, which needs the exact length. */
    static int pbt_peername(int fd, struct sockaddr* name, socklen_t* size) {
        if (getpeername(fd, name, size) == 0) return 0;
    #ifdef SO_PEERNAME
        {
            struct sockaddr_storage local;
            socklen_t n = sizeof local;
            if (getsockname(fd, (struct sockaddr*)&local, &n)) return -1;
            *size = local.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                : sizeof(struct sockaddr_in);
            return getsockopt(fd, SOL_SOCKET, SO_PEERNAME, name, size);
        }
    #else
        return -1;
    #endif
    }
    /* Where the path of a unix socket begins in its name. Before it macOS has a length, and the path is shorter there. */
    enum { PBT_SUN_PATH_AT = offsetof(struct sockaddr_un, sun_path) };
    /* The index of an interface, from its name or its number (RFC 4007, section 11.2); 0: there is no such one. */
    static unsigned int pbt_zone_index(const char* zone) {
        char name[IF_NAMESIZE];
        char* end;
        unsigned long number;
        unsigned int index = strlen(zone) < sizeof name ? if_nametoindex(zone) : 0;
        if (index != 0 || zone[0] < '0' || zone[0] > '9') return index;
        number = strtoul(zone, &end, 10);
        if (*end != 0 || number > UINT_MAX || !if_indextoname((unsigned int)number, name)) return 0;
        return (unsigned int)number;
    }
    /* The name of an interface, or its number if it does not exist any more. */
    static void pbt_zone_name(unsigned int index, char name[IF_NAMESIZE]) {
        if (if_indextoname(index, name) == NULL) snprintf(name, IF_NAMESIZE, "%u", index);
    }
    /* Returns 0 for a connected stream socket, else a negative errno. */
    static int pbt_check_connected(int fd) {
        struct sockaddr_storage name;
        socklen_t n = sizeof name;
        int kind = 0;
        socklen_t m = sizeof kind;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &m)) return -errno;
        if (kind != SOCK_STREAM) return -EINVAL;
        return getpeername(fd, (struct sockaddr*)&name, &n) ? -errno : 0;
    }
    /* Whether a socket that is not connected any more has an error of its connection to report, which this leaves there. */
    static int pbt_has_failed(int fd) {
        struct pollfd self = {fd, 0, 0};
        return poll(&self, 1, 0) == 1 && self.revents & POLLERR;
    }
    /* Read and drop what is in the receive buffer, up to 1 MiB. Returns the number of bytes. */
    static size_t pbt_discard(int fd) {
        char scrap[16384];
        size_t total = 0;
        ssize_t n;
        while (total < (1 << 20) && (n = recv(fd, scrap, sizeof scrap, MSG_DONTWAIT)) > 0)
            total += (size_t)n;
        return total;
    }
    /* The bytes that a reset would discard: those that the kernel has accepted and the peer has not acknowledged; with
       `unsent` only those that were not even sent. For TCP on Linux; 0 elsewhere. */
    static int pbt_under_way(int fd, int unsent) {
        int bytes = 0;
    #if defined(SIOCOUTQ) && defined(SIOCOUTQNSD) && defined(SO_DOMAIN)
        int domain = 0;
        socklen_t n = sizeof domain;
        if (ioctl(fd, unsent ? SIOCOUTQNSD : SIOCOUTQ, &bytes) || bytes == 0) return 0;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) || domain == AF_UNIX) return 0;
    #endif
        return bytes;
    }
    /* A number that changes when the peer makes progress. For TCP: the bytes that it has not acknowledged; for unix
       sockets: the memory of those that it has not read. */
    static int pbt_untaken(int fd) {
        int bytes = 0;
    #if defined(SIOCOUTQ)
        if (ioctl(fd, SIOCOUTQ, &bytes)) return 0;
    #elif defined(SO_NWRITE)
        socklen_t n = sizeof bytes;
        if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &bytes, &n)) return 0;
    #elif defined(FIONWRITE)
        if (ioctl(fd, FIONWRITE, &bytes)) return 0;
    #endif
        return bytes;
    }
    #ifdef __APPLE__
    #define PBT_KEEPIDLE TCP_KEEPALIVE
    #else
    #define PBT_KEEPIDLE TCP_KEEPIDLE
    #endif
    /* Bind a socket to the address from which it will connect. Returns 0 or a negative errno. With `any_port` the port
       is chosen by connect(2), which may give the same port to connections to different peers; bind(2) may not. */
    static int pbt_bind_source(int fd, const struct sockaddr* name, socklen_t size, int any_port) {
        int on = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    #ifdef SO_NOSIGPIPE
        setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
    #endif
    #ifdef IP_BIND_ADDRESS_NO_PORT
        if (any_port) setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    #endif
        return bind(fd, name, size) ? -errno : 0;
    }
    """
    ctypedef unsigned int socklen_t
    cdef enum:
        AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, SOCK_STREAM, IPPROTO_TCP, IPPROTO_IPV6
        SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_LINGER, SO_TYPE
        SO_ACCEPTCONN, SO_ERROR, IPV6_V6ONLY, TCP_NODELAY, PBT_KEEPIDLE, SHUT_WR
        IF_NAMESIZE, PBT_SUN_PATH_AT
        EAGAIN, EINTR, ECONNABORTED, EINVAL
        ENODEV, ENOTSOCK, EPROTO, EBADF, EOPNOTSUPP, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT
        ECONNREFUSED

    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    cdef struct sockaddr_un:
        unsigned short sun_family
        char sun_path[108]      # the length on Linux; ask sizeof and PBT_SUN_PATH_AT, which the C compiler answers
    cdef struct addrinfo:
        int ai_flags
        int ai_family
        int ai_socktype
        socklen_t ai_addrlen
        sockaddr* ai_addr
        addrinfo* ai_next
    cdef struct linger:
        int l_onoff
        int l_linger

    cdef struct iovec:
        void* iov_base
        size_t iov_len

    int errno
    ssize_t pbt_send(int, const iovec*, int)
    void pbt_no_sigpipe(int)
    void pbt_pass_on(int, const void*, size_t)
    int pbt_watch_new()
    int pbt_watch_add(int, int, void*)
    void pbt_watch_remove(int, int)
    int pbt_poll_is_ready(int poll_fd)
    int pbt_watch_ready(int, void**, int*)
    void pbt_watch_renew(int)
    int pbt_accept(int)
    int pbt_socket(int)
    int pbt_duplicate(int fd)
    int pbt_bind_source(int, const sockaddr*, socklen_t, int)
    int pbt_pipe(int*)
    void pbt_set_cloexec(int fd)
    int pbt_peername(int, sockaddr*, socklen_t*)
    int bind(int, const sockaddr*, socklen_t)
    int listen(int, int)
    int connect(int, const sockaddr*, socklen_t)
    int close(int)
    size_t pbt_discard(int)
    int pbt_check_connected(int)
    int pbt_has_failed(int)
    unsigned int pbt_zone_index(const char*)
    void pbt_zone_name(unsigned int, char*)
    int pbt_under_way(int, int)
    int pbt_untaken(int)
    int getpid()
    int shutdown(int, int)
    ssize_t read(int, void*, size_t)
    int getsockname(int, sockaddr*, socklen_t*)
    int setsockopt(int, int, int, const void*, socklen_t)
    int getsockopt(int, int, int, void*, socklen_t*)
    uint16_t htons(uint16_t)
    uint16_t ntohs(uint16_t)
