"""connector: one outgoing connection, from `connect()` to `open` or `connect_error`.

The problem: a name has several addresses, some of which may be dead and take minutes to say
so; the caller may cancel at any moment; the outcome must be told once, from the loop, never
before `connect()` has returned.
The naive answer, one address after the other, waits for the dead ones; all at once burdens
every server with connections that are thrown away.
The rule (RFC 8305, happy eyeballs): start the first attempt; start the next when it fails or
250 ms later, whichever is first; the first that connects wins, the others are closed.

Owns `connector_t`, alive until its outcome is told and nothing of it (lookup, attempts) is
out any more, and `attempt_t`, one address being tried, which owns its socket until that wins.
Every road ends in `connector_settle`, once. Errors that come at once (a bad descriptor, a
unix path) are posted to the loop.
Left out: learning from earlier connections which family is better (RFC 8305, section 3.1).
"""
from cpython.ref cimport PyObject, Py_CLEAR
from libc.math cimport isinf
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport net, uv

cdef enum:
    STAGGER_MILLISECONDS = 250
    BACKLOG_FULL_MILLISECONDS = 5


cdef struct attempt_t:
    uv.uv_connect_t request     # first: libuv's pointer is ours
    connector_t* owner
    socket_t* s
    attempt_t* next
    size_t index                # of the address in owner.names

cdef struct connector_t:
    uv.uv_getaddrinfo_t lookup  # first: libuv's pointer is ours
    loop_t* loop
    PyObject* face              # owned until the outcome is told: the Connecting
    context_t* context
    connector_t* next           # in the loop's list
    connector_t** link
    connector_t* next_posted
    alarm_t stagger             # time for the next address (or to try a full backlog again)
    alarm_t deadline
    names_t names
    size_t tried                # names[0..tried) were started
    attempt_t* attempts         # those still out
    address_t local             # where to connect from; size 0 = anywhere
    int local_port              # ... but from this port; 0 = any
    bint starting               # inside connect(): outcomes are posted
    bint looking                # a lookup is out
    bint posted
    bint settled                # nothing more will be started
    socket_t* won
    int error
    size_t failed               # whose error it is; names.count: of the whole attempt
    bint no_delay


# ---------------------------------------------------------------------------- starting

cdef connector_t* connector_new(Loop loop, context_t* context) except NULL:
    cdef connector_t* self = <connector_t*>calloc(1, sizeof(connector_t))
    if self == NULL:
        raise MemoryError()
    self.loop = loop.c
    self.context = context
    context.references += 1
    self.stagger.ring = on_stagger
    self.deadline.ring = on_deadline
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
    self.starting = True
    if not isinf(options.timeout):
        alarm_arm(self.loop, &self.deadline, deadline_after(options.timeout))
    try:
        if options.fd is not None:
            connector_adopt(self, options.fd)
        elif options.unix is not None:
            connector_start_unix(self, options.unix)
        elif names_from_literal(&self.names, options.host, options.port):
            connector_dial_next(self)
        else:
            connector_look_up(self, options.host, b"%d" % options.port)
    finally:
        self.starting = False
    return 0


cdef void connector_adopt(connector_t* self, int fd) noexcept:
    """`fd=`: adopt a connected stream socket, or fail without closing it."""
    cdef int rc = net.pbt_check_connected(fd)
    if rc == 0:
        rc = socket_adopt(self.loop, self.context, fd, &self.won)
    connector_settle(self, rc)


cdef int connector_start_unix(connector_t* self, str path) except -1:
    if not names_room(&self.names, 1):
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
    cdef int fd = net.pbt_socket(net.AF_UNIX)
    cdef int rc
    if fd < 0:
        connector_settle(self, -net.errno)
        return
    if net.connect(fd, &name.name.any, name.size) == 0:
        rc = socket_adopt(self.loop, self.context, fd, &self.won)
    else:
        rc = -net.errno
    if rc < 0:
        net.close(fd)
    if rc == uv.UV_EAGAIN:
        alarm_arm(self.loop, &self.stagger, clock_now() + BACKLOG_FULL_MILLISECONDS)
    else:
        connector_settle(self, rc)


cdef void connector_look_up(connector_t* self, bytes host, bytes service) noexcept:
    cdef net.addrinfo hints
    cdef int rc
    lookup_hints(&hints)
    rc = uv.uv_getaddrinfo(&self.loop.uv, &self.lookup, on_looked_up, host, service, &hints)
    if rc < 0:
        connector_settle(self, lookup_code(rc))
        return
    self.looking = True
    self.loop.lookups += 1
    loop_kick(self.loop)


cdef void on_looked_up(uv.uv_getaddrinfo_t* request, int status, net.addrinfo* answer) noexcept nogil:
    cdef connector_t* self = <connector_t*>request
    self.looking = False
    self.loop.lookups -= 1
    if self.settled:
        uv.uv_freeaddrinfo(answer)
        connector_free_if_idle(self)
        return
    if status == 0 and not names_from_answer(&self.names, answer):
        status = uv.UV_ENOMEM
    uv.uv_freeaddrinfo(answer)
    if status < 0:
        self.failed = self.names.count
        connector_settle(self, status)
    else:
        connector_dial_next(self)


# ---------------------------------------------------------------------------- attempts

cdef void connector_dial_next(connector_t* self) noexcept nogil:
    """Start the next address that can be started; none left and none out: it has failed."""
    cdef size_t index
    cdef int rc
    while self.tried < self.names.count:
        index = self.tried
        self.tried += 1
        rc = connector_dial(self, index)
        if rc == 0:
            if self.tried < self.names.count:
                alarm_arm(self.loop, &self.stagger, clock_now() + STAGGER_MILLISECONDS)
            return
        connector_note_error(self, rc, index)
    if self.attempts == NULL:
        connector_settle(self, self.error)


cdef int connector_dial(connector_t* self, size_t index) noexcept nogil:
    """Start one attempt. A negative code: it failed at once and nothing is left of it."""
    cdef address_t* name = &self.names.each[index]
    cdef attempt_t* attempt
    cdef int rc = 0
    if self.local_port != 0:
        address_any(&self.local, name.name.any.sa_family, self.local_port)
    if self.local.size != 0 and self.local.name.any.sa_family != name.name.any.sa_family:
        return uv.UV_EADDRNOTAVAIL
    attempt = <attempt_t*>calloc(1, sizeof(attempt_t))
    if attempt == NULL:
        return uv.UV_ENOMEM
    attempt.owner = self
    attempt.index = index
    attempt.s = socket_new(self.loop, self.context)
    if attempt.s == NULL:
        free(attempt)
        return uv.UV_ENOMEM
    if self.local.size != 0:
        rc = uv.uv_tcp_bind(&attempt.s.tcp, &self.local.name.any, 0)
    if rc == 0:
        rc = uv.uv_tcp_connect(&attempt.request, &attempt.s.tcp, &name.name.any, on_connected)
    if rc < 0:
        stream_close(attempt.s)
        free(attempt)
        return rc
    attempt.next = self.attempts
    self.attempts = attempt
    loop_kick(self.loop)
    return 0


cdef void on_connected(uv.uv_connect_t* request, int status) noexcept nogil:
    cdef attempt_t* attempt = <attempt_t*>request
    cdef connector_t* self = attempt.owner
    cdef socket_t* s = attempt.s
    cdef size_t index = attempt.index
    attempt_unlink(attempt)
    if self.settled or status < 0:
        stream_close(s)
    if self.settled:
        connector_free_if_idle(self)
    elif status < 0:
        connector_note_error(self, status, index)
        connector_dial_next(self)
    else:
        self.won = s
        connector_settle(self, 0)


cdef void attempt_unlink(attempt_t* self) noexcept nogil:
    cdef attempt_t** link = &self.owner.attempts
    while link[0] != self:
        link = &link[0].next
    link[0] = self.next
    free(self)


cdef void connector_note_error(connector_t* self, int code, size_t index) noexcept nogil:
    """Keep the error worth telling: the first, unless it only says that a family is missing."""
    if (self.error == 0 or self.error == uv.UV_ENETUNREACH or self.error == uv.UV_EADDRNOTAVAIL
            or self.error == uv.UV_EAFNOSUPPORT or self.error == uv.UV_EHOSTUNREACH):
        self.error = code
        self.failed = index


cdef void on_stagger(alarm_t* alarm) noexcept nogil:
    cdef connector_t* self = <connector_t*>alarm.owner
    if self.names.each[0].name.any.sa_family == net.AF_UNIX:
        connector_dial_unix(self)
    else:
        connector_dial_next(self)


cdef void on_deadline(alarm_t* alarm) noexcept nogil:
    cdef connector_t* self = <connector_t*>alarm.owner
    self.failed = self.names.count
    connector_settle(self, uv.UV_ETIMEDOUT)


# ---------------------------------------------------------------------------- the outcome

cdef void connector_settle(connector_t* self, int code) noexcept nogil:
    """The outcome is known: `won`, or `code`. Everything else of it ends here."""
    self.error = code
    connector_stop(self)
    if self.starting:
        connector_post(self)
    else:
        connector_tell(self)


cdef void connector_stop(connector_t* self) noexcept nogil:
    """Close the attempts that are out; their callbacks follow, with ECANCELED."""
    cdef attempt_t* each = self.attempts
    self.settled = True
    alarm_disarm(self.loop, &self.stagger)
    alarm_disarm(self.loop, &self.deadline)
    if self.looking:
        uv.uv_cancel(<uv.uv_req_t*>&self.lookup)
    while each != NULL:
        stream_close(each.s)
        each = each.next


cdef void connector_post(connector_t* self) noexcept nogil:
    self.posted = True
    self.next_posted = self.loop.posted
    self.loop.posted = self
    loop_again(self.loop)


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


cdef void connectors_tell_posted(loop_t* loop) noexcept nogil:
    cdef connector_t* each = connectors_take_posted(loop)
    cdef connector_t* following
    while each != NULL:
        following = each.next_posted
        each.posted = False
        connector_tell(each)
        each = following


cdef void connector_tell(connector_t* self) noexcept nogil:
    """Tell the outcome, unless it was cancelled or the loop died meanwhile; then let go."""
    if self.face != NULL and not self.loop.dead:
        gil_take(self.loop)
        if self.error == 0:
            (<connector_slot><void*>connector_tell_open)(self)
        else:
            (<connector_slot><void*>connector_tell_failure)(self)
    connector_free_if_idle(self)


ctypedef void (*connector_slot)(connector_t*) noexcept nogil

cdef void connector_tell_open(connector_t* self) noexcept:
    cdef socket_t* s = self.won
    cdef Connecting face = connector_let_go(self)
    cdef int on = 1
    self.won = NULL
    if self.no_delay:
        net.setsockopt(stream_fd(s), net.IPPROTO_TCP, net.TCP_NODELAY, &on, sizeof(on))
    keep_alive_set(stream_fd(s), face.options.keep_alive)
    self.loop.count.connected += 1
    if Py_REFCNT(<PyObject*>face) != 1:
        face.value = socket_face(s)     # somebody may ask for it
    face.telling = True
    socket_opened(s)
    connecting_told(face)


cdef void connector_tell_failure(connector_t* self) noexcept:
    cdef object error = connector_error(self)
    cdef PyObject* handler = self.context.table.callable[E_CONNECT_ERROR]
    cdef Connecting face = connector_let_go(self)
    face.telling = True
    face.error = error
    if handler != NULL:
        face.told = True
        connect_error_call(self.loop, <object>handler, face)
        return
    if self.context.table.slots.connect_error != NULL:
        face.told = connector_tell_slot(self, errno_of(error))
    connecting_told(face)


cdef bint connector_tell_slot(connector_t* self, int error) noexcept nogil:
    """The slot gets a socket that stands for the one that never was: closed already."""
    cdef socket_t* s = socket_new(self.loop, self.context)
    if s == NULL:
        return False
    stream_close(s)
    emit_connect_error(s, error)
    return True


cdef object connector_error(connector_t* self):
    options = (<Connecting>self.face).options
    if options.fd is not None:
        return error_from_code(self.error, "connect", f"fd {options.fd}")
    if options.unix is not None:
        return error_from_code(self.error, "connect", options.unix)
    if self.failed < self.names.count:
        return error_from_code(self.error, "connect",
                               address_host(&self.names.each[self.failed]), options.port)
    syscall = "connect" if self.error == uv.UV_ETIMEDOUT else "getaddrinfo"
    return error_from_code(self.error, syscall, options.hostname, options.port)


# ---------------------------------------------------------------------------- the end

cdef Connecting connector_let_go(connector_t* self):
    """It counts no more; the reference to its face is given to the caller."""
    cdef Connecting face = <Connecting>self.face
    face.c = NULL
    Py_CLEAR(self.face)
    self.link[0] = self.next
    if self.next != NULL:
        self.next.link = self.link
    self.loop.count.connecting -= 1
    loop_unref(self.loop)
    return face


cdef void connector_cancel(connector_t* self) noexcept:
    """Nobody wants it any more: no handler runs."""
    connector_stop(self)
    if self.won != NULL:
        stream_close(self.won)
        self.won = NULL
    connector_let_go(self)
    connector_free_if_idle(self)


cdef void connectors_abandon(loop_t* loop) noexcept nogil:
    gil_take(loop)
    connectors_tell_posted(loop)
    while loop.connectors != NULL:
        (<connector_slot><void*>connector_abandon)(loop.connectors)


cdef void connector_abandon(connector_t* self) noexcept:
    cdef Connecting face = <Connecting>self.face
    face.cancelled_ = True
    connector_cancel(self)
    face.waiting = []           # the asyncio loop is closed, too


cdef void connector_free_if_idle(connector_t* self) noexcept nogil:
    """Freed when nobody will call back and nobody waits for the outcome."""
    if self.face != NULL or self.looking or self.posted or self.attempts != NULL:
        return
    context_release(self.loop, self.context)
    names_free(&self.names)
    free(self)
