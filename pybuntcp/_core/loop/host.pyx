"""host: the asyncio loop that turns one of our loops, and what we use of it.

The problem: each verb that opens something needs to know whether an asyncio loop runs in this thread, and a program
that does not use asyncio must not import it, which takes longer than the rest of its start.
The rule: an asyncio loop can run only if asyncio was imported already. So `host_running` looks into `sys.modules` until
asyncio is there, and keeps what it finds. A loop that is turned by asyncio has its asyncio loop in `Loop.host`, a weak
reference, so that the asyncio loop can be collected.

Owns every call to an asyncio loop except those of embed, native and nested, which attach our loop to one: which loop
runs in this thread, its futures, timers and tasks, and its exception handler. This is the only file that imports
asyncio.
Does not know sockets.
"""
import sys


# Names of asyncio's, kept once they are found. Another thread may be importing asyncio right now, so that one of them
# exists before the other.
cdef object _get_running_loop = None
cdef object _Future = None


cdef object host_running():
    """The asyncio loop that runs in this thread, or None."""
    global _get_running_loop
    if _get_running_loop is None:
        found = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
        if found is None:
            return None
        _get_running_loop = found
    return _get_running_loop()


cdef object host_future_new(object host):
    """A future of an asyncio loop."""
    global _Future
    if _Future is None:
        _Future = host_asyncio("Future")    # this waits for another thread that is importing asyncio
    return _Future(loop=host)


cdef inline object host_of(Loop self):
    """The asyncio loop that turns this loop, or None."""
    return None if self.host is None else self.host()


cdef object host_call_later(Loop loop, double seconds, object callback):
    """Start a timer of the asyncio loop. Returns its handle, to cancel it; None: no asyncio loop turns this loop."""
    host = host_of(loop)
    return None if host is None else host.call_later(seconds, callback)


cdef object host_task_start(Loop loop, object coroutine, object vars):
    """Run a coroutine as a task, in a copy of the context `vars`, or of the current one if that is None."""
    host = host_of(loop)
    if vars is None:
        return host.create_task(coroutine)
    return vars.run(host.create_task, coroutine)


cdef bint host_report(Loop loop, str message, object error, object whose, dict extra) except -1:
    """Call the asyncio loop's exception handler. False: there is no loop that could be called."""
    host = host_of(loop) or host_running()
    if host is None or host.is_closed():
        return False
    context = {"message": message, "exception": error} if extra is None else {**extra, "message": message, "exception": error}
    if whose is not None:
        context["socket"] = whose
    host.call_exception_handler(context)
    return True


cdef object host_asyncio(str name):
    """A member of asyncio, for example `CancelledError` or `current_task`. Imports asyncio."""
    import asyncio

    return getattr(asyncio, name)


cdef bint host_owns_wakeup_fd(Loop loop, int fd) except -1:
    """True if `fd` is the wakeup descriptor that the asyncio loop itself has set."""
    own = getattr(host_of(loop), "_csock", None)
    return own is not None and own.fileno() == fd


cdef object host_awaiting(Loop loop):
    """The asyncio loop that turns this loop, and that runs in this thread. RuntimeError: there is no such loop."""
    host = host_of(loop)
    if host is None or host is not host_running():
        host_raise_wrong(host)
    return host


cdef int host_raise_wrong(object owner) except -1:
    """owner: the asyncio loop in which the object was opened, or None."""
    running = host_running()
    opened = "outside of asyncio, for run()" if owner is None else f"in the asyncio loop {owner!r}"
    if running is None:
        raise RuntimeError(f"this was opened {opened}: no asyncio loop runs in this thread")
    raise RuntimeError(f"this was opened {opened}, and {running!r} does not turn it")
