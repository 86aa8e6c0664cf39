"""handlers: the table of slots, shared by every socket of a listener.

Owns `handlers_t`, one C function pointer per event (NULL does no work); `context_t`, a table
with the options that go with it, one per listener or outgoing connection, counted by its
sockets; `Handlers`, the compiled table as Python sees it; and the roads an exception takes.

A Python callable is installed by pointing its slot at an adapter (`py_data`, ...): take the
GIL, make the arguments, call. Dispatch (`emit_*`) does not know which kind it calls.
Every call to user code stands between `handler_enter` and `handler_leave`.

Promises: a table is overwritten only between two events (`context_install`); a callable is
held while it runs; no exception ever leaves this file but KeyboardInterrupt and SystemExit,
which stop the loop.
"""
cimport cython
import difflib
import inspect

from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF, Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef extern from "Python.h":
    void PyErr_Restore(PyObject*, PyObject*, PyObject*)
    void PyErr_WriteUnraisable(PyObject*)


ctypedef void (*event_slot)(socket_t*) noexcept nogil
ctypedef void (*data_slot)(socket_t*, const char*, size_t) noexcept nogil
ctypedef void (*close_slot)(socket_t*, int) noexcept nogil

cdef enum:     # events
    E_OPEN, E_DATA, E_DRAIN, E_END, E_CLOSE, E_ERROR, E_TIMEOUT, E_HANDSHAKE, E_CONNECT_ERROR
    EVENTS

cdef enum:     # binary types
    BYTES, BYTEARRAY, MEMORYVIEW

cdef tuple _EVENT_NAMES = ("open", "data", "drain", "end", "close", "error", "timeout",
                           "handshake", "connect_error")
cdef tuple _BINARY_TYPES = ("bytes", "bytearray", "memoryview")


cdef struct handlers_t:
    event_slot open
    data_slot data
    event_slot drain
    event_slot end
    close_slot close
    event_slot timeout
    int binary_type
    PyObject* callable[9]       # owned; by event; what the adapters call

cdef struct context_t:
    handlers_t table
    size_t references           # sockets, and the listener or connector
    listener_t* server          # borrowed; NULL for outgoing connections
    PyObject* data              # owned: the default of `socket.data`
    uint64_t high_water_mark
    double idle_timeout         # seconds; infinity = for ever
    double linger_timeout
    bint allow_half_open
    bint pause_on_connect


# ---------------------------------------------------------------------------- tables

cdef void table_copy(handlers_t* self, const handlers_t* other) noexcept:
    cdef int i
    for i in range(EVENTS):
        Py_XINCREF(other.callable[i])
    self[0] = other[0]


cdef void table_clear(handlers_t* self) noexcept:
    cdef int i
    for i in range(EVENTS):
        Py_CLEAR(self.callable[i])


cdef context_t* context_new() except NULL:
    cdef context_t* self = <context_t*>calloc(1, sizeof(context_t))
    if self == NULL:
        raise MemoryError()
    self.references = 1
    self.idle_timeout = self.linger_timeout = float("inf")
    return self


cdef context_t* context_copy(context_t* other) except NULL:
    """A context of one's own that starts as `other`."""
    cdef context_t* self = context_new()
    self[0] = other[0]
    self.references = 1
    table_copy(&self.table, &other.table)
    Py_XINCREF(self.data)
    return self


cdef void context_install(context_t* self, Handlers handlers) noexcept:
    """Overwrite the table. The handler that runs now, if any, is held by its caller."""
    cdef handlers_t old = self.table
    table_copy(&self.table, &handlers.table)
    table_clear(&old)


cdef void context_release(loop_t* loop, context_t* self) noexcept nogil:
    self.references -= 1
    if self.references == 0:
        gil_take(loop)
        (<context_slot><void*>context_free)(self)


ctypedef void (*context_slot)(context_t*) noexcept nogil

cdef void context_free(context_t* self) noexcept:
    table_clear(&self.table)
    Py_CLEAR(self.data)
    free(self)


cdef inline context_t* context_of(socket_t* self) noexcept nogil:
    return <context_t*>self.tcp.data


# ---------------------------------------------------------------------------- dispatch

cdef inline void emit_event(socket_t* s, event_slot slot) noexcept nogil:
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s)
    handler_leave(loop_of(s))


cdef inline void emit_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef data_slot slot = context_of(s).table.data
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, at, size)
    handler_leave(loop_of(s))


cdef inline void emit_close(socket_t* s, int code) noexcept nogil:
    cdef close_slot slot = context_of(s).table.close
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, code)
    handler_leave(loop_of(s))


# ---------------------------------------------------------------------------- adapters

# Each takes the GIL and calls its other half, which Cython compiles as code that holds it.

cdef void py_open(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))
    (<call_slot><void*>call_handler)(s, E_OPEN)


cdef void py_drain(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))
    (<call_slot><void*>call_handler)(s, E_DRAIN)


cdef void py_end(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))
    (<call_slot><void*>call_handler)(s, E_END)


cdef void py_timeout(socket_t* s) noexcept nogil:
    gil_take(loop_of(s))
    (<call_slot><void*>call_handler)(s, E_TIMEOUT)


cdef void py_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    gil_take(loop_of(s))
    (<data_slot><void*>call_data)(s, at, size)


cdef void py_close(socket_t* s, int code) noexcept nogil:
    gil_take(loop_of(s))
    (<close_slot><void*>call_close)(s, code)


ctypedef void (*call_slot)(socket_t*, int) noexcept nogil

cdef void call_handler(socket_t* s, int event) noexcept:
    cdef object handler = <object>context_of(s).table.callable[event]
    try:
        handler(socket_face(s))
    except BaseException as error:
        handler_raised(s, handler, error)
        if event == E_OPEN:
            socket_close(s)


cdef void call_data(socket_t* s, const char* at, size_t size) noexcept:
    cdef handlers_t* table = &context_of(s).table
    cdef object handler = <object>table.callable[E_DATA]
    cdef object lent = None
    try:
        if table.binary_type == BYTES:
            handler(socket_face(s), PyBytes_FromStringAndSize(at, size))
        elif table.binary_type == BYTEARRAY:
            handler(socket_face(s), PyByteArray_FromStringAndSize(at, size))
        else:
            lent = chunk_view(loop_of(s), at, size)
            handler(socket_face(s), lent)
    except BaseException as error:
        handler_raised(s, handler, error)
    if lent is not None and size >= LEASE_LEAST:
        lent = None
        slab_renew_if_kept(loop_of(s))


cdef void call_close(socket_t* s, int code) noexcept:
    cdef object handler = <object>context_of(s).table.callable[E_CLOSE]
    try:
        handler(socket_face(s), socket_error(s, code))
    except BaseException as error:
        handler_raised(s, handler, error)


cdef object chunk_view(loop_t* loop, const char* at, size_t size):
    if size < LEASE_LEAST:
        return PyMemoryView_FromObject(PyBytes_FromStringAndSize(at, size))
    return slab_lease(<Slab>loop.slab_owner, at, size)


cdef void slab_renew_if_kept(loop_t* loop) noexcept:
    """Somebody still holds a view of the slab: it is theirs, and the loop takes a new one."""
    cdef Slab slab
    if loop.slab_owner.ob_refcnt == 1:
        return
    try:
        slab = Slab()
    except MemoryError as error:
        loop_fail(loop, error)      # reading on would change what the user holds
        return
    Py_INCREF(slab)
    Py_XDECREF(loop.slab_owner)
    loop.slab_owner = <PyObject*>slab
    loop.slab = slab.memory


# ---------------------------------------------------------------------------- exceptions

cdef void handler_raised(socket_t* s, object handler, object error) noexcept:
    """The table's `error` handler, as it is now, gets it; failing that, it is reported."""
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        loop_fail(loop_of(s), error)
        return
    if report == NULL:
        report_unraisable(error, handler)
        return
    handler = <object>report
    try:
        handler(socket_face(s), error)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop_of(s), stop)
    except BaseException as second:
        if second.__context__ is None and second is not error:
            second.__context__ = error
        report_unraisable(second, handler)


cdef void report_unraisable(object error, object where) noexcept:
    """Through `sys.unraisablehook`, with the traceback, and the server lives on."""
    cdef object kind = type(error)
    cdef object trace = error.__traceback__
    Py_INCREF(kind)
    Py_INCREF(error)
    Py_INCREF(trace)
    PyErr_Restore(<PyObject*>kind, <PyObject*>error, <PyObject*>trace)
    PyErr_WriteUnraisable(<PyObject*>where)


# ---------------------------------------------------------------------------- from Python

@cython.final
cdef class Handlers:
    """A compiled set of handlers, to be shared by listeners and connections.

    Handlers(mapping_or_object=None, /, **handlers)

    Takes a mapping, or a class, an instance or a module whose attributes are the handlers, or
    keywords. Recognised: ``open(socket)``, ``data(socket, chunk)``, ``drain(socket)``,
    ``end(socket)``, ``close(socket, error)``, ``error(socket, error)``, ``timeout(socket)``,
    ``handshake(socket, success, authorization_error)``, ``connect_error(socket, error)`` and
    ``binary_type`` (``"bytes"``, ``"bytearray"`` or ``"memoryview"``: what ``chunk`` is).
    They are read once, now; a later change of the mapping has no effect. None = absent.

    Errors: TypeError for what is not callable, an unknown keyword or key (with the likely
    name), or neither ``data`` nor ``drain``; ValueError for an unknown ``binary_type``.

    Source: the ``socket`` option of Bun's TCP API.
    Bun: ``binaryType`` knows "buffer", "uint8array" and "arraybuffer".
    """
    cdef handlers_t table       # borrows its callables from `found`
    cdef dict found             # ... which the garbage collector can look into

    def __cinit__(self, source=None, /, **handlers):
        self.found = handlers_collect(source, handlers)
        handlers_fill(&self.table, self.found)

    def __repr__(self):
        cdef int event
        present = []
        for event in range(EVENTS):
            if self.table.callable[event] != NULL:
                present.append(_EVENT_NAMES[event])
        return f"<pybuntcp.Handlers {' '.join(present)}>"


cdef int handlers_fill(handlers_t* self, dict found) except -1:
    """Note the callables (borrowed) and point each one's slot at its adapter."""
    cdef int i
    self.binary_type = _BINARY_TYPES.index(found["binary_type"])
    for i, name in enumerate(_EVENT_NAMES):
        if found.get(name) is not None:
            self.callable[i] = <PyObject*>found[name]
    handlers_point(self)
    return 0


cdef void handlers_point(handlers_t* self) noexcept:
    if self.callable[E_OPEN] != NULL:
        self.open = py_open
    if self.callable[E_DATA] != NULL:
        self.data = py_data
    if self.callable[E_DRAIN] != NULL:
        self.drain = py_drain
    if self.callable[E_END] != NULL:
        self.end = py_end
    if self.callable[E_CLOSE] != NULL:
        self.close = py_close
    if self.callable[E_TIMEOUT] != NULL:
        self.timeout = py_timeout


cdef Handlers handlers_from(object source):
    """What `socket=` means: a Handlers as it is, anything else compiled now."""
    if isinstance(source, Handlers):
        return source
    if source is None:
        raise TypeError("socket is required: a mapping, class, instance, module or Handlers")
    return Handlers(source)


cdef Handlers handlers_none():
    """The empty table of `connect(socket=None)`."""
    return Handlers.__new__(Handlers, {"data": _ignore})


def _ignore(socket, chunk):
    """What a connection without handlers does with bytes, until somebody reads them."""


cdef dict handlers_collect(object source, dict handlers):
    """All recognised names, checked: {name: callable or None, "binary_type": str}."""
    if isinstance(source, Handlers):
        raise TypeError("socket is a Handlers already")
    if source is not None and handlers:
        raise TypeError("Handlers takes a source or keywords, not both")
    if isinstance(source, (str, bytes, int, float, list, tuple, set)):
        raise TypeError(
            "socket must be a mapping, class, instance, module or Handlers, "
            f"not {type(source).__name__!r}"
        )
    if source is None:
        found = handlers_of_mapping(handlers)
    elif hasattr(source, "keys") and hasattr(source, "__getitem__"):
        found = handlers_of_mapping(source)
    else:
        found = {name: getattr(source, name, None) for name in (*_EVENT_NAMES, "binary_type")}
    for name in _EVENT_NAMES:
        handler_check(name, found.get(name))
    if found.get("data") is None and found.get("drain") is None:
        raise TypeError("socket needs at least a 'data' or a 'drain' handler")
    found["binary_type"] = binary_type_check(found.get("binary_type"))
    return found


cdef dict handlers_of_mapping(object source):
    known = (*_EVENT_NAMES, "binary_type")
    for key in source.keys():
        if key not in known:
            raise TypeError(f"unknown handler {key!r}{handler_suggestion(str(key), known)}")
    return {name: source[name] for name in known if name in source}


cdef str handler_suggestion(str key, tuple known):
    snake = "".join(["_" + c.lower() if c.isupper() else c for c in key]).lstrip("_")
    if snake.startswith("on_"):
        snake = snake[3:]
    close = difflib.get_close_matches(snake, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


cdef int handler_check(str name, object handler) except -1:
    if handler is None:
        return 0
    if not callable(handler):
        raise TypeError(f"handler {name!r} must be callable, not {type(handler).__name__!r}")
    if inspect.iscoroutinefunction(handler):
        raise TypeError(f"handler {name!r} is an async function: that needs a running asyncio loop")
    return 0


cdef str binary_type_check(object value):
    if value is None:
        return "bytes"
    if not isinstance(value, str):
        raise TypeError(f"binary_type must be a str, not {type(value).__name__!r}")
    if value not in _BINARY_TYPES:
        raise ValueError(f"binary_type must be one of {', '.join(_BINARY_TYPES)}, not {value!r}")
    return value
