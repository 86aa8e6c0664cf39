"""tenancy: which loop is here, and how a loop ends.

A socket belongs to the loop it was opened in. That is the running asyncio loop's, if there is
one: a native loop has its own (see selector), any other is lent one (see embed); else it is
the one that `run` turns. `Tenancy` is a thread's hold on its loops: they close with the thread.

A loop that has nothing open and belongs to no asyncio loop is the thread's own, so that most
threads have one; there are more while several asyncio loops have sockets open at a time.

Promises: a loop that ends calls no handler and writes no byte; a forked child gives back what
it inherited and touches neither the parent's epoll instance nor the parent's asyncio loop.
"""
cimport cython
import os
import signal
import threading
import warnings
from atexit import register as _at_exit

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_CLEAR
from libc.stdlib cimport free

from pybuntcp._c cimport net, uv


@cython.final
@cython.no_gc
@cython.internal
cdef class Tenancy:
    """The loops of a thread, in thread-local storage."""
    cdef list loops

    def __dealloc__(self):
        for loop in self.loops:
            loop_close(<Loop>loop)


cdef object _local = threading.local()


cdef Loop loop_here():
    """The loop that what is opened now belongs to, made when first asked for."""
    cdef object host = host_running()
    cdef Tenancy tenancy = tenancy_here()
    cdef Loop loop = tenancy_of(tenancy, host)
    if loop is None:
        loop = tenancy_of(tenancy, None)
        if loop.c.running or not loop_is_empty(loop.c):
            loop = tenancy_add(tenancy)
        embed_attach(loop, host)
    return loop


cdef Loop loop_to_ask():
    """As `loop_here`, for who only looks: nothing is attached to an asyncio loop."""
    cdef Tenancy tenancy = tenancy_here()
    cdef Loop loop = tenancy_of(tenancy, host_running())
    return tenancy_of(tenancy, None) if loop is None else loop


cdef Tenancy tenancy_here():
    cdef Tenancy tenancy = getattr(_local, "tenancy", None)
    if tenancy is None:
        tenancy = Tenancy.__new__(Tenancy)
        tenancy.loops = []
        _local.tenancy = tenancy
    return tenancy


cdef Loop tenancy_of(Tenancy self, object host):
    """The loop inside an asyncio loop, or lent to it; None: there is none. Without one, that which `run` turns."""
    cdef Loop loop = native_loop(host) if host is not None else None
    if loop is None:
        loop = tenancy_find(self, host)
    return tenancy_add(self) if loop is None and host is None else loop


cdef Loop tenancy_add(Tenancy self):
    cdef Loop loop = loop_new()
    self.loops.append(loop)
    return loop


cdef Loop tenancy_find(Tenancy self, object host):
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
        elif loop_host(loop) is host:
            return loop
    return None


cdef int tenancy_release(Loop loop) except -1:
    """No asyncio loop turns it any more, and nothing is open in it: one such is enough."""
    cdef Tenancy tenancy = tenancy_here()
    cdef Loop other
    for each in tenancy.loops:
        other = <Loop>each
        if other is not loop and not other.c.dead and loop_host(other) is None and loop in tenancy.loops:
            tenancy.loops.remove(loop)
            loop_close(loop)
            break
    return 0


# ---------------------------------------------------------------------------- the end

cdef void loop_abandon(loop_t* self) noexcept:
    """Close every handle without calling a handler or writing a byte."""
    if not self.dead:
        self.dead = True
        self.late.count = 0
        up.forsaken(self)
        uv.uv_walk(&self.uv, on_abandon, self)


cdef void on_abandon(uv.uv_handle_t* handle, void* loop) noexcept nogil:
    cdef loop_t* self = <loop_t*>loop
    if uv.uv_is_closing(handle):
        return
    if loop_owns(self, handle):
        uv.uv_close(handle, NULL)
    else:
        up.abandoned(handle)


cdef int loop_close_under(Loop owner) except -1:
    """The asyncio loop that turned it was closed: a ResourceWarning for each thing left open."""
    cdef list unclosed = []
    if owner.c.stranded:
        return 0
    loop_belong_here(owner)         # whichever thread closes it, it is nobody else's now
    up.unclosed(owner.c, unclosed)
    texts = [f"unclosed {each!r}" for each in unclosed]     # as they are now
    loop_close(owner)
    for text, each in zip(texts, unclosed):
        try:
            warnings.warn(text, ResourceWarning, source=each)
        except ResourceWarning as error:
            report_unraisable(error, each)
    return 0


cdef void loop_own_after_fork(loop_t* self) noexcept:
    """An epoll instance is shared over fork: leave the parent's alone, take a new one.

    Asked before a loop is closed, too: in a child Python ends the other threads' storage, and
    so their loops, before any hook of ours runs.
    """
    if self.process != net.getpid():
        self.process = net.getpid()
        uv.uv_loop_fork(&self.uv)
        net.pbt_watch_renew(self.watch)


cdef int loop_close(Loop owner) except -1:
    """Close what is left and give everything back but `loop_t` itself."""
    cdef loop_t* self = owner.c
    cdef size_t i
    if self.closed or self.closing or self.running or self.handling != 0:
        return 0
    self.closing = True         # finalizers run meanwhile, and may ask for this thread's loop
    embed_forget(owner, self.process == net.getpid())
    loop_own_after_fork(self)
    loop_abandon(self)
    while uv.uv_run(&self.uv, uv.UV_RUN_NOWAIT) != 0:
        pass
    gil_take(self)
    owner.leaving.clear()
    self.slab = NULL
    Py_CLEAR(self.slab_owner)
    for i in range(self.spares):
        free(self.spare[i])
    free(self.dirty.at)
    free(self.late.at)
    free(self.held.at)
    free(self.room.out)
    free(self.room.plain)
    wakeup_give_back(self)
    for i in range(2):
        if self.wakeup[i] >= 0:
            net.close(self.wakeup[i])
    net.close(self.watch)
    self.closed = True
    uv.uv_loop_close(&self.uv)
    return 0


def _close_at_exit():
    """The main thread's loop goes with the interpreter, unix socket files included."""
    _local.tenancy = None


def _abandon_after_fork():
    """In the child: what the parent had open is the parent's. Nothing is written or reset.

    A loop that is turning right now (fork inside a handler) ends with this turn.
    """
    cdef Loop loop
    cdef bint turning = False
    cdef list loops = list(_loops)
    wakeup_inherit(loops)
    for loop in loops:
        if loop_inherit(loop):
            turning = True
    natives_inherit()
    descriptors_give_back()     # those of stranded loops
    if not turning:
        _local.tenancy = None


cdef bint loop_inherit(Loop self) except -1:
    """Abandon it. True: this thread turns it right now."""
    cdef loop_t* c = self.c
    cdef bint turning = c.running or c.handling != 0
    if c.stranded:
        return False            # by an earlier fork
    if turning and c.thread != PyThread_get_thread_ident():
        loop_strand(self)
        return False
    loop_belong_here(self)      # there is no other thread
    if c.closed:
        return False
    host_inherit(self)
    embed_forget(self, False)
    loop_own_after_fork(c)
    loop_abandon(c)
    if turning:
        uv.uv_stop(&c.uv)
    return turning


cdef int wakeup_inherit(list loops) except -1:
    """A signal for the child must not be told to the parent, which reads the other end of that pipe."""
    cdef Loop loop
    cdef int current = signal.set_wakeup_fd(-1) if signals_come_here() else -1
    if current == -1:
        return 0
    for loop in loops:
        if not loop.c.closed and (loop.c.wakeup[1] == current or host_hears_signals(loop, current)):
            return 0
    wakeup_set(current)         # somebody else's
    return 0


cdef int loop_strand(Loop self) except -1:
    """Its thread was in the middle of something and is not here: nothing of it is used, or freed, ever."""
    self.c.dead = self.c.closed = self.c.stranded = True
    self.c.thread = 0           # the next thread may be given the number of that one
    Py_INCREF(self)
    return 0


_at_exit(_close_at_exit)
os.register_at_fork(after_in_child=_abandon_after_fork)
