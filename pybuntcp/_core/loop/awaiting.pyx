"""awaiting: how a coroutine waits for an event of one of our loops.

Owns two awaitables. `Waiter` serves one coroutine once, for rare events: a connection, a close, a drain. `InlineFuture`
serves one task at a time and is used again and again, for reads; the task resumes inside our turn.
Promises that a wait outside of the asyncio loop that turns our loop is a RuntimeError, and that a coroutine which waits
in a nested run is noticed (see nested).
Does not know what is waited for: the code that has the outcome stores it and then wakes the awaitable.
"""
cimport cython
from contextvars import copy_context


@cython.final
@cython.internal
cdef class Waiter:
    """Awaited by one coroutine, once. A call, with an error or None, resumes the coroutine."""
    cdef Loop loop
    cdef object future  # None: no asyncio loop runs, and the program drives the coroutine itself
    cdef bint done
    cdef object error

    def __call__(self, error=None):
        if not self.done:
            self.done = True
            self.error = error
            if self.future is not None and not self.future.done():
                self.future.set_result(None)

    def __await__(self):
        if self.future is not None:
            yield from self.future
        else:
            while not self.done and not self.loop.c.dead:
                yield


cdef Waiter waiter_new(Loop loop):
    """A Waiter for an event of this loop. RuntimeError: an asyncio loop runs, and it does not turn this loop."""
    cdef Waiter self = Waiter.__new__(Waiter)
    self.loop = loop
    if host_running() is not None:
        self.future = host_future_new(host_awaiting(loop))
        if loop_is_entered(loop.c):
            nested_check_soon(loop)
    return self


@cython.final
@cython.internal
cdef class InlineFuture:
    """Awaited by one task at a time, which resumes inside our turn.

    asyncio's own future resumes its task by `call_soon`: a turn of asyncio later, and at a higher cost than the read
    that the task waits for. A task treats every object with these members as a future; see `asyncio.isfuture`.
    """
    cdef Loop loop
    cdef object host        # the asyncio loop
    cdef object callback    # the task's callback; None: no task waits
    cdef object vars        # the context in which the callback is called
    cdef bint yielded       # `await` has yielded this object to the task
    cdef bint resuming      # the callback is being called, in our turn
    cdef bint cancelled
    cdef object message     # of the cancellation
    cdef public bint _asyncio_future_blocking

    def __await__(self):
        return self

    def __next__(self):
        if self.yielded:
            raise StopIteration
        self.yielded = self._asyncio_future_blocking = True
        return self

    def get_loop(self):
        return self.host

    def add_done_callback(self, callback, *, context=None):
        self.callback, self.vars = callback, copy_context() if context is None else context

    def cancel(self, msg=None):
        if self.callback is None:
            return False
        self.cancelled, self.message = True, msg
        inline_future_wake_soon(self)
        return True

    def result(self):
        if self.cancelled:
            raise host_asyncio("CancelledError")(*(() if self.message is None else (self.message,)))


cdef InlineFuture inline_future_new(Loop loop):
    cdef InlineFuture self = InlineFuture.__new__(InlineFuture)
    self.loop = loop
    return self


cdef InlineFuture inline_future_await(InlineFuture self):
    """Prepare it for one `await`. RuntimeError: no asyncio loop that turns this loop runs in this thread."""
    self.host = host_awaiting(self.loop)
    self.yielded = self.cancelled = False
    if loop_is_entered(self.loop.c) and not self.resuming:
        nested_check_soon(self.loop)
    return self


cdef int inline_future_clear(InlineFuture self) except -1:
    """Drop the task that waits, without waking it, and all references to it."""
    self.host = self.callback = self.vars = self.message = None
    return 0


cdef int inline_future_wake_soon(InlineFuture self) except -1:
    """Resume the task that waits, by `call_soon`."""
    callback, self.callback = self.callback, None
    if callback is not None:
        self.host.call_soon(callback, self, context=self.vars)
    return 0


cdef int inline_future_wake_now(InlineFuture self) except -1:
    """Resume the task that waits, now. Called in a turn, while no handler runs."""
    if self.host is not host_running():
        return inline_future_wake_soon(self)
    callback, self.callback = self.callback, None
    self.resuming = True
    try:
        if callback is not None:
            self.vars.run(callback, self)
    except NestedLoopError:
        pass                    # it is the task's exception, too, and asyncio reports it there
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(self.loop.c, stop)
    finally:
        self.resuming = False
    return 0
