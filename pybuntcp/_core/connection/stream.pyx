"""stream: one connection as the kernel and libuv see it.

Owns `socket_t`, the connection: libuv's handle first, then its Python object, its output, its deadlines and its
counters. Everything of a connection hangs here and only here.

Lifetime, in one place: a socket is made by `stream_new`, begins to close in `stream_close` (once, from anywhere), and
is freed by `stream_free`: called by `on_closed`, libuv's close callback, or, if an async handler of the socket still
runs then, when that has ended. libuv runs close callbacks at the end of a turn, never inside another callback, so a
`socket_t*` stays valid as long as any handler that received it runs.

All streams are `uv_tcp_t`, unix sockets too: libuv has the same stream code for both, and the handle is 16 bytes
smaller than a `uv_pipe_t`.

Promises one read system call per event, and no allocation for it; READS_PER_TURN reads, and READ_SIZE_MAX bytes, while a peer
sends faster than it is read, the rest in the next turn. Does not know handlers: it calls the functions of events.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport uv

cdef enum:
    EXT_ALIGNMENT = 16  # of the user's bytes behind a socket_t: enough for any C type
    READS_PER_TURN = 2  # reads of one socket in one turn: libuv would do up to 32 for one event


cdef struct socket_t:
    uv.uv_tcp_t tcp         # first: libuv's pointer is ours; .data is the context_t
    PyObject* wrapper       # owned: the Socket, made when first needed
    chunk_t* send_queue     # owned: what the kernel has refused, in order; see send_queue
    chunk_t* gather         # owned: accepted bytes that the kernel has not been offered yet; see output
    deadlines_t* deadlines  # owned; made when first needed
    pipe_t* pipe            # owned: the sockets that it is piped to, and from; made when first needed
    tls_t* tls              # owned, with S_TLS: the engine's part of it; see tls_output
    uint64_t bytes_read
    uint64_t accepted       # bytes taken from the user; minus the pending ones: bytes written
    size_t drain_at         # not 0: `drain` is owed once fewer bytes are pending; S_BROKEN: `broken` is (see unbounded)
    unsigned int flags
    short error             # the libuv code it will close with
    unsigned short corks    # `with socket.cork()` depth


cdef inline size_t stream_ext_start() noexcept nogil:
    """Offset of the user's bytes, which lie behind a socket."""
    return (sizeof(socket_t) + EXT_ALIGNMENT - 1) // EXT_ALIGNMENT * EXT_ALIGNMENT


cdef socket_t* stream_new(loop_t* loop, context_t* context) noexcept nogil:
    """A socket without a descriptor. libuv owns it from here on; NULL: no memory."""
    cdef size_t size = stream_ext_start() + context.ext_size if context.ext_size != 0 else sizeof(socket_t)
    cdef socket_t* self = <socket_t*>calloc(1, size)
    if self == NULL:
        return NULL
    uv.uv_tcp_init(&loop.uv, &self.tcp)
    uv.uv_unref(<uv.uv_handle_t*>self)      # loop.references keeps the loop going instead
    self.tcp.data = context
    context.references += 1
    loop_ref(loop)
    return self


cdef inline int stream_fd(socket_t* self) noexcept nogil:
    return uv.pbt_fileno(<uv.uv_handle_t*>self)


cdef void stream_read(socket_t* self) noexcept nogil:
    """Start reading, or continue, unless a flag forbids it."""
    if is_read_for_tls(self):
        stream_read_tls(self)
        return
    if not wants_input(self):
        return
    if not self.flags & S_DISCARD:
        if self.flags & S_CLOSING:
            return
        if self.flags & S_RECEIVER:
            receiver_read(self)
            return
        if self.flags & S_HANDLER_TASK:
            return
    stream_start(self, on_alloc, on_read)


cdef void stream_start(socket_t* self, uv.uv_alloc_cb alloc, uv.uv_read_cb read) noexcept nogil:
    """Start reading, or continue with other callbacks."""
    cdef bint resumes = self.deadlines != NULL and not stream_is_read(self)
    if loop_of(self).asking == self:
        loop_of(self).asking_starts = True
        return
    uv.uv_read_start(<uv.uv_stream_t*>self, alloc, read)
    if resumes:
        deadlines_start_read(self)
    loop_wakeup(loop_of(self))


cdef void stream_read_tls(socket_t* self) noexcept nogil:
    """Read for TLS. Deferred input is processed first, and by a turn of the loop, not in here.

    A paused socket is read, too, while it has a handshake or an unfinished message to complete (S_TLS_WANT_READ).
    """
    if self.flags & S_CLOSED:
        return
    if self.flags & S_INPUT_DEFERRED:
        stream_queue_deferred(self)
    elif not self.flags & S_EOF:
        stream_start(self, on_alloc, on_read)


cdef void stream_queue_deferred(socket_t* self) noexcept nogil:
    """Have the next turn process the deferred input: see tls_process_pending."""
    cdef loop_t* loop = loop_of(self)
    if not self.flags & S_IN_DEFERRED:
        if not sockets_add(&loop.deferred_input, self):
            stream_close(self)
            return
        self.flags |= S_IN_DEFERRED
    loop_request_turn(loop)


cdef inline void stream_pause_reading(socket_t* self) noexcept nogil:
    """The user wants no more for now. A handshake, or a write that waits for input, continues all the same."""
    if not is_tls_blocked(self):
        stream_stop(self)


cdef inline bint stream_is_read(socket_t* self) noexcept nogil:
    return uv.uv_is_active(<uv.uv_handle_t*>self) != 0


cdef inline void stream_stop(socket_t* self) noexcept nogil:
    if loop_of(self).asking == self:
        loop_of(self).asking_stops = True       # see stream_ask_for_memory
        loop_of(self).asking_starts = False
        return
    uv.uv_read_stop(<uv.uv_stream_t*>self)


cdef void stream_close(socket_t* self) noexcept nogil:
    """Close the descriptor. `events_closed` follows from the loop, once."""
    cdef loop_t* loop = loop_of(self)
    if self.flags & S_CLOSED:
        return
    upcalls.wrapper_closing(self)
    if self.flags & S_CLOSED:
        return          # the call above may create an object, so run the garbage collector, so close `self`
    deadlines_stop(self)
    if output_pending(self) != 0:
        self.flags |= S_BYTES_LOST
    self.flags |= S_CLOSED | S_ENDED
    output_drop_all(self)
    if not self.flags & S_UNREF:
        loop_unref(loop)
    if self.flags & S_SHARED:
        descriptor_release_shared(stream_fd(self))
    else:
        descriptor_release(stream_fd(self))
    if loop.asking != self:                     # else stream_gave_no_memory does it
        uv.uv_close(<uv.uv_handle_t*>self, on_closed)
    loop_wakeup(loop)
    if self.pipe != NULL:
        pipe_closed(self)
    state_check(self)


cdef inline size_t stream_read_size(socket_t* self) noexcept nogil:
    """Bytes that may be read now. 0: other sockets first; libuv reports it again in the next turn."""
    cdef loop_t* loop = loop_of(self)
    if loop.last_read == self:
        return stream_read_size_left(self)
    loop.last_read = self
    loop.reads_in_a_row = 1
    loop.bytes_in_a_row = 0
    return SLAB_SIZE if self.flags & S_TLS else loop.read_size


cdef size_t stream_read_size_left(socket_t* self) noexcept nogil:
    """As stream_read_size, for the socket that was read last, which has filled its memory."""
    cdef loop_t* loop = loop_of(self)
    loop.reads_in_a_row += 1
    if loop.bytes_in_a_row >= READ_SIZE_MAX:
        loop.reads_in_a_row = READS_PER_TURN + 1
    if loop.reads_in_a_row > READS_PER_TURN:
        return 0
    return SLAB_SIZE if self.flags & S_TLS else min(loop.read_size, READ_SIZE_MAX - loop.bytes_in_a_row)


cdef void on_alloc(uv.uv_handle_t* handle, size_t suggested, uv.uv_buf_t* buffer) noexcept nogil:
    """Without a buffer libuv calls `on_read` with UV_ENOBUFS and reads no more for this event."""
    cdef size_t size = stream_read_size(<socket_t*>handle)
    loop_of(handle).lent = NULL
    if size == 0:
        return
    if reads_into_user_memory(<socket_t*>handle) and stream_ask_for_memory(<socket_t*>handle, size, buffer):
        return
    buffer.base = loop_slab(loop_of(handle))
    buffer.len = size


cdef bint stream_ask_for_memory(socket_t* self, size_t suggested, uv.uv_buf_t* buffer) noexcept nogil:
    """Ask its user for memory. False: the loop's is to be used.

    libuv forbids to stop or close a stream in here. While `asking` is set, both are only noted; libuv is given no memory then,
    so that it calls `on_read` at once, which does what was noted.
    """
    cdef loop_t* loop = loop_of(self)
    cdef alloc_slot slot = context_of(self).table.slots.alloc
    cdef size_t capacity = suggested
    cdef char* memory
    loop.asking = self
    loop.asking_stops = loop.asking_starts = False
    handler_enter(loop)
    memory = slot(self, suggested, &capacity)
    handler_leave(loop)
    if takes_no_memory(self) or loop.asking_stops or context_of(self).table.slots.alloc != slot:
        return True
    if memory == NULL and capacity != 0:
        loop.asking = NULL
        return False
    if memory != NULL and capacity != 0:
        loop.asking = NULL
        loop.lent = memory
        buffer.base = memory
        buffer.len = capacity
    return True


cdef void stream_gave_no_memory(socket_t* self) noexcept nogil:
    """`alloc` gave none, or stopped or closed the socket, which can be done now."""
    cdef loop_t* loop = loop_of(self)
    loop.asking = NULL
    if self.flags & S_CLOSED:
        uv.uv_close(<uv.uv_handle_t*>self, on_closed)
    elif loop.asking_stops:
        stream_stop(self)
        if loop.asking_starts:
            stream_read(self)


cdef void on_read(uv.uv_stream_t* stream, ssize_t n, const uv.uv_buf_t* buffer) noexcept nogil:
    cdef socket_t* self = <socket_t*>stream
    cdef loop_t* loop = loop_of(stream)
    if n > 0:
        self.bytes_read += n
        loop.bytes_in_a_row += n
        stats_add(&loop.count.bytes_read, n)
        stats_add(&loop.count.reads, 1)
        events_received(self, buffer.base, n)
        if <size_t>n > loop.read_peak and not self.flags & S_TLS:
            loop_note_large_read(loop, n)
    elif loop.asking == self:
        stream_gave_no_memory(self)
    else:
        if loop.lent != NULL:
            loop.lent = NULL
            emit_data(self, buffer.base, 0)         # nothing was read: its user has the memory back
        if n < 0 and not stream_is_read_enough(loop, <int>n) and not self.flags & S_CLOSED:
            stream_stop(self)
            events_ended(self, <int>n)
    state_check(self)


cdef inline bint stream_is_read_enough(loop_t* loop, int code) noexcept nogil:
    """In this turn: see stream_read_size. This is no error of the connection's."""
    return code == uv.UV_ENOBUFS and loop.reads_in_a_row > READS_PER_TURN


cdef void on_closed(uv.uv_handle_t* handle) noexcept nogil:
    cdef socket_t* self = <socket_t*>handle
    if events_closed(self):
        stream_free(self)


cdef void stream_free(socket_t* self) noexcept nogil:
    output_free(self)
    free(self.deadlines)
    free(self.pipe)
    free(self)
