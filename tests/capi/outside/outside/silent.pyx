# cython: language_level=3, freethreading_compatible=True
"""silent: slots that do without Python.

Owns `Echo`, which loses nothing when the peer does not read, and `Gate`, whose slot waits inside for somebody else.
Both count in C how often their slots ran, and in how many of those this thread held the GIL. `Echo` takes it only where
it is told to: for a message that begins with "?", and when the last connection has closed.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.unistd cimport read, write

from pybuntcp cimport (
    handlers_from_slots,
    new_slots,
    slots_t,
    socket_ext,
    socket_pause,
    socket_pipe,
    socket_resume,
    socket_t,
    socket_user,
    socket_write,
)

cdef extern from "Python.h":
    int PyGILState_Check() nogil        # which may be asked without the GIL

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)
    int POLLIN


# ---------------------------------------------------------------------------- an echo

cdef struct rest_t:             # behind every socket: what the socket did not accept yet
    char* bytes
    size_t start
    size_t size

cdef struct counts_t:
    long opens
    long reads
    long received
    long shorts                 # writes of which not all was accepted
    long drains
    long ends
    long closes
    long errors
    long held                   # slots in which this thread held the GIL

cdef struct echo_t:
    counts_t count
    bint piped                  # a pipe is the echo, and `data` is not called
    long last                   # after so many closes `on_last` is called; 0: never
    void* owner


cdef counts_t* counts_of(socket_t* s) noexcept nogil:
    cdef echo_t* self = <echo_t*>socket_user(s)
    self.count.held += PyGILState_Check()
    return &self.count


cdef void echo_open(socket_t* s) noexcept nogil:
    counts_of(s).opens += 1
    if (<echo_t*>socket_user(s)).piped:
        counts_of(s).errors += socket_pipe(s, s, 1) != 0


cdef void echo_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef counts_t* count = counts_of(s)
    cdef Py_ssize_t taken
    count.reads += 1
    count.received += size
    if at[0] == c"?":
        with gil:
            (<Echo>(<echo_t*>socket_user(s)).owner).on_probe()
    taken = socket_write(s, at, size)
    if taken < 0:
        count.errors += 1
    elif <size_t>taken < size:
        count.shorts += 1
        rest_keep(<rest_t*>socket_ext(s), at + taken, size - taken)
        socket_pause(s)


cdef void rest_keep(rest_t* self, const char* at, size_t size) noexcept nogil:
    self.bytes = <char*>malloc(size)
    memcpy(self.bytes, at, size)
    self.start = 0
    self.size = size


cdef void rest_free(rest_t* self) noexcept nogil:
    free(self.bytes)
    self.bytes = NULL
    self.start = self.size = 0


cdef void echo_drain(socket_t* s) noexcept nogil:
    cdef counts_t* count = counts_of(s)
    cdef rest_t* rest = <rest_t*>socket_ext(s)
    cdef Py_ssize_t taken = socket_write(s, rest.bytes + rest.start, rest.size - rest.start)
    count.drains += 1
    if taken < 0:
        count.errors += 1
        return
    rest.start += taken
    if rest.start < rest.size:
        count.shorts += 1
    else:
        rest_free(rest)
        socket_resume(s)


cdef void echo_end(socket_t* s) noexcept nogil:
    counts_of(s).ends += 1


cdef void echo_close(socket_t* s, int error) noexcept nogil:
    cdef echo_t* self = <echo_t*>socket_user(s)
    cdef counts_t* count = counts_of(s)
    rest_free(<rest_t*>socket_ext(s))
    count.errors += error != 0
    count.closes += 1
    if count.closes == self.last:
        with gil:
            (<Echo>self.owner).on_last()


cdef class Echo:
    """An echo, which its `handlers()` keep."""
    cdef echo_t c
    cdef public object on_last          # called once, when `last` connections have closed
    cdef public object on_probe         # called for every message that begins with "?"

    def __cinit__(self, long last=0, bint piped=False):
        self.c.piped = piped
        self.c.last = last
        self.c.owner = <void*>self

    def handlers(self, handlers=None):
        cdef slots_t slots = new_slots()
        slots.user = &self.c
        slots.ext_size = sizeof(rest_t)
        slots.open = echo_open
        slots.data = echo_data
        slots.drain = echo_drain
        slots.end = echo_end
        slots.close = echo_close
        return handlers_from_slots(&slots, handlers, self)

    @property
    def counts(self):
        """How often each slot ran; `held`: how many of them held the GIL."""
        return self.c.count


# ---------------------------------------------------------------------------- a gate

cdef struct gate_t:
    int told                    # written when a slot waits
    int answer                  # read by it
    int patience                # milliseconds
    long held


cdef void gate_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Say that we wait; wait for a byte; tell the peer "in time" or "too late"."""
    cdef gate_t* self = <gate_t*>socket_user(s)
    cdef pollfd wanted
    cdef char scrap
    self.held += PyGILState_Check()
    wanted.fd = self.answer
    wanted.events = POLLIN
    write(self.told, b"!", 1)
    if poll(&wanted, 1, self.patience) == 1 and read(self.answer, &scrap, 1) == 1:
        socket_write(s, "in time", 7)
    else:
        socket_write(s, "too late", 8)


cdef class Gate:
    """A `data` slot that writes a byte to `told` and blocks until there is one in `answer`."""
    cdef gate_t c

    def __cinit__(self, int told, int answer, double patience):
        self.c.told = told
        self.c.answer = answer
        self.c.patience = <int>(patience * 1000)

    def handlers(self, handlers=None):
        cdef slots_t slots = new_slots()
        slots.user = &self.c
        slots.data = gate_data
        return handlers_from_slots(&slots, handlers, self)

    @property
    def held(self):
        return self.c.held
