"""slots: the table of slots, shared by every socket of a listener.

Owns `handlers_t`, one C function pointer per event (NULL does no work); `context_t`, a table
with the options that go with it, one per listener or outgoing connection, counted by its
sockets; and the roads an exception takes.

A Cython user's function is installed as it is; a Python callable by pointing its slot at an
adapter (`py_data`, ...): take the GIL, make the arguments, call. Dispatch (`emit_*`) does not
know which kind it calls. Every call to user code stands between `handler_enter` and
`handler_leave`. How a table is made of what users give: see handlers.

A handler that gives a coroutine, as an `async def` does, has not ended yet: see tasks.

Promises: a table is overwritten only between two events (`context_install`); a callable is
held while it runs; no exception ever leaves this file but KeyboardInterrupt and SystemExit,
which stop the loop.
"""
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF, Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free


ctypedef void (*socket_fn)(socket_t*) noexcept nogil

cdef enum:     # events
    E_OPEN, E_DATA, E_DRAIN, E_END, E_CLOSE, E_ERROR, E_TIMEOUT, E_HANDSHAKE, E_CONNECT_ERROR
    EVENTS

cdef enum:     # binary types
    BYTES, BYTEARRAY, MEMORYVIEW

cdef tuple _EVENT_NAMES = ("open", "data", "drain", "end", "close", "error", "timeout",
                           "handshake", "connect_error")


cdef struct handlers_t:
    slots_t slots           # C functions: a Cython user's own, or an adapter
    int binary_type
    PyObject* callable[9]   # owned; by event; what the adapters call
    PyObject* owner         # owned: a Cython user's, for what `slots.user` points into

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
    socket_t* upgraded_to       # what the connection becomes when the last of this socket is sent
    socket_t* upgraded_from     # ... of which this one is the heir
    int upgrade_role            # UPGRADE_CLIENT, UPGRADE_SERVER: its socket has come of an upgrade
    connector_t* connector      # borrowed: waits for the handshake of an outgoing connection
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
    self.connector = NULL
    self.upgraded_to = self.upgraded_from = NULL
    Py_XINCREF(self.data)
    Py_XINCREF(self.tls)
    Py_XINCREF(self.host)
    return self


cdef void context_install(loop_t* loop, context_t* self, const handlers_t* table) noexcept:
    """Overwrite the table. What runs now is held: a callable by its caller, an owner by the loop."""
    cdef handlers_t old = self.table
    table_copy(&self.table, table)
    if old.owner != NULL and loop.handling != 0:
        loop_hold_until_turn_ends(loop, <object>old.owner)
    table_clear(&old)


cdef void context_release(loop_t* loop, context_t* self) noexcept nogil:
    self.references -= 1
    if self.references == 0:
        gil_take(loop)
        (<context_fn><void*>context_free)(self)


ctypedef void (*context_fn)(context_t*) noexcept nogil

cdef void context_free(context_t* self) noexcept:
    table_clear(&self.table)
    Py_CLEAR(self.data)
    Py_CLEAR(self.tls)
    Py_CLEAR(self.host)
    free(self)


cdef inline context_t* context_of(socket_t* self) noexcept nogil:
    return <context_t*>self.tcp.data


# ---------------------------------------------------------------------------- dispatch

cdef inline void emit_event(socket_t* s, socket_fn slot) noexcept nogil:
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s)
    handler_leave(loop_of(s))
    state_check(s)


cdef inline void emit_data(socket_t* s, const char* data, size_t size) noexcept nogil:
    cdef data_slot slot = context_of(s).table.slots.data
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, data, size)
    handler_leave(loop_of(s))
    state_check(s)


cdef inline void emit_close(socket_t* s, int code) noexcept nogil:
    cdef close_slot slot = context_of(s).table.slots.close
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, -code)      # slots are told the kernel's errno
    handler_leave(loop_of(s))
    state_check(s)


cdef inline void emit_handshake(socket_t* s, bint success, long verify_result) noexcept nogil:
    cdef handshake_slot slot = context_of(s).table.slots.handshake
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, success, verify_result)
    handler_leave(loop_of(s))
    state_check(s)


cdef inline void emit_connect_error(socket_t* s, int error) noexcept nogil:
    """`error` as slots are told it. Nothing to do is not asked here: see connector."""
    handler_enter(loop_of(s))
    context_of(s).table.slots.connect_error(s, error)
    handler_leave(loop_of(s))
    state_check(s)


# ---------------------------------------------------------------------------- adapters

# Each takes the GIL and calls its other half, which Cython compiles as code that holds it.


# ---------------------------------------------------------------------------- exceptions


cdef int context_set_tls(context_t* context, object tls) except -1:
    """Sockets of this context are secured, by what was made of the option `tls`; those that are, stay as they are."""
    cdef PyObject* old = context.tls
    context.own_size = EXT_ALIGNMENT
    Py_INCREF(tls)
    context.tls = <PyObject*>tls
    Py_XDECREF(old)
    return 0
