"""gil: when the thread of a loop holds the GIL.

The problem: a loop that waits must not hold the GIL, handlers in Python need it, and Cython slots do not. The naive
answer, `with gil` around each handler, costs a hand-over for each event.
The rule: the GIL is released once in a turn at most, before the poll (`gil_release`), and taken once at most, by the
first adapter that needs Python (`gil_take`). It is then kept until the next poll. So a turn of five hundred Python
events costs one hand-over, and a turn of Cython slots none. A loop that is embedded in an asyncio loop never waits in a
turn, and never releases the GIL.

The loop itself borrows it when its memory for reads grows or shrinks (`gil_borrow`), which is once in a while.

Promises that code below the adapters may call `gil_take` at any time in a turn. Code that a verb runs must not call it,
because the caller of the verb may have released the GIL itself; such functions are declared `with gil`.
"""
cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030D0000
    #define PyThreadState_GetUnchecked _PyThreadState_UncheckedGet
    #endif
    """
    ctypedef struct PyThreadState:
        pass
    PyThreadState* PyThreadState_GetUnchecked() nogil
    PyThreadState* PyEval_SaveThread() nogil
    void PyEval_RestoreThread(PyThreadState*) nogil


cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    enum { PBT_HAS_GIL = 0 };
    #else
    enum { PBT_HAS_GIL = 1 };
    #endif
    """
    enum: PBT_HAS_GIL


cdef inline bint loop_may_look(loop_t* self) noexcept:
    """May this thread read objects that the loop's thread replaces? Where there is a GIL, any thread may that holds it."""
    return PBT_HAS_GIL or PyThread_get_thread_ident() == self.thread


cdef inline void gil_take(loop_t* self) noexcept nogil:
    """From here to the next poll this thread holds the GIL."""
    if self.parked != NULL:
        gil_unpark(self)


cdef inline bint gil_borrow(loop_t* self) noexcept nogil:
    """Take it for a moment, where slots may be next that run without it. True: `gil_release` gives it back."""
    cdef bint parked = self.parked != NULL
    gil_take(self)
    return parked and self.parked == NULL


cdef void gil_unpark(loop_t* self) noexcept nogil:
    if PyThreadState_GetUnchecked() == self.parked:
        return      # a slot has taken the GIL by `with gil`, and releases it itself
    PyEval_RestoreThread(self.parked)
    self.parked = NULL
    self.signal_pending = True
    stats_add(&self.count.gil_takes, 1)


cdef inline void gil_release(loop_t* self) noexcept nogil:
    """The poll is next. An asyncio loop's turns do not wait, so it keeps the GIL."""
    if self.parked == NULL and not self.embedded:
        self.parked = PyEval_SaveThread()
