"""connect: `connect` itself, and `Connecting`, the Python object of an outgoing connection.

Owns `Connecting`, which `connect()` returns: to await, to query or to cancel. Its connector keeps it alive until the
outcome has been reported. Owns also the call of `connect_error` and, if that is async, its task.
Promises that an error which no code has seen is reported when the `Connecting` is destroyed, and that a socket which no
code can reach is closed if the only task that awaited it is cancelled.
Does not know how the connection is made (see connector).
"""
cimport cython

from cpython.ref cimport PyObject, Py_INCREF


@cython.final
cdef class Connecting:
    """An outgoing connection, made and started by `connect`. `await` returns the `Socket`.

    The attempt continues whether it is awaited or not. `cancel()` closes it, and no handler is called. Cancelling the
    task that awaits it does the same; a connection that is open already is closed.
    `async with connect(...) as socket:` awaits it, and ends as `async with socket:` does.
    Errors, from `await` and `result()`: OSError with errno, `code`, `syscall`, `address` and
    `port`; `socket.gaierror` for a name; TimeoutError after `timeout`; asyncio's
    CancelledError after `cancel()`.
    Bun: the promise of `Bun.connect`, which cannot be cancelled and has no timeout.
    """
    cdef connector_t* c     # NULL once the outcome is known
    cdef object options     # the ConnectOptions
    cdef object value       # the Socket; None if the program did not keep this object
    cdef object error
    cdef bint cancelled_
    cdef bint emitting      # `open` or `connect_error` is being called, or has a task: not done yet
    cdef bint error_seen    # a handler, an `await` or a method has got the error
    cdef bint error_raised  # `connect_error` has raised it
    cdef Loop loop
    cdef list waiting       # the Waiters of tasks that await it
    cdef bint socket_taken  # an `await` has returned the socket

    def __init__(self):
        raise TypeError("connections are made by connect()")

    def __del__(self):
        if self.error is None or self.error_seen:
            return
        connecting_report(self)

    def cancel(self):
        """Give up the attempt. Returns False if it had an outcome already."""
        if self.c == NULL or not loop_check(self.loop.c) or self.c == NULL:
            return False
        self.cancelled_ = True
        connector_cancel(self.c)
        connecting_wake(self)
        return True

    def cancelled(self):
        """True if the attempt was given up."""
        return self.cancelled_

    def done(self):
        """True if the attempt has an outcome, and it was reported to the handlers."""
        return self.c == NULL and not self.emitting

    def result(self):
        """The `Socket`. Raises the attempt's error, or asyncio's InvalidStateError if it is not done."""
        error = self.exception()
        if error is not None:
            raise error
        return self.value

    def exception(self):
        """The attempt's error, or None. Raises as `result` does if it was cancelled or is not done."""
        if self.cancelled_:
            raise host_asyncio("CancelledError")()
        if not self.done():
            raise host_asyncio("InvalidStateError")("the connection is not settled yet")
        self.error_seen = True
        return self.error

    def __await__(self):
        cdef Waiter waiter
        if not self.done():
            loop_check(self.loop.c)
            waiter = waiter_new(self.loop)
            self.waiting.append(waiter)
            try:
                yield from waiter.__await__()
            except BaseException:       # the task is cancelled, or its coroutine is closed
                connecting_abandon(self, waiter)
                raise
            connecting_remove_waiter(self, waiter)
        socket = self.result()
        self.socket_taken = True
        return socket

    async def __aenter__(self):
        return await self

    async def __aexit__(self, *exception):
        await _exit_socket(self.value, any(exception))

    def __repr__(self):
        state = "in progress" if not self.done() else "cancelled" if self.cancelled_ else "done"
        return f"<pybuntcp.Connecting {state}>"


cdef void connecting_finish(Connecting wrapper) noexcept:
    """The outcome has been reported: it is done."""
    wrapper.emitting = False
    connecting_wake(wrapper)


cdef void connecting_call_connect_error(loop_t* loop, object handler, Connecting wrapper) noexcept:
    """Call `connect_error(socket, error)`. An exception that it raises replaces the error."""
    cdef bint has_task = False
    handler_enter(loop)
    try:
        result = handler(wrapper_of_failure(wrapper.options.data), wrapper.error)
        has_task = result is not None and connecting_task_of_result(handler, result, wrapper)
    except BaseException as raised:
        if error_stops(raised):
            loop_fail(loop, raised)
        else:
            connecting_handler_raised(wrapper, error_plain(raised))
    handler_leave(loop)
    if not has_task:
        connecting_finish(wrapper)


cdef int connecting_handler_raised(Connecting self, object error) except -1:
    """`connect_error` has raised: that is the outcome now, which nobody has seen yet."""
    self.error = error
    if not error_stops(error):
        stats_add(&self.loop.c.count.handler_errors, 1)
        self.error_raised = True
        self.error_seen = False
    return 0


cdef int connecting_report(Connecting self) except -1:
    """Nobody has seen the error."""
    message = "Connection failed, and nobody asked"
    address, port = self.options.hostname or self.options.unix, self.options.port
    extra = {"remote_address": address, "remote_port": port}
    if self.error_raised:
        message = f"Unhandled exception in a handler ('connect_error', peer {error_place(address, port)})"
        extra["handler"] = "connect_error"
    failure_report(self.loop, message, self.error, self, None, extra)
    return 0


cdef int connecting_wake(Connecting self) except -1:
    """Resume the tasks that await it. Each stays in the list until it runs: see `connecting_abandon`."""
    for waiter in self.waiting:
        waiter()
    return 0


cdef int connecting_remove_waiter(Connecting self, Waiter waiter) except -1:
    if waiter in self.waiting:
        self.waiting.remove(waiter)
    return 0


cdef int connecting_abandon(Connecting self, Waiter waiter) except -1:
    """A task that awaits it is cancelled: cancel the attempt, or close a socket that no other `await` returns."""
    connecting_remove_waiter(self, waiter)
    if not self.cancel() and self.value is not None and not self.waiting and not self.socket_taken:
        (<Socket>self.value).close()
    return 0


def connect_on(handlers, options):
    """`connect`, with options that were checked (pybuntcp/options.py, ConnectOptions)."""
    cdef Loop loop = current_loop()
    cdef Handlers table = handlers_empty() if handlers is None else handlers
    cdef context_t* context = options_context(handlers_bind(table, loop, options.slow_handler), options)
    cdef Connecting wrapper = Connecting.__new__(Connecting)
    cdef object host = options.hostname
    cdef connector_t* self
    Py_INCREF(host)
    context.host = <PyObject*>host
    try:
        self = connector_new(loop, context)
    finally:
        context_release(loop.c, context)
    wrapper.options = options
    wrapper.loop = loop
    wrapper.waiting = []
    wrapper.c = self
    Py_INCREF(wrapper)
    self.wrapper = <PyObject*>wrapper
    self.no_delay = options.no_delay and options.unix is None
    if options.local is None:
        self.local_port = options.local_port
    else:
        self.no_interface = address_parse(&self.local, options.local, options.local_port) < 0
    try:
        connector_start(self, options)
    except BaseException:
        connector_cancel(self)
        loop_wakeup(loop.c)
        raise
    return wrapper


@cython.final
@cython.internal
cdef class ConnectErrorTask(RunningTask):
    """An async `connect_error` that runs. asyncio calls this when its task has ended."""
    cdef Connecting wrapper

    def __call__(self, task):
        cdef loop_t* loop = self.wrapper.loop.c
        task_remove(self.wrapper.loop, self.wrapper, self)
        if not task.cancelled() and task.exception() is not None:
            connecting_handler_raised(self.wrapper, task.exception())   # KeyboardInterrupt: asyncio has raised it, too
        connecting_finish(self.wrapper)
        if not loop.dead:
            stats_add(&loop.count.connecting, -1)
            loop_wakeup(loop)


cdef bint connecting_task_of_result(object handler, object result, Connecting wrapper) except -1:
    """Start a task if `connect_error` returned a coroutine. True: it did, and the task calls `connecting_finish`."""
    cdef ConnectErrorTask running
    if not is_coroutine(result):
        return False
    running = ConnectErrorTask.__new__(ConnectErrorTask)
    running.wrapper = wrapper
    running.task = task_create(wrapper.loop, handler, result)
    wrapper.loop.tasks.setdefault(wrapper, []).append(running)
    stats_add(&wrapper.loop.c.count.connecting, 1)       # the loop is not empty while the task runs
    running.task.add_done_callback(running)
    return True
