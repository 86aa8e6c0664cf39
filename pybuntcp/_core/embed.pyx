"""embed: the one chapter that knows asyncio.

Somebody else's asyncio loop (the stock one, uvloop) can turn a loop of ours: our backend
descriptor is readable when anything of ours is ready, so the asyncio loop watches that one, and
when it is called, we turn without waiting. Two things it would not notice by itself: our next
timer, for which there is one `call_later`; and what was asked for outside of a turn, or is left
when a turn ends (libuv tells the kernel what to watch for only when it turns), for which
`loop_kick` has the asyncio loop call us soon.

The asyncio loop alone holds `Embedding`, the object that it calls: when it lets go of it, it
was closed, and there is no other way to know that works for any loop.

Owns also what else is asked of an asyncio loop: its timers, tasks, exceptions. A program that does not use asyncio
never imports it.
Does not know sockets.
"""
cimport cython
import selectors
import sys
import weakref
from contextvars import Context

from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from pybuntcp._c cimport uv

cdef enum:
    TURNS_AT_ONCE = 4           # then the asyncio loop looks at its own; at once while work is left over: see secure


@cython.final
@cython.internal
cdef class Embedding:
    """What an asyncio loop calls when something of ours is ready."""
    cdef Loop loop              # None: detached
    cdef Ring ring
    cdef object timer           # the asyncio loop's handle; None: not set
    cdef uint64_t rings_at      # ... in the loop's milliseconds
    cdef object vars            # the context that it is called in ...
    cdef object turning         # ... and that turns are made in: nobody's

    def __call__(self):
        if self.loop is not None and not (self.ring.due and self.loop.c.held.count != 0):
            nested_or_turn(self.loop, self.turning)

    def __del__(self):
        if self.loop is not None:
            self.loop.embedding = NULL
            self.loop.c.asleep = False
            loop_close_under(self.loop)


@cython.final
@cython.internal
cdef class Ring:
    """What it calls soon, or when a timer is due. It holds no Embedding."""
    cdef Loop loop
    cdef bint due               # it will be called soon; what is left over has one turn for each of the asyncio loop's

    def __call__(self, timer=False):
        cdef Embedding embedding
        if not timer:
            self.due = False
        if self.loop.embedding != NULL:
            embedding = <Embedding>self.loop.embedding
            if embedding.ring is self:      # else it is of an asyncio loop that was left
                if timer:
                    embedding.timer = None
                nested_or_turn(self.loop, embedding.turning)


# ---------------------------------------------------------------------------- attaching

# asyncio's, once it is imported. Another thread may be importing it right now: each of the two is kept when it is
# there, whatever else is.
cdef object _get_running_loop = None
cdef object _Future = None


cdef object host_running():
    """The asyncio loop that runs in this thread, or None."""
    global _get_running_loop
    if _get_running_loop is None:
        found = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
        if found is None:
            return None
        _get_running_loop = found
    return _get_running_loop()


cdef object future_new(object host):
    global _Future
    if _Future is None:
        _Future = asyncio_of("Future")      # waits for who imports it
    return _Future(loop=host)


cdef inline object loop_host(Loop self):
    """The asyncio loop that turns it, or None."""
    return None if self.host is None else self.host()


cdef int embed_attach(Loop self, object host) except -1:
    """Have an asyncio loop turn this one from now on."""
    cdef Embedding embedding = Embedding.__new__(Embedding)
    embedding.vars, embedding.turning = Context(), Context()
    embedding.ring = Ring.__new__(Ring)
    embedding.ring.loop = self
    embedding.vars.run(host.add_reader, uv.uv_backend_fd(&self.c.uv), embedding)
    self.host = weakref.ref(host)
    self.nested = False
    self.embedding = <PyObject*>embedding
    embedding.loop = self
    self.c.embedded = True
    self.c.asleep = True
    loop_ref(self.c)            # or libuv would not turn for sockets that are unreferenced
    return 0


cdef int embed_forget(Loop self, bint tell_host) except -1:
    """Be turned by nobody. In a forked child the asyncio loop is the parent's: not told."""
    cdef object host = loop_host(self)
    if self.embedding == NULL:
        return 0
    cdef Embedding embedding = <Embedding>self.embedding
    self.embedding = NULL
    self.host = embedding.loop = None
    self.c.asleep = self.c.embedded = False
    loop_unref(self.c)
    timer, embedding.timer = embedding.timer, None
    if tell_host and host is not None and not host.is_closed():
        try:
            host.remove_reader(uv.uv_backend_fd(&self.c.uv))
            if timer is not None:
                timer.cancel()
        except Exception as error:
            report_unraisable(error, host)
    return 0


# ---------------------------------------------------------------------------- turning

cdef int embed_turn(Loop self) except -1:
    """What is ready is done."""
    cdef loop_t* c = self.c
    cdef int turns = 0
    c.asleep = False
    c.running = True
    while turns == 0 or (turns < TURNS_AT_ONCE and loop_is_due(c) and c.held.count == 0 and self.failure is None):
        uv.uv_run(&c.uv, uv.UV_RUN_NOWAIT)
        turns += 1
    loop_stopped(self)
    if self.failure is not None:
        embed_fail(self)
    return embed_rest(self)


cdef int embed_rest(Loop self) except -1:
    """A turn has ended: how the asyncio loop learns of the next one."""
    cdef loop_t* c = self.c
    if self.embedding == NULL:
        return 0
    if loop_is_due(c):
        embed_kick(c)
    elif loop_is_empty(c):
        embed_forget(self, True)
        tenancy_release(self)
    else:
        c.asleep = True
        embed_set_timer(<Embedding>self.embedding, uv.uv_backend_timeout(&c.uv))
    return 0


cdef void embed_kick(loop_t* c) noexcept with gil:
    """Have the asyncio loop call us soon."""
    cdef Embedding embedding = <Embedding>(<Loop>c.owner).embedding
    cdef object host = loop_host(embedding.loop)
    try:
        embed_call_soon(embedding, host)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(c, stop)
        c.asleep = not embed_call_again(embedding, host)
    except BaseException as error:
        report_unraisable(error, embedding)
        c.asleep = not embed_call_again(embedding, host)


cdef int embed_call_soon(Embedding self, object host) except -1:
    if host is not None and not host.is_closed() and not self.ring.due:
        host.call_soon(self.ring, context=self.vars)
        self.ring.due = True
    return 0


cdef bint embed_call_again(Embedding self, object host) noexcept:
    """What a signal's handler raised in there is out of the way; once too often does no harm."""
    try:
        embed_call_soon(self, host)
        return True
    except BaseException as error:
        report_unraisable(error, self)
        return False


cdef int embed_set_timer(Embedding self, int wait) except -1:
    """Be called in so many milliseconds at the latest; < 0: whenever. A call that comes too early does no harm."""
    cdef uint64_t due = uv.uv_now(&self.loop.c.uv) + wait
    if wait < 0 or (self.timer is not None and self.rings_at <= due):
        return 0
    if self.timer is not None:
        self.timer.cancel()
    self.rings_at = due
    self.timer = loop_host(self.loop).call_later(wait / 1e3, self.ring, True, context=self.vars)
    return 0


# ---------------------------------------------------------------------------- what else is asked of an asyncio loop

cdef object call_later(Loop loop, double seconds, object callback):
    """A timer of the asyncio loop, to be cancelled; None: there is no such loop."""
    host = loop_host(loop)
    return None if host is None else host.call_later(seconds, callback)


cdef object task_start(Loop loop, object coroutine, object vars):
    """Run a coroutine; in a copy of `vars`, or of the present context if that is None."""
    host = loop_host(loop)
    if vars is None:
        return host.create_task(coroutine)
    return vars.run(host.create_task, coroutine)


cdef bint host_report(Loop loop, str message, object error, object whose) except -1:
    """Tell the asyncio loop's exception handler. False: there is no such loop."""
    host = loop_host(loop) or host_running()
    if host is None or host.is_closed():
        return False
    host.call_exception_handler({"message": message, "exception": error, "socket": whose})
    return True


cdef object asyncio_of(str name):
    """`CancelledError` or `current_task`, say."""
    import asyncio

    return getattr(asyncio, name)


# ---------------------------------------------------------------------------- the native loop

cdef object _natives = weakref.WeakKeyDictionary()      # asyncio loop -> weak reference to its Loop


def new_event_loop():
    """A stock asyncio loop that selects with our loop, which serves our sockets meanwhile."""
    import asyncio

    selector = Selector()
    try:
        host = asyncio.SelectorEventLoop(selector)
    except BaseException:
        selector.close()
        raise
    (<Selector>selector).loop.host = weakref.ref(host)
    _natives[host] = weakref.ref((<Selector>selector).loop)
    return host


cdef bint host_hears_signals(Loop loop, int fd) except -1:
    """Is it the asyncio loop's own descriptor that Python writes signals to?"""
    own = getattr(loop_host(loop), "_csock", None)
    return own is not None and own.fileno() == fd


cdef int host_inherit(Loop self) except -1:
    """In a forked child: a stock loop that turned this one. When it is closed, it unwatches its own descriptors, too."""
    cdef object host = loop_host(self)
    cdef object inherited = getattr(host, "_selector", None)
    if self.embedding != NULL and isinstance(inherited, selectors.BaseSelector):
        host._selector = selector_replace(inherited, uv.uv_backend_fd(&self.c.uv))
    return 0


cdef int natives_inherit() except -1:
    """In a forked child: asyncio's own descriptors must not be unwatched in the parent's epoll instance."""
    for host in list(_natives):
        if isinstance(host._selector, Selector):
            selector_inherit(<Selector>host._selector)
    return 0


cdef Loop native_loop(object host):
    """The loop of a native asyncio loop; None: it is somebody else's."""
    found = _natives.get(host)
    return None if found is None else found()
