"""tail: what the kernel did not take at once, and how it follows.

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


cdef size_t tail_size(chunk_t* self) noexcept nogil:
    """Bytes of this chunk and those that follow it."""
    cdef size_t total = 0
    while self != NULL:
        total += chunk_length(self)
        self = self.next
    return total


cdef inline void tail_watch(socket_t* self) noexcept nogil:
    cdef loop_t* loop = loop_of(self)
    if not self.flags & S_BLOCKED:
        self.flags |= S_BLOCKED
        loop.blocked += 1
        if not loop.watching:
            loop_watch(loop)


cdef int tail_add(socket_t* self, chunk_t* chunk) noexcept nogil:
    """Adopts the chunk, which is sent after all others. A negative code: it cannot be."""
    cdef chunk_t** link = &self.sending
    cdef int rc = 0
    if not self.flags & S_BLOCKED:
        rc = net.pbt_watch_add(loop_of(self).watch, stream_fd(self), self)
    if rc < 0:
        chunk_free(loop_of(self), chunk)
        return rc
    tail_watch(self)
    while link[0] != NULL:
        link = &link[0].next
    link[0] = chunk
    chunk.next = NULL
    return 0


cdef void tail_unwatch(socket_t* self) noexcept nogil:
    if self.flags & S_BLOCKED:
        self.flags &= ~S_BLOCKED
        loop_of(self).blocked -= 1
        net.pbt_watch_remove(loop_of(self).watch, stream_fd(self))


cdef void tail_drop(socket_t* self) noexcept nogil:
    """Forget what is unsent of it."""
    cdef chunk_t* chunk
    self.accepted -= sealing_dropped(self) if self.flags & S_SECURE else output_sending(self)
    while self.sending != NULL:
        chunk = self.sending
        self.sending = chunk.next
        chunk_free(loop_of(self), chunk)
    tail_unwatch(self)


cdef void tails_go_on(loop_t* loop) noexcept nogil:
    """The watch is readable. What handlers close meanwhile is freed when the turn ends.

    Of a peer that is gone, the read side says why, as long as it is read.
    """
    cdef void* ready[64]
    cdef int gone[64]
    cdef int count = net.pbt_watch_ready(loop.watch, ready, gone)
    cdef int i
    cdef socket_t* each
    for i in range(count):
        each = <socket_t*>ready[i]
        if each.sending != NULL and not (gone[i] and uv.uv_is_active(<uv.uv_handle_t*>each)):
            tail_send(each)


cdef void tail_send(socket_t* self) noexcept nogil:
    cdef loop_t* loop = loop_of(self)
    cdef chunk_t* chunk = self.sending
    cdef net.iovec part
    cdef ssize_t sent
    part.iov_base = chunk_bytes(chunk)
    part.iov_len = chunk_length(chunk)
    sent = net.pbt_send(stream_fd(self), &part, 1)
    loop.count.writes += 1
    if sent < 0:
        tail_drop(self)
        output_break(self, <int>sent)
        return
    chunk.start += sent
    output_moved(self, sent)
    if not self.flags & S_SECURE:
        loop.count.bytes_written += sent
    if chunk_length(chunk) == 0:
        tail_shift(self)


cdef void tail_shift(socket_t* self) noexcept nogil:
    """The first chunk has left; if that was all, whoever waits for it is told."""
    cdef loop_t* loop = loop_of(self)
    cdef chunk_t* chunk = self.sending
    self.sending = chunk.next
    if self.flags & S_SECURE:
        loop.count.bytes_written += sealing_left(self, chunk)
    chunk_free(loop, chunk)
    output_flush(self)
    if self.sending == NULL:
        tail_unwatch(self)
    if output_pending(self) == 0 and not self.flags & (S_BROKEN | S_CLOSED):
        up.flushed(self)
        if output_is_told(self):
            up.drained(self)
