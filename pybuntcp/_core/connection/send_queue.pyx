"""send_queue: what the kernel did not take at once, and how it follows.

Owns `sending`, the chunks of a socket that the kernel has refused, in order: one, and with TLS
what the engine said meanwhile; and the loop's watch (`S_BLOCKED`): a socket that has a tail is in it.

The problem: libuv tells when a `uv_write` is done, and nothing else; it sends by write(2), which
raises SIGPIPE when the peer has left; how much has left it does not tell; and its request keeps
`uv_run` going whether the socket is referenced or not.
The rule: libuv is told of one descriptor more, the watch: an epoll instance (a kqueue elsewhere)
that is readable while one of the sockets in it is writable. They are added and removed at once, and
sent to from here. A `uv_poll_t` for each would need a duplicate of each descriptor.

Promises one attempt for each socket and event; that a chunk is sent from where it is.
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
    """Adopts the chunk, which is sent after all others. A negative code: it cannot be."""
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
    return 0


cdef void send_queue_unwatch(socket_t* self) noexcept nogil:
    if self.flags & S_BLOCKED:
        self.flags &= ~S_BLOCKED
        loop_of(self).blocked_count -= 1
        net.pbt_watch_remove(loop_of(self).writable_watch, stream_fd(self))


cdef void send_queue_drop(socket_t* self) noexcept nogil:
    """Forget what is unsent of it."""
    cdef chunk_t* chunk
    self.accepted -= tls_dropped(self) if self.flags & S_TLS else output_queued(self)
    while self.send_queue != NULL:
        chunk = self.send_queue
        self.send_queue = chunk.next
        spare_give_back(loop_of(self), chunk)
    send_queue_unwatch(self)


cdef void send_queues_resume(loop_t* loop) noexcept nogil:
    """The watch is readable. What handlers close meanwhile is freed when the turn ends.

    Of a peer that is gone, the read side says why, as long as it is read.
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
    loop.count.writes += 1
    if sent < 0:
        send_queue_drop(self)
        output_fail(self, <int>sent)
        return
    chunk.start += sent
    output_note_sent(self, sent)
    if not self.flags & S_TLS:
        loop.count.bytes_written += sent
    if chunk_length(chunk) == 0:
        send_queue_pop(self)


cdef void send_queue_pop(socket_t* self) noexcept nogil:
    """The first chunk has left; if that was all, whoever waits for it is told."""
    cdef loop_t* loop = loop_of(self)
    cdef chunk_t* chunk = self.send_queue
    self.send_queue = chunk.next
    if self.flags & S_TLS:
        loop.count.bytes_written += tls_written(self, chunk)
    spare_give_back(loop, chunk)
    output_flush(self)
    if self.send_queue == NULL:
        send_queue_unwatch(self)
    if output_pending(self) == 0 and may_send(self):
        events_flushed(self)
        if output_has_drain_news(self):
            upcalls.drained(self)
