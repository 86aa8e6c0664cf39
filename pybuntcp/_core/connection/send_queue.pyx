"""send_queue: what the kernel did not take at once, and how it is sent later.

Owns `socket_t.send_queue`, the chunks that the kernel has refused, in order: one, and with TLS also the control
records that the engine has made since. Owns also the loop's watch: every socket with a send queue is in it
(`S_BLOCKED`).

The problem: libuv reports that a `uv_write` is done, and nothing else. It sends by write(2), which raises SIGPIPE when
the peer has left; it does not report how much has been sent; and its request keeps `uv_run` going whether the socket is
referenced or not.
The rule: libuv watches one descriptor more, an epoll instance (elsewhere a kqueue) that is readable while one of the
sockets in it is writable. Sockets are added and removed at once, and sent to from here. A `uv_poll_t` for each socket
would need a duplicate of each descriptor.

Promises one attempt per socket and event; that a chunk is sent from where it lies, without a copy.
"""
from pybuntcp._c cimport net, uv


cdef size_t send_queue_size(chunk_t* self) noexcept nogil:
    """Bytes of this chunk and those that follow it."""
    cdef size_t total = 0
    while self != NULL:
        total += chunk_length(self)
        self = self.next
    return total


cdef inline void send_queue_watch(socket_t* self) noexcept nogil:
    cdef loop_t* loop = loop_of(self)
    if not self.flags & S_BLOCKED:
        self.flags |= S_BLOCKED
        loop.blocked_count += 1
        if not loop.writable_watch_active:
            loop_watch_writable(loop)


cdef int send_queue_push(socket_t* self, chunk_t* chunk) noexcept nogil:
    """Adopts the chunk, which is sent after all others. A negative code: it was freed instead."""
    cdef chunk_t** link = &self.send_queue
    cdef int rc = 0
    if not self.flags & S_BLOCKED:
        rc = net.pbt_watch_add(loop_of(self).writable_watch, stream_fd(self), self)
    if rc < 0:
        spare_give_back(loop_of(self), chunk)
        return rc
    send_queue_watch(self)
    while link[0] != NULL:
        link = &link[0].next
    link[0] = chunk
    chunk.next = NULL
    stats_add(&loop_of(self).refused_bytes, chunk_length(chunk))
    return 0


cdef void send_queue_unwatch(socket_t* self) noexcept nogil:
    if self.flags & S_BLOCKED:
        self.flags &= ~S_BLOCKED
        loop_of(self).blocked_count -= 1
        net.pbt_watch_remove(loop_of(self).writable_watch, stream_fd(self))


cdef void send_queue_drop(socket_t* self) noexcept nogil:
    """Drop everything unsent."""
    cdef chunk_t* chunk
    stats_add(&loop_of(self).refused_bytes, -<int64_t>(send_queue_size(self.send_queue)))
    self.accepted -= tls_dropped(self) if self.flags & S_TLS else output_queued(self)
    while self.send_queue != NULL:
        chunk = self.send_queue
        self.send_queue = chunk.next
        spare_give_back(loop_of(self), chunk)
    send_queue_unwatch(self)


cdef void send_queues_resume(loop_t* loop) noexcept nogil:
    """The watch is readable: send. Sockets that handlers close meanwhile are freed when the turn ends.

    When the peer is gone, the read side reports why, provided that the socket is being read; so it is skipped here.
    """
    cdef void* ready[64]
    cdef int gone[64]
    cdef int count = net.pbt_watch_ready(loop.writable_watch, ready, gone)
    cdef int i
    cdef socket_t* each
    for i in range(count):
        each = <socket_t*>ready[i]
        if each.send_queue != NULL and not (gone[i] and uv.uv_is_active(<uv.uv_handle_t*>each)):
            send_queue_send(each)
            state_check(each)


cdef void send_queue_send(socket_t* self) noexcept nogil:
    cdef loop_t* loop = loop_of(self)
    cdef chunk_t* chunk = self.send_queue
    cdef net.iovec part
    cdef ssize_t sent
    part.iov_base = chunk_bytes(chunk)
    part.iov_len = chunk_length(chunk)
    sent = net.pbt_send(stream_fd(self), &part, 1)
    stats_add(&loop.count.writes, 1)
    if sent < 0:
        send_queue_drop(self)
        output_fail(self, <int>sent)
        return
    chunk.start += sent
    stats_add(&loop.refused_bytes, -<int64_t>sent)
    output_note_sent(self, sent)
    if not self.flags & S_TLS:
        stats_add(&loop.count.bytes_written, sent)
    if chunk_length(chunk) == 0:
        send_queue_pop(self)
    unbounded_tell(self)


cdef void send_queue_pop(socket_t* self) noexcept nogil:
    """The first chunk has been sent. If nothing else is pending, continue with what waited for that."""
    cdef loop_t* loop = loop_of(self)
    cdef chunk_t* chunk = self.send_queue
    self.send_queue = chunk.next
    if self.flags & S_TLS:
        stats_add(&loop.count.bytes_written, tls_written(self, chunk))
    spare_give_back(loop, chunk)
    output_flush(self)
    if self.send_queue == NULL:
        send_queue_unwatch(self)
    if output_pending(self) == 0 and may_send(self):
        events_flushed(self)
        if output_has_drain_news(self):
            upcalls.drained(self)
