"""binding: from the options of `listen` to a `Listener` that accepts.

Owns the making of the listening descriptor: name, socket options, bind, listen; or the check of
an adopted one.
Promises that a failed `listen` leaves no file, no descriptor and no handle behind, and that an
adopted descriptor is left alone when it will not do.
"""
import os

from cpython.ref cimport PyObject, Py_INCREF, Py_XDECREF
from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport calloc

from pybuntcp._c cimport net, uv


cdef Listener listener_new(Loop loop, context_t* context, object hostname, object unix):
    """A Listener that does not listen yet; the context's reference is given to it."""
    cdef Listener face = Listener.__new__(Listener)
    face.c = <listener_t*>calloc(1, sizeof(listener_t))
    if face.c == NULL:
        raise MemoryError()
    face.c.face = <PyObject*>face
    face._loop = loop
    face._waiting = []
    # `loop_of` is asked before uv_poll_init tells libuv's handle.
    (<uv.uv_handle_t*>face.c).loop = &loop.c.uv
    face.c.fd = -1
    face.c.context = context
    context.references += 1
    context.server = face.c
    face.hostname = hostname
    face.path = unix
    face.secured = context.tls != NULL
    return face


def listen_on(Handlers handlers, options):
    """`listen` after its options were checked (see options.ListenOptions)."""
    cdef Loop loop = loop_here()
    cdef context_t* context = context_from(handlers_for(handlers, loop), options)
    cdef Listener face = None
    cdef bint adopted = options.fd is not None
    cdef int fd = -1
    cdef int rc
    try:
        face = listener_new(loop, context, options.hostname, options.unix)
        face.c.most = options.max_connections or UINT64_MAX
        face.c.adopted = adopted
        fd = options.fd if adopted else listener_bind(face, options)
        listener_name(face, fd, adopted)
        listener_set_options(fd, options)
        rc = listener_start(face.c, loop.c, fd)
        if rc < 0:
            raise error_from_code(rc, "listen", options.address, options.port)
        if adopted:
            net.pbt_keep_from_children(fd)
        return face
    except BaseException:
        if face is not None:
            unix_unlink(face._file)
            if fd >= 0 and not adopted:
                descriptor_part(fd)
                net.close(fd)
        loop_kick(loop.c)       # an asyncio loop need not watch for nothing
        raise
    finally:
        context_release(loop.c, context)


cdef int listener_bind(Listener face, options) except -1:
    """A new listening descriptor. Nothing is left behind when it fails."""
    cdef address_t name
    cdef unsigned long stamp
    cdef int fd
    listener_resolve(&name, options)
    stamp = descriptors_stamp()
    fd = net.pbt_socket(name.name.any.sa_family)
    if fd < 0:
        raise error_from_code(-net.errno, "listen", options.address, options.port)
    descriptor_own(fd, stamp)
    if listener_bind_fd(fd, &name, options) == 0:
        if options.unlink and options.unix is not None and not options.unix.startswith("\0"):
            face._file = unix_note(os.fsencode(options.unix), fd)
        if net.listen(fd, options.backlog) == 0:
            return fd
    rc = -net.errno
    unix_unlink(face._file)
    descriptor_part(fd)
    net.close(fd)
    raise error_from_code(rc, "listen", options.address, options.port)


cdef int listener_bind_fd(int fd, address_t* name, options) except -2:
    """setsockopt what must come before bind, then bind. 0, or -1 and errno."""
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


cdef int listener_resolve(address_t* name, options) except -1:
    """Where to bind: a unix name, an IP literal, or the resolver's first answer."""
    cdef int rc
    if options.unix is not None:
        return unix_name(name, options.unix, "listen")
    rc = address_parse(name, options.host, options.port)
    if rc < 0:
        raise error_from_code(rc, "listen", options.address, options.port)
    if rc == 0:
        resolve_now(name, options.host, options.port)
    return 0


cdef int unix_name(address_t* name, str path, str syscall) except -1:
    try:
        return address_from_path(name, os.fsencode(path))
    except ValueError:
        raise error_from_code(uv.UV_ENAMETOOLONG, syscall, path) from None


cdef int listener_name(Listener face, int fd, bint adopted) except -1:
    """Note what the kernel says it is bound to; refuse an adopted one that does not listen."""
    cdef address_t name
    cdef int listening = 0
    cdef net.socklen_t size = sizeof(listening)
    if adopted:
        if net.getsockopt(fd, net.SOL_SOCKET, net.SO_ACCEPTCONN, &listening, &size) != 0:
            raise error_from_code(-net.errno, "listen", f"fd {fd}")
        if not listening:
            raise error_from_code(uv.UV_EINVAL, "listen", f"fd {fd} (it does not listen)")
    address_of_fd(&name, fd, False)
    face.port = address_port(&name)
    if adopted and face.port is None:
        face.path = address_host(&name)
    elif adopted:
        face.hostname = address_host(&name)
    return 0


cdef int listener_set_options(int fd, options) except -1:
    """What accepted sockets inherit."""
    cdef int value = 1
    if options.unix is not None:
        return 0
    if options.no_delay:
        net.setsockopt(fd, net.IPPROTO_TCP, net.TCP_NODELAY, &value, sizeof(value))
    keep_alive_set(fd, options.keep_alive)
    return 0


cdef int keep_alive_set(int fd, object seconds) except -1:
    """SO_KEEPALIVE after `seconds` idle; None leaves it off."""
    cdef int value = 1
    if seconds is None:
        return 0
    net.setsockopt(fd, net.SOL_SOCKET, net.SO_KEEPALIVE, &value, sizeof(value))
    value = seconds
    net.setsockopt(fd, net.IPPROTO_TCP, net.PBT_KEEPIDLE, &value, sizeof(value))
    return 0


cdef int context_secure(context_t* context, object tls) except -1:
    """Sockets of this context are secured, by what was made of the option `tls`; those that are, stay as they are."""
    cdef PyObject* old = context.tls
    context.own_size = EXT_ALIGNMENT
    Py_INCREF(tls)
    context.tls = <PyObject*>tls
    Py_XDECREF(old)
    return 0


cdef context_t* context_from(Handlers handlers, options) except NULL:
    """The context of a listener or connection: its table and its options."""
    cdef context_t* context = context_new()
    cdef object data = options.data
    table_copy(&context.table, &handlers.table)
    Py_INCREF(data)
    context.data = <PyObject*>data
    context.ext_size = handlers.table.slots.ext_size
    context.high_water_mark = options.high_water_mark
    context.idle_timeout = options.idle_timeout
    context.linger_timeout = options.linger_timeout
    context.allow_half_open = options.allow_half_open
    context.handshake_timeout = options.handshake_timeout
    if options.tls is not None:
        context_secure(context, options.tls)
    context.pause_on_connect = options.pause_on_connect or handlers.opens_paused
    return context
