"""nested: an asyncio loop that is run again inside one of our handlers.

The problem: a handler may run the asyncio loop that turns ours once more (`nest_asyncio` and similar packages allow
it). That happens in the middle of our turn, and libuv forbids `uv_run` to nest. Our descriptor stays readable, so
the nested run would spin at full speed, and no event of ours that it waits for would ever happen.
The rule: a nested run that calls our Embedding ends with a RuntimeError, which is raised in the handler that began it;
the outer run continues. The Embedding is called when a descriptor of ours is ready; and when a task begins to wait for
an event of ours, a timer calls it soon, because libuv passes new sockets to the kernel only when it turns. A nested run
in which neither happens cannot be noticed, and does no harm. A native loop is our own, and refuses a nested run at
once: see selector.

Owns the check before each turn that an asyncio loop makes, and the context that turns are made in.
"""
cimport cython

from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

cdef extern from *:
    """
    /* Leave the context that this thread is in, and return it; None: it is in none. */
    static PyObject *pbt_context_leave(void) {
        PyObject *entered = PyThreadState_Get()->context;
        if (entered == NULL)
            Py_RETURN_NONE;
        Py_INCREF(entered);
        if (PyContext_Exit(entered) != 0)
            Py_CLEAR(entered);
        return entered;
    }
    """
    object pbt_context_leave()

cdef enum:
    NESTED_MILLISECONDS = 50    # after this time a nested run is noticed in which a task waits and nothing is ready


# ---------------------------------------------------------------------------- nested runs

@cython.final
@cython.internal
cdef class NestedRunEnder:
    """Ends a nested run. If that has ended already when this is called, it does nothing."""
    cdef Loop loop

    def __call__(self):
        self.loop.nested = False
        if loop_is_entered(self.loop.c):
            nested_raise(NestedLoopError)


cdef int nested_check_and_turn(Loop self, object turn_context, bint polls) except -1:
    """The asyncio loop has called us: make a turn in our own context, or end its run if it is a nested one.

    A context can be entered only once at a time. So the context in which asyncio has called us is left during the turn:
    otherwise a nested run could not call us in it, and asyncio would report this in each of its turns.
    """
    if self.c.dead:
        return 0
    if loop_is_entered(self.c):
        return nested_detected(self)
    called_in = pbt_context_leave()
    PyContext_Enter(turn_context)
    try:
        return embed_turn(self, polls)
    finally:
        PyContext_Exit(turn_context)
        if called_in is not None:
            PyContext_Enter(called_in)


cdef int nested_detected(Loop self) except -1:
    """The asyncio loop has called us in the middle of a turn or a handler."""
    cdef NestedRunEnder ending
    if not self.nested:
        ending = NestedRunEnder.__new__(NestedRunEnder)
        ending.loop = self
        host_of(self).call_soon(ending)
        self.nested = True
    return 0


cdef int nested_check_soon(Loop self) except -1:
    """A task begins to wait for an event of ours inside a turn or a handler: this may be a nested run."""
    if self.embedding != NULL:
        embed_set_timer(<Embedding>self.embedding, NESTED_MILLISECONDS)
    return 0


cdef int nested_raise(object kind) except -1:
    raise kind(
        "this asyncio loop is running already: it was run again inside a handler of pybuntcp, or in a task that "
        "one of its readers woke, and no socket of it can be served meanwhile. Make the handler async and await "
        "there, or run the coroutine in a task or in another thread"
    )
