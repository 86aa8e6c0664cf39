"""embed: how an asyncio loop that is not a native one turns one of our loops.

The problem: sockets that a program opens inside a foreign asyncio loop (the stock one, uvloop) must be served by that
loop, which knows nothing of libuv. A thread of our own would call handlers in the wrong thread.
The rule: libuv's backend descriptor is readable when any descriptor of ours is ready. The asyncio loop watches that
one, and we turn without waiting (UV_RUN_NOWAIT). Two things it cannot see by it: our next timer, and changes that were
made outside of a turn, because libuv passes them on to the kernel only when it turns. For these we ask to be called.

    asyncio's loop                            our loop
    -> current_loop, the first time           embed_attach: add_reader(backend descriptor, Embedding)
    descriptor readable -> Embedding()        embed_turn: uv_run without waiting, up to TURNS_AT_ONCE times
                                              embed_arm_wakeup, how the next turn comes about:
                                                work is left      call_soon(Wakeup)
                                                nothing is open   embed_detach: remove_reader
                                                else              asleep; call_later(Wakeup) for the next timer
    write(), close() ... while it is asleep   loop_wakeup: call_soon(Wakeup)
    next turn, or timer -> Wakeup()           embed_turn, as above
    closed or collected                       Embedding.__del__: loop_close_with_host

TURNS_AT_ONCE: a turn often leaves work that needs no descriptor, such as a closing callback or a posted outcome. Doing
it at once saves a turn of asyncio, which is a system call and a few callbacks. After four turns asyncio's own callbacks
come first. While TLS input is deferred there is only one turn at a time, since asyncio's callbacks are part of the
other work by which tls_scheduling measures the share of handshakes.

SENT WITHOUT A TURN: what code outside of our turns has written leaves by the Wakeup. If that is all there was to do, our loop is
not polled: a poll is a system call, and an answer that has come at once would be told before callbacks that were ready
before the asyncio loop has polled.

Only the asyncio loop holds a reference to the `Embedding`. So the `Embedding` is destroyed exactly when that loop is
closed or collected. This is how we learn of it, because asyncio has no hook for it.

Owns attaching and detaching, `Embedding` and `Wakeup`, and how an exception that stops our loop gets out of asyncio's.
Does not know sockets. What else is asked of an asyncio loop is in host; a nested run is handled in nested.
"""
cimport cython
import selectors
import weakref
from contextvars import Context

from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from pybuntcp._c cimport uv


cdef enum:
    TURNS_AT_ONCE = 4


@cython.final
@cython.internal
cdef class Embedding:
    """An asyncio loop calls this when a descriptor of ours is ready."""
    cdef Loop loop              # None: detached
    cdef Wakeup wakeup
    cdef object timer           # the handle of asyncio's timer; None: not set
    cdef uint64_t fires_at      # when it fires, in milliseconds of our loop's clock
    cdef object call_context    # asyncio calls this object and the Wakeup in this context
    cdef object turn_context    # turns are made in this one, which is empty: handlers see no variables of other code

    def __call__(self):
        # While TLS input is deferred and the Wakeup is scheduled, that makes the one turn: see TURNS_AT_ONCE above.
        if self.loop is not None and not (self.wakeup.scheduled and self.loop.c.deferred_input.count != 0):
            nested_check_and_turn(self.loop, self.turn_context, True)

    def __del__(self):
        if self.loop is not None:
            self.loop.embedding = NULL
            self.loop.c.asleep = False
            loop_close_with_host(self.loop)


@cython.final
@cython.internal
cdef class Wakeup:
    """An asyncio loop calls this soon, or when our next timer is due. It has no reference to the Embedding."""
    cdef Loop loop
    cdef bint scheduled     # asyncio will call it in its next turn

    def __call__(self, timer=False):
        cdef Embedding embedding
        if not timer:
            self.scheduled = False
        if self.loop.embedding != NULL:
            embedding = <Embedding>self.loop.embedding
            if embedding.wakeup is self:      # else our loop was detached and attached again meanwhile
                if timer:
                    embedding.timer = None
                nested_check_and_turn(self.loop, embedding.turn_context, timer)


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
    wheel_stop(self.c)          # the loop is empty; and a timer that is set already would not wake the asyncio loop
    wakeup_fd_lend(self.c)
    loop_ref(self.c)            # otherwise uv_run would do nothing while every socket is unreferenced
    return 0


cdef int embed_detach(Loop self, bint notify_host) except -1:
    """No asyncio loop turns this loop any more. notify_host: False in a forked child: that loop is the parent's."""
    cdef object host = host_of(self)
    if self.embedding == NULL:
        return 0
    cdef Embedding embedding = <Embedding>self.embedding
    self.embedding = NULL
    self.host = embedding.loop = None
    self.c.asleep = self.c.embedded = False
    loop_unref(self.c)
    if notify_host:
        wakeup_fd_give_back(self.c)
    timer, embedding.timer = embedding.timer, None
    if notify_host and host is not None and not host.is_closed():
        try:
            host.remove_reader(uv.uv_backend_fd(&self.c.uv))
            if timer is not None:
                timer.cancel()
        except Exception as error:
            report_error("The asyncio loop refused to let go of a loop of ours", error, host, None)
    return 0


# ---------------------------------------------------------------------------- turning

cdef int embed_turn(Loop self, bint polls) except -1:
    """Serve all that is ready, without waiting. polls: a descriptor may be; else see SENT WITHOUT A TURN."""
    cdef loop_t* c = self.c
    cdef int turns = 0
    c.asleep = False
    c.running = True
    if not polls and c.turn_flush.count != 0:
        loop_end_turn(c)
        uv.uv_update_time(&c.uv)
        turns = not loop_has_work(c)
    while turns == 0 or (
        turns < TURNS_AT_ONCE and loop_has_work(c) and c.deferred_input.count == 0 and self.failure is None
    ):
        uv.uv_run(&c.uv, uv.UV_RUN_NOWAIT)
        turns += 1
    loop_turned_by_host(self)
    if self.failure is not None:
        embed_reraise(self)
    return embed_arm_wakeup(self)


cdef int embed_arm_wakeup(Loop self) except -1:
    """A turn has ended: see to it that the asyncio loop makes the next one when it is needed."""
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
    """Have the asyncio loop call us in its next turn."""
    cdef Embedding embedding = <Embedding>(<Loop>c.owner).embedding
    cdef object host = host_of(embedding.loop)
    try:
        embed_call_soon(embedding, host)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(c, stop)
        c.asleep = not embed_retry_call_soon(embedding, host)
    except BaseException as error:
        report_error("The asyncio loop refused a callback", error, embedding, None)
        c.asleep = not embed_retry_call_soon(embedding, host)


cdef int embed_call_soon(Embedding self, object host) except -1:
    if host is not None and not host.is_closed() and not self.wakeup.scheduled:
        host.call_soon(self.wakeup, context=self.call_context)
        self.wakeup.scheduled = True
    return 0


cdef bint embed_retry_call_soon(Embedding self, object host) noexcept:
    """Try again after a signal's handler raised inside `call_soon`. Being called once too often does no harm."""
    try:
        embed_call_soon(self, host)
        return True
    except BaseException as error:
        report_error("The asyncio loop refused a callback", error, self, None)
        return False


cdef int embed_set_timer(Embedding self, int wait) except -1:
    """Have the asyncio loop call us in `wait` milliseconds at the latest; < 0: no timer is needed.

    A timer that is set already and fires earlier is left as it is, since a turn that comes too early does no harm.
    """
    cdef uint64_t due = uv.uv_now(&self.loop.c.uv) + wait
    if wait < 0 or (self.timer is not None and self.fires_at <= due):
        return 0
    if self.timer is not None:
        self.timer.cancel()
    self.fires_at = due
    self.timer = host_of(self.loop).call_later(wait / 1e3, self.wakeup, True, context=self.call_context)
    return 0


# ---------------------------------------------------------------------------- forks, and exceptions that stop the loop

cdef int embed_after_fork(Loop self) except -1:
    """In a forked child: give a stock asyncio loop a new selector, without our descriptor.

    When the child closes that loop, it removes its descriptors from its selector, and the inherited one shares the
    parent's epoll instance.
    """
    cdef object host = host_of(self)
    cdef object inherited = getattr(host, "_selector", None)
    if self.embedding != NULL and isinstance(inherited, selectors.BaseSelector):
        host._selector = selector_replace(inherited, uv.uv_backend_fd(&self.c.uv))
    return 0


@cython.final
@cython.internal
cdef class Reraiser:
    """Raises a KeyboardInterrupt or SystemExit of a handler inside a callback of asyncio, which ends asyncio's run.

    If the Embedding raised it, the exception's traceback would keep the Embedding alive.
    """
    cdef object failure

    def __call__(self):
        failure, self.failure = self.failure, None
        raise failure


cdef int embed_reraise(Loop self) except -1:
    """Have the asyncio loop raise the exception that has stopped our loop."""
    cdef Reraiser raiser
    cdef object host = host_of(self)
    if host is None:
        return loop_raise_failure(self)     # in a forked child the loop was detached
    raiser = Reraiser.__new__(Reraiser)
    raiser.failure = loop_take_failure(self)
    host.call_soon(raiser)
    return 0
