"""accept: accepting the connections that wait at a listener.

The problem: libuv's own server accepts one connection a turn, and at the descriptor limit it accepts and drops those
that wait.
The rule: a `uv_poll_t` watches the listening descriptor, and accept(2) is called from here, at most ACCEPTS_PER_TURN
times a turn. Connections that are not accepted stay in the kernel's backlog. At the descriptor limit the listener backs
off and tries again later; at `max_connections` it stops polling until one of its sockets closes. A listener with
several descriptors accepts as many connections a turn as one with a single one, and each has its share of them.

A listening socket that came from another process (`fd=`) may be shut down there. That ends the listener here, all of
it, after the connections that waited were accepted, and is reported once. For a TCP socket the kernel then says EINVAL. For a unix
socket a non-blocking accept says EAGAIN for ever, and poll says that the socket is readable: there the hang-up that
poll reports (UV_DISCONNECT) is what ends it.
"""
from pybuntcp._c cimport net, uv


cdef enum:
    ACCEPTS_PER_TURN = 64
    ACCEPT_BACKOFF_MILLISECONDS = 50    # at the descriptor limit


cdef void on_acceptable(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    cdef acceptor_t* acceptor = <acceptor_t*>handle
    cdef listener_t* self = acceptor.listener
    cdef size_t budget = max(ACCEPTS_PER_TURN // self.acceptors.count, <size_t>1)
    cdef bint hung_up = events & uv.UV_DISCONNECT != 0
    if status < 0:
        accept_back_off(acceptor)           # after an error libuv has stopped polling
        return
    while budget > 0 and self.open and accept_one(acceptor, hung_up):
        budget -= 1


cdef bint accept_one(acceptor_t* acceptor, bint hung_up) noexcept nogil:
    """Accept and open one connection. False: accept no more in this turn."""
    cdef listener_t* self = acceptor.listener
    cdef unsigned long stamp = descriptors_fork_stamp()
    cdef int code
    cdef int fd
    if self.connections >= self.max_connections:
        acceptors_unwatch(&self.acceptors)  # listener_socket_closed starts it again
        return False
    fd = net.pbt_accept(acceptor.fd)
    if fd >= 0:
        accept_open(acceptor, fd, stamp)
        return True
    code = net.errno
    if code == net.ECONNABORTED or code == net.EINTR or code == net.EPROTO:
        return True
    if code == net.EAGAIN and not hung_up:
        return False
    if code == net.EAGAIN or accept_error_is_fatal(acceptor, code):
        accept_listener_lost(acceptor, net.EINVAL if code == net.EAGAIN else code)
    else:
        accept_back_off(acceptor)
    return False


cdef bint accept_error_is_fatal(acceptor_t* self, int code) noexcept nogil:
    """True if accept(2) will never succeed again. EOPNOTSUPP may also be an error of one connection."""
    cdef int listening = 0
    cdef net.socklen_t size = sizeof(listening)
    if code == net.EOPNOTSUPP:
        net.getsockopt(self.fd, net.SOL_SOCKET, net.SO_ACCEPTCONN, &listening, &size)
        return not listening
    return code == net.EINVAL or code == net.EBADF or code == net.ENOTSOCK


cdef void accept_open(acceptor_t* acceptor, int fd, unsigned long stamp) noexcept nogil:
    cdef listener_t* self = acceptor.listener
    cdef loop_t* loop = self.loop
    cdef socket_t* s = NULL
    if socket_adopt(loop, self.context, fd, stamp, &s) < 0:
        net.close(fd)
        accept_back_off(acceptor)
        return
    stats_add(&self.accepted, 1)
    stats_add(&self.connections, 1)
    stats_add(&loop.count.accepted, 1)
    socket_count(s)
    socket_established(s)


cdef void accept_back_off(acceptor_t* acceptor) noexcept nogil:
    """There is no descriptor or no memory: try again in ACCEPT_BACKOFF_MILLISECONDS."""
    cdef listener_t* self = acceptor.listener
    cdef int error = 0
    cdef net.socklen_t size = sizeof(error)
    net.getsockopt(acceptor.fd, net.SOL_SOCKET, net.SO_ERROR, &error, &size)    # reading the socket's error clears it
    stats_add(&self.accept_errors, 1)
    stats_add(&self.loop.count.accept_errors, 1)
    acceptors_unwatch(&self.acceptors)
    alarm_arm(self.loop, &self.back_off, clock_now() + ACCEPT_BACKOFF_MILLISECONDS)


cdef void on_back_off_over(alarm_t* alarm) noexcept nogil:
    listener_watch(<listener_t*>alarm.owner)


# ---------------------------------------------------------------------------- a listening socket that is lost

cdef void accept_listener_lost(acceptor_t* acceptor, int code) noexcept nogil:
    """accept(2) will never succeed again: stop, and report it. A descriptor that is not the socket is left alone."""
    cdef listener_t* self = acceptor.listener
    stats_add(&self.accept_errors, 1)
    stats_add(&self.loop.count.accept_errors, 1)
    gil_take(self.loop)
    acceptor.lost = code == net.EBADF or code == net.ENOTSOCK
    (<listener_fn><void*>listener_unlink)(self)
    listener_stop(self)
    (<acceptor_code_fn><void*>accept_report_lost)(acceptor, code)


ctypedef void (*acceptor_code_fn)(acceptor_t*, int) noexcept nogil

cdef void accept_report_lost(acceptor_t* acceptor, int code) noexcept:
    cdef listener_t* self = acceptor.listener
    cdef Listener wrapper = <Listener>self.wrapper
    where = wrapper.path if wrapper.path is not None else wrapper._hostname
    if self.acceptors.count > 1:
        where = wrapper._addresses[acceptor - self.acceptors.each]
    error = error_from_code(-code, "accept", where, wrapper._port)
    failure_report(wrapper._loop, "A listener has ended: its socket was shut down elsewhere", error, wrapper)
