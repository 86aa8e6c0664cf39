"""connector: one outgoing connection, from `connect()` to `open` or `connect_error`.

The caller may cancel at any moment; the outcome must be told once, from the loop, never before
`connect()` has returned. With TLS the outcome is that of the handshake: until then the connector
keeps the socket that won (see happy_eyeballs), whose context knows it as its `connector`.

Owns `connector_t`, alive until its outcome is told and none of its attempts is out any more; a lookup
is abandoned at once. Every road ends in `connector_settle`, once. Errors that come at once (a bad descriptor, a
unix path) are posted to the loop.
"""
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF
from libc.math cimport isinf
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport net, resolver, uv


cdef enum:
    BACKLOG_RETRY_MILLISECONDS = 5


cdef enum connector_state_t:    # only forward
    CONNECTOR_RESOLVING     # its addresses are not known
    CONNECTOR_DIALING       # they are tried
    CONNECTOR_HANDSHAKING   # `won` is connected, and its TLS handshake is not done
    CONNECTOR_SETTLED       # the outcome is known, or it was cancelled

cdef struct connector_t:
    loop_t* loop
    PyObject* wrapper       # owned until the outcome is told: the Connecting
    context_t* context
    connector_t* next       # in the loop's list
    connector_t** link
    connector_t* next_posted
    alarm_t stagger         # time for the next address (or to try a full backlog again)
    alarm_t deadline
    names_t names
    size_t tried            # names[0..tried) were started
    attempt_t* attempts     # those still out
    address_t local         # where to connect from; size 0 = anywhere
    int local_port          # ... but from this port; 0 = any
    bint no_interface       # ... or from an interface that there is not
    bint starting           # inside connect(): outcomes are posted
    lookup_t* lookup        # that is out; NULL: none
    bint posted
    bint emitting           # its outcome is being told
    connector_state_t state
    socket_t* won
    int error
    size_t failed           # whose error it is; names.count: of the whole attempt
    PyObject* failure       # owned: the exception, if it is more than a code
    bint no_delay


# ---------------------------------------------------------------------------- starting

cdef connector_t* connector_new(Loop loop, context_t* context) except NULL:
    cdef connector_t* self = <connector_t*>calloc(1, sizeof(connector_t))
    if self == NULL:
        raise MemoryError()
    self.loop = loop.c
    self.context = context
    context.references += 1
    self.stagger.fire = on_stagger
    self.deadline.fire = on_connect_timeout
    self.stagger.owner = self.deadline.owner = self
    self.next = loop.c.connectors
    self.link = &loop.c.connectors
    if self.next != NULL:
        self.next.link = &self.next
    loop.c.connectors = self
    loop.c.count.connecting += 1
    loop_ref(loop.c)
    return self


cdef int connector_start(connector_t* self, options) except -1:
    """Begin. What fails at once is an outcome like any other."""
    cdef int rc
    self.starting = True
    if not isinf(options.timeout):
        alarm_arm(self.loop, &self.deadline, deadline_after(options.timeout))
    try:
        if options.fd is not None:
            connector_adopt(self, options.fd)
        elif options.unix is not None:
            connector_start_unix(self, options.unix)
        elif self.no_interface:
            connector_settle(self, -net.ENODEV)
        else:
            rc = names_from_literal(&self.names, options.host, options.port)
            if rc < 0:
                connector_settle(self, rc)
            elif rc > 0:
                attempts_start_next(self)
            else:
                connector_look_up(self, options.host, options.port)
    finally:
        self.starting = False
    return 0


cdef void connector_adopt(connector_t* self, int fd) noexcept:
    """`fd=`: adopt a connected stream socket, or fail without closing it."""
    cdef int rc = net.pbt_check_connected(fd)
    if rc == 0:
        rc = socket_adopt(self.loop, self.context, fd, descriptors_fork_stamp(), &self.won)
    if rc == 0:
        net.pbt_keep_from_children(fd)
    connector_settle(self, rc)


cdef int connector_start_unix(connector_t* self, str path) except -1:
    if not names_reserve(&self.names, 1):
        raise MemoryError()
    try:
        address_from_path(&self.names.each[0], os.fsencode(path))
    except ValueError:
        connector_settle(self, uv.UV_ENAMETOOLONG)
        return 0
    self.names.count = 1
    connector_dial_unix(self)
    return 0


cdef void connector_dial_unix(connector_t* self) noexcept nogil:
    """connect(2) on a unix socket answers at once; EAGAIN: the backlog is full, try again."""
    cdef address_t* name = &self.names.each[0]
    cdef unsigned long stamp = descriptors_fork_stamp()
    cdef int fd = net.pbt_socket(net.AF_UNIX)
    cdef int rc
    self.state = CONNECTOR_DIALING
    if fd < 0:
        connector_settle(self, -net.errno)
        return
    if net.connect(fd, &name.name.any, name.size) == 0:
        rc = socket_adopt(self.loop, self.context, fd, stamp, &self.won)
    else:
        rc = -net.errno
    if rc < 0:
        net.close(fd)
    if rc == uv.UV_EAGAIN:
        alarm_arm(self.loop, &self.stagger, clock_now() + BACKLOG_RETRY_MILLISECONDS)
    else:
        connector_settle(self, rc)


cdef void connector_look_up(connector_t* self, bytes host, int port) noexcept:
    cdef int rc = lookup_start(&self.lookup, &self.loop.lookups, host, len(host), port, on_looked_up, self)
    if rc < 0:
        connector_settle(self, rc)
        return
    loop_wakeup(self.loop)


cdef void on_looked_up(void* owner, int status, net.addrinfo* answer) noexcept nogil:
    cdef connector_t* self = <connector_t*>owner
    self.lookup = NULL
    if status == 0 and not names_from_answer(&self.names, answer):
        status = uv.UV_ENOMEM
    if answer != NULL:
        resolver.freeaddrinfo(answer)
    if status < 0:
        self.failed = self.names.count
        connector_settle(self, status)
    else:
        attempts_start_next(self)


# ---------------------------------------------------------------------------- the outcome

cdef void connector_settle(connector_t* self, int code) noexcept nogil:
    """The outcome is known: `won`, or `code`. Everything else of it ends here."""
    PBT_CHECK_STATE(connector_fault(self), self.state)
    self.error = code
    self.state = CONNECTOR_HANDSHAKING if code == 0 and self.context.tls != NULL else CONNECTOR_SETTLED
    connector_stop(self)
    if self.starting:
        connector_post(self)
    else:
        connector_emit_outcome(self)


cdef inline bint connector_is_decided(connector_t* self) noexcept nogil:
    """Nothing more will be started."""
    return self.state >= CONNECTOR_HANDSHAKING


cdef const char* connector_fault(connector_t* self) noexcept nogil:
    if connector_is_decided(self):
        return "a connector was settled twice"
    return NULL


cdef void connector_stop(connector_t* self) noexcept nogil:
    """Close the attempts that are out; their callbacks follow, with ECANCELED."""
    cdef attempt_t* each = self.attempts
    alarm_disarm(self.loop, &self.stagger)
    alarm_disarm(self.loop, &self.deadline)
    if self.lookup != NULL:
        lookup_abandon(self.lookup)
        self.lookup = NULL
        loop_wakeup(self.loop)        # no event follows, and an asyncio loop need not watch for nothing
    while each != NULL:
        stream_close(each.s)
        each = each.next


cdef void connector_post(connector_t* self) noexcept nogil:
    self.posted = True
    self.next_posted = self.loop.posted
    self.loop.posted = self
    loop_request_turn(self.loop)


cdef connector_t* connectors_take_posted(loop_t* loop) noexcept nogil:
    """The posted ones, oldest first."""
    cdef connector_t* oldest = NULL
    cdef connector_t* each
    while loop.posted != NULL:
        each = loop.posted
        loop.posted = each.next_posted
        each.next_posted = oldest
        oldest = each
    return oldest


cdef void connectors_emit_posted(loop_t* loop) noexcept nogil:
    cdef connector_t* each = connectors_take_posted(loop)
    cdef connector_t* following
    while each != NULL:
        following = each.next_posted
        each.posted = False
        connector_emit_outcome(each)
        each = following


cdef void connector_emit_outcome(connector_t* self) noexcept nogil:
    """Tell the outcome, unless it was cancelled or the loop died meanwhile; then let go."""
    if self.wrapper != NULL and not self.loop.dead:
        gil_take(self.loop)
        self.emitting = True         # it may be cancelled meanwhile
        if self.error == 0:
            (<connector_fn><void*>connector_established)(self)
        else:
            (<connector_fn><void*>connector_emit_failure)(self)
        self.emitting = False
    connector_free_if_idle(self)


ctypedef void (*connector_fn)(connector_t*) noexcept nogil

cdef void connector_established(connector_t* self) noexcept:
    cdef int on = 1
    if self.no_delay:
        net.setsockopt(stream_fd(self.won), net.IPPROTO_TCP, net.TCP_NODELAY, &on, sizeof(on))
    options_set_keep_alive(stream_fd(self.won), (<Connecting>self.wrapper).options.keep_alive)
    if self.context.tls == NULL:
        connector_open(self)
        return
    context_of(self.won).connector = self
    tls_begin(self.won, False)


cdef void connector_open(connector_t* self) noexcept:
    """It stands, and so does what it is secured by."""
    cdef socket_t* s = self.won
    cdef Connecting wrapper = connector_unlink(self)
    self.state = CONNECTOR_SETTLED
    self.won = NULL
    context_of(s).connector = NULL
    self.loop.count.connected += 1
    if Py_REFCNT(<PyObject*>wrapper) != 1:
        wrapper.value = wrapper_of(s)     # somebody may ask for it
    wrapper.emitting = True
    if not s.flags & S_OPENED:
        socket_opened(s)
    connecting_finish(wrapper)


cdef void connector_handshake_done(connector_t* self) noexcept nogil:
    """The handshake is done. A socket that was closed meanwhile is told of when it is gone."""
    if is_closing(self.won):
        return
    gil_take(self.loop)
    (<connector_fn><void*>connector_open)(self)
    connector_free_if_idle(self)


cdef void connector_socket_closed(connector_t* self, socket_t* s) noexcept nogil:
    """If it is the one that won, the connection is gone before its handshake was done."""
    if self.won != s:
        return
    gil_take(self.loop)
    (<connector_fn><void*>connector_emit_lost)(self)
    connector_free_if_idle(self)


cdef void connector_emit_lost(connector_t* self) noexcept:
    cdef socket_t* s = self.won
    cdef bint opened = s.flags & S_OPENED != 0
    connector_note_failure(self, tls_failure(s))
    self.state = CONNECTOR_SETTLED
    self.won = NULL
    context_of(s).connector = NULL
    if self.loop.dead:
        return                      # see connector_abandon
    self.error = s.error if s.error != 0 else uv.UV_ECONNABORTED
    if opened:
        connector_refuse(self)      # its handlers know
    else:
        connector_emit_failure(self)


cdef void connector_note_failure(connector_t* self, object error) noexcept:
    """This is why; the first reason counts."""
    if self.failure == NULL and error is not None:
        Py_INCREF(error)
        self.failure = <PyObject*>error


cdef void connector_refuse(connector_t* self) noexcept:
    cdef object error = connector_error(self)
    cdef Connecting wrapper = connector_unlink(self)
    wrapper.error = error
    wrapper.error_seen = True
    connecting_finish(wrapper)


cdef void connector_emit_failure(connector_t* self) noexcept:
    cdef object error = connector_error(self)
    cdef int code = -self.error if self.failure != NULL else errno_of(error)
    cdef PyObject* handler = self.context.table.callable[E_CONNECT_ERROR]
    cdef Connecting wrapper = connector_unlink(self)
    wrapper.emitting = True
    wrapper.error = error
    if handler != NULL:
        wrapper.error_seen = True
        connecting_call_connect_error(self.loop, <object>handler, wrapper)
        return
    if self.context.table.slots.connect_error != NULL:
        wrapper.error_seen = connector_call_slot(self, code)
    connecting_finish(wrapper)


cdef bint connector_call_slot(connector_t* self, int error) noexcept nogil:
    """The slot gets a socket that stands for the one that never was: closed already."""
    cdef socket_t* s = stream_new(self.loop, self.context)
    if s == NULL:
        return False
    stream_close(s)
    emit_connect_error(s, error)
    return True


cdef object connector_error(connector_t* self):
    options = (<Connecting>self.wrapper).options
    if self.failure != NULL:
        return <object>self.failure
    if options.fd is not None:
        return error_from_code(self.error, "connect", f"fd {options.fd}")
    if options.unix is not None:
        return error_from_code(self.error, "connect", options.unix)
    if self.no_interface:
        return error_from_code(self.error, "bind", options.local.decode(), options.local_port or None)
    if self.failed < self.names.count:
        return error_from_code(self.error, "connect",
                               address_host(&self.names.each[self.failed]), options.port)
    syscall = "connect" if self.error == uv.UV_ETIMEDOUT or self.error == -net.ENODEV else "getaddrinfo"
    return error_from_code(self.error, syscall, options.hostname, options.port)


# ---------------------------------------------------------------------------- the end

cdef Connecting connector_unlink(connector_t* self):
    """It counts no more; the reference to its face is given to the caller."""
    cdef Connecting wrapper = <Connecting>self.wrapper
    wrapper.c = NULL
    Py_CLEAR(self.wrapper)
    Py_CLEAR(self.failure)
    self.link[0] = self.next
    if self.next != NULL:
        self.next.link = self.link
    self.loop.count.connecting -= 1
    loop_unref(self.loop)
    return wrapper


cdef void connector_cancel(connector_t* self) noexcept:
    """Nobody wants it any more: no handler runs."""
    self.state = CONNECTOR_SETTLED
    connector_stop(self)
    if self.won != NULL:
        context_of(self.won).connector = NULL
        stream_close(self.won)
        self.won = NULL
    connector_unlink(self)
    connector_free_if_idle(self)


cdef void connectors_abandon(loop_t* loop) noexcept nogil:
    gil_take(loop)
    connectors_emit_posted(loop)
    while loop.connectors != NULL:
        (<connector_fn><void*>connector_abandon)(loop.connectors)


cdef void connector_abandon(connector_t* self) noexcept:
    cdef Connecting wrapper = <Connecting>self.wrapper
    wrapper.cancelled_ = True
    connector_cancel(self)
    wrapper.waiting = []           # the asyncio loop is closed, too


cdef void connector_free_if_idle(connector_t* self) noexcept nogil:
    """Freed when nobody will call back and nobody waits for the outcome."""
    if self.wrapper != NULL or self.posted or self.emitting or self.attempts != NULL:
        return
    context_release(self.loop, self.context)
    names_free(&self.names)
    free(self)
