"""listen: from the options of `listen` to a `Listener` that accepts.

Owns the order of it: descriptors (see bind, and claim for unix sockets), their names, the poll handles; and how a
descriptor of `fd=` is checked.
Promises that a `listen` that fails leaves no file, no descriptor and no handle behind, and that a descriptor of `fd=`
is left open and unchanged if it is refused.
Does not know what is done with a connection (see accept, listener).
"""
from libc.stdint cimport UINT64_MAX

from pybuntcp._c cimport net, uv


def listen_on(Handlers handlers, options):
    """`listen`, with options that were checked (pybuntcp/options.py, ListenOptions)."""
    cdef Loop loop = current_loop()
    cdef context_t* context = options_context(handlers_bind(handlers, loop, options.slow_handler), options)
    cdef Listener wrapper = None
    cdef bint adopted = options.fd is not None
    cdef list fds = list(options.fds) if adopted else []
    try:
        wrapper = listener_new(loop, context, options.hostname, options.unix)
        wrapper.c.max_connections = options.max_connections or UINT64_MAX
        wrapper.c.adopted = adopted
        if adopted:
            for fd in fds:
                listen_adopt(fd, options)
        elif options.unix is not None:
            claim_path(wrapper, fds, options)
        else:
            bind_and_listen(fds, bind_names(options), options)
        listen_note_names(wrapper, fds)
        listener_start(wrapper.c, fds)
        if adopted:
            for fd in options.fds:
                net.pbt_set_cloexec(fd)
        return wrapper
    except BaseException:
        if wrapper is not None:
            unix_unlink(wrapper._unix_file)
        if not adopted:
            bind_close(fds)
        loop_wakeup(loop.c)         # the next turn detaches an empty loop from its asyncio loop
        raise
    finally:
        context_release(loop.c, context)


cdef int listen_adopt(int fd, options) except -1:
    """A descriptor that does not listen is refused."""
    cdef int listening = 0
    cdef net.socklen_t size = sizeof(listening)
    if net.getsockopt(fd, net.SOL_SOCKET, net.SO_ACCEPTCONN, &listening, &size) != 0:
        raise error_from_code(-net.errno, "listen", f"fd {fd}")
    if not listening:
        raise error_from_code(uv.UV_EINVAL, "listen", f"fd {fd} (it does not listen)")
    bind_set_inherited(fd, options)
    return 0


cdef int listen_note_names(Listener wrapper, list fds) except -1:
    """Note the addresses that the descriptors are bound to."""
    cdef address_t name
    cdef list addresses = []
    for fd in fds:
        address_of_fd(&name, fd, False)
        addresses.append(address_host(&name))
    wrapper._port = address_port(&name)
    if wrapper._port is not None:
        wrapper._addresses = tuple(addresses)
    if wrapper.c.adopted and wrapper._port is None:
        wrapper.path = addresses[0]
    elif wrapper.c.adopted:
        wrapper._hostname = addresses[0]
    return 0
