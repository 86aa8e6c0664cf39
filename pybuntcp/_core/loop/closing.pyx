"""closing: how a loop ends.

Promises: a loop that ends calls no handler and writes no byte; what was left open in a loop whose asyncio loop was
closed is warned of.
"""
import warnings

from cpython.ref cimport Py_CLEAR
from libc.stdlib cimport free

from pybuntcp._c cimport net, uv


cdef void loop_abandon(loop_t* self) noexcept:
    """Close every handle without calling a handler or writing a byte."""
    if not self.dead:
        self.dead = True
        self.turn_flush.count = 0
        upcalls.abandon_rest(self)
        uv.uv_walk(&self.uv, on_abandon, self)


cdef void on_abandon(uv.uv_handle_t* handle, void* loop) noexcept nogil:
    cdef loop_t* self = <loop_t*>loop
    if uv.uv_is_closing(handle):
        return
    if loop_owns(self, handle):
        uv.uv_close(handle, NULL)
    else:
        upcalls.abandon_handle(handle)


cdef int loop_close_with_host(Loop owner) except -1:
    """The asyncio loop that turned it was closed: a ResourceWarning for each thing left open."""
    cdef list unclosed = []
    if owner.c.orphaned:
        return 0
    loop_bind_thread(owner)         # whichever thread closes it, it is nobody else's now
    upcalls.list_unclosed(owner.c, unclosed)
    texts = [f"unclosed {each!r}" for each in unclosed]     # as they are now
    loop_close(owner)
    for text, each in zip(texts, unclosed):
        try:
            warnings.warn(text, ResourceWarning, source=each)
        except ResourceWarning as error:
            report_unraisable(error, each)
    return 0


cdef int loop_close(Loop owner) except -1:
    """Close what is left and give everything back but `loop_t` itself."""
    cdef loop_t* self = owner.c
    cdef size_t i
    if self.closed or self.closing or self.running or self.handling != 0:
        return 0
    self.closing = True         # finalizers run meanwhile, and may ask for this thread's loop
    embed_detach(owner, self.process == net.getpid())
    loop_renew_after_fork(self)
    loop_abandon(self)
    while uv.uv_run(&self.uv, uv.UV_RUN_NOWAIT) != 0:
        pass
    gil_take(self)
    owner.close_waiters.clear()
    self.slab = NULL
    Py_CLEAR(self.slab_owner)
    for i in range(self.spares):
        free(self.spare[i])
    free(self.handler_flush.at)
    free(self.turn_flush.at)
    free(self.deferred_input.at)
    free(self.scratch.out)
    free(self.scratch.plain)
    wakeup_fd_restore(self)
    for i in range(2):
        if self.wakeup[i] >= 0:
            net.close(self.wakeup[i])
    net.close(self.writable_watch)
    self.closed = True
    uv.uv_loop_close(&self.uv)
    return 0


def _close_at_exit():
    """The main thread's loop goes with the interpreter, unix socket files included."""
    _local.loops = None
