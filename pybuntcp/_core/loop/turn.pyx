"""turn: one turn of a loop, and what runs in it.

    libuv         what runs of ours                                   the GIL
    idle          on_turn_requested: outcomes of connect()            as it is
    prepare       on_park: flush what timers and closing left         is released (kept if `embedded`: no turn waits)
    poll          the kernel waits
    callbacks     reads, accepts, connects, slots, handlers           `gil_take` by the first adapter that needs Python
    check         on_polled: deferred TLS input; flush                as it is
    closing       where sockets and listeners are freed               as it is
    timers        on_alarm: the wheel                                 as it is, until the next prepare

Why the GIL changes hands there: see gil.

Owns the callbacks of idle, prepare and check; when the watch of blocked sockets is polled; `handler_enter` and
`handler_leave`, between which a handler's output is gathered; `loop_run`; and the exception that stops a loop.
Promises that `run` raises what stopped it, that a turn which was requested comes at once (`loop_request_turn`), and
that an asyncio loop is woken for all that only a turn can do (`loop_wakeup`).
Does not know sockets: it calls them by the table of upcalls. How a signal wakes the loop: see signals.
"""
from cpython.exc cimport PyErr_CheckSignals

from pybuntcp._c cimport uv


ctypedef void (*loop_fn)(loop_t*) noexcept nogil


cdef void on_park(uv.uv_prepare_t* handle) noexcept nogil:
    cdef loop_t* self = loop_of(handle)
    stats_add(&self.count.turns, 1)
    self.last_read = NULL
    if self.turn_began != 0:
        loop_note_turn(self)
    if self.has_replaced:
        gil_take(self)
        (<loop_fn><void*>loop_release_held)(self)
    if not self.polls_first:
        loop_end_turn(self)
    gil_release(self)


cdef inline void loop_note_turn(loop_t* self) noexcept nogil:
    """The last turn is over: note how long it took.

    libuv reads the clock after each poll, and again after the closing callbacks. This uses what it has read, so a turn costs
    no call to the kernel, and the time is known to the millisecond. Users' timers come after that, and take their own time.
    """
    cdef uint64_t took = uv.uv_now(&self.uv) - self.turn_began + self.timers.took
    self.turn_began = self.timers.took = 0
    if took > self.longest_turn:
        stats_add(&self.longest_turn, <int64_t>(took - self.longest_turn))


cdef void on_polled(uv.uv_check_t* handle) noexcept nogil:
    loop_of(handle).turn_began = uv.uv_now(&loop_of(handle).uv)
    if loop_of(handle).deferred_input.count != 0:
        upcalls.deferred_input(loop_of(handle))
    loop_end_turn(loop_of(handle))
    loop_unwatch_writable(loop_of(handle))


cdef void loop_hold_until_turn_ends(loop_t* self, object replaced) noexcept:
    """Keep a replaced object alive: a slot that runs in this turn may still use it."""
    (<Loop>self.owner).replaced.append(replaced)
    self.has_replaced = True


cdef void loop_release_held(loop_t* self) noexcept:
    cdef list replaced = (<Loop>self.owner).replaced
    self.has_replaced = False
    (<Loop>self.owner).replaced = []
    replaced.clear()


cdef inline void loop_end_turn(loop_t* self) noexcept nogil:
    """Called twice: after the poll's callbacks, and after the closing callbacks and timers."""
    if self.turn_flush.count != 0:
        upcalls.turn_ends(self)


cdef void loop_watch_writable(loop_t* self) noexcept nogil:
    """Poll the watch of blocked sockets, until a turn ends in which none is blocked."""
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
    """Have the next turn begin at once, without a wait in the poll."""
    uv.uv_idle_start(&self.next_turn, on_turn_requested)
    loop_wakeup(self)


cdef inline void loop_wakeup(loop_t* self) noexcept nogil:
    """Have the asyncio loop turn this loop soon, if it is asleep. Outside of asyncio nothing needs to be done.

    Everything that starts, stops or closes a handle or sets a timer calls this, because libuv passes such changes on to
    the kernel only in its next turn.
    """
    if self.asleep:
        self.asleep = False
        embed_wakeup(self)


cdef inline bint loop_is_entered(loop_t* self) noexcept nogil:
    """True if one of its turns or handlers is on this thread's stack."""
    return self.running or self.handling != 0


cdef inline bint loop_has_work(loop_t* self) noexcept nogil:
    """True if the next turn has work although no descriptor is ready."""
    return self.turn_flush.count + self.deferred_input.count != 0 or uv.uv_backend_timeout(&self.uv) == 0


cdef void on_turn_requested(uv.uv_idle_t* handle) noexcept nogil:
    # Deferred input is served after the poll, so while there is some the idle handle stays active and no poll waits.
    if loop_of(handle).deferred_input.count == 0:
        uv.uv_idle_stop(handle)
    upcalls.turn_begins(loop_of(handle))


cdef inline void handler_enter(loop_t* self) noexcept nogil:
    self.handling += 1


cdef inline void handler_leave(loop_t* self) noexcept nogil:
    """A handler has returned: send what it wrote, with one system call for each socket."""
    if self.handler_flush.count != 0:
        upcalls.handler_returned(self)
    self.handling -= 1


cdef int loop_run(Loop self, double seconds, bint once=False) except -1:
    """Turn until no referenced handle is left, or an exception of a handler stops the loop.

    seconds: turn that long, or until nothing is open, referenced or not; negative: without a limit. once: make one turn only.
    """
    cdef loop_t* c = self.c
    if c.running:
        raise RuntimeError("run() was called inside a handler: this thread's loop is running")
    cdef object previous = signals_watch(c)
    try:
        # A signal that arrived before signals_watch has left no byte in our pipe.
        PyErr_CheckSignals()
        c.running = True
        c.handshakes_served_at = 0          # the time before `run` is no time for which a handshake had to wait
        if seconds < 0:
            loop_turn_to_the_end(c)
        else:
            loop_turn_until(c, timer_after(seconds), once)
        gil_take(c)
        loop_turned_to_the_end(self)
        PyErr_CheckSignals()
    except BaseException:
        loop_take_failure(self)
        raise
    finally:
        signals_unwatch(previous)
    return loop_raise_failure(self)


cdef void loop_turned_to_the_end(Loop self) noexcept:
    loop_release_held(self.c)
    loop_unwatch_writable(self.c)
    if self.c.turn_began != 0:
        loop_note_turn(self.c)
    self.c.running = False


cdef void loop_turn_to_the_end(loop_t* self) noexcept nogil:
    """Turn until no referenced handle is left, or the loop is stopped."""
    cdef bint stopped = False
    uv.uv_run(&self.uv, uv.UV_RUN_DEFAULT)
    while self.turn_flush.count != 0 and not stopped:
        # The last closing callbacks and timers wrote something. To send it may start work that needs more turns.
        # If it stops the loop, one more uv_run clears libuv's stop flag.
        loop_end_turn(self)
        stopped = self.failed
        if stopped:
            uv.uv_stop(&self.uv)
        uv.uv_run(&self.uv, uv.UV_RUN_DEFAULT)


cdef void loop_turn_until(loop_t* self, uint64_t until, bint once) noexcept nogil:
    """Turn once, and then on until this time, until nothing is open, or the loop is stopped. References do not count."""
    cdef uint64_t now = clock_nanoseconds()
    cdef bint waits
    loop_ref(self)              # otherwise uv_run would do nothing while all is unreferenced
    while True:
        waits = now < until and not loop_is_empty(self)
        if waits:
            uv.uv_update_time(&self.uv)
            uv.uv_timer_start(&self.limit, on_limit, (until - now) // 1000000 + 1, 0)
        uv.uv_run(&self.uv, uv.UV_RUN_ONCE if waits else uv.UV_RUN_NOWAIT)
        if self.turn_began != 0:
            loop_note_turn(self)
        now = clock_nanoseconds()
        if once or self.failed or self.dead or now >= until or (loop_is_empty(self) and not loop_has_work(self)):
            break               # dead: a handler has forked, and this is the child
    uv.uv_timer_stop(&self.limit)
    loop_unref(self)
    loop_end_turn(self)


cdef void on_limit(uv.uv_timer_t* handle) noexcept nogil:
    """The wait is over; those that turn the loop look at the time."""
    pass


cdef void loop_turned_by_host(Loop self) noexcept:
    """An asyncio loop has turned this loop: uv_run has returned, and it is not known when the next turn will be."""
    self.c.running = False
    if self.c.turn_began != 0:
        loop_note_turn(self.c)
    if self.c.has_replaced:
        loop_release_held(self.c)
    if self.failure is not None:
        loop_end_turn(self.c)
    loop_unwatch_writable(self.c)


cdef void loop_fail(loop_t* self, object error) noexcept:
    """Stop the loop. `run` raises the first error that was passed to this."""
    cdef Loop owner = <Loop>self.owner
    if isinstance(error, NestedLoopError):
        report_unraisable(error_plain(error), owner)
        return
    if owner.failure is None:
        owner.failure = error
        self.failed = True
    uv.uv_stop(&self.uv)
    loop_wakeup(self)


cdef int loop_raise_failure(Loop self) except -1:
    """Raise the exception that has stopped the loop, if there is one."""
    failure = loop_take_failure(self)
    if failure is not None:
        raise failure
    return 0


cdef object loop_take_failure(Loop self):
    """The exception that has stopped the loop, or None. From now on the loop is not stopped."""
    failure, self.failure = self.failure, None
    self.c.failed = False
    return failure
