"""turn: one turn of a loop, and who holds the GIL meanwhile."""
from cpython.exc cimport PyErr_CheckSignals

from pybuntcp._c cimport uv


ctypedef void (*loop_fn)(loop_t*) noexcept nogil


cdef inline void gil_take(loop_t* self) noexcept nogil:
    """From here to the end of the turn this thread holds the GIL."""
    if self.parked != NULL:
        gil_unpark(self)


cdef void gil_unpark(loop_t* self) noexcept nogil:
    if PyThreadState_GetUnchecked() == self.parked:
        return      # a slot took it for itself (`with gil`), and will give it back
    PyEval_RestoreThread(self.parked)
    self.parked = NULL
    self.signal_pending = True
    self.count.gil_takes += 1


cdef void on_park(uv.uv_prepare_t* handle) noexcept nogil:
    cdef loop_t* self = loop_of(handle)
    self.count.turns += 1
    self.last_read = NULL
    if self.has_replaced:
        gil_take(self)
        (<loop_fn><void*>loop_release_held)(self)
    loop_end_turn(self)
    if self.parked == NULL and not self.embedded:
        self.parked = PyEval_SaveThread()


cdef void on_polled(uv.uv_check_t* handle) noexcept nogil:
    if loop_of(handle).deferred_input.count != 0:
        upcalls.deferred_input(loop_of(handle))
    loop_end_turn(loop_of(handle))
    loop_unwatch_writable(loop_of(handle))


cdef void loop_hold_until_turn_ends(loop_t* self, object replaced) noexcept:
    """Until no slot runs that might use it."""
    (<Loop>self.owner).replaced.append(replaced)
    self.has_replaced = True


cdef void loop_release_held(loop_t* self) noexcept:
    cdef list replaced = (<Loop>self.owner).replaced
    self.has_replaced = False
    (<Loop>self.owner).replaced = []
    replaced.clear()


cdef inline void loop_end_turn(loop_t* self) noexcept nogil:
    """After the poll's callbacks, and after the closing ones and the timers."""
    if self.turn_flush.count != 0:
        upcalls.turn_ends(self)


cdef void loop_watch_writable(loop_t* self) noexcept nogil:
    """Look at the watch until a turn ends in which it is empty."""
    self.writable_watch_active = True
    uv.uv_poll_start(&self.writable, uv.UV_READABLE, on_writable)
    loop_wakeup(self)


cdef inline void loop_unwatch_writable(loop_t* self) noexcept nogil:
    if self.writable_watch_active and self.blocked_count == 0:
        self.writable_watch_active = False
        uv.uv_poll_stop(&self.writable)


cdef void on_writable(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    upcalls.writable(loop_of(handle))


cdef void loop_request_turn(loop_t* self) noexcept nogil:
    """Have the next turn begin at once, whatever the poll has to say."""
    uv.uv_idle_start(&self.next_turn, on_turn_requested)
    loop_wakeup(self)


cdef inline void loop_wakeup(loop_t* self) noexcept nogil:
    """Something was asked for that only a turn will do: see to it that one comes.

    Called by everything that starts, stops or closes a handle, or sets a timer.
    """
    if self.asleep:
        self.asleep = False
        embed_wakeup(self)


cdef inline bint loop_is_entered(loop_t* self) noexcept nogil:
    """Is a turn of it, or a handler, on this thread's stack?"""
    return self.running or self.handling != 0


cdef inline bint loop_has_work(loop_t* self) noexcept nogil:
    """Does something wait for the next turn alone?"""
    return self.turn_flush.count + self.deferred_input.count != 0 or uv.uv_backend_timeout(&self.uv) == 0


cdef void on_turn_requested(uv.uv_idle_t* handle) noexcept nogil:
    if loop_of(handle).deferred_input.count == 0:     # which is looked at after the poll, for which nothing may wait
        uv.uv_idle_stop(handle)
    upcalls.turn_begins(loop_of(handle))


cdef inline void handler_enter(loop_t* self) noexcept nogil:
    self.handling += 1


cdef inline void handler_leave(loop_t* self) noexcept nogil:
    """The handler has returned: what it wrote goes out now, one system call a socket."""
    if self.handler_flush.count != 0:
        upcalls.handler_returned(self)
    self.handling -= 1


cdef int loop_run(Loop self) except -1:
    """Turn until no referenced handle is left, or a handler's KeyboardInterrupt stops it."""
    cdef loop_t* c = self.c
    cdef bint stopped = False
    if c.running:
        raise RuntimeError("run() was called inside a handler: this thread's loop is running")
    cdef object previous = signals_watch(c)
    try:
        # A signal that came before the descriptor was ours has left no byte in it.
        PyErr_CheckSignals()
        c.running = True
        c.handshakes_served_at = 0          # nothing was kept waiting by what was done before
        uv.uv_run(&c.uv, uv.UV_RUN_DEFAULT)
        while c.turn_flush.count != 0 and not stopped:
            loop_end_turn(c)        # what was written last ...
            stopped = self.failure is not None
            if stopped:
                uv.uv_stop(&c.uv)
            uv.uv_run(&c.uv, uv.UV_RUN_DEFAULT)     # ... and what comes of it; or forget the stop
        gil_take(c)
        loop_release_held(c)
        loop_unwatch_writable(c)
        c.running = False
        PyErr_CheckSignals()
    except BaseException:
        self.failure = None
        raise
    finally:
        signals_unwatch(previous)
    return loop_raise_failure(self)


cdef void loop_turned_by_host(Loop self) noexcept:
    """Turns that somebody else asked for are over: nothing of ours runs, and there may be no other turn."""
    self.c.running = False
    if self.c.has_replaced:
        loop_release_held(self.c)
    if self.failure is not None:
        loop_end_turn(self.c)
    loop_unwatch_writable(self.c)


cdef void loop_fail(loop_t* self, object error) noexcept:
    """Stop the loop; `run` raises the first such error."""
    cdef Loop owner = <Loop>self.owner
    if isinstance(error, NestedLoopError):
        report_unraisable(error_plain(error), owner)
        return
    if owner.failure is None:
        owner.failure = error
    uv.uv_stop(&self.uv)
    loop_wakeup(self)


cdef int loop_raise_failure(Loop self) except -1:
    """What a handler raised to stop the loop, if any."""
    failure, self.failure = self.failure, None
    if failure is not None:
        raise failure
    return 0
