"""exiting: the end of `async with listener`, while async handlers of its connections still run.

A block that ends in order waits for the handlers for `linger_timeout`, the time that peers get, too, and then cancels
them. A block that ends by an exception, a cancellation among them, cancels them at once. A handler that still runs
EXIT_SECONDS after it was cancelled is abandoned (see objects/tasks).
Promises that the task which leaves the block is not cancelled by this if it is one of these handlers itself.
"""


cdef list exit_tasks_of(Listener listener):
    """The tasks of handlers of the listener's connections."""
    return [one for one in tasks_all(listener._loop)
            if isinstance(one, HandlerTask) and context_of((<HandlerTask>one).s).server == listener.c]


async def _exit_listener(Listener self, bint raised):
    """`stop(True)`, then wait until all has ended. raised: the block has ended by an exception."""
    cdef bint inside
    self.stop(True)             # RuntimeError in another thread, which must not look at the context
    if self.connections == 0:
        return
    patience = exit_timeout(self)
    inside = exit_is_from_inside(self)
    try:
        while not raised and await self.wait_closed(patience) != 0 and not inside:
            await _exit_cancel_handlers(self)
    except host_asyncio("CancelledError"):
        await _exit_cancel_handlers(self)
        raise
    if raised or inside:
        await _exit_cancel_handlers(self)


async def _exit_cancel_handlers(Listener self):
    """Cancel the handlers of the listener's connections. Those that do not end in EXIT_SECONDS are abandoned."""
    cancelled = exit_tasks_of(self)
    tasks_cancel(cancelled)
    if await self.wait_closed(EXIT_SECONDS) == 0:
        return
    for one in exit_tasks_of(self):
        if one in cancelled:
            task_disown(self._loop, task_of(one))
        tasks_cancel([one])
        task_detach(<HandlerTask>one)


cdef object exit_timeout(Listener self):
    """The seconds that handlers have to end in order; None: for ever."""
    if self.c.context == NULL or isinf(self.c.context.linger_timeout):
        return None
    return self.c.context.linger_timeout


cdef bint exit_is_from_inside(Listener self) except -1:
    """True if one of the listener's own handlers leaves the block. Then its connection stays open until it returns."""
    current = host_asyncio("current_task")() if host_running() is not None else None
    for some in self._loop.tasks.values():
        for one in some:
            if isinstance(one, HandlerTask) and (<HandlerTask>one).task is current:
                return context_of((<HandlerTask>one).s).server == self.c
    return False
