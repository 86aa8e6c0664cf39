"""tls_output: what a TLS socket sends.

The problem: ciphertext cannot be taken back, and the high water mark counts plaintext; a buffer for ciphertext in every
socket would cost idle connections their memory.
The rule: written and gathered bytes stay plaintext until they go to the kernel. Then the engine seals as many as one
system call takes (TLS_WRITE_MAX) into the loop's scratch buffer, and they are sent at once. What the kernel refuses is
copied to the send queue as ciphertext, with a count of the plaintext in it; the rest stays plaintext, under the mark.

  write -> tls_send  -> tls_encrypt_and_send -> engine.seal -> scratch.out -> tls_send_ciphertext -> the kernel
  flush -> tls_flush ---^   | SEAL_WANT_READ                                            |
                            v                                                           '-> tls_queue_ciphertext
                        tls_want_read ... more input ... tls_retry_write

Control records are the engine's own: a handshake, an alert, the answer to a key update. They are sent as soon as the
engine returns, behind the send queue. At most TLS_CONTROL_MAX bytes of them wait for a peer that does not read.

While a message of the peer's between two records of data (a key update, a session ticket) has arrived in part, the
engine cannot seal: SEAL_WANT_READ. Until the rest arrives (`S_TLS_WANT_READ`) writes are kept as they are when the
kernel is full, and the socket is read even if its user has paused it, or the rest might never arrive. After each piece
of input the write is tried again (`tls_retry_write`).

Owns the calls to the engine (`filter_t`, which `_tls` registers) in this direction. Promises: what is in the scratch
buffer has been sent or copied before anything else can run. Does not know what an engine does.
"""
from pybuntcp._c cimport uv


cdef enum:
    TLS_WRITE_MAX = 65536       # bytes of plaintext for one system call
    TLS_WRITE_OVER = 16384      # bytes that may exceed the mark, so that a record is full
    TLS_CONTROL_MAX = 65536     # bytes of control records that may wait for a peer that does not read


cdef const filter_t* engine = NULL      # set when _tls is imported


cdef inline tls_t* tls_of(socket_t* self) noexcept nogil:
    """The engine's part of a TLS socket."""
    return self.tls


# ---------------------------------------------------------------------------- accounting

cdef inline size_t tls_pending(socket_t* self) noexcept nogil:
    """Plaintext that is not yet with the kernel."""
    return tls_of(self).sealed + chunk_length(self.gather)


cdef inline size_t tls_written(socket_t* self, chunk_t* chunk) noexcept nogil:
    """A chunk of the send queue was sent: the plaintext in it."""
    tls_of(self).sealed -= chunk.plain
    if chunk.plain == 0:
        tls_of(self).control -= chunk_length(chunk)
    return chunk.plain


cdef inline size_t tls_dropped(socket_t* self) noexcept nogil:
    """The send queue is dropped: the plaintext in it."""
    cdef size_t plain = tls_of(self).sealed
    tls_of(self).sealed = 0
    return plain


cdef void tls_take_over_output(socket_t* self) noexcept nogil:
    """TLS begins where plain bytes are pending: they keep their place, and count as what is sealed already."""
    cdef chunk_t* chunk
    output_enqueue(self)
    chunk = self.send_queue
    while chunk != NULL:
        chunk.plain = chunk_length(chunk)
        tls_of(self).sealed += chunk.plain
        chunk = chunk.next


# ---------------------------------------------------------------------------- sending

cdef ssize_t tls_send(socket_t* self, const char* data, size_t size, size_t limit) noexcept nogil:
    """As `output_send`: what is gathered, then the caller's bytes; keep what is refused."""
    cdef size_t taken = 0
    cdef size_t piece
    cdef int rc
    if not tls_flush(self):
        return self.error
    while taken < size and not output_blocked(self) and not tls_scratch_in_use(self):
        piece = min(size - taken, tls_max_plaintext(self, limit))
        rc = tls_encrypt_and_send(self, data + taken, piece)
        if rc == SEALED:
            self.accepted += piece
            tls_send_ciphertext(self, piece)
        if rc < 0 or not may_send(self):
            return taken if taken != 0 else self.error
        if rc == SEALED:
            taken += piece
    if taken < size:
        taken += output_buffer(self, data + taken, size - taken, limit)
        if tls_scratch_in_use(self):
            tls_defer_flush(self)
    return taken


cdef void tls_defer_flush(socket_t* self) noexcept nogil:
    """As `output_list_add`, which without memory would flush, and so come back here."""
    if not self.flags & S_TURN_FLUSH and sockets_add(&loop_of(self).turn_flush, self):
        self.flags |= S_TURN_FLUSH
        loop_wakeup(loop_of(self))


cdef inline bint tls_scratch_in_use(socket_t* self) noexcept nogil:
    """True if the scratch buffers are in use: an engine is running, or its output was not sent yet.

    Possible only when user code runs inside an engine (a callback of the SSLContext).
    """
    return loop_of(self).scratch.busy or loop_of(self).scratch.out_size != 0


cdef inline size_t tls_max_plaintext(socket_t* self, size_t limit) noexcept nogil:
    """Plaintext that may be sealed now. A sealed record cannot be taken back, so a last one may exceed the limit."""
    cdef size_t pending = output_unsent(self)
    cdef size_t capacity = limit - pending if limit > pending else 0
    return min(min(capacity, <size_t>TLS_WRITE_MAX) + TLS_WRITE_OVER, <size_t>TLS_WRITE_MAX)


cdef int tls_encrypt_and_send(socket_t* self, const char* data, size_t size) noexcept nogil:
    """Seal `data` into the scratch buffer: SEALED, and the caller sends that.

    SEAL_WANT_READ: nothing can be sealed until more has arrived. -1: the socket is broken or closed.
    """
    cdef int rc = engine.seal(tls_of(self), self, data, size)
    if rc < 0:
        loop_of(self).scratch.out_size = 0
        output_fail(self, uv.UV_EPROTO)
        self.flags |= S_INPUT_DEFERRED                # a turn reports the error: see tls_resume
        stream_read(self)
        return -1
    if not may_send(self):                      # user code may have run in the engine
        loop_of(self).scratch.out_size = 0
        return -1
    if rc == SEAL_WANT_READ:
        tls_want_read(self)
    return rc


cdef void tls_want_read(socket_t* self) noexcept nogil:
    """Wait for the rest of the peer's message."""
    tls_send_ciphertext(self, 0)           # the engine may have answered to the messages that were complete
    self.flags |= S_TLS_WANT_READ
    stream_read(self)


cdef bint tls_flush(socket_t* self) noexcept nogil:
    """Send what is gathered, as far as the kernel takes it. False: the socket is broken."""
    cdef size_t piece
    cdef int rc
    if self.gather != NULL and tls_scratch_in_use(self):
        tls_defer_flush(self)
        return True
    while self.gather != NULL and not output_blocked(self):
        piece = min(chunk_length(self.gather), <size_t>TLS_WRITE_MAX)
        rc = tls_encrypt_and_send(self, chunk_bytes(self.gather), piece)
        if rc == SEALED:
            output_advance(self, piece)
            tls_send_ciphertext(self, piece)
        if rc < 0 or not may_send(self):
            return False
    if self.gather == NULL and output_queued(self) == 0:
        output_emptied(self)
    return True


cdef void tls_retry_write(socket_t* self) noexcept nogil:
    """The engine has processed more input: go on with the writes that waited, and close_notify last."""
    self.flags &= ~S_TLS_WANT_READ
    output_flush(self)
    if self.flags & S_ENDED and output_pending(self) == 0:
        tls_close_notify(self)
    if self.flags & S_TLS_WANT_READ or self.flags & S_CLOSED:
        return
    stream_stop(self)               # then read on only if the user wants it
    stream_read(self)
    if output_pending(self) == 0 and not self.flags & S_BROKEN:
        events_flushed(self)


cdef void tls_send_ciphertext(socket_t* self, size_t plain) noexcept nogil:
    """Send what the engine left in the scratch buffer; `plain` bytes of plaintext are in it."""
    cdef tls_scratch_t* scratch = &loop_of(self).scratch
    cdef uv.uv_buf_t part
    cdef size_t left
    cdef ssize_t sent = 0
    part.base = scratch.out
    part.len = scratch.out_size
    scratch.out_size = 0
    if part.len == 0 or not may_send(self):
        return
    if output_queued(self) == 0:
        sent = output_attempt(self, &part, 1)
        if sent < 0:
            self.accepted -= plain
            return
        stats_add(&loop_of(self).count.bytes_written, -<int64_t>sent)       # the counter is of plaintext
    left = min(part.len - <size_t>sent, plain)          # the unsent part holds no more plaintext than that
    stats_add(&loop_of(self).count.bytes_written, plain - left)
    if <size_t>sent < part.len:
        tls_queue_ciphertext(self, part.base + sent, part.len - sent, left)


cdef void tls_queue_ciphertext(socket_t* self, const char* data, size_t size, size_t plain) noexcept nogil:
    """Copy it to the send queue."""
    cdef chunk_t* chunk = chunk_make(size)
    cdef int rc = uv.UV_ENOMEM
    if chunk != NULL:
        chunk_append(chunk, data, size)
        chunk.plain = plain
        rc = send_queue_push(self, chunk)
    if rc == 0:
        tls_of(self).sealed += plain
        if plain == 0:
            tls_limit_control(self, size)
        return
    self.accepted -= plain
    output_fail(self, rc)


cdef void tls_limit_control(socket_t* self, size_t size) noexcept nogil:
    """A peer that makes the engine answer, and does not read the answers, must not fill our memory."""
    tls_of(self).control += size
    if tls_of(self).control > TLS_CONTROL_MAX:
        output_fail(self, uv.UV_ENOBUFS)
        stream_close(self)


cdef bint tls_close_notify(socket_t* self) noexcept nogil:
    """Send close_notify (RFC 8446, 6.1). True: that, and all before it, is with the kernel."""
    if is_tls_blocked(self):
        return False                # again when the handshake is done, or the engine can seal
    if may_send_close_notify(self):
        if tls_scratch_in_use(self):
            tls_defer_flush(self)
            return False
        tls_send_close_notify(self)
    return output_pending(self) == 0 and not self.flags & S_TLS_WANT_READ


cdef void tls_send_close_notify(socket_t* self) noexcept nogil:
    """Send close_notify.

    If the peer has closed already, a failing send is not an error: restore `error` and S_BYTES_LOST.
    """
    cdef short error = self.error
    cdef unsigned int lost = self.flags & S_BYTES_LOST
    self.flags |= S_CLOSE_NOTIFY_SENT
    if engine.close_notify(tls_of(self), self) == SEAL_WANT_READ:
        self.flags &= ~S_CLOSE_NOTIFY_SENT
        tls_want_read(self)
        return
    tls_send_ciphertext(self, 0)
    if self.flags & S_BROKEN and self.flags & S_EOF:
        self.error = error
        self.flags = self.flags & ~S_BYTES_LOST | lost
