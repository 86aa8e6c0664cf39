"""output: bytes that were accepted and are on their way to the kernel.

Owns the only way out of a socket. A corked write is gathered (`gather`, one chunk: see chunk) until the handler or the
cork ends; a sink's write until the turn ends; any other write goes to the kernel at once, from the caller's own memory,
behind what was gathered before it. What the kernel refuses is copied once, up to the high water mark, into the send
queue (see send_queue), which is sent as the kernel takes it; meanwhile `gather` takes new writes.

Promises order; that accepted bytes not yet with the kernel never exceed the mark, or the sink's limit; that no write
raises SIGPIPE. Does not know handlers, or why something is written.
"""
from libc.stdint cimport SIZE_MAX, uint64_t
from libc.stdlib cimport free

from pybuntcp._c cimport net, uv


cdef enum:
    CORK_SIZE = 16384   # gathered at most before it is sent; the size of a full TLS record
    SPARE_CHUNKS = 8
    CORKS_MAX = 65535


# ---------------------------------------------------------------------------- chunks

cdef chunk_t* spare_take(loop_t* loop, size_t minimum, size_t others) noexcept nogil:
    """An empty chunk with capacity for `minimum` bytes, a used one if there is a spare.

    The first SPARE_CHUNKS sockets that gather in a turn get a full 16 KiB chunk, which is reused later. In a broadcast
    to many, the others (`others` >= SPARE_CHUNKS) get a chunk of the size they need.
    """
    cdef size_t size = max(minimum, <size_t>CHUNK_MIN)
    cdef chunk_t* self
    if minimum <= CORK_SIZE and loop.spares != 0:
        loop.spares -= 1
        self = loop.spare[loop.spares]
        self.start = self.end = 0
        return self
    return chunk_make(CORK_SIZE if minimum <= CORK_SIZE and others < SPARE_CHUNKS else size)


cdef void spare_give_back(loop_t* loop, chunk_t* self) noexcept nogil:
    if self.size == CORK_SIZE and loop.spares < SPARE_CHUNKS:
        loop.spare[loop.spares] = self
        loop.spares += 1
    else:
        free(self)


# ---------------------------------------------------------------------------- accounting

cdef inline size_t output_queued(socket_t* self) noexcept nogil:
    return send_queue_size(self.send_queue) if self.send_queue != NULL else 0


cdef inline size_t output_pending(socket_t* self) noexcept nogil:
    """Bytes accepted and not yet with the kernel."""
    return output_queued(self) + chunk_length(self.gather)


cdef inline size_t output_unsent(socket_t* self) noexcept nogil:
    """As output_pending, in bytes as the user counts them: plaintext, whatever its ciphertext takes."""
    return tls_pending(self) if self.flags & S_TLS else output_pending(self)


cdef inline uint64_t output_written(socket_t* self) noexcept nogil:
    """Bytes that reached the kernel."""
    return self.accepted - output_unsent(self)


cdef inline bint output_blocked(socket_t* self) noexcept nogil:
    """Must a write wait in memory? The kernel is full, the handshake not done, or the engine needs input."""
    return self.send_queue != NULL or is_tls_blocked(self)


cdef inline bint output_corked(socket_t* self) noexcept nogil:
    return self.corks != 0 or loop_of(self).handling != 0


# ---------------------------------------------------------------------------- the way out

cdef ssize_t output_write(socket_t* self, const char* data, size_t size, size_t mark) noexcept nogil:
    """Accept up to `size` bytes, with at most `mark` bytes unsent; the count, or a negative code.

    A mark of 0 is the literal mode: nothing is gathered, each call is one attempt, and at most one byte is kept, so
    that the loop notices when the kernel takes more.
    """
    cdef size_t limit = max(mark, <size_t>1)
    if size == 0:
        return 0
    if output_blocked(self):
        return output_buffer(self, data, size, limit)
    if output_corked(self) and output_gather(self, data, size, min(mark, <size_t>CORK_SIZE)):
        return size
    return output_send(self, data, size, limit)


cdef inline bint output_gather(socket_t* self, const char* data, size_t size, size_t maximum) noexcept nogil:
    """Keep it until the handler or the cork ends. False: it would be more than `maximum` bytes, or no memory."""
    cdef loop_t* loop = loop_of(self)
    cdef chunk_t* chunk = self.gather
    if chunk_length(chunk) + size > maximum:
        return False
    if chunk == NULL and loop.spares != 0:
        loop.spares -= 1
        chunk = loop.spare[loop.spares]
        chunk.start = chunk.end = 0
        self.gather = chunk
    if chunk != NULL and chunk.size - chunk.end >= size:
        chunk_append(chunk, data, size)
    elif not output_append(self, data, size, maximum, loop.handler_flush.count):
        return False
    self.accepted += size
    if loop.handling != 0:
        output_list_add(self, &loop.handler_flush, S_HANDLER_FLUSH)
    return True


cdef ssize_t output_coalesce(
    socket_t* self, const char* data, size_t size, size_t mark, size_t limit
) noexcept nogil:
    """Accept all of it, with at most `limit` bytes unsent; a negative code: nothing was taken.

    It is sent when the turn ends, or when `mark` bytes have come together.
    """
    cdef loop_t* loop = loop_of(self)
    cdef size_t queued, gathered
    cdef bint blocked
    if size == 0:
        return 0
    if output_unsent(self) + size > limit:
        output_flush(self)
        if self.flags & S_BROKEN:
            return self.error
        if output_unsent(self) + size > limit:
            return uv.UV_ENOBUFS
    queued = output_queued(self)
    gathered = chunk_length(self.gather)
    blocked = output_blocked(self)
    if not blocked and gathered + size >= mark:
        return output_send_all(self, data, size, limit)
    if not output_append(self, data, size, limit - queued, SIZE_MAX if blocked else loop.turn_flush.count):
        return uv.UV_ENOMEM
    self.accepted += size
    if not blocked:
        output_list_add(self, &loop.turn_flush, S_TURN_FLUSH)
    return size


cdef ssize_t output_send_all(
    socket_t* self, const char* data, size_t size, size_t limit
) noexcept nogil:
    """One attempt; the rest is kept: the caller has checked the limit. A negative code: the socket is broken."""
    cdef ssize_t taken = output_send(self, data, size, limit)
    if taken < 0 or taken == <ssize_t>size:
        return taken
    if not may_send(self):      # a part was sent, and then the kernel has refused, or TLS has failed
        return self.error if self.error != 0 else uv.UV_EPIPE
    output_fail(self, uv.UV_ENOMEM)
    return uv.UV_ENOMEM         # there is no memory for the rest


cdef ssize_t output_buffer(socket_t* self, const char* data, size_t size, size_t limit) noexcept nogil:
    """Copy what fits under `limit` behind the gathered bytes."""
    cdef size_t pending = output_unsent(self)
    cdef size_t capacity = limit - pending if limit > pending else 0
    cdef size_t taken = min(size, capacity)
    if taken != 0 and not output_append(self, data, taken, limit - output_queued(self), SIZE_MAX):
        taken = 0
    if taken < size:
        self.flags |= S_NEED_DRAIN
        stats_add(&loop_of(self).count.short_writes, 1)
    self.accepted += taken
    return taken


cdef bint output_append(
    socket_t* self, const char* data, size_t size, size_t maximum, size_t others
) noexcept nogil:
    """Gather; the chunk grows to `maximum` bytes at most. False: no memory. `others`: see spare_take."""
    cdef chunk_t* chunk = self.gather
    if chunk == NULL:
        chunk = spare_take(loop_of(self), size, others)
    elif chunk.end + size <= CORK_SIZE:
        chunk = chunk_reserve(chunk, size, CORK_SIZE)
    else:
        chunk = chunk_reserve(chunk, size, maximum)
    if chunk == NULL:
        return False
    self.gather = chunk
    chunk_append(chunk, data, size)
    return True


cdef ssize_t output_send(socket_t* self, const char* data, size_t size, size_t limit) noexcept nogil:
    """One attempt: the gathered bytes, then the caller's. Keep what the kernel refuses."""
    if self.flags & S_TLS:
        return tls_send(self, data, size, limit)
    return output_send_plain(self, data, size, limit)


cdef ssize_t output_send_plain(socket_t* self, const char* data, size_t size, size_t limit) noexcept nogil:
    cdef uv.uv_buf_t parts[2]
    cdef int count = 0
    cdef size_t gathered = chunk_length(self.gather)
    cdef ssize_t sent
    if gathered != 0:
        parts[0].base = chunk_bytes(self.gather)
        parts[0].len = gathered
        count = 1
    parts[count].base = <char*>data
    parts[count].len = size
    sent = output_attempt(self, parts, count + 1)
    if sent < 0:
        return sent
    output_advance(self, min(<size_t>sent, gathered))
    sent -= min(<size_t>sent, gathered)
    self.accepted += sent
    if <size_t>sent == size:
        output_emptied(self)
        return sent
    sent += output_buffer(self, data + sent, size - sent, limit)
    output_enqueue(self)
    return sent


cdef inline ssize_t output_attempt(socket_t* self, uv.uv_buf_t* parts, int count) noexcept nogil:
    """One system call. Bytes taken (0: the kernel is full), or a code: the socket is broken."""
    cdef loop_t* loop = loop_of(self)
    cdef ssize_t sent
    cdef int fd = -1
    uv.uv_fileno(<uv.uv_handle_t*>self, &fd)        # inlined here, and only here: see pbt_fileno
    sent = net.pbt_send(fd, <net.iovec*>parts, count)       # uv_buf_t has the same layout
    stats_add(&loop.count.writes, 1)
    if sent < 0:
        output_fail(self, <int>sent)
    else:
        stats_add(&loop.count.bytes_written, sent)
        output_note_sent(self, sent)
    return sent


cdef inline void output_note_sent(socket_t* self, ssize_t sent) noexcept nogil:
    if self.deadlines != NULL and sent > 0:
        deadlines_sent(self)


cdef inline void output_advance(socket_t* self, size_t sent) noexcept nogil:
    """The first `sent` bytes of `gather` have been sent; an empty chunk goes back."""
    if self.gather == NULL:
        return
    self.gather.start += sent
    if self.gather.start == self.gather.end:
        spare_give_back(loop_of(self), self.gather)
        self.gather = NULL


cdef void output_enqueue(socket_t* self) noexcept nogil:
    """Move what is gathered to the send queue."""
    cdef chunk_t* chunk = self.gather
    cdef size_t size = chunk_length(chunk)
    cdef int rc
    if chunk == NULL:
        return
    self.gather = NULL
    rc = send_queue_push(self, chunk_trim(chunk))
    if rc < 0:
        self.accepted -= size
        output_fail(self, rc)


cdef void output_flush(socket_t* self) noexcept nogil:
    """Send what is gathered, unless there is a send queue: then it follows that."""
    cdef uv.uv_buf_t part
    cdef ssize_t sent
    if self.gather == NULL or output_blocked(self) or not may_send(self):
        return
    if self.flags & S_TLS:
        tls_flush(self)
        return
    part.base = chunk_bytes(self.gather)
    part.len = chunk_length(self.gather)
    sent = output_attempt(self, &part, 1)
    if sent < 0:
        return
    output_advance(self, sent)
    output_keep_rest(self)


cdef inline void output_keep_rest(socket_t* self) noexcept nogil:
    """After an attempt: what the kernel has not taken of what is gathered waits until it does."""
    if self.gather != NULL:
        output_enqueue(self)
    else:
        output_emptied(self)


cdef inline void output_emptied(socket_t* self) noexcept nogil:
    """Nothing is pending. Waiters for that are woken from the loop, when the turn ends."""
    if self.flags & S_DRAIN_WAITERS or self.drain_at != 0:
        output_list_add(self, &loop_of(self).turn_flush, S_TURN_FLUSH)


# ---------------------------------------------------------------------------- corks and turns

cdef inline void output_list_add(socket_t* self, socket_list_t* sockets, unsigned int flag) noexcept nogil:
    """Add it to a list of sockets with gathered output; `flag` marks its membership."""
    if self.flags & flag:
        return
    if sockets_add(sockets, self):
        self.flags |= flag
        loop_wakeup(loop_of(self))
    else:
        output_flush(self)      # no memory for the list: it is sent now


cdef void output_flush_after_handler(loop_t* loop) noexcept nogil:
    """Send everything gathered while a handler ran. The listed sockets are alive: see stream."""
    cdef socket_t* each
    cdef size_t i = 0
    while i < loop.handler_flush.count:
        each = loop.handler_flush.at[i]
        each.flags &= ~S_HANDLER_FLUSH
        if each.corks == 0:
            output_flush_and_notify(each)
        state_check(each)
        i += 1
    loop.handler_flush.count = 0


cdef void output_flush_after_turn(loop_t* loop) noexcept nogil:
    """The end of the turn: send what sinks have coalesced, and wake drains.

    Called before libuv's close callbacks free a socket, so that every listed socket is alive. What a woken waiter
    writes is sent when the next turn ends. That turn does not wait: the task of a waiter is ready in the asyncio loop, which
    this turn may be about to wait for.
    """
    cdef socket_t* each
    cdef size_t count = loop.turn_flush.count
    cdef size_t i = 0
    while i < count:
        each = loop.turn_flush.at[i]
        each.flags &= ~S_TURN_FLUSH
        if each.corks == 0:
            output_flush_and_notify(each)
        if output_has_drain_news(each):
            upcalls.drained(each)
            loop_request_turn(loop)
        if unbounded_tell(each):
            loop_request_turn(loop)
        if each.flags & S_EOF_DELIVERED:
            events_eof_delivered(each)
            loop_request_turn(loop)
        i += 1
    output_shift_turn_list(loop, count)


cdef inline bint output_has_drain_news(socket_t* self) noexcept nogil:
    """Does something wait for the drain, and is it over: all sent, or nothing ever will be?"""
    if not has_drain_waiters(self):
        return False
    return output_pending(self) == 0 or self.flags & S_BROKEN


cdef void output_shift_turn_list(loop_t* loop, size_t count) noexcept nogil:
    """Remove the first `count` sockets, and those that have nothing more to do."""
    cdef socket_t* each
    cdef size_t kept = 0
    while count < loop.turn_flush.count:
        each = loop.turn_flush.at[count]
        count += 1
        if each.flags & S_CLOSED or (each.gather == NULL and not needs_turn_end(each)):
            each.flags &= ~S_TURN_FLUSH
        else:
            loop.turn_flush.at[kept] = each
            kept += 1
    loop.turn_flush.count = kept
    if kept != 0:
        loop_request_turn(loop)


cdef void output_flush_and_notify(socket_t* self) noexcept nogil:
    """Send what is gathered. If nothing is pending then, continue an end or close that waits for it."""
    output_flush(self)
    if is_finishing(self) and output_pending(self) == 0:
        events_flushed(self)


cdef void output_uncork(socket_t* self) noexcept nogil:
    self.corks -= 1
    if self.corks == 0 and not self.flags & S_HANDLER_FLUSH:
        output_flush_and_notify(self)


# ---------------------------------------------------------------------------- the end

cdef void output_fail(socket_t* self, int code) noexcept nogil:
    """A write failed for good: nothing more can be sent."""
    if self.error == 0:
        self.error = code
    self.flags |= S_BROKEN | S_BYTES_LOST
    output_drop_gathered(self)
    self.drain_at = context_of(self).table.slots.broken != NULL
    if self.flags & S_DRAIN_WAITERS or self.drain_at != 0:
        output_list_add(self, &loop_of(self).turn_flush, S_TURN_FLUSH)
    events_broken(self)


cdef void output_drop_gathered(socket_t* self) noexcept nogil:
    """Drop what is gathered."""
    self.accepted -= chunk_length(self.gather)
    output_free(self)


cdef void output_drop_all(socket_t* self) noexcept nogil:
    """Drop everything unsent."""
    send_queue_drop(self)
    output_drop_gathered(self)


cdef inline void output_free(socket_t* self) noexcept nogil:
    if self.gather != NULL:
        spare_give_back(loop_of(self), self.gather)
        self.gather = NULL
