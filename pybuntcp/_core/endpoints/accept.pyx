"""accept: connections that wait at a listener, and when not to take them.

The listening descriptor is watched by a `uv_poll_t` and accepted from here, because libuv's own server takes one
connection a turn and, at the descriptor limit, accepts and drops what waits. Here: at most 64 accepts a turn, what
waits stays in the backlog, and at the limit the listener rests and looks again.

A listening socket has other owners, too, where it was handed over: what shuts it down there ends the listener here,
after what waited was accepted, and is told once. (The kernel says EINVAL of a TCP socket then; of a unix one, asked
without waiting, EAGAIN for ever, and that it is readable: there the poll's hang-up tells.)
"""
from pybuntcp._c cimport net, uv


cdef enum:
    ACCEPTS_PER_TURN = 64
    ACCEPT_BACKOFF_MILLISECONDS = 50      # at the descriptor limit


cdef void on_acceptable(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    cdef listener_t* self = <listener_t*>handle
    cdef int budget = ACCEPTS_PER_TURN
    cdef bint hung_up = events & uv.UV_DISCONNECT != 0
    if status < 0:
        accept_back_off(self)     # libuv watches no more
        return
    while budget > 0 and self.open and accept_one(self, hung_up):
        budget -= 1


cdef bint accept_one(listener_t* self, bint hung_up) noexcept nogil:
    """Accept and open one connection. False: enough for this turn."""
    cdef unsigned long stamp = descriptors_fork_stamp()
    cdef int code
    cdef int fd
    if self.connections >= self.max_connections:
        uv.uv_poll_stop(&self.poll)         # until a socket closes
        return False
    fd = net.pbt_accept(self.fd)
    if fd >= 0:
        accept_open(self, fd, stamp)
        return True
    code = net.errno
    if code == net.ECONNABORTED or code == net.EINTR or code == net.EPROTO:
        return True
    if code == net.EAGAIN and not hung_up:
        return False
    if code == net.EAGAIN or accept_error_is_fatal(self, code):
        accept_listener_lost(self, net.EINVAL if code == net.EAGAIN else code)
    else:
        accept_back_off(self)
    return False


cdef bint accept_error_is_fatal(listener_t* self, int code) noexcept nogil:
    """Will accept(2) never succeed again? EOPNOTSUPP may be told of one connection, too."""
    cdef int listening = 0
    cdef net.socklen_t size = sizeof(listening)
    if code == net.EOPNOTSUPP:
        net.getsockopt(self.fd, net.SOL_SOCKET, net.SO_ACCEPTCONN, &listening, &size)
        return not listening
    return code == net.EINVAL or code == net.EBADF or code == net.ENOTSOCK


cdef void accept_open(listener_t* self, int fd, unsigned long stamp) noexcept nogil:
    cdef loop_t* loop = loop_of(self)
    cdef socket_t* s = NULL
    if socket_adopt(loop, self.context, fd, stamp, &s) < 0:
        net.close(fd)
        accept_back_off(self)
        return
    self.accepted += 1
    self.connections += 1
    loop.count.accepted += 1
    socket_count(s)
    socket_established(s)


cdef void accept_back_off(listener_t* self) noexcept nogil:
    """No descriptor or no memory: what waits stays in the backlog."""
    cdef int error = 0
    cdef net.socklen_t size = sizeof(error)
    net.getsockopt(self.fd, net.SOL_SOCKET, net.SO_ERROR, &error, &size)    # asked for, it is told no more
    self.accept_errors += 1
    loop_of(self).count.accept_errors += 1
    uv.uv_poll_stop(&self.poll)
    alarm_arm(loop_of(self), &self.back_off, clock_now() + ACCEPT_BACKOFF_MILLISECONDS)


cdef void on_back_off_over(alarm_t* alarm) noexcept nogil:
    listener_watch(<listener_t*>alarm.owner)


# ---------------------------------------------------------------------------- a socket that is lost

cdef void accept_listener_lost(listener_t* self, int code) noexcept nogil:
    """The socket is lost: stop, and say so. A descriptor that is not the socket any more is left alone."""
    self.accept_errors += 1
    loop_of(self).count.accept_errors += 1
    gil_take(loop_of(self))
    self.lost = code == net.EBADF or code == net.ENOTSOCK
    (<listener_fn><void*>listener_unlink)(self)
    listener_stop(self)
    (<listener_code_fn><void*>accept_report_lost)(self, code)


ctypedef void (*listener_code_fn)(listener_t*, int) noexcept nogil

cdef void accept_report_lost(listener_t* self, int code) noexcept:
    """To the asyncio loop's exception handler, or else `sys.unraisablehook`."""
    cdef Listener wrapper = <Listener>self.wrapper
    where = wrapper.path if wrapper.path is not None else wrapper.hostname
    error = error_from_code(-code, "accept", where, wrapper.port)
    try:
        if not host_report(wrapper._loop, "A listener has ended: its socket was shut down elsewhere", error, wrapper):
            report_unraisable(error, wrapper)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop_of(self), stop)
    except BaseException as second:
        report_unraisable(second, wrapper)
