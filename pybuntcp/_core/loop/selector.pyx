"""selector: what a native asyncio loop selects with.

The problem: asyncio's own descriptors and our sockets are to be waited for by one system call.
The naive answer, a `uv_poll_t` for each of asyncio's descriptors, is not what asyncio's users
know: libuv makes the descriptor non-blocking, takes POLLERR for the end of watching, and keeps a
descriptor that was closed while watched in its table, by its number, which the kernel gives to
the next socket of ours.
The rule: asyncio's descriptors stay in a stock selector, and we watch that one's descriptor.

`select` is one turn of libuv, which serves our sockets; while nothing of ours is open it is the
stock selector's. asyncio looks at its callbacks after each turn, since a handler, and a Cython
slot too, may have called `call_soon`.
"""
cimport cython
import selectors

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.math cimport ceil
from libc.stdint cimport uint64_t

from pybuntcp._c cimport uv


cdef enum:
    SIGNALS_MILLISECONDS = 100      # so late is a signal noticed whose wakeup was taken from us


@cython.final
@cython.internal
@cython.no_gc_clear             # the loop is closed by __dealloc__
cdef class Selector:
    """The selector of `new_event_loop`'s loops; see `selectors.BaseSelector`."""
    cdef Loop loop
    cdef object asyncio_fds     # a stock selector with asyncio's descriptors
    cdef bint hears_signals
    cdef uint64_t listened      # when we last made sure that signals wake us, in milliseconds
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
            return self.asyncio_fds.select(0 if not c.dead and loop_has_work(c) else timeout)
        selector_turn(self, wait)
        return self.asyncio_fds.select(0) if c.asyncio_fds_ready else []

    def close(self):
        """Close both; a ResourceWarning for each socket of ours that is open."""
        loop_close_with_host(self.loop)
        self.asyncio_fds.close()


cdef int selector_watch_asyncio_fds(Selector self, object asyncio_fds) except -1:
    self.asyncio_fds = asyncio_fds
    self.register, self.unregister = asyncio_fds.register, asyncio_fds.unregister
    self.modify, self.get_key, self.get_map = asyncio_fds.modify, asyncio_fds.get_key, asyncio_fds.get_map
    return 0


cdef int selector_after_fork(Selector self) except -1:
    """In a forked child: its guests wait elsewhere than the parent's."""
    if not self.loop.c.closed:
        selector_watch_asyncio_fds(self, selector_replace(self.asyncio_fds, -1))
    return 0


cdef object selector_replace(object inherited, int but):
    """In a forked child: a stock selector with the same descriptors but one. The inherited one shares the parent's epoll instance."""
    fresh = selectors.DefaultSelector()
    for key in list(inherited.get_map().values()):
        try:
            if key.fd != but:
                fresh.register(key.fileobj, key.events, key.data)
        except (OSError, ValueError):
            pass                # closed while watched
    inherited.close()
    return fresh


cdef int selector_bind_thread(Selector self) except -1:
    self.hears_signals = signals_may_watch()
    return loop_bind_thread(self.loop)


cdef int selector_watch(loop_t* c, int fd) except -1:
    """Have libuv watch the stock selector; and be alive whatever is open."""
    cdef int rc = uv.uv_poll_init(&c.uv, &c.asyncio_fds, fd)
    if rc < 0:
        raise error_from_code(rc, "epoll_ctl")
    uv.uv_poll_start(&c.asyncio_fds, uv.UV_READABLE, on_asyncio_fds_ready)
    uv.uv_unref(<uv.uv_handle_t*>&c.asyncio_fds)
    uv.uv_timer_init(&c.uv, &c.asyncio_timeout)
    uv.uv_unref(<uv.uv_handle_t*>&c.asyncio_timeout)
    loop_ref(c)
    return 0


cdef int selector_turn(Selector self, double seconds) except -1:
    """One turn of libuv that waits at most so long; raises what stopped it."""
    cdef loop_t* c = self.loop.c
    if loop_is_entered(c):
        nested_raise(RuntimeError)
    c.asyncio_fds_ready = False
    try:
        if seconds > 0:
            seconds = selector_hear_signals(self, seconds)
            if seconds < 1e9:
                uv.uv_update_time(&c.uv)
                uv.uv_timer_start(&c.asyncio_timeout, on_limit, <uint64_t>ceil(seconds * 1e3), 0)
        c.running = True
        uv.uv_run(&c.uv, uv.UV_RUN_ONCE if seconds > 0 else uv.UV_RUN_NOWAIT)
        gil_take(c)
        loop_turned_by_host(self.loop)
    finally:
        uv.uv_timer_stop(&c.asyncio_timeout)
    return loop_raise_failure(self.loop)


cdef double selector_hear_signals(Selector self, double seconds) except -1:
    """Let signals wake libuv (see loop). Gives for how long that is certain.

    asyncio, or anybody, may take Python's wakeup descriptor for itself, and to ask who has it
    costs system calls: it is asked now and then, and before a long wait.
    """
    cdef uint64_t now
    cdef int whose
    if not self.hears_signals or self.loop.c.wakeup[1] < 0:
        return seconds
    now = clock_now()
    if now - self.listened < SIGNALS_MILLISECONDS:
        return min(seconds, SIGNALS_MILLISECONDS / 1e3)
    self.listened = now
    whose = wakeup_fd_take(self.loop.c)
    PyErr_CheckSignals()            # one that came before has left no byte
    if whose >= 0 and not host_owns_wakeup_fd(self.loop, whose):
        return min(seconds, SIGNALS_MILLISECONDS / 1e3)
    return seconds


cdef void on_asyncio_fds_ready(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    loop_of(handle).asyncio_fds_ready = True


cdef void on_limit(uv.uv_timer_t* handle) noexcept nogil:
    pass
