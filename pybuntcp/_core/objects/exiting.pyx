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


# ---------------------------------------------------------------------------- a listener's


# ---------------------------------------------------------------------------- a socket's, a program's

async def _exit_socket(Socket self, bint raised):
    """Until it is closed; at most `EXIT_SECONDS` for one who leaves by raising."""
    cdef Waiter waiter = wrapper_end_and_wait(self, raised)
    if waiter is None:
        return
    if raised:
        tasks_cancel(tasks_of_socket(waiter.loop, self))
    timer = host_call_later(waiter.loop, EXIT_SECONDS, waiter) if raised else None
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()


async def end_handlers():
    """Cancel the handlers that run in the running asyncio loop, and wait for them for at most `EXIT_SECONDS`."""
    cdef Loop loop = current_loop_peek()
    cdef list running = [task_of(one) for one in tasks_all(loop)]
    for task in running:
        task.cancel()
    if running:
        _, stubborn = await host_asyncio("wait")(running, timeout=EXIT_SECONDS)
        for task in stubborn:
            task_disown(loop, task)
