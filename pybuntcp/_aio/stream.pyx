"""stream: one asyncio connection, and calls into its protocol.

Owns `Stream`. The socket has a reference to it until the protocol has lost the connection (`own_t.stream`), or the socket is
gone. From then on `s` is NULL, and `lost` is not 0. The transport, which programs may keep for ever, has another.

Owns also how a method of a protocol is called: in the context variables of the connection, measured in debug mode.
"""
cimport cython
from asyncio import BufferedProtocol
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF

from pybuntcp cimport socket_ext, socket_fileno, socket_interrupted, socket_resume, socket_t


cdef struct own_t:              # behind each socket
    PyObject* stream            # owned: the Stream; NULL: the protocol has lost the connection
    bint buffered               # its protocol gives the memory that is read into


@cython.final
@cython.internal
cdef class Stream:
    """What a transport is made of."""
    cdef socket_t* s            # NULL: closed
    cdef Host host
    cdef object transport       # None once the connection is lost
    cdef object protocol        # as above
    cdef Tls tls                # None: plain
    cdef Stream successor       # after start_tls: the Stream that has the connection now
    cdef object server          # asyncio's Server; None: an outgoing connection, or lost
    cdef object context         # in which the protocol is called
    cdef object sock            # the Python socket of the descriptor; None: nobody has asked for it; bytes: see extra_info
    cdef dict extra             # what get_extra_info knows; None: nobody has asked
    cdef object empty_waiter    # a future: sendfile waits until all is sent
    cdef object sending         # the task of sendfile that writes to the descriptor by itself
    cdef size_t high            # pause_writing when more bytes are pending
    cdef size_t low             # resume_writing when so many are
    cdef int fd
    cdef int lost               # connection_lost was called, or will be; counts the writes that are dropped since
    cdef flag_t closing
    cdef flag_t aborted         # what is pending is dropped
    cdef flag_t paused          # by pause_reading
    cdef flag_t asking          # get_buffer is being called
    cdef flag_t lent            # sendfile uses the descriptor
    cdef flag_t write_paused    # pause_writing was called
    cdef flag_t ended           # by write_eof
    cdef peer_t peer

    def made(self, waiter):
        """A connection that the event loop has made: `connection_made`, then it is read."""
        try:
            stream_made(self, False)      # the event loop measures it
        finally:
            if self.s != NULL and not self.paused and not self.closing:
                socket_resume(self.s)
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    def connection_lost(self, error):
        stream_lose(self, error)

    def deliver_held(self):
        stream_deliver_held(self)


cdef inline own_t* own_of(socket_t* s) noexcept nogil:
    return <own_t*>socket_ext(s)


cdef inline Stream stream_at(socket_t* s):
    """The socket's Stream, or None: its protocol knows it no more."""
    cdef PyObject* stream = own_of(s).stream
    return <Stream>stream if stream != NULL else None


cdef Stream stream_make(Host host, object context, Secured secured):
    """A Stream and its transport, for no socket yet. secured: None, or the options of TLS."""
    cdef Stream self = Stream.__new__(Stream)
    self.host = host
    self.context = context
    self.high, self.low = HIGH_WATER, LOW_WATER
    if secured is not None:
        self.tls = secured_new(secured)
        self.high, self.low = SECURED_HIGH_WATER, SECURED_HIGH_WATER // 4
    self.transport = transport_new(self)
    return self


cdef Stream stream_new(Host host, socket_t* s, object protocol, object context, object server, Secured secured):
    """A Stream and its transport, for a socket that is open. The socket has a reference to it."""
    cdef Stream self = stream_make(host, context, secured)
    self.fd = socket_fileno(s)
    if server is not None:
        server_attach(server, self.transport)
        self.server = server
    peer_note(&self.peer, self.fd)
    host_is_elsewhere(host)     # a foreign one is seen to run in this thread
    host_add(host, self)
    stream_own(self, s)
    stream_set_protocol(self, protocol)
    return self


cdef void stream_own(Stream self, socket_t* s) noexcept:
    self.s = s
    Py_INCREF(self)
    own_of(s).stream = <PyObject*>self


cdef void stream_disown(Stream self) noexcept:
    """The socket is not the protocol's any more."""
    own_of(self.s).stream = NULL
    stream_let_go(self)


cdef void stream_let_go(Stream self) noexcept:
    """Without a look at the socket, which may be freed. Its reference ends."""
    self.s = NULL
    host_remove(self.host, self)
    if self.sock is not None:
        self.sock.detach()      # the core closes the descriptor
    Py_DECREF(self)


cdef int stream_set_protocol(Stream self, object protocol) except -1:
    self.protocol = protocol
    if self.s != NULL:
        own_of(self.s).buffered = is_buffered(protocol)
    return 0


cdef bint is_buffered(object protocol) except -1:
    """Whether it gives the memory that is read into. asyncio asks for its class alone, and would fail with what has no other way."""
    if isinstance(protocol, BufferedProtocol):
        return True
    return hasattr(protocol, "get_buffer") and not hasattr(protocol, "data_received")


# ---------------------------------------------------------------------------- calls

cdef object stream_call(Stream self, object method, tuple arguments):
    """Call a method of the protocol in the connection's context. In debug mode, log it if it takes long."""
    PyContext_Enter(self.context)
    try:
        return stream_call_measured(self, method, arguments)
    finally:
        PyContext_Exit(self.context)


cdef object stream_call_measured(Stream self, object method, tuple arguments):
    """As `stream_call`, where the context is entered already."""
    if not host_is_debug(self.host):
        return method(*arguments)
    loop = self.host.loop
    began = loop.time()
    try:
        return method(*arguments)
    finally:
        took = loop.time() - began
        if took >= loop.slow_callback_duration:
            logger.warning("Executing %r took %.3f seconds", method, took)


cdef void stream_report(Stream self, str message, object error) noexcept:
    """Call the event loop's exception handler."""
    try:
        self.host.loop.call_exception_handler({
            "message": message,
            "exception": error,
            "transport": self.transport,
            "protocol": self.protocol,
        })
    except BaseException as stop:
        stream_interrupted(self, stop)


cdef void stream_log(Stream self, str message, tuple arguments, object error) noexcept:
    """In a slot, in debug mode. A program's logging may raise what it likes: the connection goes on, or ends, all the same."""
    try:
        logger.debug(message, *arguments, exc_info=error)
    except BaseException as failure:
        if interrupts(failure):
            stream_interrupted(self, failure)
        else:
            stream_report(self, "Exception in logging", failure)


cdef void stream_interrupted(Stream self, object error) noexcept:
    """In a slot: an exception that ends the program. The event loop raises it."""
    if self.s != NULL:
        socket_interrupted(self.s, error)
    else:
        self.host.call_soon(raise_, error)


def raise_(error):
    raise error
