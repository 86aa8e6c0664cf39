"""record: a connection's Python face, from when it is needed until nobody holds it.

A `Socket` is made when a Python handler first needs it and is the same object from then on, held
by its connection until `close` was told. Then it lives on by itself.
Owns `record_t`, what stays readable of a connection that is gone.
"""
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc


cdef struct record_t:
    # What is left to read of a connection that is gone.
    bint detached               # a connection attempt that failed
    address_t local
    address_t remote
    uint64_t bytes_read
    uint64_t bytes_written
    int error
    reader_t* reader            # of the Socket's SocketReader, if it was asked for one


cdef object socket_face(socket_t* s):
    """The Socket of a connection, made now if nobody has needed it before."""
    cdef Socket face
    if s.face != NULL:
        return <object>s.face
    face = Socket.__new__(Socket)
    if s.face != NULL:
        return <object>s.face       # made meanwhile, by somebody's finalizer
    face.s = s
    if s.flags & S_SECURE:
        face.secure = <object>secure_of(s).face
    if context_of(s).data != NULL:
        face.data = <object>context_of(s).data
    Py_INCREF(face)
    s.face = <PyObject*>face
    return face


cdef void face_prepare(socket_t* s) noexcept with gil:
    """Called from verbs, where nobody knows who holds the GIL: the user may have let it go."""
    socket_face(s)


cdef Socket face_of_failure(object data):
    """The socket that `connect_error` gets: never connected."""
    cdef Socket face = Socket.__new__(Socket)
    face.record = <record_t*>calloc(1, sizeof(record_t))
    if face.record == NULL:
        raise MemoryError()
    face.record.detached = True
    face.data = data
    return face


cdef void record_addresses(socket_t* s) noexcept nogil:
    """Note both names while the descriptor can still tell them."""
    cdef record_t* record = (<Socket>s.face).record
    if record == NULL:
        record = <record_t*>calloc(1, sizeof(record_t))
        (<Socket>s.face).record = record
    if record != NULL and not s.flags & S_CLOSED:
        address_of_fd(&record.local, stream_fd(s), False)
        address_of_fd(&record.remote, stream_fd(s), True)


cdef void face_detach(socket_t* s) noexcept:
    """The connection is gone: the face lives on by itself, as long as anybody holds it."""
    cdef Socket face = <Socket>s.face
    record_addresses(s)         # a face made after the closing has no record yet
    if face.record != NULL:
        face.record.bytes_read = s.bytes_read
        face.record.bytes_written = s.accepted
        face.record.error = s.error
        face.record.detached = not s.flags & S_OPENED
    face.s = NULL
    s.face = NULL
    Py_DECREF(face)


cdef record_t _nothing_recorded     # zero: no memory for a record, or nobody looked in time


cdef inline record_t* face_record(Socket self) noexcept:
    return self.record if self.record != NULL else &_nothing_recorded


cdef Waiter face_leave(Socket self, bint raised):
    """`end`, and somebody who waits until it is closed. What nobody reads is not waited for."""
    cdef Waiter waiter
    if not face_alive(self) or self.s.flags & S_GONE or loop_of(self.s).dead:
        return None
    waiter = waiter_new(<Loop>loop_of(self.s).owner)
    self.end()
    if raised or self.s.flags & (S_READER | S_PAUSED | S_BUSY):
        socket_close(self.s)
    self.s.flags |= S_WATCHED
    waiter.loop.leaving.setdefault(self, []).append(waiter)
    return waiter


cdef void face_tell_closed(socket_t* s) noexcept nogil:
    """The descriptor is gone: tell who waits for that."""
    s.flags &= ~S_WATCHED
    if not loop_of(s).dead:
        gil_take(loop_of(s))
        (<event_slot><void*>face_call_leaving)(s)


cdef void face_call_leaving(socket_t* s) noexcept:
    for waiter in (<Loop>loop_of(s).owner).leaving.pop(<object>s.face, ()):
        waiter()


cdef bint face_alive(Socket self) except -1:
    """Is there a connection behind it? RuntimeError in the wrong thread."""
    if self is None or self.s == NULL:      # None: somebody called __new__
        return False
    return loop_check(loop_of(self.s))


cdef int face_state(Socket self) except -3:
    if not face_alive(self):
        return -1 if face_record(self).detached else 0
    return socket_state(self.s)


cdef int face_address(Socket self, bint peer, address_t* name) except -1:
    name.size = 0
    if self.record != NULL:
        name[0] = self.record.remote if peer else self.record.local
    elif face_alive(self):
        socket_name(self.s, peer, name)
    return 0


cdef int face_reload(socket_t* s, Handlers handlers) except -1:
    """Give an accepted socket a context of its own; an outgoing one has it already."""
    cdef context_t* shared = context_of(s)
    cdef context_t* own
    handlers = handlers_for(handlers, <Loop>loop_of(s).owner)
    handlers_fit(handlers, shared)
    if shared.references == 1:
        context_install(loop_of(s), shared, handlers)
        return 0
    own = context_copy(shared)
    context_install(loop_of(s), own, handlers)
    s.tcp.data = own
    own.dialer = shared.dialer
    shared.dialer = NULL
    context_release(loop_of(s), shared)
    return 0


cdef object secure_ask(Socket self, str what, first=_to_be_filled, second=_to_be_filled, third=_to_be_filled):
    """Of the engine's object; None: it is not secured."""
    cdef bint alive = face_alive(self)
    if self is None or self.secure is None or (self.s != NULL and not alive):
        return None
    found = getattr(self.secure, what)
    given = [each for each in (first, second, third) if each is not _to_be_filled]
    return found(*given) if callable(found) else found


cdef object socket_error(socket_t* s, int code):
    """The exception `close` is told; None for an orderly end."""
    if code == 0:
        return None
    return face_error(<Socket>s.face, code, "write" if s.flags & S_BROKEN else "read")


cdef object face_error(Socket self, int code, str syscall):
    """The exception, with the peer's address."""
    cdef address_t name
    error = None if self.secure is None else secure_error(self.secure, code)
    if error is not None:
        return error
    face_address(self, True, &name)
    return error_from_code(code, syscall, address_host(&name), address_port(&name))
