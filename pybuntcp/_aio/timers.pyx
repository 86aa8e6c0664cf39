"""timers: the calls that wait for their time, `loop._scheduled`.

It is a list of handles that is a heap by their time, as asyncio's own: asyncio's code, tests and tools look into it and push on
it. Here heapq's steps are made on floats where they lie; heapq itself would call `TimerHandle.__lt__`, which is Python. The
steps are the same ones, so that timers of the same time are called in the order in which asyncio calls them.

The problem: most timers are cancelled, and to find one in a heap takes a search. The rule, which is asyncio's: they stay,
empty, until they are more than those that wait, and more than IDLE_TIMERS. Then those that wait get another list, and nobody
who goes through the old one is disturbed. asyncio looks at it once a turn. Here each `cancel` does, so that 100,000 timers that
one callback starts and cancels are no memory.
"""
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject

cdef extern from *:
    """
    /* The references stay as many as they were. */
    static inline void pbt_list_swap(PyObject* list, Py_ssize_t a, Py_ssize_t b) {
        PyObject* held = PyList_GET_ITEM(list, a);
        PyList_SET_ITEM(list, a, PyList_GET_ITEM(list, b));
        PyList_SET_ITEM(list, b, held);
    }
    """
    void pbt_list_swap(list items, Py_ssize_t a, Py_ssize_t b) noexcept

cdef enum:
    IDLE_TIMERS = 100       # cancelled ones that are kept in any case


cdef inline list timers_of(Scheduler loop):
    """The heap. TypeError: a program has put something else in its place while a turn waited (see `stock` in scheduling)."""
    if type(loop.scheduled) is not list:
        raise TypeError(f"_scheduled must be a list, not {type(loop.scheduled).__name__!r}")
    return <list>loop.scheduled


cdef inline bint timer_has_float(object handle) noexcept:
    """False: its time is an int, or whatever a program has given. Then asyncio's comparisons are made, which may run any code."""
    cdef PyObject* when = pbt_slot(handle, handle_slots.when) if isinstance(handle, timer_base) else NULL
    return when != NULL and type(<object>when) is float


cdef inline double timer_when(object handle) noexcept:
    """When it is due, in seconds of the loop's clock, if that is a float."""
    return PyFloat_AS_DOUBLE(<object>pbt_slot(handle, handle_slots.when))


cdef inline bint timer_is_before(list heap, Py_ssize_t a, Py_ssize_t b) except -1:
    cdef Py_ssize_t count = PyList_GET_SIZE(heap)
    cdef bint before
    first, second = heap[a], heap[b]
    if timer_has_float(first) and timer_has_float(second):
        return timer_when(first) < timer_when(second)
    before = first < second
    if PyList_GET_SIZE(heap) != count:
        raise RuntimeError("list changed size during iteration")
    return before


cdef inline bint timer_is_due(object handle, double end) except -1:
    """asyncio asks whether it is at `end` or later, which NaN never is."""
    if timer_has_float(handle):
        return not timer_when(handle) >= end
    return not handle._when >= end


cdef int timer_push(list heap, object handle) except -1:
    """heapq.heappush"""
    heap.append(handle)
    return timer_lift(heap, 0, PyList_GET_SIZE(heap) - 1)


cdef object timer_pop(list heap):
    """heapq.heappop, of a heap that is not empty"""
    last = heap.pop()
    if PyList_GET_SIZE(heap) == 0:
        return last
    first = heap[0]
    heap[0] = last
    timer_sink(heap, 0)
    return first


cdef int timer_lift(list heap, Py_ssize_t top, Py_ssize_t at) except -1:
    """Move one up to its place, not higher than `top`."""
    cdef Py_ssize_t parent
    while at > top:
        parent = (at - 1) >> 1
        if not timer_is_before(heap, at, parent):
            break
        pbt_list_swap(heap, at, parent)
        at = parent
    return 0


cdef int timer_sink(list heap, Py_ssize_t at) except -1:
    """Move one down to a leaf, by the earlier child each time, and up again to its place: see heapq."""
    cdef Py_ssize_t top = at
    cdef Py_ssize_t count = PyList_GET_SIZE(heap)
    cdef Py_ssize_t child
    while at < count >> 1:
        child = 2 * at + 1
        if child + 1 < count and not timer_is_before(heap, child, child + 1):
            child += 1
        pbt_list_swap(heap, at, child)
        at = child
    return timer_lift(heap, top, at)


# ---------------------------------------------------------------------------- cancelling

cdef inline bint timer_is_elsewhere(object loop) except -1:
    """Where there is no GIL: this is not the event loop's thread, and must leave its heap alone. asyncio's `cancel` does."""
    return not PBT_HAS_GIL and loop._thread_id != PyThread_get_thread_ident()


cdef int timer_cancel(object handle) except -1:
    """`TimerHandle.cancel`, of one that is not cancelled."""
    loop = handle._loop
    if not isinstance(loop, Scheduler) or (<Scheduler>loop).stock or (<Scheduler>loop)._debug or timer_is_elsewhere(loop):
        timer_base.cancel(handle)
        return 0
    held = handle._callback, handle._args
    pbt_slot_set(handle, handle_slots.cancelled, True)
    pbt_slot_set(handle, handle_slots.callback, None)
    pbt_slot_set(handle, handle_slots.args, None)
    if pbt_slot(handle, handle_slots.scheduled) == Py_True:
        (<Scheduler>loop)._timer_cancelled_count += 1
        timers_sweep(<Scheduler>loop)
    del held                    # the callback and its arguments end here, which may run any code
    return 0


cdef inline int timers_sweep(Scheduler loop) except -1:
    """Remove what is cancelled if that is most of it."""
    cdef Py_ssize_t cancelled = loop._timer_cancelled_count
    if cancelled > IDLE_TIMERS and 2 * cancelled > PyList_GET_SIZE(timers_of(loop)):
        timers_remove_cancelled(loop)
    return 0


cdef int timers_remove_cancelled(Scheduler loop) except -1:
    cdef list heap = timers_of(loop)
    cdef list waiting = [handle for handle in heap if not handle._cancelled]
    cdef list cancelled = [handle for handle in heap if handle._cancelled]
    cdef Py_ssize_t at
    for at in range((len(waiting) >> 1) - 1, -1, -1):   # heapq.heapify
        timer_sink(waiting, at)
    loop.scheduled = waiting
    scheduler_tell(loop)
    for handle in cancelled:
        handle._scheduled = False
    loop._timer_cancelled_count = 0
    return 0                    # here they end, which may run any code


cdef inline void timers_note(Scheduler loop, object removed) noexcept:
    """A timer has left the heap."""
    if isinstance(removed, timer_base):
        pbt_slot_set(removed, handle_slots.scheduled, False)
        if pbt_slot(removed, handle_slots.cancelled) == Py_True:
            loop._timer_cancelled_count -= 1
