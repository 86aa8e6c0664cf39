"""threadsafe: a function that any thread may call, and that makes a loop call another one.

Owns `ThreadsafeCallback`. It keeps `run()` going while it is open, unless it was unreferenced. It ends when it is closed,
when nobody refers to it any more, and with its loop.
Promises that what was posted before `close` runs, and that a call never blocks: see loop/posts.
"""
cimport cython
from contextvars import copy_context

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdlib cimport calloc, free


cdef struct py_post_t:
    post_t post         # first
    PyObject* target    # owned: the ThreadsafeCallback; NULL: that is gone
    PyObject* args      # owned: a tuple; NULL: it is closed by this post
    bint unreferenced   # if that is gone


@cython.final
cdef class ThreadsafeCallback:
    """A function that any thread may call: made by `threadsafe`.

    A call returns None at once, and the loop calls the callback with the same arguments. The calls of one thread keep
    their order. Errors: RuntimeError when it was closed, when the loop has ended, and in a forked child.
    """
    cdef port_t* port           # counted
    cdef Loop loop              # keeps the loop's memory
    cdef object callback        # None: closed
    cdef object vars
    cdef bint closed            # guarded by the port's lock
    cdef bint ended             # the loop has noticed
    cdef bint unreferenced

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self, made=None):
        if made is not _uninitialised:
            raise TypeError("such callables are made by threadsafe()")

    def __dealloc__(self):
        if self.port != NULL:
            posting_forget(self)
            port_release(self.port)

    def __call__(self, *args):
        posting_post(self, args)

    def close(self):
        """Accept no more calls: they raise RuntimeError from now on. Those that were made before are carried out.

        May be called in any thread, more than once, and by the callback. `with threadsafe(...) as call:` closes it, too.
        """
        if not self.closed:
            posting_close(self)

    def ref(self):
        """Make it keep `run()` going while it is open (the default). Only in the loop's thread."""
        if loop_check(self.loop.c) and self.unreferenced and not self.ended:
            self.unreferenced = False
            loop_ref(self.loop.c)

    def unref(self):
        """Let `run()` return even if it is open. Only in the loop's thread."""
        if loop_check(self.loop.c) and not self.unreferenced and not self.ended:
            self.unreferenced = True
            loop_unref(self.loop.c)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        with cython.critical_section(self):
            callback = self.callback
        return f"<pybuntcp.ThreadsafeCallback{' closed' if self.closed else ''} of {callback!r}>"


def threadsafe(callback):
    """Make a function that any thread and any Python signal handler may call; this thread's loop then calls `callback`.

    Each call returns at once. For each, the loop calls `callback` once with the same positional arguments, in its own
    thread, even if it was waiting; inside asyncio that is the running loop. The calls of one thread keep their order. The
    callback runs in the context (`contextvars`) that is current now. Everything else is as for `call_later`.

    The result has `close()`, `ref()` and `unref()`. It keeps `run()` going until it is closed, or until it is no longer
    referenced.

    Errors: TypeError for a callback that cannot be called, or that is an `async def` function. Of the result: RuntimeError
    once it is closed or the loop has ended. Source: asyncio's `loop.call_soon_threadsafe`; Node-API's thread-safe functions.
    """
    callback_check(callback)
    cdef ThreadsafeCallback self = ThreadsafeCallback.__new__(ThreadsafeCallback, _uninitialised)
    self.loop = current_loop()
    if self.loop.c.port == NULL:
        raise MemoryError()
    self.callback, self.vars = callback, copy_context()
    self.port = port_keep(self.loop.c.port)
    port_opened(self.loop.c)
    return self


cdef int posting_post(ThreadsafeCallback self, tuple args) except -1:
    cdef py_post_t* made = <py_post_t*>calloc(1, sizeof(py_post_t))
    if made == NULL:
        raise MemoryError()
    made.post.run, made.post.drop = py_posted, py_post_dropped
    made.target, made.args = <PyObject*>self, <PyObject*>args
    Py_INCREF(self)
    Py_INCREF(args)
    if not port_put(self.port, &made.post, &self.closed, False):
        Py_DECREF(self)
        Py_DECREF(args)
        free(made)
        posting_refuse(self)
    return 0


cdef int posting_refuse(ThreadsafeCallback self) except -1:
    if port_is_inherited(self.port):
        raise RuntimeError("this callable of threadsafe() belongs to the parent process")
    if self.closed:
        raise RuntimeError("this callable of threadsafe() is closed")
    raise RuntimeError("the loop of this callable of threadsafe() has ended")


cdef int posting_close(ThreadsafeCallback self) except -1:
    cdef py_post_t* made
    if port_close_now(self.port, &self.closed, PyThread_get_thread_ident()):
        return posting_end(self, self.loop.c)
    made = <py_post_t*>calloc(1, sizeof(py_post_t))
    if made == NULL:
        raise MemoryError()
    made.post.run, made.post.drop = py_posted, py_post_dropped
    made.target = <PyObject*>self
    Py_INCREF(self)
    if not port_put(self.port, &made.post, &self.closed, True):
        Py_DECREF(self)
        free(made)
        if self.port.loop == NULL:          # it has ended, and calls nothing any more
            posting_clear(self)
    return 0


cdef int posting_end(ThreadsafeCallback self, loop_t* loop) except -1:
    """In the loop's thread: it is closed, and all its calls were carried out."""
    self.ended = True
    port_closed(loop, self.unreferenced)
    return posting_clear(self)


cdef int posting_clear(ThreadsafeCallback self) except -1:
    """Drop the callback. Several threads may do this at once, when the loop has ended."""
    with cython.critical_section(self):
        self.callback = self.vars = None
    return 0


cdef void posting_forget(ThreadsafeCallback self) noexcept:
    """Nobody refers to it any more, in whatever thread this is. No call of it waits: that would refer to it."""
    cdef py_post_t* made
    cdef loop_t* loop = self.port.loop
    if self.ended or port_is_inherited(self.port) or loop == NULL:
        return
    if port_close_now(self.port, &self.closed, PyThread_get_thread_ident()):
        port_closed(loop, self.unreferenced)
        return
    made = <py_post_t*>calloc(1, sizeof(py_post_t))
    if made == NULL:
        return                  # the loop stays referenced
    made.post.run, made.post.drop = py_posted, py_post_dropped
    made.unreferenced = self.unreferenced
    if not port_put(self.port, &made.post, &self.closed, True):
        free(made)


cdef void py_posted(loop_t* loop, post_t* post) noexcept nogil:
    gil_take(loop)
    (<post_fn><void*>call_posted)(loop, post)


cdef void py_post_dropped(loop_t* loop, post_t* post) noexcept nogil:
    gil_take(loop)
    (<post_fn><void*>call_post_dropped)(loop, post)


cdef void call_posted(loop_t* loop, post_t* post) noexcept:
    cdef py_post_t* self = <py_post_t*>post
    cdef ThreadsafeCallback target = None
    cdef object args = None
    cdef bint unreferenced = self.unreferenced
    if self.target != NULL:
        target = <ThreadsafeCallback>self.target
        Py_DECREF(target)
    if self.args != NULL:
        args = <object>self.args
        Py_DECREF(args)
    free(self)
    if loop.signal_pending:
        signals_deliver(loop)
    if target is None:
        port_closed(loop, unreferenced)
    elif args is None:
        posting_end(target, loop)
    else:
        callback_run(<Loop>loop.owner, "threadsafe", target.vars, target.callback, args)


cdef void call_post_dropped(loop_t* loop, post_t* post) noexcept:
    """The loop has ended, and with it all that it counts."""
    cdef py_post_t* self = <py_post_t*>post
    cdef object target = None if self.target == NULL else <object>self.target
    cdef object args = None if self.args == NULL else <object>self.args
    if target is not None:
        Py_DECREF(target)
    if args is not None:
        Py_DECREF(args)
    free(self)
