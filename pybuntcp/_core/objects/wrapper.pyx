"""wrapper: the Python object of a connection, and what outlives the connection.

A `Socket` is made when a Python handler, or another Python object, first needs it, and is the same object from then on.
The connection owns a reference until `close` was emitted (`wrapper_detach`); after that the `Socket` lives as long as
the user refers to it, and answers from its snapshot.

Owns `ReadyState`; `snapshot_t`, what stays readable of a connection that is gone; when a `Socket` is made; `reload` of
one socket; the times that may be set on one; and the waiters for a socket to be closed (`async with`).
Does not know verbs: see socket.
"""
cimport cython
from enum import IntEnum

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from libc.math cimport isinf
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc

from pybuntcp._c cimport uv


class ReadyState(IntEnum):
    """The states of a socket: `Socket.ready_state`. Source: Bun's `Socket.readyState`."""

    SHUTDOWN = -2
    DETACHED = -1
    CLOSED = 0
    ESTABLISHED = 1
    OTHER = 2


cdef struct snapshot_t:
    # What stays readable of a connection that is gone.
    bint detached       # a connection attempt that failed, or a socket that an upgrade replaced
    address_t local
    address_t remote
    uint64_t bytes_read
    uint64_t bytes_written
    int error
    deadline_t expired  # which deadline ended it
    reader_t* reader    # borrowed: of the Socket's SocketReader, if it has one


cdef extern from * nogil:
    """
    /* Whoever sees the pointer sees what was written behind it. */
    #define pbt_publish(place, pointer) __atomic_store_n(place, pointer, __ATOMIC_RELEASE)
    """
    void snapshot_publish "pbt_publish"(snapshot_t** place, snapshot_t* snapshot)


cdef object wrapper_of(socket_t* s):
    """The Socket of a connection, made now if it has none yet."""
    cdef Socket wrapper
    if s.wrapper != NULL:
        return <object>s.wrapper
    wrapper = Socket.__new__(Socket)
    if s.wrapper != NULL:
        return <object>s.wrapper       # made meanwhile: allocating may run the garbage collector, and so user code
    wrapper.s = s
    if s.flags & S_TLS:
        wrapper.tls_connection = <object>tls_of(s).wrapper
    if context_of(s).data != NULL:
        wrapper._data = <object>context_of(s).data
    Py_INCREF(wrapper)
    s.wrapper = <PyObject*>wrapper
    return wrapper


cdef void wrapper_prepare(socket_t* s) noexcept with gil:
    """Make it now. Called from verbs, which may run with or without the GIL: a slot may have released it."""
    wrapper_of(s)


cdef void wrapper_closing(socket_t* s) noexcept nogil:
    """The descriptor is about to be closed.

    Making a Socket may run the garbage collector, and so user code, which may close `s`.
    """
    if s.wrapper == NULL and wrapper_is_needed_to_close(s):
        wrapper_prepare(s)
    if s.wrapper != NULL:
        snapshot_addresses(s)


cdef bint wrapper_is_needed_to_close(socket_t* s) noexcept nogil:
    """A Python `close` handler may want the addresses, which the kernel does not have any more by then."""
    return s.flags & S_OPENED and not loop_of(s).dead and context_of(s).table.slots.close == py_close


cdef Socket wrapper_of_failure(object data):
    """The Socket that `connect_error` gets: it was never connected."""
    cdef Socket wrapper = Socket.__new__(Socket)
    wrapper.snapshot = <snapshot_t*>calloc(1, sizeof(snapshot_t))
    if wrapper.snapshot == NULL:
        raise MemoryError()
    wrapper.snapshot.detached = True
    wrapper._data = data
    return wrapper


cdef void snapshot_addresses(socket_t* s) noexcept nogil:
    """Note both addresses while the descriptor is still open, once: from then on any thread may read them."""
    cdef snapshot_t* snapshot
    if (<Socket>s.wrapper).snapshot != NULL:
        return
    snapshot = <snapshot_t*>calloc(1, sizeof(snapshot_t))
    if snapshot != NULL and not s.flags & S_CLOSED:
        address_of_fd(&snapshot.local, stream_fd(s), False)
        address_of_fd(&snapshot.remote, stream_fd(s), True)
    snapshot_publish(&(<Socket>s.wrapper).snapshot, snapshot)


cdef void wrapper_detach(socket_t* s) noexcept:
    """The connection is gone: the Socket lives on by itself, as long as the user refers to it."""
    cdef Socket wrapper = <Socket>s.wrapper
    snapshot_addresses(s)         # a Socket made after the descriptor was closed has no snapshot yet
    if wrapper.snapshot != NULL:
        wrapper.snapshot.bytes_read = s.bytes_read
        wrapper.snapshot.bytes_written = s.accepted
        wrapper.snapshot.error = s.error
        wrapper.snapshot.expired = wrapper_expired(wrapper)
        wrapper.snapshot.detached = not s.flags & S_OPENED
    with cython.critical_section(wrapper):
        wrapper.s = NULL
    s.wrapper = NULL
    Py_DECREF(wrapper)


cdef snapshot_t _empty_snapshot     # all zero: there was no memory for a snapshot, or none was made in time


cdef inline snapshot_t* wrapper_snapshot(Socket self) noexcept:
    return self.snapshot if self.snapshot != NULL else &_empty_snapshot


cdef Waiter wrapper_end_and_wait(Socket self, bint raised):
    """`end`, and a Waiter for the close. None: it is closed already.

    A socket that is not being read would never see the peer's end, so it is closed at once.
    """
    cdef Waiter waiter
    if not wrapper_is_open(self) or self.s.flags & S_CLOSE_DEFERRED or loop_of(self.s).dead:
        return None
    waiter = waiter_new(<Loop>loop_of(self.s).owner)
    self.end()
    if raised or is_left_unread(self.s):
        socket_close(self.s)
    self.s.flags |= S_CLOSE_WAITERS
    waiter.loop.close_waiters.setdefault(self, []).append(waiter)
    return waiter


cdef void wrapper_wake_closed(socket_t* s) noexcept nogil:
    """The descriptor is closed: wake the waiters."""
    s.flags &= ~S_CLOSE_WAITERS
    if not loop_of(s).dead:
        socket_call_with_gil(s, wrapper_call_close_waiters)


cdef void wrapper_call_close_waiters(socket_t* s) noexcept:
    for waiter in (<Loop>loop_of(s).owner).close_waiters.pop(<object>s.wrapper, ()):
        waiter()


cdef bint wrapper_is_open(Socket self) except -1:
    """Is there a connection behind it? RuntimeError in the wrong thread."""
    if self is None or self.s == NULL:      # None: user code called Socket.__new__ or a method on no instance
        return False
    if PBT_HAS_GIL:
        return loop_check(loop_of(self.s))
    return wrapper_is_open_in_any_thread(self)


cdef bint wrapper_is_open_in_any_thread(Socket self) except -1:
    """The same where there is no GIL, and the loop's thread may be closing it just now."""
    cdef Loop loop = None
    with cython.critical_section(self):
        if self.s == NULL:
            return False
        if PyThread_get_thread_ident() == loop_of(self.s).thread:
            return True
        loop = <Loop>loop_of(self.s).owner
    return loop_check(loop.c)


cdef object wrapper_data(Socket self):
    """`Socket.data` where there is no GIL: any thread may ask, also while another one sets it."""
    with cython.critical_section(self):
        return self._data


cdef int wrapper_set_data(Socket self, object value) except -1:
    with cython.critical_section(self):
        self._data = value
    return 0


cdef int wrapper_state(Socket self) except -3:
    """A ReadyState as a number."""
    if not wrapper_is_open(self):
        return -1 if wrapper_snapshot(self).detached else 0
    return socket_state(self.s)


cdef int wrapper_address(Socket self, bint peer, address_t* name) except -1:
    cdef snapshot_t* snapshot
    name.size = 0
    if self.snapshot == NULL and wrapper_is_open(self):
        socket_name(self.s, peer, name)
        return 0
    snapshot = wrapper_snapshot(self)
    name[0] = snapshot.remote if peer else snapshot.local
    return 0


cdef object wrapper_host(Socket self, bint peer):
    cdef address_t name
    wrapper_address(self, peer, &name)
    return address_host(&name)


cdef object wrapper_port(Socket self, bint peer):
    cdef address_t name
    wrapper_address(self, peer, &name)
    return address_port(&name)


cdef object wrapper_family(Socket self, bint peer):
    cdef address_t name
    wrapper_address(self, peer, &name)
    return address_family(&name)


cdef int wrapper_reload(socket_t* s, Handlers handlers) except -1:
    """New handlers: an accepted socket gets a context of its own; an outgoing one has its own already."""
    cdef context_t* shared = context_of(s)
    cdef context_t* own
    handlers = handlers_bind(handlers, <Loop>loop_of(s).owner, shared.slow_handler)
    handlers_check_ext(handlers, shared)
    if shared.references == 1:
        context_install(loop_of(s), shared, &handlers.table)
        return 0
    own = context_copy(shared)
    context_install(loop_of(s), own, &handlers.table)
    s.tcp.data = own
    own.connector = shared.connector
    shared.connector = NULL
    context_release(loop_of(s), shared)
    return 0


cdef object wrapper_close_error(socket_t* s, int code):
    """The exception for `close`; None for an orderly end."""
    if code == 0:
        return None
    return wrapper_error(<Socket>s.wrapper, code, "write" if s.flags & S_BROKEN else "read")


cdef object wrapper_error(Socket self, int code, str syscall):
    """The exception for a code, with the peer's address; with TLS the engine's own, if it has one."""
    error = None if self.tls_connection is None else tls_error(self.tls_connection, code)
    if error is not None:
        return error
    error = error_from_code(code, syscall, wrapper_host(self, True), wrapper_port(self, True))
    if code == uv.UV_ETIMEDOUT and wrapper_expired(self) != DEADLINE_NONE:
        error.strerror = f"{error.strerror}: {_DEADLINES[<int>wrapper_expired(self)]}"
        error.args = (error.errno, error.strerror)
    return error


cdef tuple _DEADLINES = (None, "timeout()", "idle_timeout", "read_timeout", "linger_timeout")     # by deadline_t


cdef deadline_t wrapper_expired(Socket self) noexcept:
    """Which deadline has ended the connection."""
    if self.s == NULL:
        return wrapper_snapshot(self).expired
    return self.s.deadlines.expired if self.s.deadlines != NULL else DEADLINE_NONE


# ---------------------------------------------------------------------------- idle_timeout, read_timeout

cdef object wrapper_timeout(Socket self, deadline_t which):
    """Seconds; None: for ever, or the connection is gone."""
    cdef double seconds
    if not wrapper_is_open(self):
        return None
    seconds = deadlines_setting(self.s, which)
    return None if isinf(seconds) else seconds


cdef int wrapper_set_timeout(Socket self, deadline_t which, object value) except -1:
    cdef str name = _DEADLINES[<int>which]
    cdef double seconds = float("inf") if value is None else number_of_seconds(name, value)
    if not seconds >= 0:
        raise ValueError(f"{name} must not be negative or NaN, not {value!r}")
    if seconds == 0:
        raise ValueError(f"{name} must be more than 0 seconds, or None for ever")
    if wrapper_is_open(self) and not deadlines_set(self.s, which, seconds):
        raise MemoryError()
    return 0


cdef object socket_object(socket_t* s):
    """Of the C API."""
    return wrapper_of(s)
