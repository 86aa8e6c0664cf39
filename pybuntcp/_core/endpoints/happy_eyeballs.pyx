"""happy_eyeballs: trying the addresses of one outgoing connection.

The problem: a name has several addresses, some of which may be unreachable and take minutes to fail. The naive answer,
one address after the other, waits for those; all at once burdens every server with connections that are dropped.
The rule (RFC 8305, happy eyeballs): start the first attempt; start the next when one fails, or after 250 ms, whichever
is first; the first that connects wins, the others are closed.

Owns `attempt_t`, one address being tried. An attempt owns its socket until it wins, and is freed when libuv has called
back, also after it was closed.
Left out: learning from earlier connections which family is better (RFC 8305, section 3.1).
"""
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport net, uv


cdef enum:
    STAGGER_MILLISECONDS = 250


cdef struct attempt_t:
    uv.uv_connect_t request     # first: a pointer to it is a pointer to the attempt
    connector_t* owner
    socket_t* s
    attempt_t* next
    size_t index                # of the address in owner.names


cdef void attempts_start_next(connector_t* self) noexcept nogil:
    """Try the next address that can be tried. With none left and no attempt in flight, the connector has failed."""
    cdef size_t index
    cdef int rc
    self.state = CONNECTOR_DIALING
    while self.tried < self.names.count:
        index = self.tried
        self.tried += 1
        rc = attempt_start(self, index)
        if rc == 0:
            if self.tried < self.names.count:
                alarm_arm(self.loop, &self.stagger, clock_now() + STAGGER_MILLISECONDS)
            return
        attempt_note_error(self, rc, index)
    if self.attempts == NULL:
        connector_settle(self, self.error)


cdef int attempt_start(connector_t* self, size_t index) noexcept nogil:
    """Start one attempt. On a negative code it has failed at once, and nothing is left of it."""
    cdef address_t* name = &self.names.each[index]
    cdef unsigned long stamp = descriptors_fork_stamp()
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
    attempt.s = stream_new(self.loop, self.context)
    if attempt.s == NULL:
        free(attempt)
        return uv.UV_ENOMEM
    if self.local.size != 0:
        rc = attempt_bind(attempt, &self.local)
    if rc == 0:
        rc = uv.uv_tcp_connect(&attempt.request, &attempt.s.tcp, &name.name.any, on_attempt_connected)
    if rc < 0:
        stream_close(attempt.s)
        free(attempt)
        return rc
    descriptor_track(stream_fd(attempt.s), stamp)
    attempt.next = self.attempts
    self.attempts = attempt
    loop_wakeup(self.loop)
    return 0


cdef int attempt_bind(attempt_t* self, const address_t* source) noexcept nogil:
    """Bind the attempt's socket to `local_address` or `local_port`."""
    cdef int fd = net.pbt_socket(source.name.any.sa_family)
    cdef int rc
    if fd < 0:
        return -net.errno
    rc = net.pbt_bind_source(fd, &source.name.any, source.size, address_port_number(source) == 0)
    if rc == 0:
        rc = uv.uv_tcp_open(&self.s.tcp, fd)
    if rc < 0:
        net.close(fd)
    return rc


cdef bint attempt_is_self_connect(attempt_t* self) noexcept nogil:
    """True if the socket is connected to itself.

    TCP allows this ("simultaneous open", RFC 9293, section 3.5). It happens when a program connects to a local port on
    which no process listens, and which lies in the range of ephemeral ports: instead of refusing the connection, the
    kernel may give the socket the port that it connects to.
    """
    cdef address_t ours, peers
    address_of_fd(&ours, stream_fd(self.s), False)
    if address_port_number(&ours) != address_port_number(&self.owner.names.each[self.index]):
        return False
    address_of_fd(&peers, stream_fd(self.s), True)
    return address_is(&peers, &ours)


cdef void on_attempt_connected(uv.uv_connect_t* request, int status) noexcept nogil:
    cdef attempt_t* attempt = <attempt_t*>request
    cdef connector_t* self = attempt.owner
    cdef socket_t* s = attempt.s
    cdef size_t index = attempt.index
    if status == 0 and not connector_is_decided(self) and attempt_is_self_connect(attempt):
        status = uv.UV_ECONNREFUSED
        closing_with_reset(s)           # TIME-WAIT would keep the port that the server needs
    attempt_unlink(attempt)
    if connector_is_decided(self) or status < 0:
        stream_close(s)
    if connector_is_decided(self):
        connector_free_if_idle(self)
    elif status < 0:
        attempt_note_error(self, status, index)
        attempts_start_next(self)
    else:
        self.won = s
        self.failed = index
        connector_settle(self, 0)


cdef void attempt_unlink(attempt_t* self) noexcept nogil:
    cdef attempt_t** link = &self.owner.attempts
    while link[0] != self:
        link = &link[0].next
    link[0] = self.next
    free(self)


cdef void attempt_note_error(connector_t* self, int code, size_t index) noexcept nogil:
    """Keep the error to report: the first one, unless it only says that an address family cannot be used here."""
    if (self.error == 0 or self.error == uv.UV_ENETUNREACH or self.error == uv.UV_EADDRNOTAVAIL
            or self.error == uv.UV_EAFNOSUPPORT or self.error == uv.UV_EHOSTUNREACH):
        self.error = code
        self.failed = index


cdef void on_stagger(alarm_t* alarm) noexcept nogil:
    cdef connector_t* self = <connector_t*>alarm.owner
    if self.names.each[0].name.any.sa_family == net.AF_UNIX:
        connector_dial_unix(self)
    else:
        attempts_start_next(self)


cdef void on_connect_timeout(alarm_t* alarm) noexcept nogil:
    cdef connector_t* self = <connector_t*>alarm.owner
    self.failed = self.names.count
    connector_settle(self, uv.UV_ETIMEDOUT)
