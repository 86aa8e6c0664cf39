# cython: language_level=3, freethreading_compatible=True
"""writer: a connection whose writes are never refused, whose memory is its user's, and that only a verb closes.

Owns `Writer`, one table with what code with its own rules for writing needs: `broken`, `alloc`, a drain with a low-water mark.
Its slots note what they are told and call Python functions of the test's. It is filled by the socket that it is opened by, or
by `adopt`, and emptied at `close`.
"""
from cpython.mem cimport PyMem_Free, PyMem_Malloc

from pybuntcp cimport (
    SLOTS_OPEN_UNTIL_CLOSED,
    alloc_slot,
    abandoned_slot,
    broken_slot,
    close_slot,
    data_slot,
    handlers_from_slots,
    handshake_slot,
    new_slots,
    open_slot,
    slots_t,
    socket_bytes,
    socket_close,
    socket_close_now,
    socket_cork,
    socket_end,
    socket_error,
    socket_exception,
    socket_fileno,
    socket_flush,
    socket_from_fd,
    socket_interrupted,
    socket_object,
    socket_part_t,
    socket_pause,
    socket_pending,
    socket_resume,
    socket_shutdown,
    socket_ssl_object,
    socket_start_tls,
    socket_state,
    socket_t,
    socket_take_gil,
    socket_terminate,
    socket_uncork,
    socket_user,
    socket_want_drain,
    socket_write_all,
    socket_writev,
    tls_prepare,
)

FLAG = SLOTS_OPEN_UNTIL_CLOSED


cdef class Writer:
    """A table for one connection at a time. calls: name of an event -> a function of the Writer, or (`data`) of it and bytes."""
    cdef socket_t* s
    cdef readonly list events
    cdef readonly dict calls
    cdef readonly bytearray memory      # what `alloc` gives
    cdef public object after            # called with nothing, after each event
    cdef public object capacity         # None: the loop's memory; 0: nothing is to be read now
    cdef bint hears_broken, gives_memory, stays_open, hears_abandoned, hears_handshake

    def __init__(self, *, broken=True, memory=None, stays_open=False, abandoned=False, handshake=False, **calls):
        self.events, self.calls = [], calls
        self.hears_handshake = handshake
        self.hears_broken, self.stays_open, self.hears_abandoned = broken, stays_open, abandoned
        self.gives_memory = memory is not None
        self.memory, self.capacity = bytearray(memory or 0), memory

    def handlers(self, others=None):
        cdef slots_t slots = new_slots()
        slots.user = <void*>self
        slots.open = on_open
        slots.data = on_data
        slots.drain = on_drain
        slots.end = on_end
        slots.close = on_close
        if self.hears_broken:
            slots.broken = on_broken
        if self.gives_memory:
            slots.alloc = on_alloc
        if self.hears_abandoned:
            slots.abandoned = on_abandoned
        if self.hears_handshake:
            slots.handshake = on_handshake
        if self.stays_open:
            slots.flags = SLOTS_OPEN_UNTIL_CLOSED
        return handlers_from_slots(&slots, others, self)

    def adopt(self, int fd, handlers=None):
        """`socket_from_fd`"""
        self.s = socket_from_fd(fd, self.handlers() if handlers is None else handlers)

    @property
    def received(self):
        return b"".join(chunk for name, chunk in self.events if name == "data")

    def names(self):
        return [name for name, _ in self.events]

    # ------------------------------------------------------------------ verbs

    def write_all(self, bytes data):
        return socket_write_all(alive(self), data, len(data))

    def write_too_much(self):
        return socket_write_all(alive(self), NULL, <size_t>-1)

    def writev(self, list pieces):
        cdef int count = len(pieces), i
        cdef socket_part_t* parts = <socket_part_t*>PyMem_Malloc(max(count, 1) * sizeof(socket_part_t))
        try:
            for i in range(count):
                parts[i].data, parts[i].size = <bytes>pieces[i], len(pieces[i])
            return socket_writev(alive(self), parts, count)
        finally:
            PyMem_Free(parts)

    def want_drain(self, size_t low):
        return socket_want_drain(alive(self), low)

    def do(self, str verb):
        """One of the verbs that take nothing."""
        cdef socket_t* s = alive(self)
        if verb == "close":
            return socket_close(s)
        if verb == "close_now":
            return socket_close_now(s)
        if verb == "terminate":
            return socket_terminate(s)
        if verb == "end":
            return socket_end(s)
        if verb == "shutdown":
            return socket_shutdown(s)
        if verb == "pause":
            return socket_pause(s)
        if verb == "resume":
            return socket_resume(s)
        if verb == "flush":
            return socket_flush(s)
        if verb == "cork":
            return socket_cork(s)
        if verb == "uncork":
            return socket_uncork(s)
        raise ValueError(verb)

    @property
    def gone(self):
        return self.s == NULL

    @property
    def pending(self):
        return socket_pending(alive(self))

    @property
    def error(self):
        return socket_error(alive(self))

    @property
    def state(self):
        return socket_state(alive(self))

    @property
    def fd(self):
        return socket_fileno(alive(self))

    def object(self):
        return socket_object(alive(self))

    def start_tls(self, prepared, double handshake_timeout, bytes initial=b""):
        return socket_start_tls(alive(self), prepared, handshake_timeout, initial, len(initial))

    @property
    def standard_object(self):
        return socket_ssl_object(alive(self))

    @property
    def exception(self):
        return socket_exception(alive(self))

    def interrupt(self, error):
        """`socket_interrupted`, which belongs into a slot."""
        socket_interrupted(alive(self), error)


def prepare(tls, bint server, server_hostname=None):
    """`tls_prepare`"""
    return tls_prepare(tls, server, server_hostname)


cdef socket_t* alive(Writer self) except NULL:
    if self.s == NULL:
        raise ReferenceError("the connection is gone")
    return self.s


cdef void tell(socket_t* s, str name, object value) noexcept:
    """Note the event and call the test's function for it. What that raises goes to `sys.unraisablehook`."""
    cdef Writer self = <Writer>socket_user(s)
    self.s = s
    self.events.append((name, value))
    call = self.calls.get(name)
    if call is not None:
        call(self)
    if name in ("close", "abandoned"):
        self.s = NULL
    if self.after is not None:
        self.after()


cdef void on_open(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<open_slot><void*>opened)(s)


cdef void opened(socket_t* s) noexcept:
    tell(s, "open", None)


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    socket_take_gil(s)
    (<data_slot><void*>arrived)(s, at, size)


cdef void arrived(socket_t* s, const char* at, size_t size) noexcept:
    cdef Writer self = <Writer>socket_user(s)
    if size != 0 or not self.gives_memory:
        tell(s, "data", socket_bytes(s, at, size))
    else:
        tell(s, "nothing", None)


cdef void on_drain(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<open_slot><void*>drained)(s)


cdef void drained(socket_t* s) noexcept:
    tell(s, "drain", socket_pending(s))


cdef void on_end(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<open_slot><void*>ended)(s)


cdef void ended(socket_t* s) noexcept:
    tell(s, "end", None)


cdef void on_broken(socket_t* s, int error) noexcept nogil:
    socket_take_gil(s)
    (<broken_slot><void*>failed)(s, error)


cdef void failed(socket_t* s, int error) noexcept:
    tell(s, "broken", error)


cdef void on_handshake(socket_t* s, int success, long verify_result) noexcept nogil:
    socket_take_gil(s)
    (<handshake_slot><void*>agreed)(s, success, verify_result)


cdef void agreed(socket_t* s, int success, long verify_result) noexcept:
    tell(s, "handshake", success)


cdef void on_close(socket_t* s, int error) noexcept nogil:
    socket_take_gil(s)
    (<close_slot><void*>closed)(s, error)


cdef void closed(socket_t* s, int error) noexcept:
    tell(s, "close", error)


cdef void on_abandoned(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<abandoned_slot><void*>abandoned)(s)


cdef void abandoned(socket_t* s) noexcept:
    tell(s, "abandoned", None)


cdef char* on_alloc(socket_t* s, size_t suggested, size_t* capacity) noexcept nogil:
    socket_take_gil(s)
    return (<alloc_slot><void*>asked)(s, suggested, capacity)


cdef char* asked(socket_t* s, size_t suggested, size_t* capacity) noexcept:
    cdef Writer self = <Writer>socket_user(s)
    if suggested == 0 or capacity[0] == 0:
        raise AssertionError("nothing was suggested")
    tell(s, "alloc", None)
    if self.capacity is None:
        return NULL
    capacity[0] = self.capacity
    return <char*>self.memory if self.capacity else NULL
