"""exiting: the end of `async with socket`, and of a program, with handlers that still run.

The problem: an async handler may await something that never happens. A program that leaves `async with socket` would
wait for it; Ctrl-C, which cancels the program's task and no handler, would not end the program.
The rule: leaving by an exception, a cancellation among them, cancels the handlers of the connections that it closes.
Leaving in order cancels none, and waits for as long as `linger_timeout` allows. A handler that goes on for
EXIT_SECONDS after it was cancelled is abandoned: reported to the asyncio loop's exception handler, and not waited for,
not by `asyncio.run` either (see tasks).

Owns that rule for a socket and for a program; for a listener see endpoints/exiting. Closes nothing itself: verbs do.
"""


cdef double EXIT_SECONDS = 1.5


async def _exit_socket(Socket self, bint raised):
    """Wait until it is closed; for at most EXIT_SECONDS if the block was left by an exception."""
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
    """Cancel the handlers that run in the running asyncio loop, and wait for them for at most EXIT_SECONDS."""
    cdef Loop loop = current_loop_peek()
    cdef list running = [task_of(one) for one in tasks_all(loop)]
    for task in running:
        task.cancel()
    if running:
        _, stubborn = await host_asyncio("wait")(running, timeout=EXIT_SECONDS)
        for task in stubborn:
            task_disown(loop, task)
