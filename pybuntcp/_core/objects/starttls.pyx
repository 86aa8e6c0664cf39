"""starttls: from a plain connection to TLS in the middle of it (STARTTLS), `Socket.upgrade_tls`.

The problem: the new socket has other handlers, another context and other bytes behind it, while the old one may still
have plain bytes to send, and only when they are sent may the handshake begin.
The rule: a pair of sockets, on one connection. The TLS socket has a duplicate of the descriptor, and reads; the plain
one only sends what it had accepted. Its user sees it DETACHED, and no handler of it is called any more.

  plain socket  --- context.upgraded_to --->  TLS socket
  sends the rest                              S_HANDSHAKE, S_INPUT_DEFERRED: holds what the plain one's
  descriptor n  <-- context.upgraded_from --  reader had not read, and `initial_data`; descriptor m = dup(n)

Both links are borrowed, and cleared together (`upgrade_unlink`) before either socket is freed. If nothing is pending,
there is no pair: the plain socket closes at once, and the handshake begins (`upgrade_begin`). Else it ends in one of
four ways:

  upgrade_raw_flushed   the plain socket has sent everything: it closes, and the handshake begins
  upgrade_raw_flushed,  the same, but the TLS socket is closing and has nothing to send: the plain socket
  then upgrade_raw_lost lingers until its bytes are acknowledged, and both close
  upgrade_raw_lost      the plain socket failed: the TLS socket closes with its error
  upgrade_tls_closed    the TLS socket closed first (terminate(), a timeout): the plain one closes, too

Each socket is freed by its own close callback, as any other. S_SHARED marks descriptors of which there are two: closing
one of them must not shut down the connection.

Promises that an upgrade that cannot begin has changed nothing. A handshake that fails, if there is no `handshake`
handler, is reported to a client's `connect_error`, or else to `close` (`upgrade_emit_failure`).
"""
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF

from pybuntcp._c cimport net, uv


cdef enum:
    UPGRADE_CLIENT = 1
    UPGRADE_SERVER = 2


cdef Socket upgrade_socket(Socket self, object tls, object handlers, object data, bint server, object initial):
    """The TLS socket, with the plain one detached. Errors: nothing has changed."""
    cdef Handlers table = handlers_compile(handlers)
    cdef object config = _read_upgrade(tls, server, upgrade_host(self))
    cdef slice_t before
    cdef socket_t* s
    slice_open(&before, b"" if initial is None else initial)
    try:
        upgrade_check(self)
        s = upgrade_new(self.s, table, data, config)
        context_of(s).upgrade_role = UPGRADE_SERVER if server else UPGRADE_CLIENT
        if not tls_make_connection(s, server):
            stream_close(s)
            raise MemoryError()
        upgrade_recheck(s, self)
        tls_buffer_input(s, before.at, before.size)
    finally:
        slice_release(&before)
    upgrade_take_over(s, self)
    return wrapper_of(s)


cdef object upgrade_host(Socket self):
    """The name that was connected to, if there is one."""
    if not wrapper_is_open(self) or context_of(self.s).host == NULL:
        return None
    return <object>context_of(self.s).host


cdef int upgrade_check(Socket self) except -1:
    tls_check_plain(self.s if wrapper_is_open(self) else NULL, "upgrade_tls")
    if is_piped(self.s) or is_piped_into(self.s):
        raise RuntimeError("upgrade_tls: the socket is piped, or piped into: call unpipe() first")
    return 0


cdef int upgrade_recheck(socket_t* s, Socket self) except -1:
    """Making the connection object may have run user code: check again."""
    try:
        upgrade_check(self)
    except BaseException:
        stream_close(s)
        raise
    return 0


cdef socket_t* upgrade_new(socket_t* raw, Handlers handlers, object data, object config) except NULL:
    """A socket with a context of its own, on a duplicate of the descriptor."""
    cdef loop_t* loop = loop_of(raw)
    cdef Handlers bound = handlers_bind(handlers, <Loop>loop.owner, context_of(raw).slow_handler)
    cdef context_t* context = context_copy(context_of(raw))
    cdef socket_t* s = NULL
    cdef unsigned long stamp = descriptors_fork_stamp()
    cdef int fd
    cdef int rc
    context_install(loop, context, &bound.table)
    context.ext_size = bound.table.slots.ext_size
    context.pause_on_connect = bound.opens_paused
    context.idle_timeout = deadlines_setting(raw, DEADLINE_IDLE)
    context.read_timeout = deadlines_setting(raw, DEADLINE_READ)
    context_set_tls(context, config)
    Py_CLEAR(context.data)
    Py_INCREF(data)
    context.data = <PyObject*>data
    fd = net.pbt_duplicate(stream_fd(raw))
    rc = -net.errno if fd < 0 else socket_adopt(loop, context, fd, stamp, &s)
    context_release(loop, context)
    if rc < 0:
        if fd >= 0:
            net.close(fd)
        raise error_from_code(rc, "upgrade_tls")
    s.flags |= S_SHARED
    return s


cdef int upgrade_take_over(socket_t* s, Socket self) except -1:
    """From here on the connection belongs to `s`."""
    cdef socket_t* raw = self.s
    cdef reader_t* reader
    cdef context_t* own
    if raw.flags & S_RECEIVER:
        reader = reader_at(raw)
        tls_buffer_input(s, chunk_bytes(reader.held) if reader.held != NULL else NULL, chunk_length(reader.held))
        if reader.held != NULL:
            reader_free_chunk(<SocketReader>self.own_reader)
    s.flags |= raw.flags & S_COUNTED
    if raw.flags & S_UNREF:
        socket_unref(s)
    s.flags |= S_HANDSHAKE | S_INPUT_DEFERRED
    output_flush(raw)
    upgrade_retire_wrapper(self)
    if output_pending(raw) == 0:
        stream_close(raw)
        upgrade_begin(s)
        return 0
    own = context_copy(context_of(raw))     # the link is for this socket, and a context may be shared by many
    context_release(loop_of(raw), context_of(raw))
    raw.tcp.data = own
    own.upgraded_to = s
    context_of(s).upgraded_from = raw
    socket_unref(raw)               # the TLS socket keeps the loop going, and lives as long
    raw.flags |= S_PAUSED                   # what arrives now is for the TLS socket
    stream_stop(raw)
    deadlines_drop_user(raw)
    deadlines_start_linger(raw)
    return 0


cdef int upgrade_retire_wrapper(Socket self) except -1:
    """Detach the plain Socket from its connection, which belongs to another Socket now."""
    cdef socket_t* raw = self.s
    snapshot_addresses(raw)
    if self.snapshot == NULL:
        raise MemoryError()
    self.snapshot.bytes_read = raw.bytes_read
    self.snapshot.bytes_written = output_written(raw)
    self.snapshot.detached = True
    raw.flags = (raw.flags | S_ENDED | S_SHARED) & ~(S_OPENED | S_COUNTED)
    with cython.critical_section(self):     # see wrapper_is_open_in_any_thread
        self.s = NULL
    return 0


cdef void upgrade_begin(socket_t* s) noexcept nogil:
    """All plain bytes are with the kernel: begin the handshake."""
    s.flags &= ~S_SHARED
    deadlines_start_handshake(s, context_of(s).handshake_timeout)
    stream_queue_deferred(s)
    stream_read(s)


cdef void upgrade_raw_flushed(socket_t* raw) noexcept nogil:
    """The plain socket has sent everything."""
    cdef socket_t* s = context_of(raw).upgraded_to
    if s.flags & S_CLOSING and output_pending(s) == 0:
        raw.flags |= S_CLOSING
        closing_linger(raw)           # its last bytes may still be lost by a reset; the TLS socket closes when it does
        return
    upgrade_unlink(raw)
    if not s.flags & S_CLOSED:
        upgrade_begin(s)
    stream_close(raw)


cdef void upgrade_raw_lost(socket_t* raw) noexcept nogil:
    """The plain socket has closed: with an error, or after a TLS socket that was closing, too."""
    cdef socket_t* s = upgrade_unlink(raw)
    if s.flags & S_CLOSED:
        return
    if raw.error != 0 or not s.flags & S_CLOSING:
        socket_fail(s, raw.error if raw.error != 0 else uv.UV_ECONNABORTED)
    stream_close(s)


cdef void upgrade_tls_closed(socket_t* s) noexcept nogil:
    """The TLS socket has closed before the plain one had sent everything."""
    cdef socket_t* raw = context_of(s).upgraded_from
    upgrade_unlink(raw)
    stream_close(raw)


cdef socket_t* upgrade_unlink(socket_t* raw) noexcept nogil:
    """Clear both links. Returns the TLS socket."""
    cdef socket_t* s = context_of(raw).upgraded_to
    context_of(raw).upgraded_to = NULL
    context_of(s).upgraded_from = NULL
    return s


cdef void upgrade_emit_failure(socket_t* s) noexcept nogil:
    """It was never open: report its error to `connect_error` or `close`, whose user waits for the outcome."""
    cdef slots_t* slots = &context_of(s).table.slots
    s.flags |= S_CLOSE_EMITTED
    if context_of(s).upgrade_role == UPGRADE_SERVER or slots.connect_error == NULL and context_of(s).table.callable[E_CONNECT_ERROR] == NULL:
        emit_close(s, s.error)
    elif slots.connect_error != NULL:
        emit_connect_error(s, -s.error)
    else:
        socket_call_with_gil(s, upgrade_call_connect_error)


cdef void upgrade_call_connect_error(socket_t* s) noexcept:
    cdef object handler = <object>context_of(s).table.callable[E_CONNECT_ERROR]
    handler_enter(loop_of(s))
    try:
        result = handler(wrapper_of(s), wrapper_close_error(s, s.error))
        if result is not None:
            task_of_result(s, E_CONNECT_ERROR, handler, result)
    except BaseException as error:
        exception_raised(s, E_CONNECT_ERROR, handler, error)
    handler_leave(loop_of(s))
