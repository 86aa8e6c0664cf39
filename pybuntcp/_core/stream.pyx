"""stream: one connection as the kernel and libuv see it.

Owns `socket_t`, the connection: libuv's handle first, then its face, its output, its clocks
and its counters. Everything of a connection hangs here and only here.

Lifetime, in one place: a socket is born in `socket_new`, begins to die in `stream_close`
(once, from anywhere), and is freed in `stream_free`, by `on_closed`, libuv's close callback, or,
if an async handler of it still ran then, when that has ended. libuv runs close callbacks at the
end of a turn, never inside another callback, so a `socket_t*` stays valid for as long as any
handler that was given it runs.

All streams are `uv_tcp_t`, unix sockets too: libuv's stream code is one for both, and the
handle is 16 bytes smaller than a `uv_pipe_t`.

Promises one read system call per event and no allocation; `SLABS_A_TURN` while a peer sends faster
than it is read, the rest in the next turn. Does not know handlers: what happens is told upward
through `up`, the table of stream events.
"""
from cpython.ref cimport PyObject, Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport net, uv

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*)


cdef enum:
    S_BLOCKED = 1           # the kernel takes no more for now: in the loop's watch, see tail
    S_OPENED = 2            # `open` was told, so `close` will be
    S_ENDED = 4             # our side takes no more writes
    S_FIN_SENT = 8
    S_EOF = 16              # the peer's FIN was seen
    S_DEAF = 32             # shutdown(True): what comes is thrown away
    S_PAUSED = 64
    S_CLOSING = 128         # close when what is pending has gone out
    S_CLOSED = 256          # uv_close was called
    S_BROKEN = 512          # a write failed for good; the read side has the last word
    S_SHORT = 1024          # a write was short: a drain is owed
    S_DIRTY = 2048          # in the loop's list of gathered output
    S_UNREF = 4096
    S_SHARED = 8192         # another socket of ours is on the same connection; see upgrading
    S_LINGER = 16384        # end() was called: the peer's FIN is waited for, by the clock
    S_LATE = 32768          # in the loop's list of coalesced output
    S_AWAITED = 65536       # somebody waits for a sink's drain
    S_LOST = 131072         # bytes that were accepted never reached the kernel
    S_BUSY = 262144         # an async handler runs: nothing is read, no other handler starts
    S_OVERDUE = 524288      # ... `timeout` waits for it
    S_GONE = 1048576        # ... and so does `close`: libuv has let go of it already
    S_TOLD = 2097152        # `close` was told
    S_READER = 4194304      # what comes is for a SocketReader
    S_END_READ = 8388608    # ... which has given its user the end
    S_WATCHED = 16777216    # somebody waits for its end
    S_COUNTED = 33554432    # among the open sockets
    S_SECURE = 67108864     # what is sent is sealed, and what comes is opened: see sealing, secure
    S_SECURING = 134217728  # ... and its handshake is not done: nothing of the user's is sent
    S_HELD = 268435456      # ... something came, or is to be told, that has to wait: not read
    S_QUEUED = 536870912    # ... and it is in the loop's list for that
    S_NOTIFIED = 1073741824     # ... and the peer was told that nothing more comes
    S_MUTE = 2147483648        # ... and the engine seals nothing until more has come: see sealing

cdef enum:
    EXT_ALIGNMENT = 16      # of the user's bytes behind a socket_t: any C type's
    SLABS_A_TURN = 2        # of one socket: libuv would read up to 32 for one event


cdef struct socket_t:
    uv.uv_tcp_t tcp             # first: libuv's pointer is ours; .data is the context_t
    PyObject* face              # owned: the Socket, made when first needed
    chunk_t* sending            # what the kernel has refused, in order; see tail
    chunk_t* gather             # ... and bytes accepted that it was not given yet
    clocks_t* clocks            # its deadlines, made when first needed
    uint64_t bytes_read
    uint64_t accepted           # bytes taken from the user; less pending = bytes written
    unsigned int flags
    short error                 # the libuv code it will close with
    unsigned short corks        # `with socket.cork()` depth


cdef struct stream_events_t:
    # What streams tell the layer above. Filled once, by module.
    void (*received)(socket_t*, const char*, size_t) noexcept nogil
    void (*ended)(socket_t*, int) noexcept nogil        # UV_EOF or an error code
    void (*flushed)(socket_t*) noexcept nogil           # nothing is pending any more
    void (*drained)(socket_t*) noexcept nogil           # ... or ever will be: who waits is told
    void (*broken)(socket_t*) noexcept nogil            # a write failed for good
    void (*writable)(loop_t*) noexcept nogil            # the kernel takes more of somebody's
    void (*moved)(socket_t*) noexcept nogil             # bytes left, and there are clocks
    void (*closing)(socket_t*) noexcept nogil           # the descriptor is about to go
    bint (*closed)(socket_t*) noexcept nogil            # the last event; True: it may be freed
    void (*read_to)(socket_t*) noexcept nogil           # read on, for a SocketReader
    void (*end_read)(socket_t*) noexcept nogil          # ... that gave its user the end
    void (*abandoned)(uv.uv_handle_t*) noexcept nogil   # the loop dies under this handle
    void (*forsaken)(loop_t*) noexcept nogil            # ... and under its connectors
    void (*unclosed)(loop_t*, list) noexcept            # what is open in it goes into the list
    void (*handled)(loop_t*) noexcept nogil             # a handler returned, output is gathered
    void (*turned)(loop_t*) noexcept nogil              # a turn ends, output is gathered
    void (*again)(loop_t*) noexcept nogil               # a turn that was asked for begins
    void (*held)(loop_t*) noexcept nogil                # a turn's callbacks have run, and sockets hold something

cdef stream_events_t up


cdef inline size_t stream_ext_start() noexcept nogil:
    """Where begins what lies behind a socket: an engine's pointer, and then the user's bytes."""
    return (sizeof(socket_t) + EXT_ALIGNMENT - 1) // EXT_ALIGNMENT * EXT_ALIGNMENT


cdef socket_t* socket_new(loop_t* loop, context_t* context) noexcept nogil:
    """A socket without a descriptor. Owned by libuv from here on; NULL: no memory."""
    cdef size_t ext = context.own_size + context.ext_size
    cdef size_t size = stream_ext_start() + ext if ext != 0 else sizeof(socket_t)
    cdef socket_t* self = <socket_t*>calloc(1, size)
    if self == NULL:
        return NULL
    uv.uv_tcp_init(&loop.uv, &self.tcp)
    uv.uv_unref(<uv.uv_handle_t*>self)      # loop.references keeps the loop going
    self.tcp.data = context
    context.references += 1
    loop_ref(loop)
    return self


cdef inline int stream_fd(socket_t* self) noexcept nogil:
    cdef int fd = -1
    uv.uv_fileno(<uv.uv_handle_t*>self, &fd)
    return fd


cdef void stream_read(socket_t* self) noexcept nogil:
    """Read, or go on reading."""
    if self.flags & (S_SECURING | S_HELD | S_MUTE):
        stream_read_secured(self)
        return
    if self.flags & (S_PAUSED | S_EOF | S_CLOSED):
        return
    if not self.flags & S_DEAF:
        if self.flags & S_CLOSING:
            return
        if self.flags & S_READER:
            up.read_to(self)
            return
        if self.flags & S_BUSY:
            return
    uv.uv_read_start(<uv.uv_stream_t*>self, on_alloc, on_read)
    loop_kick(loop_of(self))


cdef void stream_read_secured(socket_t* self) noexcept nogil:
    """What is held comes first, and not in here.

    A handshake goes on whatever the user does, and so does a message that sealing waits for.
    """
    if self.flags & S_CLOSED:
        return
    if self.flags & S_HELD:
        stream_queue(self)
    elif not self.flags & S_EOF:
        uv.uv_read_start(<uv.uv_stream_t*>self, on_alloc, on_read)
        loop_kick(loop_of(self))


cdef void stream_queue(socket_t* self) noexcept nogil:
    """Have the loop look at what is held."""
    cdef loop_t* loop = loop_of(self)
    if not self.flags & S_QUEUED:
        if not roll_add(&loop.held, self):
            stream_close(self)
            return
        self.flags |= S_QUEUED
    loop_again(loop)


cdef inline void stream_rest(socket_t* self) noexcept nogil:
    """The user wants no more for now."""
    if not self.flags & (S_SECURING | S_MUTE):
        stream_stop(self)


cdef inline void stream_stop(socket_t* self) noexcept nogil:
    uv.uv_read_stop(<uv.uv_stream_t*>self)


cdef void stream_fin(socket_t* self) noexcept nogil:
    """Send FIN now. Nothing is queued: `uv_shutdown` would only wait for a turn."""
    if not self.flags & (S_FIN_SENT | S_CLOSED):
        self.flags |= S_FIN_SENT
        net.shutdown(stream_fd(self), net.SHUT_WR)


cdef bint stream_would_lose(socket_t* self) noexcept nogil:
    """Would close(2) lose bytes that are under way?

    For input that lies unread, or comes later, the kernel sends RST, which takes them along.
    What lies unread is thrown away here. A peer that was sending may well send on, as long as
    bytes of ours are not acknowledged; any peer has the time to, while they are not even sent.
    """
    cdef int fd = stream_fd(self)
    cdef bint sending = net.pbt_discard(fd) != 0
    return net.pbt_under_way(fd, not sending) != 0


cdef void stream_reset_on_close(socket_t* self) noexcept nogil:
    """Let close(2) send RST instead of FIN."""
    cdef net.linger linger
    linger.l_onoff = 1
    linger.l_linger = 0
    net.setsockopt(stream_fd(self), net.SOL_SOCKET, net.SO_LINGER, &linger, sizeof(linger))


cdef void stream_close(socket_t* self) noexcept nogil:
    """Give the descriptor back. `up.closed` follows from the loop, once."""
    cdef loop_t* loop = loop_of(self)
    if self.flags & S_CLOSED:
        return
    up.closing(self)
    if self.flags & S_CLOSED:
        return          # it may make an object, and so run anybody's finalizer: that closed it
    if output_pending(self) != 0:
        self.flags |= S_LOST
    self.flags |= S_CLOSED | S_ENDED
    output_drop(self)
    if not self.flags & S_UNREF:
        loop_unref(loop)
    if self.flags & S_SHARED:
        descriptor_disown(stream_fd(self))
    else:
        descriptor_part(stream_fd(self))
    uv.uv_close(<uv.uv_handle_t*>self, on_closed)
    loop_kick(loop)


cdef inline char* loop_slab(loop_t* loop) noexcept nogil:
    """What to read into. NULL: there was no memory for it, and is none; libuv then says UV_ENOBUFS."""
    if loop.slab == NULL:
        gil_take(loop)
        (<loop_slot><void*>slab_renew)(loop)
    return loop.slab


cdef void slab_renew(loop_t* loop) noexcept:
    """Take other memory to read into, if that was given away or somebody holds a view of it."""
    cdef Slab slab
    if loop.slab != NULL and Py_REFCNT(loop.slab_owner) == 1:
        return
    loop.slab = NULL        # reading on would change what the user holds
    try:
        slab = Slab()
    except MemoryError as error:
        loop_fail(loop, error)
        return
    Py_INCREF(slab)
    Py_XDECREF(loop.slab_owner)
    loop.slab_owner = <PyObject*>slab
    loop.slab = slab.memory


cdef inline bint stream_has_turn(socket_t* self) noexcept nogil:
    """May it be read once more? False: others go first, and libuv looks again in the next turn."""
    cdef loop_t* loop = loop_of(self)
    if loop.reading == self:
        loop.slabs += 1
        return loop.slabs <= SLABS_A_TURN
    loop.reading = self
    loop.slabs = 1
    return True


cdef void on_alloc(uv.uv_handle_t* handle, size_t suggested, uv.uv_buf_t* buffer) noexcept nogil:
    """Without a buffer libuv calls `on_read` with UV_ENOBUFS and reads no more for this event."""
    if not stream_has_turn(<socket_t*>handle):
        return
    buffer.base = loop_slab(loop_of(handle))
    buffer.len = SLAB_SIZE if (<socket_t*>handle).flags & S_SECURE else READ_MOST


cdef void on_read(uv.uv_stream_t* stream, ssize_t n, const uv.uv_buf_t* buffer) noexcept nogil:
    cdef socket_t* self = <socket_t*>stream
    cdef loop_t* loop = loop_of(stream)
    if n > 0:
        self.bytes_read += n
        loop.count.bytes_read += n
        loop.count.reads += 1
        up.received(self, buffer.base, n)
    elif n < 0 and (n != uv.UV_ENOBUFS or loop.slabs <= SLABS_A_TURN):
        stream_stop(self)
        up.ended(self, <int>n)


cdef void on_closed(uv.uv_handle_t* handle) noexcept nogil:
    cdef socket_t* self = <socket_t*>handle
    if up.closed(self):
        stream_free(self)


cdef void stream_free(socket_t* self) noexcept nogil:
    output_free(self)
    free(self.clocks)
    free(self)
