"""exiting: the end of an `async with`, and of a program, with handlers that still run.

The problem: an async handler may await something that is not its socket, for ever. Who leaves
`async with listener` waits for it; Ctrl-C, which cancels the program's task and no handler, would
not end the program.
The rule: leaving by an exception, a cancellation among them, cancels the handlers of the connections
that are closed by it. Leaving in order gives them `linger_timeout`, as it does peers. A handler
that goes on for `EXIT_SECONDS` after it was cancelled is given up: told to the asyncio loop's
exception handler, and waited for by nobody, `asyncio.run` included.

Promises that whoever leaves is never cancelled by that, if it is a handler itself. Does not close
anything: verbs do.
"""
cdef double EXIT_SECONDS = 1.5


# ---------------------------------------------------------------------------- handlers that run

cdef list running_all(Loop loop):
    """Every async handler that has not ended, but the one that asks."""
    if not loop.tasks:
        return []
    current = asyncio_of("current_task")()
    found = []
    for some in loop.tasks.values():
        found += [one for one in some if task_of(one) is not current]
    return found


cdef list running_of_listener(Listener listener):
    """Those of its connections."""
    return [one for one in running_all(listener._loop)
            if isinstance(one, Running) and context_of((<Running>one).s).server == listener.c]


cdef list running_of_socket(Loop loop, Socket socket):
    return [one for one in running_all(loop) if isinstance(one, Running) and (<Running>one).socket is socket]


cdef object task_of(object one):
    return (<Running>one).task if isinstance(one, Running) else (<Failing>one).task


cdef int running_cancel(list handlers) except -1:
    for one in handlers:
        task_of(one).cancel()
    return 0


cdef int running_give_up(Running self) except -1:
    """What waited for it goes on; it may end whenever it likes."""
    cdef Loop owner = self.loop
    if owner is None or owner.c.dead or self.task.done():
        return 0
    self.loop = None
    handler_enter(owner.c)
    running_part(self, self.s, owner)
    handler_leave(owner.c)
    loop_kick(owner.c)
    return 0


cdef int task_disown(Loop loop, object task) except -1:
    """It was cancelled long ago. `asyncio.run` would wait for it as long as it likes."""
    asyncio_of("_unregister_task")(task)
    loop_host(loop).call_exception_handler({
        "message": f"A handler goes on {EXIT_SECONDS:g} s after it was cancelled: nobody waits for it any more",
        "task": task,
    })
    return 0


# ---------------------------------------------------------------------------- a listener's

async def _listener_exit(Listener self, bint raised):
    """`stop(True)`, and until everything of it has ended; at most `EXIT_SECONDS` for one who leaves by raising."""
    cdef bint inside
    patience = listener_patience(self)
    self.stop(True)
    if self.connections == 0:
        return
    inside = listener_leaves_itself(self)
    try:
        while not raised and await self.wait_closed(patience) != 0 and not inside:
            await _listener_cut(self)
    except asyncio_of("CancelledError"):
        await _listener_cut(self)
        raise
    if raised or inside:
        await _listener_cut(self)


async def _listener_cut(Listener self):
    """Cancel the handlers of its connections. Those that do not care are given up."""
    cancelled = running_of_listener(self)
    running_cancel(cancelled)
    if await self.wait_closed(EXIT_SECONDS) == 0:
        return
    for one in running_of_listener(self):
        if one in cancelled:
            task_disown(self._loop, task_of(one))
        running_cancel([one])
        running_give_up(<Running>one)


cdef object listener_patience(Listener self):
    """Seconds that its handlers have to end in order; None: for ever."""
    if self.c.context == NULL or isinf(self.c.context.linger_timeout):
        return None
    return self.c.context.linger_timeout


cdef bint listener_leaves_itself(Listener self) except -1:
    """Is it one of its own handlers that leaves? Then one connection stays until it has left."""
    current = asyncio_of("current_task")() if host_running() is not None else None
    for some in self._loop.tasks.values():
        for one in some:
            if isinstance(one, Running) and (<Running>one).task is current:
                return context_of((<Running>one).s).server == self.c
    return False


# ---------------------------------------------------------------------------- a socket's, a program's

async def _socket_exit(Socket self, bint raised):
    """Until it is closed; at most `EXIT_SECONDS` for one who leaves by raising."""
    cdef Waiter waiter = face_leave(self, raised)
    if waiter is None:
        return
    if raised:
        running_cancel(running_of_socket(waiter.loop, self))
    timer = call_later(waiter.loop, EXIT_SECONDS, waiter) if raised else None
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()


async def end_handlers():
    """Cancel the handlers that run in the running asyncio loop, and wait for them for at most `EXIT_SECONDS`."""
    cdef Loop loop = loop_to_ask()
    cdef list running = [task_of(one) for one in running_all(loop)]
    for task in running:
        task.cancel()
    if running:
        _, stubborn = await asyncio_of("wait")(running, timeout=EXIT_SECONDS)
        for task in stubborn:
            task_disown(loop, task)
