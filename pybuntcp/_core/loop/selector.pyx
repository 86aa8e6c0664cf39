"""selector: the selector of a native asyncio loop, which turns one of our loops.

The problem: one system call must wait for asyncio's own descriptors and for our sockets. The naive answer, a
`uv_poll_t` for each of asyncio's descriptors, behaves differently from what asyncio's users know: libuv makes the
descriptor non-blocking; it stops watching at POLLERR; and a descriptor that was closed while watched stays in its table
under its number, which the kernel gives to our next socket.
The rule: asyncio's descriptors stay in a stock selector, and libuv polls the descriptor of that selector.

`select` makes turns of libuv, which serve our sockets, and then returns asyncio's ready descriptors. While nothing of ours
is open it is the stock selector's `select`. After each turn it looks whether asyncio has something to do: a descriptor is
ready, or a handler or a Cython slot has called `call_soon`, has changed the timers, or stops the loop. If not, it makes
the next turn itself: asyncio's own part of a turn costs more than a small message does.

asyncio polls, and runs what the poll has found after the callbacks that were ready before. libuv polls and calls back in one
go. So with a timeout of 0, which means that callbacks are ready, `select` sends what was written and queues the turn behind
them: to asyncio the selector is one more callback. That turn sends nothing before its poll, or the answer would come before
the callbacks that are ready next. What it finds of asyncio's descriptors the next `select` returns.

Owns `Selector`, and how often a native loop makes sure that signals wake it (see signals).
"""
cimport cython
import selectors

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.math cimport ceil
from libc.stdint cimport uint64_t

from pybuntcp._c cimport net, uv


cdef enum:
    SIGNALS_MILLISECONDS = 100  # if other code has taken the wakeup descriptor, a signal is noticed after this time


@cython.final
@cython.internal
@cython.no_gc_clear             # the loop is closed by __dealloc__
cdef class Selector:
    """The selector of `new_event_loop`'s loops; see `selectors.BaseSelector`."""
    cdef Loop loop
    cdef object asyncio_fds     # a stock selector with asyncio's descriptors
    cdef int asyncio_poll_fd    # its epoll instance, or kqueue
    cdef bint watches_signals   # this is the thread that may
    cdef uint64_t watched_at    # when we last made sure that signals wake us, in milliseconds
    cdef object ready           # asyncio's queue of callbacks; None: no asyncio loop has taken this selector
    cdef bint queued            # we are in it
    cdef bint noticed           # asyncio's loop stops, or has another list of timers
    cdef readonly object register
    cdef readonly object unregister
    cdef readonly object modify
    cdef readonly object get_key
    cdef readonly object get_map

    def __cinit__(self):
        selector_watch_asyncio_fds(self, selectors.DefaultSelector())
        self.loop = loop_new()
        selector_watch(self.loop.c, self.asyncio_fds.fileno())
        selector_bind_thread(self)

    def __dealloc__(self):
        if self.loop is not None:
            loop_close(self.loop)

    def select(self, timeout=None):
        """asyncio's descriptors that are ready: `[(key, events), ...]`. timeout: seconds, None = for ever."""
        cdef loop_t* c = self.loop.c
        cdef double wait = float("inf") if timeout is None else timeout
        if c.thread != PyThread_get_thread_ident():
            selector_bind_thread(self)
        if loop_is_empty(c) and not c.dead and loop_has_work(c):
            selector_turn(self, 0)
        if loop_is_empty(c) or c.dead:
            return selector_select_asyncio(self, 0 if not c.dead and loop_has_work(c) else wait)
        if self.ready is not None and (wait <= 0 or c.asyncio_fds_ready):
            selector_queue_turn(self)
        else:
            selector_turns(self, wait)
        if not c.asyncio_fds_ready:
            return []
        c.asyncio_fds_ready = False
        return self.asyncio_fds.select(0)

    def use_queue(self, ready):
        """asyncio's queue of callbacks is this one from now on."""
        self.ready, self.queued = ready, False

    def notice(self):
        """asyncio's loop stops, or has another list of timers: it does not wait for a change of the one that it had."""
        self.noticed = True

    # What asyncio asks of a callback that is ready.

    _cancelled = False
    _callback = None

    def _run(self):
        """Make a turn."""
        self.queued = False
        self.loop.c.polls_first = True
        try:
            if not self.loop.c.dead:
                selector_turn(self, 0)
        finally:
            self.loop.c.polls_first = False

    def __repr__(self):
        return "<pybuntcp's loop>"

    def flush(self):
        """Send what was written since the last turn. The asyncio loop stops, so there may be none for a long time."""
        if not self.loop.c.dead and self.loop.c.turn_flush.count != 0:
            upcalls.turn_flushes(self.loop.c)

    def close(self):
        """Close our loop, with a ResourceWarning for each socket that is open, and the stock selector."""
        loop_close_with_host(self.loop)
        self.asyncio_fds.close()


cdef int selector_watch_asyncio_fds(Selector self, object asyncio_fds) except -1:
    self.asyncio_fds = asyncio_fds
    self.asyncio_poll_fd = asyncio_fds.fileno()
    self.register, self.unregister = asyncio_fds.register, asyncio_fds.unregister
    self.modify, self.get_key, self.get_map = asyncio_fds.modify, asyncio_fds.get_key, asyncio_fds.get_map
    return 0


cdef object selector_select_asyncio(Selector self, double seconds):
    """`select` of asyncio's descriptors alone. That none is ready costs one system call, and nothing in Python."""
    cdef bint ready = True
    if seconds <= 0:
        with nogil:
            ready = net.pbt_poll_is_ready(self.asyncio_poll_fd)
    if not ready:
        return []
    return self.asyncio_fds.select(None if seconds >= 1e9 else seconds)


cdef int selector_after_fork(Selector self) except -1:
    """In a forked child: watch asyncio's descriptors by an epoll instance that the parent does not share."""
    if not self.loop.c.closed:
        selector_watch_asyncio_fds(self, selector_replace(self.asyncio_fds, -1))
    return 0


cdef object selector_replace(object inherited, int except_fd):
    """In a forked child: a new stock selector with the descriptors of the inherited one, but without `except_fd`."""
    fresh = selectors.DefaultSelector()
    for key in list(inherited.get_map().values()):
        try:
            if key.fd != except_fd:
                fresh.register(key.fileobj, key.events, key.data)
        except (OSError, ValueError):
            pass                # the descriptor was closed while it was watched
    inherited.close()
    return fresh


cdef int selector_bind_thread(Selector self) except -1:
    self.watches_signals = signals_may_watch()
    return loop_bind_thread(self.loop)


cdef int selector_watch(loop_t* c, int fd) except -1:
    """Have libuv poll the stock selector. A native loop is always referenced: asyncio decides when it ends."""
    cdef int rc = uv.uv_poll_init(&c.uv, &c.asyncio_fds, fd)
    if rc < 0:
        raise error_from_code(rc, "epoll_ctl")
    uv.uv_poll_start(&c.asyncio_fds, uv.UV_READABLE, on_asyncio_fds_ready)
    uv.uv_unref(<uv.uv_handle_t*>&c.asyncio_fds)
    loop_ref(c)
    return 0


cdef int selector_turns(Selector self, double seconds) except -1:
    """Make turns until there is something for asyncio, or `seconds` are over. Raises what stopped the loop."""
    cdef uint64_t began = uv.uv_hrtime()
    cdef double left = seconds
    cdef object host = host_of(self.loop)
    cdef object timers = None if host is None else host._scheduled
    cdef object first = timers[0] if timers else None
    cdef Py_ssize_t count = len(timers) if timers else 0
    self.noticed = False
    selector_turn(self, left)
    while host is not None and not selector_has_news(self):
        if len(timers) != count or count != 0 and timers[0] is not first:
            break
        if seconds < 1e9:
            left = seconds - (uv.uv_hrtime() - began) / 1e9
            if left <= 0:
                break
        selector_turn(self, left)
    return 0


cdef bint selector_has_news(Selector self) except -1:
    """True if asyncio has something to do before it waits again."""
    cdef loop_t* c = self.loop.c
    PyErr_CheckSignals()        # asyncio's own code would run their handlers here
    return c.asyncio_fds_ready or loop_is_empty(c) or c.dead or bool(self.ready) or self.noticed


cdef int selector_turn(Selector self, double seconds) except -1:
    """Make one turn of libuv, which waits for at most `seconds`. Raises what stopped the loop."""
    cdef loop_t* c = self.loop.c
    if loop_is_entered(c):
        nested_raise(RuntimeError)
    c.asyncio_fds_ready = False
    try:
        if seconds > 0:
            seconds = selector_watch_signals(self, seconds)
            if seconds < 1e9:
                uv.uv_update_time(&c.uv)
                uv.uv_timer_start(&c.limit, on_limit, <uint64_t>ceil(seconds * 1e3), 0)
        c.running = True
        uv.uv_run(&c.uv, uv.UV_RUN_ONCE if seconds > 0 else uv.UV_RUN_NOWAIT)
        gil_take(c)
        loop_turned_by_host(self.loop)
    finally:
        uv.uv_timer_stop(&c.limit)
    return loop_raise_failure(self.loop)


cdef int selector_queue_turn(Selector self) except -1:
    """Have asyncio make a turn when it has run what is ready. What was written leaves at once."""
    self.flush()
    if not self.queued:
        self.queued = True
        self.ready.append(self)
    return 0


cdef double selector_watch_signals(Selector self, double seconds) except -1:
    """Make sure that signals wake libuv (see signals). Returns how long the loop may wait.

    asyncio or other code may take Python's wakeup descriptor at any time, and the check costs system calls. So it is
    made once in SIGNALS_MILLISECONDS, and the loop waits no longer than that after a recent check or a failed one.
    """
    cdef uint64_t now
    cdef int taken
    if not self.watches_signals or self.loop.c.wakeup[1] < 0:
        return seconds
    now = clock_now()
    if now - self.watched_at < SIGNALS_MILLISECONDS:
        return min(seconds, SIGNALS_MILLISECONDS / 1e3)
    self.watched_at = now
    taken = wakeup_fd_take(self.loop.c)
    PyErr_CheckSignals()            # a signal that arrived before has left no byte in our pipe
    if taken >= 0 and not host_owns_wakeup_fd(self.loop, taken):
        return min(seconds, SIGNALS_MILLISECONDS / 1e3)
    return seconds


cdef void on_asyncio_fds_ready(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    loop_of(handle).asyncio_fds_ready = True
