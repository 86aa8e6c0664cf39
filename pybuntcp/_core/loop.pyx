"""loop: one libuv loop per thread, its turn, and when the GIL is held.

Owns `loop_t` (the libuv loop and what all its sockets share: the slab, the spare chunks, the
list of sockets with gathered output, the wheel, the counters) and `Loop`, its Python owner.
Whose loop it is, and how it ends: see tenancy.

The GIL rule. A turn of libuv is: poll, callbacks, closing, timers. `on_park` runs just before
the poll and lets the GIL go; the first adapter that needs Python takes it back (`gil_take`),
and it stays until the next park. So a turn of five hundred Python events costs one hand-over,
and a turn of Cython slots none. Code below the adapters is `nogil` and touches no object.
Inside somebody else's asyncio loop no turn waits, and the GIL is simply kept.

Promises: `run` raises what stopped it (Ctrl-C within 100 ms, also when idle, because Python's
wakeup descriptor is polled by the loop); handlers never run inside one another.
Does not know sockets: `loop_abandon` closes them through `up.abandoned`.
"""
cimport cython
import threading
import weakref

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject, Py_INCREF
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


cdef struct roll_t:
    # A list of sockets; each has a flag that says that it is there.
    socket_t** at
    size_t count
    size_t room


cdef struct loop_t:
    uv.uv_loop_t uv             # first: a handle's loop pointer is a loop_t*
    uv.uv_prepare_t park        # just before the poll; referenced while anything of ours is
    uv.uv_check_t polled        # just after the poll's callbacks, before the closing ones
    uv.uv_idle_t again          # runs while something waits for the next turn: it comes at once
    uv.uv_timer_t alarm         # the wheel's one timer
    uv.uv_poll_t interrupt      # the read end of Python's signal wakeup
    uv.uv_poll_t writable       # the watch: sockets that the kernel takes no more of; see tail
    uv.uv_poll_t guests         # asyncio's own descriptors, of a native loop; see selector
    uv.uv_timer_t limit         # ... and how long asyncio wants to wait
    int watch
    bint watching               # libuv looks at it
    size_t blocked              # sockets in it
    int wakeup[2]
    bint wakeup_taken           # Python's signal wakeup is ours until the loop closes
    unsigned long thread
    int process                 # a forked child must not touch the parent's epoll instance
    PyThreadState* parked       # the thread state set aside; NULL = the GIL is held
    bint unheard                # a signal that came meanwhile has not run its Python handler
    PyObject* owner             # borrowed: the Loop
    PyObject* slab_owner        # owned: the Slab
    char* slab
    size_t references           # what keeps `run` going: sockets, listeners, connectors
    int handling                # > 0 while a handler runs
    bint running
    bint embedded               # somebody else's asyncio loop turns this one; see embed
    bint asleep                 # ... and would not look at it before something happens
    bint guests_ready           # asyncio's descriptors have something
    bint holding                # the owner has something to let go of when the turn ends
    bint dead                   # closed for good, or inherited over a fork: no handler runs
    bint stranded               # it turned in a thread that a fork left behind; see tenancy
    bint closing                # loop_close is at work
    bint closed
    roll_t dirty                # sockets with output gathered by the handler that runs
    roll_t late                 # ... and with output that sinks coalesce until the turn ends
    roll_t held                 # ... and that hold what came or is to be told, until a turn looks at them
    uint64_t shook_at           # when handshakes last had their part of a turn, if something was left; 0: nothing; see secure
    uint64_t elsewhere          # ... and for how long everything else had gone on before that
    unsigned int long_turns     # ... that have followed one another, in which everything else took long
    socket_t* reading           # borrowed: who was read last in this turn; NULL: nobody
    unsigned int slabs          # ... and how often
    room_t room                 # where engines seal and open
    chunk_t* spare[8]           # chunks to gather in, warm
    size_t spares
    connector_t* connectors     # every attempt in progress
    connector_t* posted         # those whose outcome is to be told from the loop
    mailbox_t lookups           # of names that were asked for
    wheel_t wheel
    stats_t count


@cython.final
@cython.no_gc_clear
@cython.internal
cdef class Loop:
    """The owner of a loop's memory; listeners hold it too."""
    cdef loop_t* c
    cdef object failure         # what a handler raised to stop the loop
    cdef bint nested            # the asyncio loop is run inside a handler, and will end that; see raising
    cdef object thread_name
    cdef object host            # a weak reference to the asyncio loop that turns it; None
    cdef PyObject* embedding    # borrowed: what that loop calls, if it is not a native one
    cdef dict waiting           # who waits for a sink's drain, by socket; see gathering
    cdef dict leaving           # ... for a socket's end; see face
    cdef dict tasks             # async handlers that run, by socket or Connecting; see running
    cdef list held              # what the slot that runs may still use, though it was replaced
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
    self.waiting = {}
    self.leaving = {}
    self.tasks = {}
    self.held = []
    loop_belong_here(self)
    c.process = net.getpid()
    c.owner = <PyObject*>self
    c.slab_owner = <PyObject*>slab
    c.slab = slab.memory
    Py_INCREF(slab)
    wheel_init(&c.wheel, uv.uv_now(&c.uv))
    loop_init_handles(c)
    _loops.add(self)
    return self


cdef int loop_belong_here(Loop self) except -1:
    """From now on this thread's: only it may use the loop and what is open in it."""
    self.c.thread = PyThread_get_thread_ident()
    self.thread_name = threading.current_thread().name
    return 0


cdef int loop_init(loop_t* self) noexcept:
    """The two descriptors that it cannot do without. A negative code: there is nothing of it."""
    cdef int rc = uv.uv_loop_init(&self.uv)
    if rc < 0:
        return rc
    self.watch = net.pbt_watch_new()
    rc = -net.errno
    if self.watch >= 0:
        rc = uv.uv_poll_init(&self.uv, &self.writable, self.watch)
        if rc == 0:
            return 0
        net.close(self.watch)
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
    uv.uv_idle_init(&self.uv, &self.again)
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

cdef inline bint roll_add(roll_t* self, socket_t* s) noexcept nogil:
    """False: no memory."""
    if self.count == self.room and not roll_grow(self):
        return False
    self.at[self.count] = s
    self.count += 1
    return True


cdef bint roll_grow(roll_t* self) noexcept nogil:
    cdef size_t room = max(self.room * 2, <size_t>64)
    cdef socket_t** grown = <socket_t**>realloc(self.at, room * sizeof(socket_t*))
    if grown == NULL:
        return False
    self.at = grown
    self.room = room
    return True


cdef inline loop_t* loop_of(const void* handle) noexcept nogil:
    return <loop_t*>(<uv.uv_handle_t*>handle).loop


ctypedef void (*loop_slot)(loop_t*) noexcept nogil

cdef inline void gil_take(loop_t* self) noexcept nogil:
    """From here to the end of the turn this thread holds the GIL."""
    if self.parked != NULL:
        gil_unpark(self)


cdef void gil_unpark(loop_t* self) noexcept nogil:
    if PyThreadState_GetUnchecked() == self.parked:
        return      # a slot took it for itself (`with gil`), and will give it back
    PyEval_RestoreThread(self.parked)
    self.parked = NULL
    self.unheard = True
    self.count.gil_takes += 1


cdef void on_park(uv.uv_prepare_t* handle) noexcept nogil:
    cdef loop_t* self = loop_of(handle)
    self.count.turns += 1
    self.reading = NULL
    if self.holding:
        gil_take(self)
        (<loop_slot><void*>loop_let_go)(self)
    loop_end_turn(self)
    if self.parked == NULL and not self.embedded:
        self.parked = PyEval_SaveThread()


cdef void on_polled(uv.uv_check_t* handle) noexcept nogil:
    if loop_of(handle).held.count != 0:
        up.held(loop_of(handle))
    loop_end_turn(loop_of(handle))
    loop_rest_watch(loop_of(handle))


cdef void loop_hold(loop_t* self, object replaced) noexcept:
    """Until no slot runs that might use it."""
    (<Loop>self.owner).held.append(replaced)
    self.holding = True


cdef void loop_let_go(loop_t* self) noexcept:
    cdef list held = (<Loop>self.owner).held
    self.holding = False
    (<Loop>self.owner).held = []
    held.clear()


cdef inline void loop_end_turn(loop_t* self) noexcept nogil:
    """After the poll's callbacks, and after the closing ones and the timers."""
    if self.late.count != 0:
        up.turned(self)


cdef void loop_watch(loop_t* self) noexcept nogil:
    """Look at the watch until a turn ends in which it is empty."""
    self.watching = True
    uv.uv_poll_start(&self.writable, uv.UV_READABLE, on_writable)
    loop_kick(self)


cdef inline void loop_rest_watch(loop_t* self) noexcept nogil:
    if self.watching and self.blocked == 0:
        self.watching = False
        uv.uv_poll_stop(&self.writable)


cdef void on_writable(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    up.writable(loop_of(handle))


cdef void loop_again(loop_t* self) noexcept nogil:
    """Have the next turn begin at once, whatever the poll has to say."""
    uv.uv_idle_start(&self.again, on_again)
    loop_kick(self)


cdef inline void loop_kick(loop_t* self) noexcept nogil:
    """Something was asked for that only a turn will do: see to it that one comes.

    Called by everything that starts, stops or closes a handle, or sets a timer.
    """
    if self.asleep:
        self.asleep = False
        embed_kick(self)


cdef inline bint loop_is_entered(loop_t* self) noexcept nogil:
    """Is a turn of it, or a handler, on this thread's stack?"""
    return self.running or self.handling != 0


cdef inline bint loop_is_due(loop_t* self) noexcept nogil:
    """Does something wait for the next turn alone?"""
    return self.late.count + self.held.count != 0 or uv.uv_backend_timeout(&self.uv) == 0


cdef void on_again(uv.uv_idle_t* handle) noexcept nogil:
    if loop_of(handle).held.count == 0:     # which is looked at after the poll, for which nothing may wait
        uv.uv_idle_stop(handle)
    up.again(loop_of(handle))


cdef inline void loop_ref(loop_t* self) noexcept nogil:
    if self.references == 0:
        uv.uv_ref(<uv.uv_handle_t*>&self.park)
    self.references += 1


cdef inline void loop_unref(loop_t* self) noexcept nogil:
    self.references -= 1
    if self.references == 0:
        uv.uv_unref(<uv.uv_handle_t*>&self.park)


cdef inline void handler_enter(loop_t* self) noexcept nogil:
    self.handling += 1


cdef inline void handler_leave(loop_t* self) noexcept nogil:
    """The handler has returned: what it wrote goes out now, one system call a socket."""
    if self.dirty.count != 0:
        up.handled(self)
    self.handling -= 1


cdef int loop_run(Loop self) except -1:
    """Turn until no referenced handle is left, or a handler's KeyboardInterrupt stops it."""
    cdef loop_t* c = self.c
    cdef bint stopped = False
    if c.running:
        raise RuntimeError("run() was called inside a handler: this thread's loop is running")
    cdef object previous = loop_watch_signals(c)
    try:
        # A signal that came before the descriptor was ours has left no byte in it.
        PyErr_CheckSignals()
        c.running = True
        c.shook_at = 0          # nothing was kept waiting by what was done before
        uv.uv_run(&c.uv, uv.UV_RUN_DEFAULT)
        while c.late.count != 0 and not stopped:
            loop_end_turn(c)        # what was written last ...
            stopped = self.failure is not None
            if stopped:
                uv.uv_stop(&c.uv)
            uv.uv_run(&c.uv, uv.UV_RUN_DEFAULT)     # ... and what comes of it; or forget the stop
        gil_take(c)
        loop_let_go(c)
        loop_rest_watch(c)
        c.running = False
        PyErr_CheckSignals()
    except BaseException:
        self.failure = None
        raise
    finally:
        loop_forget_signals(previous)
    return loop_raise_failure(self)


cdef void loop_stopped(Loop self) noexcept:
    """Turns that somebody else asked for are over: nothing of ours runs, and there may be no other turn."""
    self.c.running = False
    if self.c.holding:
        loop_let_go(self.c)
    if self.failure is not None:
        loop_end_turn(self.c)
    loop_rest_watch(self.c)


cdef void loop_fail(loop_t* self, object error) noexcept:
    """Stop the loop; `run` raises the first such error."""
    cdef Loop owner = <Loop>self.owner
    if isinstance(error, NestedLoopError):
        report_unraisable(error_plain(error), owner)
        return
    if owner.failure is None:
        owner.failure = error
    uv.uv_stop(&self.uv)
    loop_kick(self)


cdef int loop_raise_failure(Loop self) except -1:
    """What a handler raised to stop the loop, if any."""
    failure, self.failure = self.failure, None
    if failure is not None:
        raise failure
    return 0


cdef bint loop_check(loop_t* self) except -1:
    """Refuse the wrong thread. False: the thread was left behind by a fork, and nothing of this can be used."""
    if PyThread_get_thread_ident() == self.thread:
        return True
    if not self.stranded:
        raise_wrong_thread(self)
    return False


cdef int raise_wrong_thread(loop_t* self) except -1:
    here = threading.current_thread()
    raise RuntimeError(
        f"this belongs to the loop of thread {(<Loop>self.owner).thread_name!r} "
        f"({self.thread}) and was used from thread {here.name!r} ({here.ident})"
    )
