"""slots: the table of slots, and the socket context that owns it.

Owns `handlers_t`, one C function pointer per event (a NULL slot costs nothing); `context_t`, a table with the options
that go with it, one per listener or outgoing connection, reference-counted by its sockets; and dispatch (`emit_*`).

A Cython user's function is installed as it is. For a Python callable the slot points at an adapter (`py_data` and the
like, see adapters), and the context owns the callable. Dispatch does not know which kind it calls. How a table is
made of what users pass: see handlers.

Promises: every call of user code stands between `handler_enter` and `handler_leave`; none happens once the loop is
dead. A table is overwritten only between two events (`context_install`); the owner of a replaced table lives until the
turn ends. Does not know exceptions: adapters handle them.
"""
from cpython.ref cimport PyObject, Py_CLEAR, Py_INCREF, Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free


ctypedef void (*socket_fn)(socket_t*) noexcept nogil
ctypedef void (*socket_gil_fn)(socket_t*) noexcept      # needs the GIL

cdef enum:     # events
    E_OPEN, E_DATA, E_DRAIN, E_END, E_CLOSE, E_ERROR, E_TIMEOUT, E_HANDSHAKE, E_CONNECT_ERROR
    EVENTS

cdef enum:     # binary types
    BYTES, BYTEARRAY, MEMORYVIEW

cdef tuple _EVENT_NAMES = ("open", "data", "drain", "end", "close", "error", "timeout",
                           "handshake", "connect_error")


cdef struct handlers_t:
    slots_t slots           # C functions: a Cython user's own, or adapters
    int binary_type
    bint short_write_told   # a ShortWriteWarning was given
    PyObject* callable[9]   # owned; indexed by event: the functions that adapters call
    PyObject* owner         # owned: a Cython user's object; keeps alive what `slots.user` points into

cdef struct context_t:
    handlers_t table
    size_t references           # sockets, and the listener or connector
    listener_t* server          # borrowed; NULL for outgoing connections
    PyObject* data              # owned: the default of `socket.data`
    uint64_t high_water_mark
    double idle_timeout         # seconds; infinity = no limit
    double read_timeout
    double linger_timeout
    double slow_handler         # seconds from which on a handler is slow; for `reload`
    size_t ext_size             # bytes of the user's behind every socket; `reload` does not change it
    PyObject* host              # owned: the name passed to connect(), a str or None; NULL: accepted
    PyObject* tls               # owned: the configuration that `_tls` makes a connection of; NULL: plain
    socket_t* upgraded_to       # borrowed: the TLS socket that takes over when this plain one is flushed
    socket_t* upgraded_from     # borrowed: the plain socket that this TLS socket takes over from
    int upgrade_role            # UPGRADE_CLIENT, UPGRADE_SERVER; 0: not made by an upgrade
    connector_t* connector      # borrowed: waits for the handshake of an outgoing connection
    double handshake_timeout
    bint allow_half_open
    bint pause_on_connect


cdef inline void socket_call_with_gil(socket_t* s, socket_gil_fn function) noexcept nogil:
    """The turn holds the GIL from here on, which Cython cannot know."""
    gil_take(loop_of(s))
    (<socket_fn><void*>function)(s)


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
    self.idle_timeout = self.read_timeout = self.linger_timeout = self.handshake_timeout = float("inf")
    self.slow_handler = float("inf")
    return self


cdef context_t* context_with_table(const handlers_t* table, object data) except NULL:
    """What `socket.data` is in the beginning, and no limits."""
    cdef context_t* self = context_new()
    table_copy(&self.table, table)
    Py_INCREF(data)
    self.data = <PyObject*>data
    self.ext_size = table.slots.ext_size
    return self


cdef context_t* context_copy(context_t* other) except NULL:
    """A context with one reference that starts as a copy of `other`, links to other sockets apart."""
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
    """Overwrite the table. What runs now stays alive: the adapter holds its callable, the loop holds the owner."""
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
    slot(s, -code)      # slots receive the kernel's positive errno
    handler_leave(loop_of(s))
    state_check(s)


cdef inline void emit_broken(socket_t* s, int code) noexcept nogil:
    cdef broken_slot slot = context_of(s).table.slots.broken
    if slot == NULL or loop_of(s).dead:
        return
    handler_enter(loop_of(s))
    slot(s, -code)
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
    """`error`: a positive errno. The caller has checked that the slot is set and the loop alive: see connector."""
    handler_enter(loop_of(s))
    context_of(s).table.slots.connect_error(s, error)
    handler_leave(loop_of(s))
    state_check(s)


cdef int context_set_tls(context_t* context, object tls) except -1:
    """Use TLS for the context's new sockets, with this configuration. Existing sockets keep theirs."""
    cdef PyObject* old = context.tls
    Py_INCREF(tls)
    context.tls = <PyObject*>tls
    Py_XDECREF(old)
    return 0
