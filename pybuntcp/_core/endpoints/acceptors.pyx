"""acceptors: the listening descriptors of one listener.

A name may have several addresses, and a listener several names. Each address needs a listening descriptor of its own;
the connections of all of them are the listener's, which counts them together.

Owns `acceptor_t`, one descriptor with its poll handle, and the array of them, `acceptors_t`. The array is freed with its
listener, which lives until libuv has closed every handle (`handles`).
Promises that all of them are polled or none. Does not know how a descriptor is made (see bind), nor what is accepted
(see accept).
"""
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport net, uv


cdef struct acceptor_t:
    uv.uv_poll_t poll           # first: a pointer to it is a pointer to the acceptor
    listener_t* listener
    int fd
    bint lost                   # other code closed the descriptor: its number may belong to another file by now

cdef struct acceptors_t:
    acceptor_t* each            # owned
    size_t count
    size_t handles              # poll handles that libuv has not closed


cdef int acceptors_make(acceptors_t* self, listener_t* listener, list fds) except -1:
    """Make room for the descriptors. None is polled yet."""
    cdef size_t i
    self.each = <acceptor_t*>calloc(len(fds), sizeof(acceptor_t))
    if self.each == NULL:
        raise MemoryError()
    self.count = len(fds)
    for i in range(self.count):
        self.each[i].listener = listener
        self.each[i].fd = fds[i]
    return 0


cdef int acceptors_start(acceptors_t* self, loop_t* loop) noexcept nogil:
    """Make the poll handles. Those that were made before a failure are in `handles`, and must be closed."""
    cdef int rc
    while self.handles < self.count:
        rc = uv.uv_poll_init(&loop.uv, &self.each[self.handles].poll, self.each[self.handles].fd)
        if rc < 0:
            return rc
        uv.uv_unref(<uv.uv_handle_t*>&self.each[self.handles])      # loop.references keeps the loop going instead
        self.handles += 1
    return 0


cdef void acceptors_watch(acceptors_t* self) noexcept nogil:
    cdef size_t i
    for i in range(self.count):
        uv.uv_poll_start(&self.each[i].poll, uv.UV_READABLE | uv.UV_DISCONNECT, on_acceptable)


cdef void acceptors_unwatch(acceptors_t* self) noexcept nogil:
    cdef size_t i
    for i in range(self.count):
        uv.uv_poll_stop(&self.each[i].poll)


cdef void acceptors_close_handles(acceptors_t* self) noexcept nogil:
    """Close the poll handles that were made. The descriptors stay open."""
    cdef size_t i
    for i in range(self.handles):
        uv.uv_close(<uv.uv_handle_t*>&self.each[i], on_acceptor_closed)


cdef void acceptors_close(acceptors_t* self, bint shared) noexcept nogil:
    """Close the handles and the descriptors. shared: other processes may use the same sockets, and go on."""
    cdef size_t i
    acceptors_close_handles(self)
    for i in range(self.count):
        if shared or self.each[i].lost:
            descriptor_release_shared(self.each[i].fd)
        else:
            descriptor_release(self.each[i].fd)
        if not self.each[i].lost:
            net.close(self.each[i].fd)


cdef void on_acceptor_closed(uv.uv_handle_t* handle) noexcept nogil:
    cdef listener_t* listener = (<acceptor_t*>handle).listener
    listener.acceptors.handles -= 1
    listener_decref_if_idle(listener)


cdef void acceptors_free(acceptors_t* self) noexcept:
    free(self.each)
    self.each = NULL
    self.count = 0
