"""exiting: the end of `async with listener`, with handlers that still run.

Whoever leaves in order gives the handlers `linger_timeout`, as it does peers; whoever leaves by an exception, a
cancellation among them, cancels them. One that goes on for `EXIT_SECONDS` after it was cancelled is abandoned: see
tasks. Promises that whoever leaves is never cancelled by that, if it is a handler itself.
"""


cdef list exit_tasks_of(Listener listener):
    """Those of its connections."""
    return [one for one in tasks_all(listener._loop)
            if isinstance(one, HandlerTask) and context_of((<HandlerTask>one).s).server == listener.c]


async def _exit_listener(Listener self, bint raised):
    """`stop(True)`, and until everything of it has ended; at most `EXIT_SECONDS` for one who leaves by raising."""
    cdef bint inside
    patience = exit_timeout(self)
    self.stop(True)
    if self.connections == 0:
        return
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
    """Cancel the handlers of its connections. Those that do not care are given up."""
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
    """Seconds that its handlers have to end in order; None: for ever."""
    if self.c.context == NULL or isinf(self.c.context.linger_timeout):
        return None
    return self.c.context.linger_timeout


cdef bint exit_is_from_inside(Listener self) except -1:
    """Is it one of its own handlers that leaves? Then one connection stays until it has left."""
    current = host_asyncio("current_task")() if host_running() is not None else None
    for some in self._loop.tasks.values():
        for one in some:
            if isinstance(one, HandlerTask) and (<HandlerTask>one).task is current:
                return context_of((<HandlerTask>one).s).server == self.c
    return False
