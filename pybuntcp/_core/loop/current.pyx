"""current: which loop is here, and how a loop ends.

A socket belongs to the loop it was opened in. That is the running asyncio loop's, if there is
one: a native loop has its own (see selector), any other is lent one (see embed); else it is
the one that `run` turns. `ThreadLoops` is a thread's hold on its loops: they close with the thread.

A loop that has nothing open and belongs to no asyncio loop is the thread's own, so that most
threads have one; there are more while several asyncio loops have sockets open at a time.

Promises: a loop that ends calls no handler and writes no byte; a forked child gives back what
it inherited and touches neither the parent's epoll instance nor the parent's asyncio loop.
"""
cimport cython
import threading


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
    """The loop that what is opened now belongs to, made when first asked for."""
    cdef object host = host_running()
    cdef ThreadLoops here = thread_loops()
    cdef Loop loop = thread_loops_for(here, host)
    if loop is None:
        loop = thread_loops_for(here, None)
        if loop.c.running or not loop_is_empty(loop.c):
            loop = thread_loops_add(here)
        embed_attach(loop, host)
    return loop


cdef Loop current_loop_peek():
    """As `current_loop`, for who only looks: nothing is attached to an asyncio loop."""
    cdef ThreadLoops here = thread_loops()
    cdef Loop loop = thread_loops_for(here, host_running())
    return thread_loops_for(here, None) if loop is None else loop


cdef ThreadLoops thread_loops():
    cdef ThreadLoops here = getattr(_local, "loops", None)
    if here is None:
        here = ThreadLoops.__new__(ThreadLoops)
        here.loops = []
        _local.loops = here
    return here


cdef Loop thread_loops_for(ThreadLoops self, object host):
    """The loop inside an asyncio loop, or lent to it; None: there is none. Without one, that which `run` turns."""
    cdef Loop loop = native_loop_of(host) if host is not None else None
    if loop is None:
        loop = thread_loops_find(self, host)
    return thread_loops_add(self) if loop is None and host is None else loop


cdef Loop thread_loops_add(ThreadLoops self):
    cdef Loop loop = loop_new()
    self.loops.append(loop)
    return loop


cdef Loop thread_loops_find(ThreadLoops self, object host):
    """The loop that an asyncio loop, or none, turns. Dead ones are forgotten on the way."""
    cdef Loop loop
    for each in list(self.loops):
        loop = <Loop>each
        if loop.c.dead and (loop.c.running or loop.c.handling != 0):
            raise RuntimeError("this process was forked inside a handler: return from it first, "
                               "or start processes by multiprocessing's 'spawn' or 'forkserver'")
        if loop.c.dead:
            self.loops.remove(loop)
            loop_close(loop)
        elif host_of(loop) is host:
            return loop
    return None


cdef int thread_loops_release(Loop loop) except -1:
    """No asyncio loop turns it any more, and nothing is open in it: one such is enough."""
    cdef ThreadLoops here = thread_loops()
    cdef Loop other
    for each in here.loops:
        other = <Loop>each
        if other is not loop and not other.c.dead and host_of(other) is None and loop in here.loops:
            here.loops.remove(loop)
            loop_close(loop)
            break
    return 0


# ---------------------------------------------------------------------------- the end
