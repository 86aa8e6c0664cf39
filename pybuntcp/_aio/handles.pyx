"""handles: asyncio's `Handle` and `TimerHandle`, made and called from C.

Programs, tests and tools look at handles: at their class, their `repr`, their members. So they are asyncio's own: instances of
its classes, whose `__slots__` are written where they lie. `__init__` and `_run` are what is done here in their place, when debug
mode is off; with it asyncio's own code makes them (see scheduling).

Most handles are gone as soon as they were called. Those that nobody else refers to are kept, empty, for the next ones.

Promises: what a callback raises is reported as asyncio reports it. Does not know when a handle is called.
"""
cimport cython
import contextvars
import inspect
from asyncio import events, format_helpers

from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject

cdef extern from "Python.h":
    PyObject* Py_False
    PyObject* Py_True
    void PyObject_GC_Track(object self) noexcept
    void PyObject_GC_UnTrack(object self) noexcept

cdef extern from *:
    """
    #define pbt_slot(object, at) (*(PyObject**)((char*)(object) + (at)))

    static inline void pbt_slot_empty(PyObject* object, Py_ssize_t at, PyObject** taken) {
        *taken = pbt_slot(object, at);
        pbt_slot(object, at) = NULL;
    }
    static inline void pbt_slot_fill(PyObject* object, Py_ssize_t at, PyObject* value) {
        Py_INCREF(value);
        pbt_slot(object, at) = value;
    }
    static inline void pbt_slot_set(PyObject* object, Py_ssize_t at, PyObject* value) {
        PyObject* before;
        Py_INCREF(value);
    #ifdef Py_GIL_DISABLED
        Py_BEGIN_CRITICAL_SECTION(object);      /* as Python's own code sets a slot */
    #endif
        before = pbt_slot(object, at);
        pbt_slot(object, at) = value;
    #ifdef Py_GIL_DISABLED
        Py_END_CRITICAL_SECTION();
    #endif
        Py_XDECREF(before);
    }
    static inline PyObject* pbt_alloc(PyObject* type) {
        return ((PyTypeObject*)type)->tp_alloc((PyTypeObject*)type, 0);
    }
    /* context.run(callback, *args) */
    static int pbt_run(PyObject* context, PyObject* callback, PyObject* args) {
        PyObject* result;
        if (PyContext_Enter(context)) return -1;
        result = PyObject_Vectorcall(callback, ((PyTupleObject*)args)->ob_item, PyTuple_GET_SIZE(args), NULL);
        Py_XDECREF(result);
        return PyContext_Exit(context) || result == NULL ? -1 : 0;
    }
    /* What the collector of garbage asks a handle. The members that may refer to anything are visited where they lie: to go
       through the lists of members of three classes costs more than all else that is done with a handle. */
    static Py_ssize_t pbt_members[6];
    static int pbt_handle_traverse(PyObject* self, visitproc visit, void* arg) {
        int each;
        for (each = 0; each < 5; each++) Py_VISIT(pbt_slot(self, pbt_members[each]));
        Py_VISIT(Py_TYPE(self));
        return 0;
    }
    static int pbt_timer_traverse(PyObject* self, visitproc visit, void* arg) {
        Py_VISIT(pbt_slot(self, pbt_members[5]));
        return pbt_handle_traverse(self, visit, arg);
    }
    static void pbt_set_traverse(PyObject* handle, PyObject* timer) {
        ((PyTypeObject*)handle)->tp_traverse = pbt_handle_traverse;
        ((PyTypeObject*)timer)->tp_traverse = pbt_timer_traverse;
    }
    /* Whether an object is this thread's alone, so that it may be used for something else. */
    #ifdef Py_GIL_DISABLED
    #define pbt_is_unreferenced(object) 0
    #else
    #define pbt_is_unreferenced(object) (Py_REFCNT(object) == 1)
    #endif
    """
    PyObject* pbt_slot(object self, Py_ssize_t at) noexcept                     # borrowed; NULL: never set
    void pbt_slot_empty(object self, Py_ssize_t at, PyObject** taken) noexcept  # which is the caller's from now on
    void pbt_slot_fill(object self, Py_ssize_t at, object value) noexcept       # of a slot that is empty
    void pbt_slot_set(object self, Py_ssize_t at, object value) noexcept        # may run any code: what was there may end
    object pbt_alloc(object type_)
    int pbt_run(object context, object callback, object args) except -1
    Py_ssize_t pbt_members[6]
    void pbt_set_traverse(object handle, object timer) noexcept
    bint pbt_is_unreferenced(object self) noexcept

cdef enum:
    SPARE_HANDLES = 128     # that many are kept


cdef struct handle_slots_t:
    # Where a handle has them: see `handle_slots_find`.
    Py_ssize_t callback, args, context, loop, cancelled, repr, traceback, when, scheduled
    Py_ssize_t weakrefs

cdef struct spare_handles_t:
    PyObject* at[SPARE_HANDLES]     # owned
    int count


cdef handle_slots_t handle_slots
cdef spare_handles_t spare_handles
cdef object handle_base = events.Handle
cdef object timer_base = events.TimerHandle
cdef object handle_type
cdef object timer_type
cdef object context_type = contextvars.Context
cdef object handle_run_stock = events.Handle._run
cdef object format_callback = format_helpers._format_callback_source
cdef bint format_takes_debug = "debug" in inspect.signature(format_callback).parameters


class Handle(events.Handle):
    """asyncio's, of a loop of pybuntcp's."""

    __slots__ = ()


class TimerHandle(events.TimerHandle):
    """asyncio's, of a loop of pybuntcp's."""

    __slots__ = ()

    def cancel(self):
        """Cancel the callback."""
        if not isinstance(self, timer_base):
            raise TypeError(f"a TimerHandle is wanted, not {type(self).__name__!r}")
        if not handle_is_cancelled(self):
            timer_cancel(self)


handle_type = Handle
timer_type = TimerHandle


cdef int handle_slots_find() except -1:
    cdef handle_slots_t* at = &handle_slots
    at.callback, at.args = pbt_slot_offset(handle_base._callback), pbt_slot_offset(handle_base._args)
    at.context, at.loop = pbt_slot_offset(handle_base._context), pbt_slot_offset(handle_base._loop)
    at.cancelled, at.repr = pbt_slot_offset(handle_base._cancelled), pbt_slot_offset(handle_base._repr)
    at.traceback = pbt_slot_offset(handle_base._source_traceback)
    at.when, at.scheduled = pbt_slot_offset(timer_base._when), pbt_slot_offset(timer_base._scheduled)
    at.weakrefs = handle_base.__weakrefoffset__
    return 0


cdef int handle_set_traverse() except -1:
    """Unless this Python's handles have other members than those."""
    if len(handle_base.__slots__) == 8 and len(timer_base.__slots__) == 2:
        for each, where in enumerate((
            handle_slots.callback, handle_slots.args, handle_slots.context, handle_slots.loop, handle_slots.traceback,
            handle_slots.when
        )):
            pbt_members[each] = where
        pbt_set_traverse(handle_type, timer_type)
    return 0


handle_slots_find()
handle_set_traverse()


# ---------------------------------------------------------------------------- how one is made

cdef object handle_new(object loop, object callback, object args, object context):
    """`Handle(callback, args, loop, context)`. context: None = a copy of the current one."""
    cdef object self
    if context is None:
        context = PyContext_CopyCurrent()
    if spare_handles.count == 0:
        self = pbt_alloc(handle_type)
        handle_fill(self, loop, callback, args, context)
        return self
    self = handle_take_spare()
    handle_fill(self, loop, callback, args, context)
    PyObject_GC_Track(self)
    return self


cdef object handle_new_timer(object when, object loop, object callback, object args, object context):
    """`TimerHandle(when, callback, args, loop, context)`, which is scheduled."""
    cdef object self
    if context is None:
        context = PyContext_CopyCurrent()
    self = pbt_alloc(timer_type)
    handle_fill(self, loop, callback, args, context)
    pbt_slot_fill(self, handle_slots.when, when)
    pbt_slot_fill(self, handle_slots.scheduled, True)
    return self


cdef inline void handle_fill(object self, object loop, object callback, object args, object context) noexcept:
    pbt_slot_fill(self, handle_slots.loop, loop)
    pbt_slot_fill(self, handle_slots.callback, callback)
    pbt_slot_fill(self, handle_slots.args, args)
    pbt_slot_fill(self, handle_slots.context, context)
    pbt_slot_fill(self, handle_slots.cancelled, False)
    pbt_slot_fill(self, handle_slots.repr, None)
    pbt_slot_fill(self, handle_slots.traceback, None)


cdef inline object handle_take_spare():
    cdef PyObject* self
    spare_handles.count -= 1
    self = spare_handles.at[spare_handles.count]
    taken = <object>self
    Py_XDECREF(self)
    return taken


cdef void handle_keep_spare(object self) noexcept:
    """A handle was called. If the caller alone refers to it, the next `handle_new` returns it.

    Until then it is unknown to the collector of garbage: nobody can find it, so nobody can hold the next one by it.
    """
    cdef PyObject* held[7]
    cdef int each
    if spare_handles.count == SPARE_HANDLES or not pbt_is_unreferenced(self) or type(self) is not handle_type \
            or pbt_slot(self, handle_slots.weakrefs) != NULL:
        return
    PyObject_GC_UnTrack(self)
    pbt_slot_empty(self, handle_slots.loop, &held[0])
    pbt_slot_empty(self, handle_slots.callback, &held[1])
    pbt_slot_empty(self, handle_slots.args, &held[2])
    pbt_slot_empty(self, handle_slots.context, &held[3])
    pbt_slot_empty(self, handle_slots.cancelled, &held[4])
    pbt_slot_empty(self, handle_slots.repr, &held[5])
    pbt_slot_empty(self, handle_slots.traceback, &held[6])
    Py_INCREF(self)
    spare_handles.at[spare_handles.count] = <PyObject*>self
    spare_handles.count += 1
    for each in range(7):
        Py_XDECREF(held[each])      # may run any code, which may take the handle


# ---------------------------------------------------------------------------- how one is called

cdef inline bint handle_is_known(object self) noexcept:
    """It has the slots, and no `_run` of its own."""
    kind = type(self)
    return kind is handle_type or kind is timer_type or kind is handle_base or kind is timer_base


cdef inline bint handle_is_cancelled(object self) except -1:
    cdef PyObject* cancelled = pbt_slot(self, handle_slots.cancelled)
    if cancelled == Py_False:
        return False
    return cancelled == Py_True or bool(self._cancelled)


cdef int handle_run(object self) except -1:
    """`self._run()`, of a handle that is known and not cancelled. Raises what ends the program."""
    if not PBT_HAS_GIL:
        return handle_run_in_any_thread(self)
    if not handle_is_whole(self):
        self._run()
        return 0
    callback = <object>pbt_slot(self, handle_slots.callback)    # it may be cancelled while it is called
    args = <object>pbt_slot(self, handle_slots.args)
    context = <object>pbt_slot(self, handle_slots.context)
    return handle_call(self, callback, args, context)


cdef int handle_run_in_any_thread(object self) except -1:
    """The same where there is no GIL, and another thread may cancel it just now."""
    callback = args = context = None
    with cython.critical_section(self):
        if handle_is_whole(self):
            callback = <object>pbt_slot(self, handle_slots.callback)
            args = <object>pbt_slot(self, handle_slots.args)
            context = <object>pbt_slot(self, handle_slots.context)
    if context is not None:
        return handle_call(self, callback, args, context)
    if not handle_is_cancelled(self):
        self._run()
    return 0


cdef inline int handle_call(object self, object callback, object args, object context) except -1:
    try:
        pbt_run(context, callback, args)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        handle_report(self, error)
    return 0


cdef inline bint handle_is_whole(object self) noexcept:
    """False: other code has put something else in it than `__init__` does."""
    cdef PyObject* args = pbt_slot(self, handle_slots.args)
    cdef PyObject* context = pbt_slot(self, handle_slots.context)
    if args == NULL or context == NULL or pbt_slot(self, handle_slots.callback) == NULL:
        return False
    return type(<object>args) is tuple and type(<object>context) is context_type


cdef int handle_report(object self, object error) except -1:
    """A callback has raised: call the event loop's exception handler, as `Handle._run` does."""
    loop = self._loop
    if format_takes_debug:
        callback = format_callback(self._callback, self._args, debug=loop.get_debug())
    else:
        callback = format_callback(self._callback, self._args)
    context = {"message": f"Exception in callback {callback}", "exception": error, "handle": self}
    if self._source_traceback:
        context["source_traceback"] = self._source_traceback
    loop.call_exception_handler(context)
    return 0
