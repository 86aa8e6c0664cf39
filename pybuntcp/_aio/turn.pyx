"""turn: one turn of the event loop, `_run_once`.

    what                                     how
    see how long to wait                     not at all if a callback is ready; else until the first timer is due
    select                                   the core's selector: it serves our sockets, too
    what is ready of asyncio's descriptors   `_process_events`, asyncio's own
    timers that are due                      to the end of the queue
    call what is ready now                   and not what that makes ready

The order is asyncio's, and so are debug mode's warnings about slow callbacks. When a callback ends the program, those behind it
stay ready.
"""
from asyncio import base_events

cdef extern from "Python.h":
    PyObject* _PyType_Lookup(type kind, object name) noexcept


cdef object longest_wait = base_events.MAXIMUM_SELECT_TIMEOUT


cdef int turn_make(Scheduler self) except -1:
    events = self._selector.select(turn_timeout(self))
    if events:
        self._process_events(events)
        events = None           # which may refer to what a callback closes
    if PyList_GET_SIZE(timers_of(self)) != 0:
        turn_time_out(self)
    turn_call_ready(self)
    return 0


cdef object turn_timeout(Scheduler self):
    """How long to wait, in seconds. None: until something happens."""
    cdef list timers
    timers_sweep(self)
    timers = timers_of(self)
    while timers and timers[0]._cancelled:
        timers_note(self, timer_pop(timers))
    if ready_count(self.ready) != 0 or self.stopping:
        return 0
    if not timers:
        return None
    return min(max(0, timers[0]._when - self.time()), longest_wait)


cdef int turn_time_out(Scheduler self) except -1:
    """Timers that are due by now become ready."""
    cdef list timers = timers_of(self)
    cdef double end = self.time() + self._clock_resolution
    while timers and timer_is_due(timers[0], end):
        handle = timer_pop(timers)
        timers_note(self, handle)
        ready_append(self.ready, handle)
    return 0


cdef int turn_call_ready(Scheduler self) except -1:
    cdef Py_ssize_t left = ready_count(self.ready)
    cdef bint known = _PyType_Lookup(<type>handle_base, "_run") == <PyObject*>handle_run_stock    # nobody has patched it
    while left > 0:
        left -= 1
        handle = ready_popleft(self.ready)
        if self._debug:
            turn_call_timed(self, handle)
        elif known and handle_is_known(handle):
            if not handle_is_cancelled(handle):
                handle_run(handle)
                handle_keep_spare(handle)
        elif handle is self._selector or not handle._cancelled:
            handle._run()
    return 0


cdef int turn_call_timed(Scheduler self, object handle) except -1:
    """In debug mode, a slow callback is logged. A turn of our sockets is none: what is slow in it is logged by itself."""
    if handle is self._selector:
        handle._run()
        return 0
    if handle._cancelled:
        return 0
    try:
        self._current_handle = handle
        began = self.time()
        handle._run()
        took = self.time() - began
        if took >= self.slow_callback_duration:
            base_events.logger.warning("Executing %s took %.3f seconds", base_events._format_handle(handle), took)
    finally:
        self._current_handle = None
    return 0
