"""connector: one outgoing connection, from `connect()` to `open` or `connect_error`.

The problem: a lookup, several attempts, two timers, a TLS handshake and the user, who may cancel at any moment, lead to
one outcome. It must be reported exactly once, from the loop, and never before `connect()` has returned.
The rule: whatever is first calls `connector_settle`, and this stops everything else.

    connect()
       |
       +-- a name --> RESOLVING --on_looked_up--+
       +-- IP literal, localhost, unix= --------+--> DIALING --an attempt connects--+
       +-- fd= ---------------------------------------------------------------------+--> connector_settle(0)
       |
       +-- no address, all attempts failed, `timeout`: --------------------------------> connector_settle(code)

    connector_settle(0)     without TLS:  SETTLED, `open`
                            with TLS:     HANDSHAKING --handshake done---------------> SETTLED, `open`
                                               +------the socket closes before that--> SETTLED, `connect_error`
    connector_settle(code)  SETTLED, `connect_error`
    cancel()                SETTLED from any state; no handler is called

The outcome is reported at once (`connector_emit_outcome`), except inside `connect()` itself, for example for a bad
descriptor or a unix path: then the connector is queued (`posted`), and the next turn reports it.

Who frees. The connector owns a reference to its `Connecting` until the outcome is reported or it is cancelled
(`connector_unlink`). It is freed when that reference is gone, it is not posted, its outcome is not being reported, and
libuv has called back for every attempt (`connector_free_if_idle`), which it does later for those that are closed. A
lookup is abandoned, and the pool frees it (see loop/lookups). The socket that won belongs to the loop like any other;
while its handshake runs, `won` and `context.connector` refer to each other, and both are cleared when one of them ends.

Does not know how addresses are tried (see happy_eyeballs), nor what Python sees (see connect).
"""
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF
from libc.math cimport isinf
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport net, resolver, uv


cdef enum:
    BACKLOG_RETRY_MILLISECONDS = 5


cdef enum connector_state_t:    # a connector only moves forward
    CONNECTOR_RESOLVING         # its addresses are not known
    CONNECTOR_DIALING           # they are being tried
    CONNECTOR_HANDSHAKING       # `won` is connected, and its TLS handshake is not done
    CONNECTOR_SETTLED           # the outcome is known, or it was cancelled

cdef struct connector_t:
    loop_t* loop
    PyObject* wrapper           # the Connecting: owned until the outcome is reported; then NULL
    context_t* context          # one reference is the connector's
    connector_t* next           # in the loop's list
    connector_t** link
    connector_t* next_posted
    alarm_t stagger             # fires when the next address is tried, or a unix socket's full backlog again
    alarm_t deadline            # the option `timeout`
    names_t names
    size_t tried                # how many of the names were tried
    attempt_t* attempts         # those for which libuv has not called back
    address_t local             # the address to connect from; size 0: any
    int local_port              # the port to connect from, if `local` has no address; 0: any
    bint no_interface           # `local_address` names an interface that does not exist
    bint starting               # inside connect(): an outcome is posted
    lookup_t* lookup            # in progress; NULL: none
    bint posted                 # in the loop's list of connectors whose outcome the next turn reports
    bint emitting               # its outcome is being reported, so it must not be freed
    connector_state_t state
    socket_t* won               # the connected socket, until `open` is called
    int error                   # libuv's code of the failure; 0: none
    size_t failed               # the index of the name that has failed; names.count: no single one
    PyObject* failure           # owned: the exception, if a code does not say enough; NULL: none
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
    stats_add(&loop.c.count.connecting, 1)
    loop_ref(loop.c)
    return self


cdef int connector_start(connector_t* self, options) except -1:
    """Begin. An error at once is an outcome like any other."""
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
    """For `fd=`: adopt a connected stream socket, or fail without closing it."""
    cdef int rc = adopt_check(fd)
    if rc == 0:
        rc = socket_adopt(self.loop, self.context, fd, descriptors_fork_stamp(), &self.won)
    if rc == 0:
        net.pbt_set_cloexec(fd)
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
    """Connect to a unix socket, which succeeds or fails at once. EAGAIN: the backlog is full, and is tried again."""
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
    """The attempt has succeeded (`code` is 0, `won` the socket) or failed. Stop everything else, then report it."""
    PBT_CHECK_STATE(connector_fault(self), self.state)
    self.error = code
    self.state = CONNECTOR_HANDSHAKING if code == 0 and self.context.tls != NULL else CONNECTOR_SETTLED
    connector_stop(self)
    if self.starting:
        connector_post(self)
    else:
        connector_emit_outcome(self)


cdef inline bint connector_is_decided(connector_t* self) noexcept nogil:
    """True if nothing more will be tried."""
    return self.state >= CONNECTOR_HANDSHAKING


cdef const char* connector_fault(connector_t* self) noexcept nogil:
    if connector_is_decided(self):
        return "a connector was settled twice"
    return NULL


cdef void connector_stop(connector_t* self) noexcept nogil:
    """Stop the timers and the lookup and close the attempts, for which libuv will call back with ECANCELED."""
    cdef attempt_t* each = self.attempts
    alarm_disarm(self.loop, &self.stagger)
    alarm_disarm(self.loop, &self.deadline)
    if self.lookup != NULL:
        lookup_abandon(self.lookup)
        self.lookup = NULL
        loop_wakeup(self.loop)      # an abandoned lookup causes no event; the next turn may find the loop empty
    while each != NULL:
        stream_close(each.s)
        each = each.next


cdef void connector_post(connector_t* self) noexcept nogil:
    self.posted = True
    self.next_posted = self.loop.posted
    self.loop.posted = self
    loop_request_turn(self.loop)


cdef connector_t* connectors_take_posted(loop_t* loop) noexcept nogil:
    """Empty the loop's list of posted connectors. Returns them, oldest first."""
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


ctypedef void (*connector_fn)(connector_t*) noexcept nogil
ctypedef void (*connector_gil_fn)(connector_t*) noexcept    # needs the GIL

cdef inline void connector_call_with_gil(connector_t* self, connector_gil_fn function) noexcept nogil:
    gil_take(self.loop)
    (<connector_fn><void*>function)(self)


cdef void connector_emit_outcome(connector_t* self) noexcept nogil:
    """Report the outcome, unless the connector was cancelled or the loop is dead; then free what can be freed."""
    if self.wrapper != NULL and not self.loop.dead:
        self.emitting = True        # a handler may cancel it
        if self.error == 0:
            connector_call_with_gil(self, connector_established)
        else:
            connector_call_with_gil(self, connector_emit_failure)
        self.emitting = False
    connector_free_if_idle(self)


cdef void connector_established(connector_t* self) noexcept:
    """`won` is connected: open it, or begin its TLS handshake."""
    if self.no_delay:
        options_set_no_delay(stream_fd(self.won))
    options_set_keep_alive(stream_fd(self.won), (<Connecting>self.wrapper).options.keep_alive)
    if self.context.tls == NULL:
        connector_open(self)
        return
    context_of(self.won).connector = self
    tls_begin(self.won, False)


cdef void connector_open(connector_t* self) noexcept:
    """The connection is complete, its TLS handshake included: call `open` and finish the Connecting."""
    cdef socket_t* s = self.won
    cdef Connecting wrapper
    (<Connecting>self.wrapper).emitting = True      # before it is unlinked: other threads must not see it done
    wrapper = connector_unlink(self)
    self.state = CONNECTOR_SETTLED
    self.won = NULL
    context_of(s).connector = NULL
    stats_add(&self.loop.count.connected, 1)
    if Py_REFCNT(<PyObject*>wrapper) != 1:
        wrapper.value = wrapper_of(s)       # the program has kept the Connecting, and may ask for the Socket
    if not s.flags & S_OPENED:
        socket_opened(s)
    connecting_finish(wrapper)


cdef void connector_handshake_done(connector_t* self) noexcept nogil:
    """The handshake of `won` is done. If the user has closed the socket, connector_socket_closed will report it."""
    if is_closing(self.won):
        return
    connector_call_with_gil(self, connector_open)
    connector_free_if_idle(self)


cdef void connector_socket_closed(connector_t* self, socket_t* s) noexcept nogil:
    """A socket has closed. If it is `won`, its handshake was not done, and this is the outcome."""
    if self.won != s:
        return
    connector_call_with_gil(self, connector_emit_lost)
    connector_free_if_idle(self)


cdef void connector_emit_lost(connector_t* self) noexcept:
    """`won` has closed before its handshake was done."""
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
        connector_refuse(self)      # `open` was called for it, so `close` is, and not `connect_error`
    else:
        connector_emit_failure(self)


cdef void connector_note_failure(connector_t* self, object error) noexcept:
    """Note the exception to report. Only the first one is kept."""
    if self.failure == NULL and error is not None:
        Py_INCREF(error)
        self.failure = <PyObject*>error


cdef void connector_refuse(connector_t* self) noexcept:
    """Finish the Connecting with an error, without calling a handler."""
    cdef Connecting wrapper = <Connecting>self.wrapper
    wrapper.error = connector_error(self)
    wrapper.error_seen = True
    connector_unlink(self)
    connecting_finish(wrapper)


cdef void connector_emit_failure(connector_t* self) noexcept:
    """Call `connect_error` and finish the Connecting."""
    cdef object error = connector_error(self)
    cdef int code = -self.error if self.failure != NULL else errno_of(error)
    cdef PyObject* handler = self.context.table.callable[E_CONNECT_ERROR]
    cdef Connecting wrapper = <Connecting>self.wrapper
    wrapper.emitting = True         # before it is unlinked, as in connector_open
    connector_unlink(self)
    wrapper.error = error
    if handler != NULL:
        wrapper.error_seen = True
        connecting_call_connect_error(self.loop, <object>handler, wrapper)
        return
    if self.context.table.slots.connect_error != NULL:
        wrapper.error_seen = connector_call_slot(self, code)
    connecting_finish(wrapper)


cdef bint connector_call_slot(connector_t* self, int error) noexcept nogil:
    """Call the slot `connect_error` with a socket of the context that is closed already. False: no memory for one."""
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
    """Take the connector out of the loop's list and counts. Returns its reference to the Connecting."""
    cdef Connecting wrapper = <Connecting>self.wrapper
    wrapper.c = NULL
    Py_CLEAR(self.wrapper)
    Py_CLEAR(self.failure)
    self.link[0] = self.next
    if self.next != NULL:
        self.next.link = self.link
    stats_add(&self.loop.count.connecting, -1)
    loop_unref(self.loop)
    return wrapper


cdef void connector_cancel(connector_t* self) noexcept:
    """Give the attempt up, without calling a handler."""
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
        connector_call_with_gil(loop.connectors, connector_abandon)


cdef void connector_abandon(connector_t* self) noexcept:
    cdef Connecting wrapper = <Connecting>self.wrapper
    wrapper.cancelled_ = True
    connector_cancel(self)
    wrapper.waiting = []            # the asyncio loop is closed, too, and cannot resume the tasks that wait


cdef void connector_free_if_idle(connector_t* self) noexcept nogil:
    """Free the connector if nothing refers to it any more: see the top of this file."""
    if self.wrapper != NULL or self.posted or self.emitting or self.attempts != NULL:
        return
    context_release(self.loop, self.context)
    names_free(&self.names)
    free(self)
