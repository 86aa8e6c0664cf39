"""closing: how a loop ends.

A loop ends in one of four ways:

    its thread ends                 ThreadLoops.__dealloc__ (see current)       loop_close
    the interpreter exits           _close_at_exit                              loop_close
    its asyncio loop is closed      Embedding.__del__, Selector.close           loop_close_with_host, with warnings
    a forked child inherits it      loop_after_fork (see after_fork)            loop_abandon, later loop_close

The problem: sockets may be open then, and nobody will turn the loop to flush them or to call their handlers.
The rule: `loop_abandon` marks the loop as dead and closes every handle, so that no handler is called and no byte is
written; `loop_close` then turns the loop until libuv has no handle left, and frees all but `loop_t` itself. That is
freed with its owner, the `Loop`, to which a `Listener` that a program kept still refers. A loop that is being turned is
not closed, because the code that turns it would use freed memory. Cython's slots have one exception: `abandoned`, which is
called before anything is closed, so that they forget pointers, and send or free what is theirs.

Promises a ResourceWarning for all that is open in a loop whose asyncio loop is closed.
Does not know sockets: the layers above close theirs by the table of upcalls.
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
        timers_abandon(self)
        port_close(self)
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
    """The asyncio loop that turned this loop was closed: emit a ResourceWarning for all that is open, then close."""
    cdef list unclosed = []
    if owner.c.orphaned:
        return 0
    loop_bind_thread(owner)         # the thread that closes an asyncio loop may be another than that which ran it
    upcalls.list_unclosed(owner.c, unclosed)
    texts = [f"unclosed {each!r}" for each in unclosed]     # made before loop_close, after which each is closed
    loop_close(owner)
    for text, each in zip(texts, unclosed):
        loop_warn(text, each, each)
    return 0


cdef int loop_warn(str text, object source, object where) except -1:
    """A ResourceWarning, which is reported if a filter makes it an exception: nobody could catch that."""
    try:
        warnings.warn(text, ResourceWarning, source=source)
    except ResourceWarning as error:
        report_error(text, error, where, None)
    return 0


cdef int loop_warn_forgotten(Loop owner, str what_to_do) except -1:
    """A ResourceWarning, once, if something referenced is open in a thread's own loop, and nobody has ever turned that."""
    cdef loop_t* c = owner.c
    cdef list unclosed = []
    if c.count.turns != 0 or c.references == 0 or c.embedded or c.dead or c.warned or c.process != net.getpid():
        return 0
    c.warned = True
    upcalls.list_unclosed(c, unclosed)
    first = f"{unclosed[0]!r} is" if unclosed else "timers or callables of threadsafe() are"
    others = f", with {len(unclosed) - 1} more" if len(unclosed) > 1 else ""
    text = f"{first} open{others}, and nothing turns the loop: {what_to_do}"
    return loop_warn(text, unclosed[0] if unclosed else None, owner)


cdef int loop_close(Loop owner) except -1:
    """Close all handles and free everything except `loop_t` itself. Does nothing while the loop is being turned."""
    cdef loop_t* self = owner.c
    cdef size_t i
    if self.closed or self.closing or self.running or self.handling != 0:
        return 0
    self.closing = True         # finalizers run in here, and may close this thread's dead loops, this one among them
    embed_detach(owner, self.process == net.getpid())
    if not self.dead and self.process == net.getpid():
        self.running = True     # what slots call must not turn it
        upcalls.tell_abandoned(self)
        self.running = False
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
    """At exit: close the main thread's loops, which also removes the files of their unix sockets.

    A thread that ends with something open warns nobody: it may have been meant to serve for a while.
    """
    for loop in thread_loops().loops:
        loop_warn_forgotten(<Loop>loop, "call pybuntcp.run()")
    _local.loops = None
