"""loop: the memory and the handles of one libuv loop.

Owns `loop_t`, which is the libuv loop and all that its sockets share (the slab that is read into, the spare chunks, the
lists of sockets with unsent output, the timing wheel, the counters), and `Loop`, its owner in Python. Owns also the
lists of sockets (`socket_list_t`), the count of references that keep `run` going, and the check that a loop is used in
its own thread only.
Does not know what happens in a turn (see turn), what is read into (see slabs), which thread or asyncio loop turns it
(see current, embed, native), how
it ends (see closing), nor sockets: it only stores pointers to them.
"""
cimport cython
import threading
import weakref

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc

from pybuntcp._c cimport net, uv


cdef struct socket_list_t:
    # A list of sockets. Each socket has one flag for each list that it may be in.
    socket_t** at
    size_t count
    size_t capacity


cdef struct loop_t:
    # libuv's handles
    uv.uv_loop_t uv                 # first: a handle's `loop` pointer is a loop_t*
    uv.uv_prepare_t park            # runs just before the poll; referenced while `references` is not 0
    uv.uv_check_t polled            # runs after the poll's callbacks, before the closing callbacks
    uv.uv_idle_t next_turn          # active while a turn was requested: libuv then polls without waiting
    uv.uv_timer_t alarm             # the only timer of the wheel
    uv.uv_async_t posted_to         # wakes it for what other threads have posted; see posts
    uv.uv_poll_t interrupt          # polls wakeup[0]
    uv.uv_poll_t writable           # polls writable_watch
    uv.uv_poll_t asyncio_fds        # of a native loop: polls asyncio's own selector; see selector
    uv.uv_timer_t read_peak_over    # active while reads are larger than READ_SIZE; see slabs
    uv.uv_timer_t limit             # how long asyncio wants to wait, or `run` may take
    # which sockets can be written to again: see connection/send_queue
    int writable_watch              # an epoll instance, or a kqueue, of the sockets that the kernel takes no more from
    bint writable_watch_active      # libuv polls it
    size_t blocked_count            # sockets in it
    uint64_t refused_bytes          # what their send queues hold
    # signals: see signals
    int wakeup[2]                   # a pipe: Python writes a byte for each signal to wakeup[1]
    bint wakeup_taken               # wakeup[1] is Python's wakeup descriptor until the loop closes
    # who uses it
    unsigned long thread            # the only thread that may use it
    int process                     # a forked child must not touch the parent's epoll instance
    PyThreadState* parked           # this thread's state while the GIL is released; NULL: the GIL is held
    bint signal_pending             # signals may have arrived while it was released: run their Python handlers
    PyObject* owner                 # borrowed: the Loop
    # what is read into: see slabs
    PyObject* slab_owner            # owned: the Slab; NULL: none
    char* slab                      # its memory; NULL: loop_renew_slab must be called before the next read
    size_t slab_size
    size_t read_size                # bytes for one read of plain TCP at most
    size_t read_peak                # the largest read of late, or READ_SIZE - 1 if all were smaller
    bint chunks_kept                # the last chunk that was lent is its user's now
    # its state
    size_t references               # what is open and referenced: it keeps `run` going
    size_t calls                    # armed timers of users, and open callables of `threadsafe`
    int handling                    # > 0 while a handler runs
    bint running                    # uv_run is on the stack
    bint embedded                   # a foreign asyncio loop turns it; see embed
    bint asleep                     # embedded, and only a ready descriptor or a timer makes the asyncio loop turn it
    bint asyncio_fds_ready          # of a native loop: asyncio's selector has ready descriptors
    bint polls_first                # this turn sends nothing before its poll (see selector)
    bint has_replaced               # Loop.replaced is not empty: released when the turn ends
    bint failed                     # Loop.failure is set, and `run` has not raised it yet
    bint warned                     # loop_warn_forgotten has warned
    bint dead                       # closed, or inherited over a fork: no handler is called any more
    bint orphaned                   # another thread was turning it when this process forked; see after_fork
    bint closing                    # loop_close is at work
    bint closed
    # sockets that wait for something
    socket_list_t handler_flush     # have output that the running handler wrote
    socket_list_t turn_flush        # have output that sinks coalesce until the turn ends
    socket_list_t deferred_input    # have TLS input or an event to deliver; tls_process_pending visits them once a turn
    # how a turn is shared with handshakes: see connection/tls_scheduling
    uint64_t handshakes_served_at   # when handshakes last had their share of a turn; 0: none of them had to wait since
    uint64_t other_work_ns          # how long all other work took before that
    unsigned int long_turns         # how many turns in a row other work took long
    # how reads are shared: see connection/stream
    socket_t* last_read             # borrowed: the socket that was read last in this turn; NULL: none
    unsigned int reads_in_a_row     # how often it was read, one time after the other
    size_t bytes_in_a_row           # and how many bytes that were
    socket_t* asking                # borrowed: `alloc` of this socket runs, or gave no memory; NULL: of none
    char* lent                      # borrowed: what `alloc` of the socket that is read gave; NULL: nothing
    bint asking_stops               # its reading was to be stopped meanwhile
    bint asking_starts              # and then to be started again
    # memory and lists of the layers above
    tls_scratch_t scratch           # the buffers in which TLS engines work
    chunk_t* spare[8]               # empty chunks, kept because their memory is in the cache
    size_t spares
    connector_t* connectors         # all that are in progress
    connector_t* posted             # their outcome is known and will be reported by the next turn
    port_t* port                    # counted; what other threads post; NULL: the loop has ended
    mailbox_t lookups               # answers to this loop's lookups of names
    wheel_t wheel                   # of the sockets
    timers_t timers                 # those of users
    uint64_t turn_began             # when this turn's poll returned, in milliseconds of libuv's; 0: no turn began
    uint64_t longest_turn           # in milliseconds
    stats_t count


@cython.final
@cython.no_gc_clear
@cython.internal
cdef class Loop:
    """The owner of a loop's memory. Listeners hold a reference, too, since their memory refers to the loop's."""
    cdef loop_t* c
    cdef object failure         # an exception of a handler that stops the loop; None: none
    cdef bint nested            # the asyncio loop runs inside a handler, and its end was requested; see nested
    cdef object thread_name
    cdef object host            # a weak reference to the asyncio loop that turns it, or None
    cdef PyObject* embedding    # borrowed: the Embedding, if `host` is not a native loop; see embed
    cdef dict drain_waiters     # coroutines that wait for a sink's drain, by socket; see objects/sink
    cdef dict close_waiters     # coroutines that wait for a socket's close, by socket; see objects/wrapper
    cdef dict tasks             # async handlers that run, by socket or Connecting; see objects/tasks
    cdef list replaced          # objects that reload() replaced, and that the running slot may still use
    cdef object __weakref__

    def __dealloc__(self):
        if self.c != NULL:
            free(self.c)


cdef set _loops = set()     # weak references. Not a WeakSet: Python code goes through that, while threads add to it


cdef list loops_alive():
    """All loops of this process."""
    cdef list found = [each() for each in list(_loops)]
    return [loop for loop in found if loop is not None]


cdef Loop loop_new():
    """A loop of this thread, which no asyncio loop turns yet."""
    cdef Loop self = Loop.__new__(Loop)
    cdef Slab slab = Slab(SLAB_SIZE)
    cdef loop_t* c = <loop_t*>calloc(1, sizeof(loop_t))
    cdef int rc
    if c == NULL:
        raise MemoryError()
    rc = loop_init(c)
    if rc != 0:
        free(c)
        raise error_from_code(rc, "epoll_create")
    self.c = c
    self.drain_waiters = {}
    self.close_waiters = {}
    self.tasks = {}
    self.replaced = []
    loop_bind_thread(self)
    _local.had_loop = True
    c.process = net.getpid()
    c.owner = <PyObject*>self
    loop_set_slab(c, slab)
    c.read_size = READ_SIZE
    c.read_peak = READ_SIZE - 1
    wheel_init(&c.wheel, clock_of(c))
    wheel_init(&c.timers.wheel, clock_of(c))
    loop_init_handles(c)
    _loops.add(weakref.ref(self, _loops.discard))
    return self


cdef int loop_bind_thread(Loop self) except -1:
    """From now on only this thread may use the loop and what is open in it."""
    name = threading.current_thread().name
    self.c.thread = PyThread_get_thread_ident()
    with cython.critical_section(self):     # see raise_wrong_thread
        self.thread_name = name
    return 0


cdef int loop_init(loop_t* self) noexcept:
    """Open the two descriptors that a loop cannot do without. On a negative code nothing is left open."""
    cdef int rc = uv.uv_loop_init(&self.uv)
    if rc < 0:
        return rc
    self.writable_watch = net.pbt_watch_new()
    rc = -net.errno
    if self.writable_watch >= 0:
        rc = uv.uv_poll_init(&self.uv, &self.writable, self.writable_watch)
        if rc == 0:
            return 0
        net.close(self.writable_watch)
    uv.uv_loop_close(&self.uv)
    return rc


cdef void loop_init_handles(loop_t* self) noexcept:
    """Without a pipe (no descriptor is left) the loop works, but signals do not wake it."""
    uv.uv_unref(<uv.uv_handle_t*>&self.writable)
    uv.uv_prepare_init(&self.uv, &self.park)
    uv.uv_prepare_start(&self.park, on_park)
    uv.uv_unref(<uv.uv_handle_t*>&self.park)
    uv.uv_check_init(&self.uv, &self.polled)
    uv.uv_check_start(&self.polled, on_polled)
    uv.uv_unref(<uv.uv_handle_t*>&self.polled)
    uv.uv_idle_init(&self.uv, &self.next_turn)
    uv.uv_timer_init(&self.uv, &self.alarm)
    uv.uv_unref(<uv.uv_handle_t*>&self.alarm)
    uv.uv_timer_init(&self.uv, &self.read_peak_over)
    uv.uv_unref(<uv.uv_handle_t*>&self.read_peak_over)
    uv.uv_timer_init(&self.uv, &self.limit)
    uv.uv_unref(<uv.uv_handle_t*>&self.limit)
    mailbox_init(&self.lookups, &self.uv)
    self.port = port_new(self)
    self.wakeup[0] = self.wakeup[1] = -1
    if net.pbt_pipe(self.wakeup) == 0:
        uv.uv_poll_init(&self.uv, &self.interrupt, self.wakeup[0])
        uv.uv_poll_start(&self.interrupt, uv.UV_READABLE, on_interrupt)
        uv.uv_unref(<uv.uv_handle_t*>&self.interrupt)


cdef inline bint loop_owns(loop_t* self, const void* handle) noexcept nogil:
    """True if this is one of the loop's own handles, which lie inside `loop_t`."""
    return <char*>self <= <char*>handle < <char*>(self + 1)


cdef inline bint loop_is_empty(loop_t* self) noexcept nogil:
    """True if nothing is open: no socket, listener, connection attempt, timer or callable of `threadsafe`."""
    return (self.count.open_sockets == 0 and self.count.open_listeners == 0
            and self.count.connecting == 0 and self.calls == 0)


# ---------------------------------------------------------------------------- lists of sockets

cdef inline bint sockets_add(socket_list_t* self, socket_t* s) noexcept nogil:
    """Append a socket. False: no memory."""
    if self.count == self.capacity and not sockets_grow(self):
        return False
    self.at[self.count] = s
    self.count += 1
    return True


cdef bint sockets_grow(socket_list_t* self) noexcept nogil:
    cdef size_t capacity = max(self.capacity * 2, <size_t>64)
    cdef socket_t** grown = <socket_t**>realloc(self.at, capacity * sizeof(socket_t*))
    if grown == NULL:
        return False
    self.at = grown
    self.capacity = capacity
    return True


# ---------------------------------------------------------------------------- references, thread

cdef inline loop_t* loop_of(const void* handle) noexcept nogil:
    """The loop of a libuv handle, or of a struct that begins with one."""
    return <loop_t*>(<uv.uv_handle_t*>handle).loop


cdef inline void loop_ref(loop_t* self) noexcept nogil:
    """Keep `run` going. The prepare handle stands for all references, since libuv counts active handles."""
    if self.references == 0:
        uv.uv_ref(<uv.uv_handle_t*>&self.park)
    self.references += 1


cdef inline void loop_unref(loop_t* self) noexcept nogil:
    self.references -= 1
    if self.references == 0:
        uv.uv_unref(<uv.uv_handle_t*>&self.park)


cdef bint loop_check(loop_t* self) except -1:
    """RuntimeError in another thread than the loop's. False: the loop is orphaned, and the caller must do nothing."""
    if PyThread_get_thread_ident() == self.thread:
        return True
    if not self.orphaned:
        raise_wrong_thread(self)
    return False


cdef int raise_wrong_thread(loop_t* self) except -1:
    cdef Loop owner = <Loop>self.owner      # held: the loop's thread may end while this one runs code of Python
    here = threading.current_thread()
    with cython.critical_section(owner):
        name = owner.thread_name
    raise RuntimeError(
        f"this belongs to the loop of thread {name!r} "
        f"({owner.c.thread}) and was used from thread {here.name!r} ({here.ident})"
    )
