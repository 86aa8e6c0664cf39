# cython: language_level=3
"""The C API: what `from pybuntcp cimport ...` gives to other Cython code. See docs/cython.md.

Header-free: no libuv, no OpenSSL, no layout of an object. Names are only ever added, members of
`slots_t` only ever appended; a module built against this file goes on working with every later
pybuntcp of the same `SLOTS_ABI`.

Everything `nogil` belongs to the thread of the socket's loop and never calls a slot before it
returns. A verb gives 0, -1 if it could do nothing, -2 if there was no memory. A `socket_t*` is
valid from its `open` until its `close` (or `connect_error`) has returned.
"""
from libc.string cimport memset


cdef enum:
    SLOTS_ABI = 1               # what the members of `slots_t` mean

cdef enum:      # socket_state
    SOCKET_SHUTDOWN = -2
    SOCKET_DETACHED = -1
    SOCKET_CLOSED = 0
    SOCKET_ESTABLISHED = 1
    SOCKET_OTHER = 2

cdef extern from *:
    """
    struct __pyx_t_8pybuntcp_5_core_socket_t;   /* Cython does not declare what has no members */
    """

cdef struct socket_t            # one connection

ctypedef void (*open_slot)(socket_t*) noexcept nogil
ctypedef void (*data_slot)(socket_t*, const char*, size_t) noexcept nogil
ctypedef void (*drain_slot)(socket_t*) noexcept nogil
ctypedef void (*end_slot)(socket_t*) noexcept nogil
ctypedef void (*close_slot)(socket_t*, int error) noexcept nogil
ctypedef void (*timeout_slot)(socket_t*) noexcept nogil
ctypedef void (*handshake_slot)(socket_t*, int success, long verify_result) noexcept nogil
ctypedef void (*connect_error_slot)(socket_t*, int error) noexcept nogil

cdef struct slots_t:
    # One C function for each event; NULL does no work. Make it with `new_slots`.
    # An error is a positive errno; 0: none; negative: an EAI_* code of a name.
    unsigned int abi
    unsigned int size
    size_t ext_size     # zeroed bytes of your own behind every socket: `socket_ext`
    void* user          # one pointer for the whole table: `socket_user`
    open_slot open
    data_slot data
    drain_slot drain
    end_slot end
    close_slot close
    timeout_slot timeout
    handshake_slot handshake
    connect_error_slot connect_error

cdef inline slots_t new_slots() noexcept nogil:
    """An empty table, stamped in your build."""
    cdef slots_t slots
    memset(&slots, 0, sizeof(slots))
    slots.abi = SLOTS_ABI
    slots.size = sizeof(slots)
    return slots

# A `Handlers` for listen(), connect() and reload(): a copy of the table. `handlers`: Python
# handlers to go with it, as listen(socket=...) takes them, or None. `owner`: an object, kept for
# as long as a socket may use the table; what `user` points into, say. ValueError for a table that
# this pybuntcp does not understand, or with neither `data` nor `drain`.
cdef object handlers_from_slots(const slots_t* slots, object handlers=*, object owner=*)

# writing
cdef Py_ssize_t socket_write(socket_t* s, const char* data, size_t size) noexcept nogil      # bytes accepted, or -1
cdef int socket_end(socket_t* s, const char* data=*, size_t size=*) noexcept nogil            # all of it, then FIN
cdef int socket_flush(socket_t* s) noexcept nogil
cdef int socket_cork(socket_t* s) noexcept nogil                                            # nests
cdef int socket_uncork(socket_t* s) noexcept nogil
cdef size_t socket_pending(socket_t* s) noexcept nogil                                      # accepted, not yet with the kernel
cdef unsigned long long socket_bytes_written(socket_t* s) noexcept nogil
cdef unsigned long long socket_bytes_read(socket_t* s) noexcept nogil

# life
cdef int socket_close(socket_t* s) noexcept nogil
cdef int socket_terminate(socket_t* s) noexcept nogil
cdef int socket_shutdown(socket_t* s, bint half_close=*) noexcept nogil
cdef int socket_pause(socket_t* s) noexcept nogil
cdef int socket_resume(socket_t* s) noexcept nogil
cdef int socket_ref(socket_t* s) noexcept nogil
cdef int socket_unref(socket_t* s) noexcept nogil
cdef int socket_timeout(socket_t* s, double seconds) noexcept nogil
cdef int socket_state(socket_t* s) noexcept nogil

# identity
cdef void* socket_ext(socket_t* s) noexcept nogil                                           # aligned to 16; NULL: ext_size is 0
cdef void* socket_user(socket_t* s) noexcept nogil
cdef int socket_fileno(socket_t* s) noexcept nogil
cdef Py_ssize_t socket_remote_address(socket_t* s, char* text, size_t capacity) noexcept nogil  # its length, NUL apart; -1: unknown, or no room
cdef Py_ssize_t socket_local_address(socket_t* s, char* text, size_t capacity) noexcept nogil
cdef int socket_remote_port(socket_t* s) noexcept nogil                                     # -1 on unix sockets
cdef int socket_local_port(socket_t* s) noexcept nogil
cdef int socket_set_no_delay(socket_t* s, bint enable) noexcept nogil
cdef int socket_set_keep_alive(socket_t* s, bint enable, unsigned int milliseconds) noexcept nogil

# The `Socket`, made when first asked for. It needs the GIL.
cdef object socket_object(socket_t* s)


# ---------------------------------------------------------------------------- the seam to _tls

# For pybuntcp's own `_tls`, which is built with this very file: no part of the C API, no promise.

cdef struct tls_t:           # first in what an engine has of a secured socket
    void* wrapper           # borrowed: its Python object
    size_t sealed           # plaintext in what is sealed and waits for the kernel
    size_t control          # ... and bytes of the engine's own
    char* buffered          # what came and must not be opened yet; malloc'ed
    size_t buffered_size
    bint undelivered        # the engine has something to tell when it may
    bint handshake_pending  # `handshake` is to be told: ...
    bint success
    long verify_result

cdef enum:
    SEALED = 0
    SEAL_WANT_READ = 1              # the peer's message between two records of data is half there

cdef struct tls_scratch_t:             # a loop's, where engines work
    char* out       # sealed, to be sent by the core before anything else happens
    size_t out_size
    size_t out_capacity
    char* plain     # for what was opened
    size_t plain_capacity
    bint busy       # an engine is at work: user code that it calls finds the room taken

cdef struct filter_t:
    # Bytes consumed of what came; it tells what it found by `tls_deliver` and the like.
    size_t (*feed)(tls_t*, socket_t*, const char*, size_t) noexcept nogil
    # All of it, into the room: SEALED; or nothing, until more has come: SEAL_WANT_READ; -1: broken.
    int (*seal)(tls_t*, socket_t*, const char*, size_t) noexcept nogil
    int (*close_notify)(tls_t*, socket_t*) noexcept nogil   # "nothing more comes", likewise
    void (*eof)(tls_t*, socket_t*) noexcept nogil           # the peer's FIN came
    void (*detach)(tls_t*, socket_t*) noexcept nogil        # the descriptor is gone

cdef void tls_register(const filter_t* engine, object begin) noexcept
cdef tls_scratch_t* tls_scratch(socket_t* s) noexcept nogil                          # NULL: no memory
cdef bint tls_scratch_reserve(tls_scratch_t* scratch, size_t more) noexcept nogil            # False: no memory
cdef bint tls_may_deliver(socket_t* s) noexcept nogil                         # ... data, and its end
cdef bint tls_wants_read(socket_t* s) noexcept nogil                          # did `seal` or `notify` say SEAL_WANT_READ?
cdef void tls_deliver(socket_t* s, const char* data, size_t size) noexcept nogil
cdef void tls_deliver_eof(socket_t* s) noexcept nogil                            # the peer's "nothing more comes"
cdef void tls_handshake_done(socket_t* s, bint success, long verify_result) noexcept nogil
cdef void tls_failed(socket_t* s) noexcept nogil                           # after the handshake; the face has the error
cdef void tls_truncated(socket_t* s) noexcept nogil                        # ... and the user is told by `close` alone
cdef void tls_take_gil(socket_t* s) noexcept nogil                         # for the rest of the turn
cdef void tls_interrupted(socket_t* s, object error) noexcept                  # KeyboardInterrupt, SystemExit: `run` raises it
