"""serving: connections that a listener accepts, and those that the event loop has made.

The core accepts, with the limits of its listener. For each connection `on_open` calls the protocol factory and
`connection_made` at once; asyncio starts a task for it.

Owns `Acceptor`, what the connections of one listening socket share; `open_transport`; and how asyncio's `Server` counts its
connections, which differs by version.
"""
cimport cython
import sys

from pybuntcp cimport (
    SLOTS_OPEN_UNTIL_CLOSED,
    handlers_from_slots,
    new_slots,
    open_slot,
    slots_t,
    socket_close_now,
    socket_fileno,
    socket_from_fd,
    socket_interrupted,
    socket_set_no_delay,
    socket_t,
    socket_take_gil,
    socket_user,
)


@cython.final
cdef class Acceptor:
    """Makes a transport for each connection that a listener accepts."""
    cdef Host host
    cdef object factory
    cdef object server
    cdef object context
    cdef Secured tls            # None: plain

    def __cinit__(self, Host host, factory, server, Secured tls=None):
        self.host, self.factory, self.server, self.tls = host, factory, server, tls
        self.context = PyContext_CopyCurrent()

    def handlers(self):
        """What `listen(socket=...)` takes."""
        cdef slots_t slots = slots_of_transports()
        slots.user = <void*>self
        slots.open = on_open
        return handlers_from_slots(&slots, None, self)


cdef slots_t slots_of_transports() noexcept:
    cdef slots_t slots = new_slots()
    slots.ext_size = sizeof(own_t)
    slots.flags = SLOTS_OPEN_UNTIL_CLOSED
    slots.alloc = on_alloc
    slots.data = on_data
    slots.end = on_end
    slots.drain = on_drain
    slots.broken = on_broken
    slots.close = on_close
    slots.abandoned = on_abandoned
    slots.handshake = on_handshake
    slots.timeout = on_timeout
    return slots


cdef slots_t _outgoing_slots = slots_of_transports()
cdef object _outgoing = handlers_from_slots(&_outgoing_slots)


cdef void on_open(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<open_slot><void*>stream_accepted)(s)


cdef void stream_accepted(socket_t* s) noexcept:
    """A connection was accepted: make its protocol and transport, and call `connection_made`, or begin with TLS."""
    cdef Acceptor acceptor = <Acceptor>socket_user(s)
    cdef Stream self = None
    context = PyContext_Copy(acceptor.context)
    try:
        PyContext_Enter(context)
        try:
            if host_is_debug(acceptor.host):
                acceptor_log(acceptor, s)
            protocol = acceptor.factory()
            prepared = None if acceptor.tls is None else secured_prepare(acceptor.tls)
            self = stream_new(acceptor.host, s, protocol, context, acceptor.server, acceptor.tls)
            if prepared is None:
                stream_made(self, True)
            else:
                self.tls.accepted = True
                stream_start_tls(self, prepared, None)
        finally:
            PyContext_Exit(context)
    except BaseException as error:
        acceptor_failed(acceptor, s, self, error)


cdef int acceptor_log(Acceptor self, socket_t* s) except -1:
    """As asyncio does, before there is a protocol. A program's logging may raise what it likes: the connection goes on."""
    sock = socket_of_descriptor(socket_fileno(s))
    try:
        peer = name_of_socket(sock.getpeername)
        logger.debug("%r got a new connection from %r: %r", self.server, peer, sock)
    except BaseException as error:
        if interrupts(error):
            raise
        acceptor_report(self, s, "Exception in logging", error)
    finally:
        sock.detach()
    return 0


cdef int stream_made(Stream self, bint measured) except -1:
    """Call `connection_made`. What it raises is reported, and the connection goes on. measured: in debug mode, by us."""
    try:
        if measured:
            stream_call_measured(self, self.protocol.connection_made, (self.transport,))
        else:
            self.protocol.connection_made(self.transport)
    except BaseException as error:
        if interrupts(error):
            raise
        stream_report(self, f"Exception in callback {self.protocol!r}.connection_made()", error)
    return 0


cdef void acceptor_failed(Acceptor self, socket_t* s, Stream stream, object error) noexcept:
    """There is no protocol for it: drop the connection. As in asyncio, debug mode alone tells why."""
    if interrupts(error):
        socket_interrupted(s, error)
    elif host_is_debug(self.host):
        acceptor_report(self, s, "Error on transport creation for incoming connection", error)
    if stream is None:
        socket_close_now(s)


cdef void acceptor_report(Acceptor self, socket_t* s, str message, object error) noexcept:
    try:
        self.host.loop.call_exception_handler({"message": message, "exception": error})
    except BaseException as stop:
        socket_interrupted(s, stop)


def open_transport(Host host, sock, protocol, waiter, extra, server, Secured tls=None):
    """A transport on a connected socket, which belongs to it from now on. `connection_made` follows from the event loop.

    tls: it has a handshake first. Errors of `SSLContext.wrap_bio` leave the socket its owner's.
    """
    prepared = None if tls is None else secured_prepare(tls)
    cdef socket_t* s = socket_from_fd(sock.fileno(), _outgoing)
    cdef Stream self
    socket_set_no_delay(s, True)
    self = stream_new(host, s, protocol, PyContext_CopyCurrent(), server, tls)
    self.sock = sock
    self.extra = None if extra is None else dict(extra)
    if tls is None:
        host.call_soon(self.made, waiter, context=self.context)
    else:
        stream_start_tls(self, prepared, waiter)
    return self.transport


# ---------------------------------------------------------------------------- asyncio's Server

cdef bint _server_knows_transports = sys.version_info >= (3, 13)


cdef int server_attach(object server, object transport) except -1:
    if _server_knows_transports:
        server._attach(transport)
    else:
        server._attach()
    return 0


cdef int server_detach(object server, object transport) except -1:
    if _server_knows_transports:
        server._detach(transport)
    else:
        server._detach()
    return 0
