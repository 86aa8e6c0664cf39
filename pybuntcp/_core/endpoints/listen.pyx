"""listen: from the options of `listen` to a `Listener` that accepts.

Owns how a listening descriptor is made (name, socket options, bind, listen) or, with `fd=`, checked. TCP_NODELAY and
SO_KEEPALIVE are set on the listening socket: accepted sockets inherit them from it, so they cost no system call for
each connection.
Promises that a `listen` that fails leaves no file, no descriptor and no handle behind, and that a descriptor of `fd=`
is left open and unchanged if it is refused.
Does not know what is done with a connection (see accept, listener).
"""
import os

from libc.stdint cimport UINT64_MAX

from pybuntcp._c cimport net, uv


def listen_on(Handlers handlers, options):
    """`listen`, with options that were checked (pybuntcp/options.py, ListenOptions)."""
    cdef Loop loop = current_loop()
    cdef context_t* context = options_context(handlers_bind(handlers, loop), options)
    cdef Listener wrapper = None
    cdef bint adopted = options.fd is not None
    cdef int fd = -1
    cdef int rc
    try:
        wrapper = listener_new(loop, context, options.hostname, options.unix)
        wrapper.c.max_connections = options.max_connections or UINT64_MAX
        wrapper.c.adopted = adopted
        fd = options.fd if adopted else listen_bind(wrapper, options)
        listen_note_name(wrapper, fd, adopted)
        listen_set_options(fd, options)
        rc = listener_start(wrapper.c, loop.c, fd)
        if rc < 0:
            raise error_from_code(rc, "listen", options.address, options.port)
        if adopted:
            net.pbt_set_cloexec(fd)
        return wrapper
    except BaseException:
        if wrapper is not None:
            unix_unlink(wrapper._unix_file)
            if fd >= 0 and not adopted:
                descriptor_release(fd)
                net.close(fd)
        loop_wakeup(loop.c)         # the next turn detaches an empty loop from its asyncio loop
        raise
    finally:
        context_release(loop.c, context)


cdef int listen_bind(Listener wrapper, options) except -1:
    """A new listening descriptor. If this fails, it leaves nothing behind."""
    cdef address_t name
    cdef unsigned long stamp
    cdef int fd
    listen_resolve(&name, options)
    stamp = descriptors_fork_stamp()
    fd = net.pbt_socket(name.name.any.sa_family)
    if fd < 0:
        raise error_from_code(-net.errno, "listen", options.address, options.port)
    descriptor_track(fd, stamp)
    if listen_bind_fd(fd, &name, options) == 0:
        if options.unlink and options.unix is not None and not options.unix.startswith("\0"):
            wrapper._unix_file = unix_note(os.fsencode(options.unix), fd)
        if net.listen(fd, options.backlog) == 0:
            return fd
    rc = -net.errno
    unix_unlink(wrapper._unix_file)
    descriptor_release(fd)
    net.close(fd)
    raise error_from_code(rc, "listen", options.address, options.port)


cdef int listen_bind_fd(int fd, address_t* name, options) except -2:
    """Set the options that must be set before bind(2), then bind. Returns 0, or -1 and errno."""
    cdef int on = 1
    cdef int only = options.ipv6_only
    if name.name.any.sa_family != net.AF_UNIX:
        net.setsockopt(fd, net.SOL_SOCKET, net.SO_REUSEADDR, &on, sizeof(on))
    if name.name.any.sa_family == net.AF_INET6:
        net.setsockopt(fd, net.IPPROTO_IPV6, net.IPV6_V6ONLY, &only, sizeof(only))
    if options.reuse_port and name.name.any.sa_family != net.AF_UNIX:
        if net.setsockopt(fd, net.SOL_SOCKET, net.SO_REUSEPORT, &on, sizeof(on)) != 0:
            return -1
    return net.bind(fd, &name.name.any, name.size)


cdef int listen_resolve(address_t* name, options) except -1:
    """The address to bind to: a unix name, an IP literal, or the resolver's first answer."""
    cdef int rc
    if options.unix is not None:
        return listen_unix_name(name, options.unix, "listen")
    rc = address_parse(name, options.host, options.port)
    if rc < 0:
        raise error_from_code(rc, "listen", options.address, options.port)
    if rc == 0:
        resolve_now(name, options.host, options.port)
    return 0


cdef int listen_unix_name(address_t* name, str path, str syscall) except -1:
    try:
        return address_from_path(name, os.fsencode(path))
    except ValueError:
        raise error_from_code(uv.UV_ENAMETOOLONG, syscall, path) from None


cdef int listen_note_name(Listener wrapper, int fd, bint adopted) except -1:
    """Note the address that the descriptor is bound to. An adopted one that does not listen is refused."""
    cdef address_t name
    cdef int listening = 0
    cdef net.socklen_t size = sizeof(listening)
    if adopted:
        if net.getsockopt(fd, net.SOL_SOCKET, net.SO_ACCEPTCONN, &listening, &size) != 0:
            raise error_from_code(-net.errno, "listen", f"fd {fd}")
        if not listening:
            raise error_from_code(uv.UV_EINVAL, "listen", f"fd {fd} (it does not listen)")
    address_of_fd(&name, fd, False)
    wrapper.port = address_port(&name)
    if adopted and wrapper.port is None:
        wrapper.path = address_host(&name)
    elif adopted:
        wrapper.hostname = address_host(&name)
    return 0


cdef int listen_set_options(int fd, options) except -1:
    """Set the options that accepted sockets inherit."""
    if options.unix is not None:
        return 0
    if options.no_delay:
        options_set_no_delay(fd)
    options_set_keep_alive(fd, options.keep_alive)
    return 0
