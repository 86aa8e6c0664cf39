"""current: the loop of ours in which a new socket or listener is opened.

The problem: a thread can have several loops. It has one of its own, which `run` turns, and one more for each asyncio
loop in which sockets are open: for example if it runs two asyncio loops by turns with `run_until_complete`, or calls
`asyncio.run` while a listener is open that was made for `run`. A socket always belongs to the loop in which it was
opened, and only the asyncio loop that turns this one may await it.
The rule, decided once, when something is opened (`current_loop`):

    a native asyncio loop runs          its own loop (see native)
    another asyncio loop runs           the loop attached to it; if there is none, the thread's own loop is attached, or
                                        a new one if that one has something open or is being turned
    no asyncio loop runs                the thread's own loop

A loop that is empty is detached from its asyncio loop again and becomes the thread's own, or is closed if the thread
has one already. So most threads have one loop only.

Owns `ThreadLoops`, the loops of a thread in thread-local storage: they are closed when the thread ends.
Does not know how a loop is closed (see closing), nor what a forked child does (see after_fork).
"""
cimport cython
import threading

from cpython.pythread cimport PyThread_get_thread_ident


@cython.final
@cython.no_gc
@cython.internal
cdef class ThreadLoops:
    """The loops of a thread, in thread-local storage."""
    cdef list loops

    def __dealloc__(self):
        for loop in self.loops:
            loop_close(<Loop>loop)


cdef object _local = threading.local()


cdef Loop current_loop():
    """The loop in which something is opened now. It is made, or attached to the running asyncio loop, if needed."""
    cdef object host = host_running()
    cdef ThreadLoops here = thread_loops()
    cdef Loop loop = thread_loops_for(here, host)
    if loop is None:
        loop = thread_loops_for(here, None)
        if loop.c.running or not loop_is_empty(loop.c):
            loop_warn_unturned(loop)
            loop = thread_loops_add(here)
        embed_attach(loop, host)
    return loop


cdef int loop_warn_unturned(Loop loop) except -1:
    """An asyncio loop runs, and does not turn this loop of the thread's own, in which something is open."""
    return loop_warn_forgotten(
        loop, "it was opened before the asyncio loop ran, which does not turn it. Open it in a coroutine, or call pybuntcp.run()"
    )


cdef Loop current_loop_peek():
    """The loop that `current_loop` would return, but without attaching it. For callers that only read (`stats()`)."""
    cdef ThreadLoops here = thread_loops()
    cdef Loop loop = thread_loops_for(here, host_running())
    return thread_loops_for(here, None) if loop is None else loop


cdef int current_must_exist() except -1:
    """RuntimeError if this thread has had no loop, is not the main one, and runs no asyncio loop.

    The main thread's loop may be asked before anything was opened in it: it is where a program's own code runs.
    """
    if getattr(_local, "had_loop", False) or host_running() is not None:
        return 0
    if PyThread_get_thread_ident() == threading.main_thread().ident:
        return 0
    raise RuntimeError(
        f"stats(): thread {threading.current_thread().name!r} has no loop: nothing was opened in it; "
        "listener.loop_stats() returns the stats of a listener's loop, in any thread"
    )


cdef ThreadLoops thread_loops():
    cdef ThreadLoops here = getattr(_local, "loops", None)
    if here is None:
        here = ThreadLoops.__new__(ThreadLoops)
        here.loops = []
        _local.loops = here
    return here


cdef Loop thread_loops_for(ThreadLoops self, object host):
    """The loop that serves `host`: the native loop's own, or one attached to it; None if there is none yet.

    host: None for this thread's own loop, which is made if needed.
    """
    cdef Loop loop = native_loop_of(host) if host is not None else None
    if loop is None:
        loop = thread_loops_find(self, host)
    return thread_loops_add(self) if loop is None and host is None else loop


cdef Loop thread_loops_add(ThreadLoops self):
    cdef Loop loop = loop_new()
    self.loops.append(loop)
    return loop


cdef Loop thread_loops_find(ThreadLoops self, object host):
    """The loop that is attached to `host`, or to no asyncio loop if that is None. Closes dead loops on the way."""
    cdef Loop loop
    for each in list(self.loops):
        loop = <Loop>each
        if loop.c.dead and (loop.c.running or loop.c.handling != 0):
            raise RuntimeError("this process was forked inside a handler: return from it first, "
                               "or start processes by multiprocessing's 'spawn' or 'forkserver'")
        if loop.c.dead and loop.c.closing:
            continue            # its end is not over yet
        if loop.c.dead:
            self.loops.remove(loop)
            loop_close(loop)
        elif host_of(loop) is host:
            return loop
    return None


cdef int thread_loops_release(Loop loop) except -1:
    """`loop` was detached and is empty. Close it if the thread has another own loop; otherwise keep it for reuse."""
    cdef ThreadLoops here = thread_loops()
    cdef Loop other
    for each in here.loops:
        other = <Loop>each
        if other is not loop and not other.c.dead and host_of(other) is None and loop in here.loops:
            here.loops.remove(loop)
            loop_close(loop)
            break
    return 0
