"""handlers: the table of slots, shared by every socket of a listener.

Owns `handlers_t`, one C function pointer per event (NULL does no work); `context_t`, a table
with the options that go with it, one per listener or outgoing connection, counted by its
sockets; and the roads an exception takes.

A Cython user's function is installed as it is; a Python callable by pointing its slot at an
adapter (`py_data`, ...): take the GIL, make the arguments, call. Dispatch (`emit_*`) does not
know which kind it calls. Every call to user code stands between `handler_enter` and
`handler_leave`. How a table is made of what users give: see compiling.

A handler that gives a coroutine, as an `async def` does, has not ended yet: see running.

Promises: a table is overwritten only between two events (`context_install`); a callable is
held while it runs; no exception ever leaves this file but KeyboardInterrupt and SystemExit,
which stop the loop.
"""
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.ref cimport PyObject, Py_CLEAR, Py_XINCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

ctypedef void (*event_slot)(socket_t*) noexcept nogil

cdef enum:     # events
    E_OPEN, E_DATA, E_DRAIN, E_END, E_CLOSE, E_ERROR, E_TIMEOUT, E_HANDSHAKE, E_CONNECT_ERROR
    EVENTS

cdef enum:     # binary types
    BYTES, BYTEARRAY, MEMORYVIEW

cdef tuple _EVENT_NAMES = ("open", "data", "drain", "end", "close", "error", "timeout",
                           "handshake", "connect_error")


cdef struct handlers_t:
    slots_t slots               # C functions: a Cython user's own, or an adapter
    int binary_type
    PyObject* callable[9]       # owned; by event; what the adapters call
    PyObject* owner             # owned: a Cython user's, for what `slots.user` points into

cdef struct context_t:
    handlers_t table
    size_t references           # sockets, and the listener or connector
    listener_t* server          # borrowed; NULL for outgoing connections
    PyObject* data              # owned: the default of `socket.data`
    uint64_t high_water_mark
    double idle_timeout         # seconds; infinity = for ever
    double linger_timeout
    size_t own_size             # our own bytes behind every socket; 0: it is not secured
    size_t ext_size             # ... and the user's: fixed, whatever is reloaded
    PyObject* host              # owned: the name that was connected to, a str or None; NULL: it was accepted
    PyObject* tls               # owned: what an engine makes a secured connection of
    socket_t* heir              # what the connection becomes when the last of this socket is sent
    socket_t* forebear          # ... of which this one is the heir
    int heirs                   # HEIR_CLIENT, HEIR_SERVER: its socket has come of an upgrade
    connector_t* dialer         # borrowed: waits for the handshake of an outgoing connection
    double handshake_timeout
    bint allow_half_open
    bint pause_on_connect


# ---------------------------------------------------------------------------- tables

cdef void table_copy(handlers_t* self, const handlers_t* other) noexcept:
    cdef int i
    for i in range(EVENTS):
        Py_XINCREF(other.callable[i])
    Py_XINCREF(other.owner)
    self[0] = other[0]


cdef void table_clear(handlers_t* self) noexcept:
    cdef int i
    for i in range(EVENTS):
        Py_CLEAR(self.callable[i])
    Py_CLEAR(self.owner)


cdef context_t* context_new() except NULL:
    cdef context_t* self = <context_t*>calloc(1, sizeof(context_t))
    if self == NULL:
        raise MemoryError()
    self.references = 1
    self.idle_timeout = self.linger_timeout = self.handshake_timeout = float("inf")
    return self


cdef context_t* context_copy(context_t* other) except NULL:
    """A context of one's own that starts as `other`."""
    cdef context_t* self = context_new()
    self[0] = other[0]
    self.references = 1
    table_copy(&self.table, &other.table)
    self.dialer = NULL
    self.heir = self.forebear = NULL
    Py_XINCREF(self.data)
    Py_XINCREF(self.tls)
    Py_XINCREF(self.host)
    return self


cdef void context_install(loop_t* loop, context_t* self, Handlers handlers) noexcept:
    """Overwrite the table. What runs now is held: a callable by its caller, an owner by the loop."""
    cdef handlers_t old = self.table
    table_copy(&self.table, &handlers.table)
    if old.owner != NULL and loop.handling != 0:
        loop_hold(loop, <object>old.owner)
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
    Py_CLEAR(self.tls)
    Py_CLEAR(self.host)
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
    cdef data_slot slot = context_of(s).table.slots.data
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, at, size)
    handler_leave(loop_of(s))


cdef inline void emit_close(socket_t* s, int code) noexcept nogil:
    cdef close_slot slot = context_of(s).table.slots.close
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, -code)      # slots are told the kernel's errno
    handler_leave(loop_of(s))


cdef inline void emit_handshake(socket_t* s, bint success, long verify_result) noexcept nogil:
    cdef handshake_slot slot = context_of(s).table.slots.handshake
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, success, verify_result)
    handler_leave(loop_of(s))


cdef inline void emit_connect_error(socket_t* s, int error) noexcept nogil:
    """`error` as slots are told it. Nothing to do is not asked here: see connector."""
    handler_enter(loop_of(s))
    context_of(s).table.slots.connect_error(s, error)
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


cdef void py_handshake(socket_t* s, int success, long verify_result) noexcept nogil:
    gil_take(loop_of(s))
    (<call_slot><void*>call_handshake)(s, success)


cdef void py_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    gil_take(loop_of(s))
    (<data_slot><void*>call_data)(s, at, size)


cdef void py_close(socket_t* s, int error) noexcept nogil:
    gil_take(loop_of(s))
    (<close_slot><void*>call_close)(s, error)


ctypedef void (*call_slot)(socket_t*, int) noexcept nogil

cdef void call_handler(socket_t* s, int event) noexcept:
    if loop_of(s).unheard:
        signals_deliver(loop_of(s))
        if s.flags & (S_CLOSING | S_CLOSED) and event != E_OPEN:
            return
    cdef object handler = <object>context_of(s).table.callable[event]
    try:
        result = handler(socket_face(s))
        if result is not None:
            handler_returned(s, event, handler, result)
    except BaseException as error:
        handler_raised(s, event, handler, error)
        if event == E_OPEN:
            socket_close(s)


cdef void call_data(socket_t* s, const char* at, size_t size) noexcept:
    if loop_of(s).unheard:
        signals_deliver(loop_of(s))
        if s.flags & (S_CLOSING | S_CLOSED):
            return
    cdef handlers_t* table = &context_of(s).table
    cdef object handler = <object>table.callable[E_DATA]
    cdef object lent = None
    try:
        if table.binary_type == BYTES:
            result = handler(socket_face(s), chunk_object(loop_of(s), at, size))
        elif table.binary_type == BYTEARRAY:
            result = handler(socket_face(s), PyByteArray_FromStringAndSize(at, size))
        else:
            lent = chunk_view(loop_of(s), at, size)
            result = handler(socket_face(s), lent)
        if result is not None:
            handler_returned(s, E_DATA, handler, result)
    except BaseException as error:
        handler_raised(s, E_DATA, handler, error)
    if size >= LEASE_LEAST:
        lent = None
        slab_renew(loop_of(s))


cdef void call_handshake(socket_t* s, int success) noexcept:
    cdef object handler = <object>context_of(s).table.callable[E_HANDSHAKE]
    try:
        result = handler(socket_face(s), success != 0, secure_verdict(s))
        if result is not None:
            handler_returned(s, E_HANDSHAKE, handler, result)
    except BaseException as error:
        handler_raised(s, E_HANDSHAKE, handler, error)


cdef void call_close(socket_t* s, int error_number) noexcept:
    cdef object handler = <object>context_of(s).table.callable[E_CLOSE]
    try:
        result = handler(socket_face(s), socket_error(s, -error_number))
        if result is not None:
            handler_returned(s, E_CLOSE, handler, result)
    except BaseException as error:
        handler_raised(s, E_CLOSE, handler, error)


cdef inline bytes chunk_object(loop_t* loop, const char* at, size_t size):
    """A large chunk without a copy, where it can be had."""
    if size < GIVEN_LEAST or at != loop.slab or Py_REFCNT(loop.slab_owner) != 1:
        return PyBytes_FromStringAndSize(at, size)
    loop.slab = NULL
    return slab_give(<Slab>loop.slab_owner, size)


cdef object chunk_view(loop_t* loop, const char* at, size_t size):
    """Without a copy where it can be had: what an engine opened lies in a room that is used again."""
    if size < LEASE_LEAST or not loop.slab <= at < loop.slab + SLAB_SIZE:
        return PyMemoryView_FromObject(PyBytes_FromStringAndSize(at, size))
    return slab_lease(<Slab>loop.slab_owner, at, size)


# ---------------------------------------------------------------------------- exceptions

cdef void handler_raised(socket_t* s, int event, object handler, object error) noexcept:
    """The table's `error` handler, as it is now, gets it; failing that, it is reported."""
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if error_stops(error):
        loop_fail(loop_of(s), error)
        return
    error = error_plain(error)
    if report == NULL:
        handler_report(s, handler, error)
        return
    handler = <object>report
    try:
        result = handler(socket_face(s), error)
        if result is not None:
            handler_returned(s, event, handler, result, error)
    except BaseException as second:
        if error_stops(second):
            loop_fail(loop_of(s), second)
        else:
            error_handler_raised(s, handler, error_plain(second), error)


cdef void error_handler_raised(socket_t* s, object handler, object second, object first) noexcept:
    """Both are reported, the first as what the second came from."""
    if second.__context__ is None and second is not first:
        second.__context__ = first
    handler_report(s, handler, second)


cdef void handler_report(socket_t* s, object handler, object error) noexcept:
    """To the asyncio loop's exception handler, or else `sys.unraisablehook`; the server lives on."""
    try:
        if host_report(<Loop>loop_of(s).owner, "Unhandled exception in a handler", error, socket_face(s)):
            return
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop_of(s), stop)
        return
    except BaseException as second:
        error = second
    report_unraisable(error, handler)
