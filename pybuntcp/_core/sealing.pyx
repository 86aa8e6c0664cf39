"""sealing: the way out of a secured socket.

Owns the seam to the engine (`filter_t`, which `_tls` registers) in this direction: what is
gathered, and what is written, is plaintext up to the moment at which it goes to the kernel; then
the engine seals as much of it into the loop's room as one system call takes. What the kernel
refuses of that is copied and queued like anything else, and counts as it is; the rest stays
plaintext, under the mark.

The engine has words of its own: a handshake, an alert, the answer to a key update. They go out
as soon as it returns, behind the tail.

While a message of the peer's between two records of data is half there, an engine can seal
nothing (SEAL_LATER), and the socket is mute (`S_MUTE`). It then takes and keeps what is written as
it does for a kernel that is full. It is read whatever its user does, or the rest might never come;
with each piece that came it tries again (`sealing_try_again`).

Promises: what one socket sealed has left the room before anything else can run. Does not know
what an engine does.
"""
from pybuntcp._c cimport uv

cdef enum:
    SEALED_AT_ONCE = 65536      # bytes of plaintext for one system call
    SEALED_OVER = 16384         # ... also past the mark: a record's worth
    WORDS_MOST = 65536          # bytes of the engine's own that may wait for a peer that does not read


cdef const filter_t* engine = NULL      # _tls's, once that is imported


cdef inline secure_t** secure_place(socket_t* self) noexcept nogil:
    return <secure_t**>(<char*>self + stream_ext_start())


cdef inline secure_t* secure_of(socket_t* self) noexcept nogil:
    """What the engine has of a secured socket."""
    return secure_place(self)[0]


# ---------------------------------------------------------------------------- accounting

cdef inline size_t sealing_pending(socket_t* self) noexcept nogil:
    """Plaintext that is not yet with the kernel. After close there is nothing to wait for."""
    return secure_of(self).sealed + chunk_length(self.gather)


cdef inline size_t sealing_left(socket_t* self, chunk_t* chunk) noexcept nogil:
    """A chunk of the tail has left: the plaintext that it stands for."""
    secure_of(self).sealed -= chunk.plain
    if chunk.plain == 0:
        secure_of(self).words -= chunk_length(chunk)
    return chunk.plain


cdef inline size_t sealing_dropped(socket_t* self) noexcept nogil:
    cdef size_t plain = secure_of(self).sealed
    secure_of(self).sealed = 0
    return plain


# ---------------------------------------------------------------------------- sending

cdef ssize_t sealing_send(socket_t* self, const char* at, size_t size, size_t limit) noexcept nogil:
    """As `output_send`: what is gathered, then the caller's bytes; keep what is refused."""
    cdef size_t taken = 0
    cdef size_t piece
    cdef int rc
    if not sealing_flush(self):
        return self.error
    while taken < size and not output_blocked(self) and not sealing_taken(self):
        piece = min(size - taken, sealing_size(self, limit))
        rc = sealing_some(self, at + taken, piece)
        if rc == SEALED:
            self.accepted += piece
            sealing_emit(self, piece)
        if rc < 0 or self.flags & (S_BROKEN | S_CLOSED):
            return taken if taken != 0 else self.error
        if rc == SEALED:
            taken += piece
    if taken < size:
        taken += output_keep(self, at + taken, size - taken, limit)
        if sealing_taken(self):
            sealing_later(self)
    return taken


cdef void sealing_later(socket_t* self) noexcept nogil:
    """As `output_mark`, which would come back here if there is no memory."""
    if not self.flags & S_LATE and roll_add(&loop_of(self).late, self):
        self.flags |= S_LATE
        loop_kick(loop_of(self))


cdef inline bint sealing_taken(socket_t* self) noexcept nogil:
    """Is an engine at work, or lies there what it has done, and the user's own code is called meanwhile?"""
    return loop_of(self).room.busy or loop_of(self).room.out_size != 0


cdef inline size_t sealing_size(socket_t* self, size_t limit) noexcept nogil:
    """Plaintext that may be sealed at once: it cannot be taken back."""
    cdef size_t pending = output_unsent(self)
    cdef size_t room = limit - pending if limit > pending else 0
    return min(min(room, <size_t>SEALED_AT_ONCE) + SEALED_OVER, <size_t>SEALED_AT_ONCE)


cdef int sealing_some(socket_t* self, const char* at, size_t size) noexcept nogil:
    """Seal it, to be emitted: SEALED. SEAL_LATER: the socket is mute from here on. -1: it is broken."""
    cdef int rc = engine.seal(secure_of(self), self, at, size)
    if rc < 0:
        loop_of(self).room.out_size = 0
        output_break(self, uv.UV_EPROTO)
        self.flags |= S_HELD                # told by a turn: see secure_go_on
        stream_read(self)
        return -1
    if self.flags & (S_BROKEN | S_CLOSED):      # the user's own code may run in an engine
        loop_of(self).room.out_size = 0
        return -1
    if rc == SEAL_LATER:
        sealing_mute(self)
    return rc


cdef void sealing_mute(socket_t* self) noexcept nogil:
    """Wait for the rest of the peer's message."""
    sealing_emit(self, 0)           # the engine may have said something to what it found whole
    self.flags |= S_MUTE
    stream_read(self)


cdef bint sealing_flush(socket_t* self) noexcept nogil:
    """Send what is gathered, as far as the kernel takes it. False: the socket is broken."""
    cdef size_t piece
    cdef int rc
    if self.gather != NULL and sealing_taken(self):
        sealing_later(self)
        return True
    while self.gather != NULL and not output_blocked(self):
        piece = min(chunk_length(self.gather), <size_t>SEALED_AT_ONCE)
        rc = sealing_some(self, chunk_bytes(self.gather), piece)
        if rc == SEALED:
            output_advance(self, piece)
            sealing_emit(self, piece)
        if rc < 0 or self.flags & (S_BROKEN | S_CLOSED):
            return False
    if self.gather == NULL and output_sending(self) == 0:
        output_emptied(self)
    return True


cdef void sealing_try_again(socket_t* self) noexcept nogil:
    """More has come, and the engine has looked at it: go on with what waited, the farewell last of all."""
    self.flags &= ~S_MUTE
    output_flush(self)
    if self.flags & (S_CLOSING | S_ENDED) and output_pending(self) == 0:
        sealing_farewell(self)
    if self.flags & (S_MUTE | S_CLOSED):
        return
    stream_stop(self)               # as the user wants it again
    stream_read(self)
    if output_pending(self) == 0 and not self.flags & S_BROKEN:
        up.flushed(self)


cdef void sealing_emit(socket_t* self, size_t plain) noexcept nogil:
    """Send what the engine left in the room, which stands for so much plaintext."""
    cdef room_t* room = &loop_of(self).room
    cdef uv.uv_buf_t part
    cdef size_t left
    cdef ssize_t sent = 0
    part.base = room.out
    part.len = room.out_size
    room.out_size = 0
    if part.len == 0 or self.flags & (S_BROKEN | S_CLOSED):
        return
    if output_sending(self) == 0:
        sent = output_attempt(self, &part, 1)
        if sent < 0:
            self.accepted -= plain
            return
        loop_of(self).count.bytes_written -= sent       # it counts plaintext
    left = min(part.len - <size_t>sent, plain)          # no more than that is in what is left
    loop_of(self).count.bytes_written += plain - left
    if <size_t>sent < part.len:
        sealing_queue(self, part.base + sent, part.len - sent, left)


cdef void sealing_queue(socket_t* self, const char* at, size_t size, size_t plain) noexcept nogil:
    """A copy follows as the kernel takes it, in order."""
    cdef chunk_t* chunk = chunk_make(size)
    cdef int rc = uv.UV_ENOMEM
    if chunk != NULL:
        chunk_append(chunk, at, size)
        chunk.plain = plain
        rc = tail_add(self, chunk)
    if rc == 0:
        secure_of(self).sealed += plain
        if plain == 0:
            sealing_unread(self, size)
        return
    self.accepted -= plain
    output_break(self, rc)


cdef void sealing_unread(socket_t* self, size_t size) noexcept nogil:
    """A peer that makes the engine speak, and does not read, may not have us hold it all."""
    secure_of(self).words += size
    if secure_of(self).words > WORDS_MOST:
        output_break(self, uv.UV_ENOBUFS)
        stream_close(self)


cdef bint sealing_farewell(socket_t* self) noexcept nogil:
    """Tell the peer that nothing more comes. True: that, and all before it, is with the kernel."""
    if self.flags & (S_SECURING | S_MUTE):
        return False                # when its handshake is done, or it may speak again
    if not self.flags & (S_NOTIFIED | S_BROKEN | S_CLOSED):
        if sealing_taken(self):
            sealing_later(self)
            return False
        sealing_say_farewell(self)
    return output_pending(self) == 0 and not self.flags & S_MUTE


cdef void sealing_say_farewell(socket_t* self) noexcept nogil:
    """A peer that has said so, too, need not hear it: what the kernel refuses then is no error."""
    cdef short error = self.error
    cdef unsigned int lost = self.flags & S_LOST
    self.flags |= S_NOTIFIED
    if engine.notify(secure_of(self), self) == SEAL_LATER:
        self.flags &= ~S_NOTIFIED
        sealing_mute(self)
        return
    sealing_emit(self, 0)
    if self.flags & S_BROKEN and self.flags & S_EOF:
        self.error = error
        self.flags = self.flags & ~S_LOST | lost
