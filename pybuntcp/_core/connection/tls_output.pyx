"""tls_output: the way out of a secured socket.

Owns the seam to the engine (`filter_t`, which `_tls` registers) in this direction: what is
gathered, and what is written, is plaintext up to the moment at which it goes to the kernel; then
the engine seals as much of it into the loop's room as one system call takes. What the kernel
refuses of that is copied and queued like anything else, and counts as it is; the rest stays
plaintext, under the mark.

The engine has words of its own: a handshake, an alert, the answer to a key update. They go out
as soon as it returns, behind the tail.

While a message of the peer's between two records of data is half there, an engine can seal
nothing (SEAL_WANT_READ), and the socket is mute (`S_TLS_WANT_READ`). It then takes and keeps what is written as
it does for a kernel that is full. It is read whatever its user does, or the rest might never come;
with each piece that came it tries again (`tls_retry_write`).

Promises: what one socket sealed has left the room before anything else can run. Does not know
what an engine does.
"""
from pybuntcp._c cimport uv


cdef enum:
    TLS_WRITE_MAX = 65536       # bytes of plaintext for one system call
    TLS_WRITE_OVER = 16384      # ... also past the mark: a record's worth
    TLS_CONTROL_MAX = 65536     # bytes of the engine's own that may wait for a peer that does not read


cdef const filter_t* engine = NULL      # _tls's, once that is imported


cdef inline tls_t** tls_slot_of(socket_t* self) noexcept nogil:
    return <tls_t**>(<char*>self + stream_ext_start())


cdef inline tls_t* tls_of(socket_t* self) noexcept nogil:
    """What the engine has of a secured socket."""
    return tls_slot_of(self)[0]


# ---------------------------------------------------------------------------- accounting

cdef inline size_t tls_pending(socket_t* self) noexcept nogil:
    """Plaintext that is not yet with the kernel. After close there is nothing to wait for."""
    return tls_of(self).sealed + chunk_length(self.gather)


cdef inline size_t tls_written(socket_t* self, chunk_t* chunk) noexcept nogil:
    """A chunk of the tail has left: the plaintext that it stands for."""
    tls_of(self).sealed -= chunk.plain
    if chunk.plain == 0:
        tls_of(self).control -= chunk_length(chunk)
    return chunk.plain


cdef inline size_t tls_dropped(socket_t* self) noexcept nogil:
    cdef size_t plain = tls_of(self).sealed
    tls_of(self).sealed = 0
    return plain


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
    """As `output_list_add`, which would come back here if there is no memory."""
    if not self.flags & S_TURN_FLUSH and sockets_add(&loop_of(self).turn_flush, self):
        self.flags |= S_TURN_FLUSH
        loop_wakeup(loop_of(self))


cdef inline bint tls_scratch_in_use(socket_t* self) noexcept nogil:
    """Is an engine at work, or lies there what it has done, and the user's own code is called meanwhile?"""
    return loop_of(self).scratch.busy or loop_of(self).scratch.out_size != 0


cdef inline size_t tls_max_plaintext(socket_t* self, size_t limit) noexcept nogil:
    """Plaintext that may be sealed at once: it cannot be taken back."""
    cdef size_t pending = output_unsent(self)
    cdef size_t capacity = limit - pending if limit > pending else 0
    return min(min(capacity, <size_t>TLS_WRITE_MAX) + TLS_WRITE_OVER, <size_t>TLS_WRITE_MAX)


cdef int tls_encrypt_and_send(socket_t* self, const char* data, size_t size) noexcept nogil:
    """Seal it, to be emitted: SEALED. SEAL_WANT_READ: the socket is mute from here on. -1: it is broken."""
    cdef int rc = engine.seal(tls_of(self), self, data, size)
    if rc < 0:
        loop_of(self).scratch.out_size = 0
        output_fail(self, uv.UV_EPROTO)
        self.flags |= S_INPUT_DEFERRED                # told by a turn: see tls_resume
        stream_read(self)
        return -1
    if not may_send(self):                      # the user's own code may run in an engine
        loop_of(self).scratch.out_size = 0
        return -1
    if rc == SEAL_WANT_READ:
        tls_want_read(self)
    return rc


cdef void tls_want_read(socket_t* self) noexcept nogil:
    """Wait for the rest of the peer's message."""
    tls_send_ciphertext(self, 0)           # the engine may have said something to what it found whole
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
    """More has come, and the engine has looked at it: go on with what waited, the farewell last of all."""
    self.flags &= ~S_TLS_WANT_READ
    output_flush(self)
    if self.flags & S_ENDED and output_pending(self) == 0:
        tls_close_notify(self)
    if self.flags & S_TLS_WANT_READ or self.flags & S_CLOSED:
        return
    stream_stop(self)               # as the user wants it again
    stream_read(self)
    if output_pending(self) == 0 and not self.flags & S_BROKEN:
        events_flushed(self)


cdef void tls_send_ciphertext(socket_t* self, size_t plain) noexcept nogil:
    """Send what the engine left in the room, which stands for so much plaintext."""
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
        loop_of(self).count.bytes_written -= sent       # it counts plaintext
    left = min(part.len - <size_t>sent, plain)          # no more than that is in what is left
    loop_of(self).count.bytes_written += plain - left
    if <size_t>sent < part.len:
        tls_queue_ciphertext(self, part.base + sent, part.len - sent, left)


cdef void tls_queue_ciphertext(socket_t* self, const char* data, size_t size, size_t plain) noexcept nogil:
    """A copy follows as the kernel takes it, in order."""
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
    """A peer that makes the engine speak, and does not read, may not have us hold it all."""
    tls_of(self).control += size
    if tls_of(self).control > TLS_CONTROL_MAX:
        output_fail(self, uv.UV_ENOBUFS)
        stream_close(self)


cdef bint tls_close_notify(socket_t* self) noexcept nogil:
    """Tell the peer that nothing more comes. True: that, and all before it, is with the kernel."""
    if is_tls_blocked(self):
        return False                # when its handshake is done, or it may speak again
    if may_send_close_notify(self):
        if tls_scratch_in_use(self):
            tls_defer_flush(self)
            return False
        tls_send_close_notify(self)
    return output_pending(self) == 0 and not self.flags & S_TLS_WANT_READ


cdef void tls_send_close_notify(socket_t* self) noexcept nogil:
    """A peer that has said so, too, need not hear it: what the kernel refuses then is no error."""
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
