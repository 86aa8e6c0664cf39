"""host: the asyncio loop that turns one of ours, and all that is asked of it.

Owns every call to an asyncio loop but those that attach one of ours to it (see embed): which one runs here, its
futures, timers, tasks, and its exception handler. It is the one file that imports asyncio, and only when asked: a
program that does not use asyncio never imports it.
Does not know sockets.
"""
import sys


# asyncio's, once it is imported. Another thread may be importing it right now: each of the two is kept when it is
# there, whatever else is.
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
    global _Future
    if _Future is None:
        _Future = host_asyncio("Future")      # waits for who imports it
    return _Future(loop=host)


cdef inline object host_of(Loop self):
    """The asyncio loop that turns it, or None."""
    return None if self.host is None else self.host()


cdef object host_call_later(Loop loop, double seconds, object callback):
    """A timer of the asyncio loop, to be cancelled; None: there is no such loop."""
    host = host_of(loop)
    return None if host is None else host.call_later(seconds, callback)


cdef object host_task_start(Loop loop, object coroutine, object vars):
    """Run a coroutine; in a copy of `vars`, or of the present context if that is None."""
    host = host_of(loop)
    if vars is None:
        return host.create_task(coroutine)
    return vars.run(host.create_task, coroutine)


cdef bint host_report(Loop loop, str message, object error, object whose) except -1:
    """Tell the asyncio loop's exception handler. False: there is no such loop."""
    host = host_of(loop) or host_running()
    if host is None or host.is_closed():
        return False
    host.call_exception_handler({"message": message, "exception": error, "socket": whose})
    return True


cdef object host_asyncio(str name):
    """`CancelledError` or `current_task`, say."""
    import asyncio

    return getattr(asyncio, name)


cdef bint host_owns_wakeup_fd(Loop loop, int fd) except -1:
    """Is it the asyncio loop's own descriptor that Python writes signals to?"""
    own = getattr(host_of(loop), "_csock", None)
    return own is not None and own.fileno() == fd


cdef object host_awaiting(Loop loop):
    """The asyncio loop that turns this one and runs. RuntimeError: there is no such one."""
    host = host_of(loop)
    if host is None or host is not host_running():
        host_raise_wrong(host)
    return host


cdef int host_raise_wrong(object owner) except -1:
    running = host_running()
    opened = "outside of asyncio, for run()" if owner is None else f"in the asyncio loop {owner!r}"
    if running is None:
        raise RuntimeError(f"this was opened {opened}: no asyncio loop runs in this thread")
    raise RuntimeError(f"this was opened {opened}, and {running!r} does not turn it")
