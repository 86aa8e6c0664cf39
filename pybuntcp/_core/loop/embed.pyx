"""embed: the one chapter that knows asyncio.

Somebody else's asyncio loop (the stock one, uvloop) can turn a loop of ours: our backend
descriptor is readable when anything of ours is ready, so the asyncio loop watches that one, and
when it is called, we turn without waiting. Two things it would not notice by itself: our next
timer, for which there is one `host_call_later`; and what was asked for outside of a turn, or is left
when a turn ends (libuv tells the kernel what to watch for only when it turns), for which
`loop_wakeup` has the asyncio loop call us soon.

The asyncio loop alone holds `Embedding`, the object that it calls: when it lets go of it, it
was closed, and there is no other way to know that works for any loop.

Owns also what else is asked of an asyncio loop: its timers, tasks, exceptions. A program that does not use asyncio
never imports it.
Does not know sockets.
"""
cimport cython
import selectors
import weakref
from contextvars import Context

from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from pybuntcp._c cimport uv


cdef enum:
    TURNS_AT_ONCE = 4           # then the asyncio loop looks at its own; at once while work is left over: see tls_input


@cython.final
@cython.internal
cdef class Embedding:
    """What an asyncio loop calls when something of ours is ready."""
    cdef Loop loop              # None: detached
    cdef Wakeup wakeup
    cdef object timer           # the asyncio loop's handle; None: not set
    cdef uint64_t fires_at      # ... in the loop's milliseconds
    cdef object call_context    # the context that it is called in ...
    cdef object turn_context    # ... and that turns are made in: nobody's

    def __call__(self):
        if self.loop is not None and not (self.wakeup.scheduled and self.loop.c.deferred_input.count != 0):
            nested_check_and_turn(self.loop, self.turn_context)

    def __del__(self):
        if self.loop is not None:
            self.loop.embedding = NULL
            self.loop.c.asleep = False
            loop_close_with_host(self.loop)


@cython.final
@cython.internal
cdef class Wakeup:
    """What it calls soon, or when a timer is due. It holds no Embedding."""
    cdef Loop loop
    cdef bint scheduled               # it will be called soon; what is left over has one turn for each of the asyncio loop's

    def __call__(self, timer=False):
        cdef Embedding embedding
        if not timer:
            self.scheduled = False
        if self.loop.embedding != NULL:
            embedding = <Embedding>self.loop.embedding
            if embedding.wakeup is self:      # else it is of an asyncio loop that was left
                if timer:
                    embedding.timer = None
                nested_check_and_turn(self.loop, embedding.turn_context)


# ---------------------------------------------------------------------------- attaching


cdef int embed_attach(Loop self, object host) except -1:
    """Have an asyncio loop turn this one from now on."""
    cdef Embedding embedding = Embedding.__new__(Embedding)
    embedding.call_context, embedding.turn_context = Context(), Context()
    embedding.wakeup = Wakeup.__new__(Wakeup)
    embedding.wakeup.loop = self
    embedding.call_context.run(host.add_reader, uv.uv_backend_fd(&self.c.uv), embedding)
    self.host = weakref.ref(host)
    self.nested = False
    self.embedding = <PyObject*>embedding
    embedding.loop = self
    self.c.embedded = True
    self.c.asleep = True
    loop_ref(self.c)            # or libuv would not turn for sockets that are unreferenced
    return 0


cdef int embed_detach(Loop self, bint tell_host) except -1:
    """Be turned by nobody. In a forked child the asyncio loop is the parent's: not told."""
    cdef object host = host_of(self)
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
    while turns == 0 or (turns < TURNS_AT_ONCE and loop_has_work(c) and c.deferred_input.count == 0 and self.failure is None):
        uv.uv_run(&c.uv, uv.UV_RUN_NOWAIT)
        turns += 1
    loop_turned_by_host(self)
    if self.failure is not None:
        embed_reraise(self)
    return embed_arm_wakeup(self)


cdef int embed_arm_wakeup(Loop self) except -1:
    """A turn has ended: how the asyncio loop learns of the next one."""
    cdef loop_t* c = self.c
    if self.embedding == NULL:
        return 0
    if loop_has_work(c):
        embed_wakeup(c)
    elif loop_is_empty(c):
        embed_detach(self, True)
        thread_loops_release(self)
    else:
        c.asleep = True
        embed_set_timer(<Embedding>self.embedding, uv.uv_backend_timeout(&c.uv))
    return 0


cdef void embed_wakeup(loop_t* c) noexcept with gil:
    """Have the asyncio loop call us soon."""
    cdef Embedding embedding = <Embedding>(<Loop>c.owner).embedding
    cdef object host = host_of(embedding.loop)
    try:
        embed_call_soon(embedding, host)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(c, stop)
        c.asleep = not embed_retry_call_soon(embedding, host)
    except BaseException as error:
        report_unraisable(error, embedding)
        c.asleep = not embed_retry_call_soon(embedding, host)


cdef int embed_call_soon(Embedding self, object host) except -1:
    if host is not None and not host.is_closed() and not self.wakeup.scheduled:
        host.call_soon(self.wakeup, context=self.call_context)
        self.wakeup.scheduled = True
    return 0


cdef bint embed_retry_call_soon(Embedding self, object host) noexcept:
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
    if wait < 0 or (self.timer is not None and self.fires_at <= due):
        return 0
    if self.timer is not None:
        self.timer.cancel()
    self.fires_at = due
    self.timer = host_of(self.loop).call_later(wait / 1e3, self.wakeup, True, context=self.call_context)
    return 0


# ---------------------------------------------------------------------------- what else is asked of an asyncio loop


# ---------------------------------------------------------------------------- the native loop


cdef int embed_after_fork(Loop self) except -1:
    """In a forked child: a stock loop that turned this one. When it is closed, it unwatches its own descriptors, too."""
    cdef object host = host_of(self)
    cdef object inherited = getattr(host, "_selector", None)
    if self.embedding != NULL and isinstance(inherited, selectors.BaseSelector):
        host._selector = selector_replace(inherited, uv.uv_backend_fd(&self.c.uv))
    return 0


@cython.final
@cython.internal
cdef class Reraiser:
    """Raises what a handler raised to stop the loop: KeyboardInterrupt or SystemExit.

    Raised by Embedding, the exception's traceback would hold that one.
    """
    cdef object failure

    def __call__(self):
        failure, self.failure = self.failure, None
        raise failure


cdef int embed_reraise(Loop self) except -1:
    """What a handler raised to stop the loop comes out of the asyncio loop."""
    cdef Reraiser raiser
    cdef object host = host_of(self)
    if host is None:
        return loop_raise_failure(self)     # a forked child
    raiser = Reraiser.__new__(Reraiser)
    raiser.failure, self.failure = self.failure, None
    host.call_soon(raiser)
    return 0
