"""awaiting: who waits for something of a loop of ours.

Owns `Waiter`, who waits for one thing once, and `InlineFuture`, what one task at a time awaits again and again, and goes on
with inside our turn. Both are told by whoever has the outcome, and know nothing of it.
"""
cimport cython
from contextvars import copy_context


@cython.final
@cython.internal
cdef class Waiter:
    """A coroutine that waits for one thing. Called with an error or None, it goes on."""
    cdef Loop loop
    cdef object future          # None: no asyncio runs, the coroutine is driven by hand
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
    """Who will be told of something of this loop. RuntimeError: nobody would turn it."""
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
    """What one task at a time awaits, and goes on with inside our turn.

    A future's task goes on by `call_soon`: a turn of asyncio's later, and for more than it costs
    to read. A task takes for a future whatever has these members; see `asyncio.isfuture`.
    """
    cdef Loop loop
    cdef object host        # the asyncio loop
    cdef object callback    # the task's; None: nobody waits
    cdef object vars        # the context it is called in
    cdef bint yielded       # the task has been given this
    cdef bint resuming      # ... and goes on, in our turn
    cdef bint cancelled
    cdef object message
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
    """To be awaited, once. RuntimeError: no asyncio loop that runs turns this one."""
    self.host = host_awaiting(self.loop)
    self.yielded = self.cancelled = False
    if loop_is_entered(self.loop.c) and not self.resuming:
        nested_check_soon(self.loop)
    return self


cdef int inline_future_clear(InlineFuture self) except -1:
    """Nobody waits, or is to be told."""
    self.host = self.callback = self.vars = self.message = None
    return 0


cdef int inline_future_wake_soon(InlineFuture self) except -1:
    """Whoever waits goes on soon."""
    callback, self.callback = self.callback, None
    if callback is not None:
        self.host.call_soon(callback, self, context=self.vars)
    return 0


cdef int inline_future_wake_now(InlineFuture self) except -1:
    """Whoever waits goes on now: it has come in a turn, and no handler runs."""
    if self.host is not host_running():
        return inline_future_wake_soon(self)
    callback, self.callback = self.callback, None
    self.resuming = True
    try:
        if callback is not None:
            self.vars.run(callback, self)
    except NestedLoopError:
        pass                    # the task's exception, too
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(self.loop.c, stop)
    finally:
        self.resuming = False
    return 0
