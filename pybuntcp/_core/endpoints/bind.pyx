"""bind: from the options of `listen` to listening descriptors, for all addresses that they name or for none.

The problem: a name may have several addresses. One of them may be in use, or of a family that this machine lacks; with
port 0 all must get the same port, which the first bind chooses and another program may have at the next address.
The rule: all are bound before any listens, and the first failure closes all. Then, with port 0, another port is tried,
PORT_TRIES times. An address of a family that the machine lacks is left out if a name has led to it; an address that was
given as such is not. `localhost` always means both loopback addresses, whatever the hosts file says.

An address that another one of the same call covers is not bound by itself: one that is given twice, any IPv4 address
beside "0.0.0.0", and, unless `ipv6_only`, beside "::", which takes IPv4 connections too.

Owns which socket options are set before bind(2) and which before listen(2): accepted sockets inherit TCP_NODELAY and
SO_KEEPALIVE, so these cost no system call for each connection.
Promises that a failure leaves no descriptor open, and that its error names the address.
Does not know unix sockets' files (see listen).
"""
cimport cython

from pybuntcp._c cimport net


cdef enum:
    PORT_TRIES = 16     # a port that is free at one address is mostly free at the others


@cython.final
@cython.internal
cdef class BindName:
    """One address to listen on."""
    cdef address_t name
    cdef object label       # what an error names
    cdef bint optional      # left out if this machine lacks its family


# ---------------------------------------------------------------------------- which addresses

cdef list bind_names(options):
    """The addresses of the option `hostname`, each once."""
    cdef list found = []
    for given, host in options.hosts:
        found += bind_names_of(given, host, options.port)
    return bind_uncovered(found, not options.ipv6_only)


cdef list bind_names_of(object given, bytes host, int port, bint optional=False):
    """Those of one name or literal. The resolver is asked in this thread."""
    cdef names_t names
    cdef address_t literal
    cdef int rc
    if host.lower().rstrip(b".") == b"localhost":
        return [one for each in ("127.0.0.1", "::1") for one in bind_names_of(each, each.encode(), port, True)]
    rc = address_parse(&literal, host, port)
    if rc < 0:
        raise error_from_code(rc, "listen", given, port)
    if rc > 0:
        return [bind_name(&literal, given, optional)]
    names_resolve(&names, host, port)
    try:
        if names.count == 1:
            return [bind_name(&names.each[0], given, True)]
        return [bind_name(&names.each[i], address_host(&names.each[i]), True) for i in range(names.count)]
    finally:
        names_free(&names)


cdef BindName bind_name(const address_t* name, object label, bint optional):
    cdef BindName self = BindName.__new__(BindName)
    self.name = name[0]
    self.label = label
    self.optional = optional
    return self


cdef list bind_uncovered(list names, bint dual):
    """Those that no other one covers. dual: "::" takes IPv4 connections, too."""
    return [names[i] for i in range(len(names)) if not bind_is_covered(names, i, dual)]


cdef bint bind_is_covered(list names, Py_ssize_t which, bint dual) except -1:
    cdef BindName self = names[which]
    cdef BindName other
    cdef Py_ssize_t i
    for i in range(len(names)):
        other = names[i]
        # Two that cover each other are the same: the first one is kept.
        if i != which and address_covers(&other.name, &self.name, dual) and (
            i < which or not address_covers(&self.name, &other.name, dual)
        ):
            return True
    return False


# ---------------------------------------------------------------------------- bind(2), listen(2)

cdef int bind_and_listen(list fds, list names, options) except -1:
    """Append a listening descriptor for each name. A failure leaves `fds` empty."""
    cdef int tries = PORT_TRIES if options.port == 0 and len(names) > 1 else 1
    while True:
        tries -= 1
        try:
            bind_all(fds, names, options)
            return 0
        except OSError as error:
            bind_close(fds)
            if error.errno != net.EADDRINUSE or tries == 0:
                raise


cdef int bind_all(list fds, list names, options) except -1:
    cdef list bound = []
    cdef object left_out = None
    cdef int port = options.port
    cdef int fd
    cdef BindName one
    for each in names:
        one = each
        fd = bind_one(&one.name, port, options)
        if fd >= 0:
            fds.append(fd)
            bound.append(one)
            port = port or bind_port(fd)
            continue
        error = error_from_code(fd, "listen", one.label, options.port)
        if not one.optional or not bind_family_is_missing(&one.name, fd, options):
            raise error
        left_out = left_out or error
    if not fds:
        raise left_out
    for fd, each in zip(fds, bound):
        one = each
        bind_listen(fd, one.label, options)
    return 0


cdef int bind_one(const address_t* name, int port, options) except? -1:
    """A descriptor bound to the address and port; or a negative errno."""
    cdef address_t here = name[0]
    cdef unsigned long stamp = descriptors_fork_stamp()
    cdef int fd = net.pbt_socket(here.name.any.sa_family)
    cdef int code
    if fd < 0:
        return -net.errno
    descriptor_track(fd, stamp)
    address_set_port(&here, port)
    if bind_set_options(fd, here.name.any.sa_family, options) == 0 and net.bind(fd, &here.name.any, here.size) == 0:
        return fd
    code = net.errno
    bind_close_one(fd)
    return -code


cdef int bind_set_options(int fd, int family, options) except -2:
    """Set what must be set before bind(2). Returns 0, or -1 and errno."""
    cdef int on = 1
    cdef int only = options.ipv6_only
    net.setsockopt(fd, net.SOL_SOCKET, net.SO_REUSEADDR, &on, sizeof(on))
    if family == net.AF_INET6:
        net.setsockopt(fd, net.IPPROTO_IPV6, net.IPV6_V6ONLY, &only, sizeof(only))
    if options.reuse_port:
        return net.setsockopt(fd, net.SOL_SOCKET, net.SO_REUSEPORT, &on, sizeof(on))
    return 0


cdef int bind_listen(int fd, object label, options) except -1:
    bind_set_inherited(fd, options)
    if net.listen(fd, options.backlog) != 0:
        raise error_from_code(-net.errno, "listen", label, options.port)
    return 0


cdef int bind_set_inherited(int fd, options) except -1:
    """Set the options that accepted sockets inherit."""
    if options.no_delay:
        options_set_no_delay(fd)
    options_set_keep_alive(fd, options.keep_alive)
    return 0


cdef int bind_port(int fd) noexcept nogil:
    """The port that the kernel has chosen."""
    cdef address_t name
    address_of_fd(&name, fd, False)
    return address_port_number(&name)


cdef bint bind_family_is_missing(const address_t* name, int code, options) except -1:
    """True if `code`, of a bind to `name`, means that this machine lacks the address's family.

    A system that has IPv6 turned off may still make such sockets; not even its loopback address can be bound then.
    """
    cdef address_t loopback
    cdef int fd
    if code == -net.EAFNOSUPPORT:
        return True
    if code != -net.EADDRNOTAVAIL:
        return False
    address_parse(&loopback, b"::1" if name.name.any.sa_family == net.AF_INET6 else b"127.0.0.1", 0)
    fd = bind_one(&loopback, 0, options)
    if fd >= 0:
        bind_close_one(fd)
    return fd < 0


cdef void bind_close_one(int fd) noexcept nogil:
    descriptor_release(fd)
    net.close(fd)


cdef int bind_close(list fds) except -1:
    """Close the descriptors that were made, and empty the list."""
    while fds:
        bind_close_one(fds.pop())
    return 0
