"""nested: exceptions of handlers that come out of an asyncio loop, which catches what its callbacks raise.

One is what a handler raised to stop the loop. The other ends a nested run. The problem: a handler runs the
asyncio loop that turns us once more (`nest_asyncio` and its like allow that), in the middle of our turn, which
libuv forbids to nest. Our descriptor stays readable, so the nested run would go round and round at full speed,
and nothing of ours that it waits for would ever come.
The rule: a nested run that comes to us ends with a RuntimeError, in the handler that began it; the outer one
goes on. It comes to us when anything of ours is ready; and soon, by a timer, when a task in there begins to wait
for us, since libuv tells the kernel of new sockets only when it turns. A nested run that does neither is left
alone: nothing is known of it. A native loop is ours, and refuses at once: see selector.
"""
cimport cython

from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

cdef extern from *:
    """
    /* The context that this thread is in, left; None: it is in none. */
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
    NESTED_MILLISECONDS = 50    # so late is a nested run noticed to which nothing comes


# ---------------------------------------------------------------------------- nested runs

@cython.final
@cython.internal
cdef class NestedRunEnder:
    """Ends a nested run; called when that one has ended already, it does nothing."""
    cdef Loop loop

    def __call__(self):
        self.loop.nested = False
        if loop_is_entered(self.loop.c):
            nested_raise(NestedLoopError)


cdef int nested_check_and_turn(Loop self, object turn_context) except -1:
    """The asyncio loop has called: a turn in a context of ours, `turn_context`; or, in the middle of one, the end of its run.

    A context can be entered once at a time. The one that we are called in is left meanwhile: a nested run could not
    call us otherwise, and asyncio would report that at each of its turns.
    """
    if self.c.dead:
        return 0
    if loop_is_entered(self.c):
        return nested_detected(self)
    called_in = pbt_context_leave()
    PyContext_Enter(turn_context)
    try:
        return embed_turn(self)
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
    """A task begins to wait for us, maybe in a nested run."""
    if self.embedding != NULL:
        embed_set_timer(<Embedding>self.embedding, NESTED_MILLISECONDS)
    return 0


cdef int nested_raise(object kind) except -1:
    raise kind(
        "this asyncio loop is running already: it was run again inside a handler of pybuntcp, or in a task that "
        "one of its readers woke, and no socket of it can be served meanwhile. Make the handler async and await "
        "there, or run the coroutine in a task or in another thread"
    )
