# cython: language_level=3, freethreading_compatible=True
"""script: one verb, done once, from inside one slot, without the GIL.

Owns `Script`: of two sockets, the first (or in `open` the second) does `verb` to itself or to its sibling when `event`
comes. Counts every slot by socket. Nothing in a slot here takes the GIL or allocates.
"""
from pybuntcp cimport (
    handlers_from_slots,
    new_slots,
    slots_t,
    socket_close,
    socket_cork,
    socket_end,
    socket_ext,
    socket_flush,
    socket_pause,
    socket_ref,
    socket_resume,
    socket_shutdown,
    socket_t,
    socket_terminate,
    socket_timeout,
    socket_uncork,
    socket_unref,
    socket_user,
    socket_write,
)

cdef enum:
    OPEN, DATA, DRAIN, END, CLOSE, TIMEOUT
    EVENTS

cdef enum:
    DO_WRITE, DO_END, DO_CLOSE, DO_TERMINATE, DO_SHUTDOWN, DO_SHUTDOWN_READING, DO_PAUSE, DO_RESUME, DO_FLUSH, DO_CORK, DO_UNCORK
    DO_TIMEOUT, DO_UNREF, DO_EVERYTHING

EVENT_NAMES = ("open", "data", "drain", "end", "close", "timeout")
VERB_NAMES = (
    "write", "end", "close", "terminate", "shutdown", "shutdown(True)", "pause", "resume", "flush", "cork", "uncork",
    "timeout", "unref", "everything",
)

cdef char _block[65536]


cdef struct script_t:
    int event
    int verb
    bint sibling
    bint done
    socket_t* sockets[2]        # NULL: not yet, or no more
    int opened
    long counts[2][6]


cdef void perform(socket_t* s, int verb) noexcept nogil:
    cdef int each
    if verb == DO_WRITE:
        socket_write(s, _block, 1000)
    elif verb == DO_END:
        socket_end(s, "bye", 3)
    elif verb == DO_CLOSE:
        socket_close(s)
    elif verb == DO_TERMINATE:
        socket_terminate(s)
    elif verb == DO_SHUTDOWN:
        socket_shutdown(s)
    elif verb == DO_SHUTDOWN_READING:
        socket_shutdown(s, True)
    elif verb == DO_PAUSE:
        socket_pause(s)
    elif verb == DO_RESUME:
        socket_resume(s)
    elif verb == DO_FLUSH:
        socket_write(s, _block, 10)
        socket_flush(s)
    elif verb == DO_CORK:
        socket_cork(s)
        socket_write(s, _block, 10)
    elif verb == DO_UNCORK:
        socket_uncork(s)
    elif verb == DO_TIMEOUT:
        socket_timeout(s, 0.001)
    elif verb == DO_UNREF:
        socket_unref(s)
        socket_ref(s)
    else:
        for each in range(DO_EVERYTHING):
            perform(s, each)


cdef void met(socket_t* s, int event) noexcept nogil:
    cdef script_t* self = <script_t*>socket_user(s)
    cdef int index = (<int*>socket_ext(s))[0]
    cdef int target = 1 - index if self.sibling else index
    self.counts[index][event] += 1
    if self.done or event != self.event or index != (event == OPEN):
        return
    self.done = True
    if self.sockets[target] != NULL:
        perform(self.sockets[target], self.verb)


cdef void on_open(socket_t* s) noexcept nogil:
    cdef script_t* self = <script_t*>socket_user(s)
    (<int*>socket_ext(s))[0] = self.opened
    self.sockets[self.opened] = s
    self.opened += 1
    met(s, OPEN)


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    met(s, DATA)


cdef void on_drain(socket_t* s) noexcept nogil:
    met(s, DRAIN)


cdef void on_end(socket_t* s) noexcept nogil:
    met(s, END)


cdef void on_timeout(socket_t* s) noexcept nogil:
    met(s, TIMEOUT)
    socket_timeout(s, 0)        # it lives on


cdef void on_close(socket_t* s, int error) noexcept nogil:
    cdef script_t* self = <script_t*>socket_user(s)
    met(s, CLOSE)
    self.sockets[(<int*>socket_ext(s))[0]] = NULL


cdef class Script:
    """What happens to two sockets; its `handlers()` keep it."""
    cdef script_t c

    def __cinit__(self, event, verb, bint sibling):
        self.c.event = EVENT_NAMES.index(event)
        self.c.verb = VERB_NAMES.index(verb)
        self.c.sibling = sibling

    def handlers(self):
        cdef slots_t slots = new_slots()
        slots.user = &self.c
        slots.ext_size = sizeof(int)
        slots.open = on_open
        slots.data = on_data
        slots.drain = on_drain
        slots.end = on_end
        slots.close = on_close
        slots.timeout = on_timeout
        return handlers_from_slots(&slots, None, self)

    @property
    def opened(self):
        return self.c.opened

    @property
    def done(self):
        return self.c.done

    def count(self, event, index):
        return self.c.counts[index][EVENT_NAMES.index(event)]

    def fill(self):
        """Write to the first until a write comes up short."""
        cdef Py_ssize_t taken = sizeof(_block)
        while self.c.sockets[0] != NULL and taken == sizeof(_block):
            taken = socket_write(self.c.sockets[0], _block, sizeof(_block))

    def ring(self):
        """Have `timeout` told to the first."""
        if self.c.sockets[0] != NULL:
            socket_timeout(self.c.sockets[0], 0.001)

    def release(self):
        """Undo what keeps a socket from ending, and close it."""
        for each in self.c.sockets:
            if each != NULL:
                socket_resume(each)
                while socket_uncork(each) == 0:
                    pass
                socket_close(each)
