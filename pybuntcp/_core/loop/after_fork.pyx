"""after_fork: what a forked child does with the loops that it inherited.

Promises: the child touches neither the parent's epoll instance nor the parent's asyncio loop, and gives back what it
inherited without a byte to any peer.
"""
import os
import signal
from atexit import register as _at_exit

from cpython.pythread cimport PyThread_get_thread_ident

from pybuntcp._c cimport net, uv


cdef void loop_renew_after_fork(loop_t* self) noexcept:
    """An epoll instance is shared over fork: leave the parent's alone, take a new one.

    Asked before a loop is closed, too: in a child Python ends the other threads' storage, and
    so their loops, before any hook of ours runs.
    """
    if self.process != net.getpid():
        self.process = net.getpid()
        uv.uv_loop_fork(&self.uv)
        net.pbt_watch_renew(self.writable_watch)


def _abandon_after_fork():
    """In the child: what the parent had open is the parent's. Nothing is written or reset.

    A loop that is turning right now (fork inside a handler) ends with this turn.
    """
    cdef Loop loop
    cdef bint turning = False
    cdef list loops = list(_loops)
    loop_wakeup_fd_after_fork(loops)
    for loop in loops:
        if loop_after_fork(loop):
            turning = True
    native_loops_after_fork()
    descriptors_close_inherited()     # those of stranded loops
    if not turning:
        _local.loops = None


cdef bint loop_after_fork(Loop self) except -1:
    """Abandon it. True: this thread turns it right now."""
    cdef loop_t* c = self.c
    cdef bint turning = c.running or c.handling != 0
    if c.orphaned:
        return False            # by an earlier fork
    if turning and c.thread != PyThread_get_thread_ident():
        loop_orphan(self)
        return False
    loop_bind_thread(self)      # there is no other thread
    if c.closed:
        return False
    embed_after_fork(self)
    embed_detach(self, False)
    loop_renew_after_fork(c)
    loop_abandon(c)
    if turning:
        uv.uv_stop(&c.uv)
    return turning


cdef int loop_wakeup_fd_after_fork(list loops) except -1:
    """A signal for the child must not be told to the parent, which reads the other end of that pipe."""
    cdef Loop loop
    cdef int current = signal.set_wakeup_fd(-1) if signals_may_watch() else -1
    if current == -1:
        return 0
    for loop in loops:
        if not loop.c.closed and (loop.c.wakeup[1] == current or host_owns_wakeup_fd(loop, current)):
            return 0
    wakeup_fd_set(current)         # somebody else's
    return 0


cdef int loop_orphan(Loop self) except -1:
    """Its thread was in the middle of something and is not here: nothing of it is used, or freed, ever."""
    self.c.dead = self.c.closed = self.c.orphaned = True
    self.c.thread = 0           # the next thread may be given the number of that one
    Py_INCREF(self)
    return 0


_at_exit(_close_at_exit)
os.register_at_fork(after_in_child=_abandon_after_fork)
