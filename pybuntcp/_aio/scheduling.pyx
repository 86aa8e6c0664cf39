"""scheduling: `Scheduler`, the part of an event loop that schedules callbacks: soon, later, and by tasks.

It is the first base of our event loop, and `asyncio.SelectorEventLoop` is the second. What is here does what asyncio's methods of
the same name do. They are asyncio's own where that matters more than time:

    debug mode          they check threads and callbacks, and note who has called
    a closed loop       they raise
    `stock`             a program has put something else in place of a method or a queue that ours go past: see SEAMS

The members whose names begin with `_` are those of `asyncio.BaseEventLoop`, which writes and reads them. Here they have a place.
"""
import asyncio
import time

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object self, object name, object value) except -1
    int PyObject_GenericDelAttr "PyObject_GenericSetAttr"(object self, object name, PyObject* value) except -1


# What ours do not call, and asyncio's would.
cdef object SEAMS = frozenset({"call_at", "_call_soon", "_add_callback", "_process_events", "_timer_handle_cancelled"})

cdef object clock = time
cdef object tasks = asyncio.tasks       # where programs put classes of their own
cdef object futures = asyncio.futures


cdef class Scheduler:
    """`call_soon`, `call_later` and the like, and the event loop's turn, which is one iteration of it."""
    cdef object ready           # callbacks: see ready
    cdef object scheduled       # timers: see timers
    cdef bint stock             # asyncio's own code, in Python, is used
    cdef bint stopping          # at the end of the turn
    cdef public object _selector
    cdef public object _task_factory
    cdef public bint _closed
    cdef public bint _debug
    cdef public Py_ssize_t _timer_cancelled_count
    cdef public double _clock_resolution

    def __cinit__(self):
        self.stock = True

    @property
    def _ready(self):
        return self.ready

    @_ready.setter
    def _ready(self, queue):
        self.ready = queue
        scheduler_look(self)
        if hasattr(self._selector, "use_queue"):
            self._selector.use_queue(queue)
        scheduler_tell(self)

    @property
    def _scheduled(self):
        return self.scheduled

    @_scheduled.setter
    def _scheduled(self, heap):
        self.scheduled = heap
        scheduler_look(self)
        scheduler_tell(self)

    @property
    def _stopping(self):
        return self.stopping

    @_stopping.setter
    def _stopping(self, bint stopping):
        self.stopping = stopping
        scheduler_tell(self)

    def __setattr__(self, name, value):
        PyObject_GenericSetAttr(self, name, value)
        if name in SEAMS:
            scheduler_look(self)

    def __delattr__(self, name):
        PyObject_GenericDelAttr(self, name, NULL)
        if name in SEAMS:
            scheduler_look(self)

    def time(self):
        """The time of the loop's clock, in seconds."""
        return clock.monotonic()

    def get_debug(self):
        """True if debug mode is on. Every future and task calls this."""
        return self._debug

    def call_soon(self, callback, *args, context=None):
        """Call a callback in the next turn of the loop. Returns its handle, to cancel it."""
        if self.stock or self._debug or self._closed:
            return super().call_soon(callback, *args, context=context)
        handle = handle_new(self, callback, args, context)
        ready_append(self.ready, handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As `call_soon`, for other threads and for handlers of signals: it also wakes the loop."""
        if self.stock or self._debug or self._closed:
            return super().call_soon_threadsafe(callback, *args, context=context)
        handle = handle_new(self, callback, args, context)
        ready_append(self.ready, handle)
        self._write_to_self()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Call a callback after `delay` seconds. Returns its handle, to cancel it."""
        if self.stock or self._debug or self._closed or delay is None:
            return super().call_later(delay, callback, *args, context=context)
        return scheduler_call_at(self, self.time() + delay, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """Call a callback at a time of the loop's clock. Returns its handle, to cancel it."""
        if self.stock or self._debug or self._closed or when is None:
            return super().call_at(when, callback, *args, context=context)
        return scheduler_call_at(self, when, callback, args, context)

    def create_future(self):
        """An `asyncio.Future` of this loop."""
        if self._debug:
            return super().create_future()
        return futures.Future(loop=self)

    def create_task(self, coro, *, name=None, context=None, **options):
        """Run a coroutine as an `asyncio.Task` of this loop, or as the object that the task factory returns."""
        if self._debug or self._closed or self._task_factory is not None or context is not None or options:
            return scheduler_create_task(self, super().create_task, coro, name, context, options)
        if name is None:
            return tasks.Task(coro, loop=self)
        return tasks.Task(coro, loop=self, name=name)

    def _run_once(self):
        """One turn: wait, and call what is ready."""
        if self.stock:
            super()._run_once()
        else:
            turn_make(self)


cdef int scheduler_look(Scheduler self) except -1:
    """See whether anything was put in place of what ours go past."""
    own = getattr(self, "__dict__", {})
    self.stock = type(self.ready) is not ready_type or type(self.scheduled) is not list
    for name in SEAMS:
        if name in own or getattr(type(self), name) is not getattr(StockScheduler, name):
            self.stock = True
    return 0


cdef int scheduler_tell(Scheduler self) except -1:
    """The selector makes turns by itself as long as there is nothing for us to do: tell it that there is."""
    if hasattr(self._selector, "notice"):
        self._selector.notice()
    return 0


class StockScheduler(Scheduler, asyncio.SelectorEventLoop):
    """What an event loop is that changes nothing."""


cdef object scheduler_call_at(Scheduler self, object when, object callback, object args, object context):
    handle = handle_new_timer(when, self, callback, args, context)
    timer_push(timers_of(self), handle)
    return handle


cdef object scheduler_create_task(Scheduler self, object create_task, object coro, object name, object context, dict options):
    """By asyncio's method, with what a program has given: it is passed on to a task factory, and differs between versions."""
    if name is not None:
        options["name"] = name
    if context is not None:
        options["context"] = context
    return create_task(coro, **options)
