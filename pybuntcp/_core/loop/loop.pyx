"""loop: one libuv loop per thread, its turn, and when the GIL is held.

Owns `loop_t` (the libuv loop and what all its sockets share: the slab, the spare chunks, the
list of sockets with gathered output, the wheel, the counters) and `Loop`, its Python owner.
Whose loop it is, and how it ends: see current.

The GIL rule. A turn of libuv is: poll, callbacks, closing, timers. `on_park` runs just before
the poll and lets the GIL go; the first adapter that needs Python takes it back (`gil_take`),
and it stays until the next park. So a turn of five hundred Python events costs one hand-over,
and a turn of Cython slots none. Code below the adapters is `nogil` and touches no object.
Inside somebody else's asyncio loop no turn waits, and the GIL is simply kept.

Promises: `run` raises what stopped it (Ctrl-C within 100 ms, also when idle, because Python's
wakeup descriptor is polled by the loop); handlers never run inside one another.
Does not know sockets: `loop_abandon` closes them through `up.loop_abandoned`.
"""
cimport cython
import threading
import weakref

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject, Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc

from pybuntcp._c cimport net, uv

cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030D0000
    #define PyThreadState_GetUnchecked _PyThreadState_UncheckedGet
    #endif
    """
    ctypedef struct PyThreadState:
        pass
    PyThreadState* PyThreadState_GetUnchecked() nogil
    PyThreadState* PyEval_SaveThread() nogil
    void PyEval_RestoreThread(PyThreadState*) nogil


cdef struct socket_list_t:
    # A list of sockets; each has a flag that says that it is there.
    socket_t** at
    size_t count
    size_t capacity


cdef struct loop_t:
    uv.uv_loop_t uv                 # first: a handle's loop pointer is a loop_t*
    uv.uv_prepare_t park            # just before the poll; referenced while anything of ours is
    uv.uv_check_t polled            # just after the poll's callbacks, before the closing ones
    uv.uv_idle_t next_turn          # runs while something waits for the next turn: it comes at once
    uv.uv_timer_t alarm             # the wheel's one timer
    uv.uv_poll_t interrupt          # the read end of Python's signal wakeup
    uv.uv_poll_t writable           # the watch: sockets that the kernel takes no more of; see send_queue
    uv.uv_poll_t asyncio_fds        # asyncio's own descriptors, of a native loop; see selector
    uv.uv_timer_t asyncio_timeout   # ... and how long asyncio wants to wait
    int writable_watch
    bint writable_watch_active      # libuv looks at it
    size_t blocked_count            # sockets in it
    int wakeup[2]
    bint wakeup_taken               # Python's signal wakeup is ours until the loop closes
    unsigned long thread
    int process                     # a forked child must not touch the parent's epoll instance
    PyThreadState* parked           # the thread state set aside; NULL = the GIL is held
    bint signal_pending             # a signal that came meanwhile has not run its Python handler
    PyObject* owner                 # borrowed: the Loop
    PyObject* slab_owner            # owned: the Slab
    char* slab
    size_t references               # what keeps `run` going: sockets, listeners, connectors
    int handling                    # > 0 while a handler runs
    bint running
    bint embedded                   # somebody else's asyncio loop turns this one; see embed
    bint asleep                     # ... and would not look at it before something happens
    bint asyncio_fds_ready          # asyncio's descriptors have something
    bint has_replaced               # the owner has something to let go of when the turn ends
    bint dead                       # closed for good, or inherited over a fork: no handler runs
    bint orphaned                   # it turned in a thread that a fork left behind; see current
    bint closing                    # loop_close is at work
    bint closed
    socket_list_t handler_flush     # sockets with output gathered by the handler that runs
    socket_list_t turn_flush        # ... and with output that sinks coalesce until the turn ends
    socket_list_t deferred_input    # ... and that hold what came or is to be told, until a turn looks at them
    uint64_t handshakes_served_at  # when handshakes last had their part of a turn, if something was left; 0: nothing; see tls_input
    uint64_t other_work_ns          # ... and for how long everything else had gone on before that
    unsigned int long_turns         # ... that have followed one another, in which everything else took long
    socket_t* last_read             # borrowed: who was read last in this turn; NULL: nobody
    unsigned int reads_in_a_row     # ... and how often
    tls_scratch_t scratch           # where engines seal and open
    chunk_t* spare[8]               # chunks to gather in, warm
    size_t spares
    connector_t* connectors         # every attempt in progress
    connector_t* posted             # those whose outcome is to be told from the loop
    mailbox_t lookups               # of names that were asked for
    wheel_t wheel
    stats_t count


@cython.final
@cython.no_gc_clear
@cython.internal
cdef class Loop:
    """The owner of a loop's memory; listeners hold it too."""
    cdef loop_t* c
    cdef object failure         # what a handler raised to stop the loop
    cdef bint nested            # the asyncio loop is run inside a handler, and will end that; see nested
    cdef object thread_name
    cdef object host            # a weak reference to the asyncio loop that turns it; None
    cdef PyObject* embedding    # borrowed: what that loop calls, if it is not a native one
    cdef dict drain_waiters     # who waits for a sink's drain, by socket; see sink
    cdef dict close_waiters     # ... for a socket's end; see wrapper
    cdef dict tasks             # async handlers that run, by socket or Connecting; see tasks
    cdef list replaced          # what the slot that runs may still use, though it was replaced
    cdef object __weakref__

    def __dealloc__(self):
        if self.c != NULL:
            free(self.c)


cdef object _loops = weakref.WeakSet()


cdef Loop loop_new():
    cdef Loop self = Loop.__new__(Loop)
    cdef Slab slab = Slab()
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
    c.process = net.getpid()
    c.owner = <PyObject*>self
    c.slab_owner = <PyObject*>slab
    c.slab = slab.memory
    Py_INCREF(slab)
    wheel_init(&c.wheel, uv.uv_now(&c.uv))
    loop_init_handles(c)
    _loops.add(self)
    return self


cdef int loop_bind_thread(Loop self) except -1:
    """From now on this thread's: only it may use the loop and what is open in it."""
    self.c.thread = PyThread_get_thread_ident()
    self.thread_name = threading.current_thread().name
    return 0


cdef int loop_init(loop_t* self) noexcept:
    """The two descriptors that it cannot do without. A negative code: there is nothing of it."""
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
    mailbox_init(&self.lookups, &self.uv)
    self.wakeup[0] = self.wakeup[1] = -1
    if net.pbt_pipe(self.wakeup) == 0:
        uv.uv_poll_init(&self.uv, &self.interrupt, self.wakeup[0])
        uv.uv_poll_start(&self.interrupt, uv.UV_READABLE, on_interrupt)
        uv.uv_unref(<uv.uv_handle_t*>&self.interrupt)


cdef inline bint loop_owns(loop_t* self, const void* handle) noexcept nogil:
    """Is it one of the loop's own handles, which lie inside it?"""
    return <char*>self <= <char*>handle < <char*>(self + 1)


cdef inline bint loop_is_empty(loop_t* self) noexcept nogil:
    """Nothing of a user's is open, or being opened."""
    return (self.count.open_sockets == 0 and self.count.open_listeners == 0
            and self.count.connecting == 0)


# ---------------------------------------------------------------------------- turning

cdef inline bint sockets_add(socket_list_t* self, socket_t* s) noexcept nogil:
    """False: no memory."""
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


cdef inline loop_t* loop_of(const void* handle) noexcept nogil:
    return <loop_t*>(<uv.uv_handle_t*>handle).loop


cdef inline void loop_ref(loop_t* self) noexcept nogil:
    if self.references == 0:
        uv.uv_ref(<uv.uv_handle_t*>&self.park)
    self.references += 1


cdef inline void loop_unref(loop_t* self) noexcept nogil:
    self.references -= 1
    if self.references == 0:
        uv.uv_unref(<uv.uv_handle_t*>&self.park)


cdef bint loop_check(loop_t* self) except -1:
    """Refuse the wrong thread. False: the thread was left behind by a fork, and nothing of this can be used."""
    if PyThread_get_thread_ident() == self.thread:
        return True
    if not self.orphaned:
        raise_wrong_thread(self)
    return False


cdef int raise_wrong_thread(loop_t* self) except -1:
    here = threading.current_thread()
    raise RuntimeError(
        f"this belongs to the loop of thread {(<Loop>self.owner).thread_name!r} "
        f"({self.thread}) and was used from thread {here.name!r} ({here.ident})"
    )


cdef inline char* loop_slab(loop_t* loop) noexcept nogil:
    """What to read into. NULL: there was no memory for it, and is none; libuv then says UV_ENOBUFS."""
    if loop.slab == NULL:
        gil_take(loop)
        (<loop_fn><void*>loop_renew_slab)(loop)
    return loop.slab


cdef void loop_renew_slab(loop_t* loop) noexcept:
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
