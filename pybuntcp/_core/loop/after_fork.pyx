"""after_fork: what a forked child does with the loops that it inherits.

The problem: the child has copies of all loops, of their sockets and of their epoll instances, which are shared with the
parent: epoll_ctl in the child changes what the parent waits for. Python's wakeup descriptor is a pipe that the parent
reads. And only one thread exists in the child; the others may have been in the middle of anything.
The rule, in a hook that Python calls in the child before fork returns (`_abandon_after_fork`):

    Python's wakeup descriptor is one of ours       it is unset
    a loop that no thread was turning               it gets an epoll instance of its own, then it is abandoned
    a loop that this thread is turning              the same; its turn ends as soon as the handler that forked returns
    a loop that another thread was turning          it is orphaned: never used or freed; its descriptors are closed
                                                    by number (see base/descriptors)
    asyncio loops: native ones, and stock ones
    to which a loop was attached                    they get a new selector

After that this thread has no loop, and makes a new one when it opens something. While it is inside the handler that
forked, opening something is a RuntimeError (see current).

Promises that the child touches neither the parent's epoll instance nor the parent's asyncio loop, and that it closes
what it inherited without a byte to any peer.
"""
import os
import signal
from atexit import register as _at_exit

from cpython.pythread cimport PyThread_get_thread_ident

from pybuntcp._c cimport net, uv


cdef void loop_renew_after_fork(loop_t* self) noexcept:
    """In a forked child: give the loop an epoll instance of its own, and leave the one alone that the parent shares.

    `loop_close` calls this, too, because in a child Python destroys the thread-local storage of the other threads, and
    with it their loops, before any hook of ours runs.
    """
    if self.process != net.getpid():
        self.process = net.getpid()
        uv.uv_loop_fork(&self.uv)
        net.pbt_watch_renew(self.writable_watch)


def _abandon_after_fork():
    """In a forked child: end all inherited loops. No connection of the parent's is written to or reset."""
    cdef Loop loop
    cdef bint turning = False
    cdef list loops = loops_alive()
    loop_wakeup_fd_after_fork(loops)
    for loop in loops:
        if loop_after_fork(loop):
            turning = True
    native_loops_after_fork()
    descriptors_close_inherited()     # of orphaned loops
    if not turning:
        _local.loops = None


cdef bint loop_after_fork(Loop self) except -1:
    """Abandon or orphan one loop. True: this thread is turning it."""
    cdef loop_t* c = self.c
    cdef bint turning = c.running or c.handling != 0
    if c.orphaned:
        return False            # an earlier fork has orphaned it
    if turning and c.thread != PyThread_get_thread_ident():
        loop_orphan(self)
        return False
    loop_bind_thread(self)      # this is the only thread
    if c.closed:
        return False
    embed_after_fork(self)
    embed_detach(self, False)
    loop_renew_after_fork(c)
    c.closing = True            # finalizers run in here, and must not close it before all of its handles are closed
    loop_abandon(c)
    c.closing = False
    if turning:
        uv.uv_stop(&c.uv)
    return turning


cdef int loop_wakeup_fd_after_fork(list loops) except -1:
    """Unset Python's wakeup descriptor if it is one of ours: the parent reads the other end of that pipe."""
    cdef Loop loop
    cdef int current = signal.set_wakeup_fd(-1) if signals_may_watch() else -1
    if current == -1:
        return 0
    for loop in loops:
        if not loop.c.closed and (loop.c.wakeup[1] == current or host_owns_wakeup_fd(loop, current)):
            return 0
    wakeup_fd_set(current)         # other code has set this one: keep it
    return 0


cdef int loop_orphan(Loop self) except -1:
    """The thread that was turning the loop does not exist here, and the loop's memory may be inconsistent."""
    self.c.dead = self.c.closed = self.c.orphaned = True
    self.c.thread = 0           # a new thread may get the identifier of the old one
    Py_INCREF(self)             # it is never freed
    return 0


_at_exit(_close_at_exit)
os.register_at_fork(after_in_child=_abandon_after_fork)
