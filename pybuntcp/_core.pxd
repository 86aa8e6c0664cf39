# cython: language_level=3
"""The C API: what other Cython code gets by `from pybuntcp cimport ...`. See docs/cython.md.

It needs no header: no libuv, no OpenSSL, no layout of an object. Names are only ever added, and members of `slots_t`
only ever appended, so a module that was built against this file works with every later pybuntcp of the same
`SLOTS_ABI`.

Every `nogil` function must be called in the thread of the socket's loop, and none calls a slot before it returns. A
verb returns 0, -1 if it could do nothing, or -2 if there was no memory. A `socket_t*` is valid from its `open` until
its `close` (or `connect_error`) has returned.
"""
from libc.string cimport memset


cdef enum:
    SLOTS_ABI = 1               # changes if the meaning of a member of `slots_t` changes

cdef enum:      # socket_state
    SOCKET_SHUTDOWN = -2
    SOCKET_DETACHED = -1
    SOCKET_CLOSED = 0
    SOCKET_ESTABLISHED = 1
    SOCKET_OTHER = 2

cdef extern from *:
    """
    struct __pyx_t_8pybuntcp_5_core_socket_t;   /* Cython does not declare what has no members */
    struct __pyx_t_8pybuntcp_5_core_loop_timer_t;
    struct __pyx_t_8pybuntcp_5_core_loop_poster_t;
    """

cdef struct socket_t            # one connection; opaque

ctypedef void (*open_slot)(socket_t*) noexcept nogil
ctypedef void (*data_slot)(socket_t*, const char*, size_t) noexcept nogil
ctypedef void (*drain_slot)(socket_t*) noexcept nogil
ctypedef void (*end_slot)(socket_t*) noexcept nogil
ctypedef void (*close_slot)(socket_t*, int error) noexcept nogil
ctypedef void (*timeout_slot)(socket_t*) noexcept nogil
ctypedef void (*handshake_slot)(socket_t*, int success, long verify_result) noexcept nogil
ctypedef void (*connect_error_slot)(socket_t*, int error) noexcept nogil
ctypedef void (*broken_slot)(socket_t*, int error) noexcept nogil
ctypedef char* (*alloc_slot)(socket_t*, size_t suggested, size_t* capacity) noexcept nogil
ctypedef void (*abandoned_slot)(socket_t*) noexcept nogil

cdef enum:      # slots_t.flags
    SLOTS_OPEN_UNTIL_CLOSED = 1     # a connection that has ended, or is reset, stays open until a verb closes it: see `broken`

cdef struct slots_t:
    # One C function for each event; NULL: the event is ignored. Make a table with `new_slots`.
    # `error` is a positive errno, 0 for no error, or a negative EAI_* code of a name that was not resolved.
    unsigned int abi
    unsigned int size
    size_t ext_size     # bytes of your own for every socket, zeroed: `socket_ext`
    void* user          # one pointer for the whole table: `socket_user`
    open_slot open
    data_slot data
    drain_slot drain
    end_slot end
    close_slot close
    timeout_slot timeout
    handshake_slot handshake
    connect_error_slot connect_error
    # a write has failed for good; `close` follows when all that had arrived was read. With SLOTS_OPEN_UNTIL_CLOSED also: it was
    # reset, and nothing more arrives
    broken_slot broken
    # your memory for the next read, and its capacity in bytes. `data` gives it back, with 0 bytes if nothing came. NULL: the
    # loop's memory; and if the capacity is set to 0, nothing is read now. Not asked with TLS; not used, and not given back,
    # if the slot pauses, closes or reloads the socket.
    alloc_slot alloc
    unsigned int flags          # SLOTS_*
    # in place of `close`, last: the loop ends under the connection, which is closed when this has returned. Its asyncio loop was
    # closed or dropped, or its thread, or the program, ends. Verbs work. The caller has the GIL. Not called in a forked child. With
    # this slot no ResourceWarning tells of the table's sockets and listeners: that is its user's affair.
    abandoned_slot abandoned

cdef struct socket_part_t:      # for socket_writev
    const char* data
    size_t size

cdef inline slots_t new_slots() noexcept nogil:
    """An empty table, with the ABI and the size that your build knows."""
    cdef slots_t slots
    memset(&slots, 0, sizeof(slots))
    slots.abi = SLOTS_ABI
    slots.size = sizeof(slots)
    return slots

# A `Handlers` for listen(), connect() and reload(), with a copy of the table. `handlers`: Python handlers beside it, as
# listen(socket=...) takes them, or None. `owner`: an object that is kept as long as a socket may use the table, for
# example the one that `user` points into. ValueError for a table that this pybuntcp does not understand, or that has
# neither `data` nor `drain`.
cdef object handlers_from_slots(const slots_t* slots, object handlers=*, object owner=*)

# writing
cdef Py_ssize_t socket_write(socket_t* s, const char* data, size_t size) noexcept nogil     # bytes accepted, or -1
cdef int socket_write_all(socket_t* s, const char* data, size_t size) noexcept nogil        # accepts all, whatever is pending
cdef int socket_writev(socket_t* s, const socket_part_t* parts, int count) noexcept nogil   # as one write_all of all of them
cdef int socket_want_drain(socket_t* s, size_t low) noexcept nogil      # `drain`, once, when at most `low` bytes are pending
cdef int socket_end(socket_t* s, const char* data=*, size_t size=*) noexcept nogil          # sends all of it, then FIN
cdef int socket_flush(socket_t* s) noexcept nogil
cdef int socket_cork(socket_t* s) noexcept nogil                                            # nests
cdef int socket_uncork(socket_t* s) noexcept nogil
cdef size_t socket_pending(socket_t* s) noexcept nogil                                      # accepted, and unsent
cdef unsigned long long socket_bytes_written(socket_t* s) noexcept nogil
cdef unsigned long long socket_bytes_read(socket_t* s) noexcept nogil

# life
cdef int socket_close(socket_t* s) noexcept nogil
cdef int socket_close_now(socket_t* s) noexcept nogil                   # drops what is pending; no reset, no waiting
cdef int socket_terminate(socket_t* s) noexcept nogil
cdef int socket_shutdown(socket_t* s, bint half_close=*) noexcept nogil
cdef int socket_pause(socket_t* s) noexcept nogil
cdef int socket_resume(socket_t* s) noexcept nogil
cdef int socket_ref(socket_t* s) noexcept nogil
cdef int socket_unref(socket_t* s) noexcept nogil
cdef int socket_timeout(socket_t* s, double seconds) noexcept nogil
cdef int socket_state(socket_t* s) noexcept nogil
cdef int socket_error(socket_t* s) noexcept nogil                       # the errno of what has failed for good; 0: nothing has

# identity
cdef void* socket_ext(socket_t* s) noexcept nogil                       # aligned to 16; NULL: ext_size is 0
cdef void* socket_user(socket_t* s) noexcept nogil
cdef int socket_fileno(socket_t* s) noexcept nogil
# An address is written with a NUL; its length without that is returned; -1: it is unknown, or longer than `capacity`.
cdef Py_ssize_t socket_remote_address(socket_t* s, char* text, size_t capacity) noexcept nogil
cdef Py_ssize_t socket_local_address(socket_t* s, char* text, size_t capacity) noexcept nogil
cdef int socket_remote_port(socket_t* s) noexcept nogil                 # -1 on unix sockets
cdef int socket_local_port(socket_t* s) noexcept nogil
cdef int socket_set_no_delay(socket_t* s, bint enable) noexcept nogil
cdef int socket_set_keep_alive(socket_t* s, bint enable, unsigned int milliseconds) noexcept nogil

# The `Socket`, made at the first call. The caller has the GIL.
cdef object socket_object(socket_t* s)

# In a slot: this thread holds the GIL from here until the loop waits again. It costs one hand-over a turn, where
# `with gil` costs one a slot. Python code may be called by a function that is declared to hold the GIL.
cdef void socket_take_gil(socket_t* s) noexcept nogil
# In a slot that has the GIL: KeyboardInterrupt or SystemExit, for `run` to raise, or the asyncio loop.
cdef void socket_interrupted(socket_t* s, object error) noexcept
# In `data`, with the GIL: what has arrived as `bytes`. A large chunk takes the memory that it was read into along.
cdef bytes socket_bytes(socket_t* s, const char* data, size_t size)

# A connected stream socket becomes one of this thread's loop, like connect(fd=), but at once: `open` is not called, and
# nothing is read before socket_resume. The descriptor belongs to the loop unless this raises. The caller has the GIL.
cdef socket_t* socket_from_fd(int fd, object handlers) except NULL

# TLS on an established plain connection, in place: the same socket, the same descriptor. What was accepted before goes out
# in plain, before the first record; `initial`: bytes that came and belong to TLS already. `handshake` follows, and nothing
# is written before it has succeeded. If it fails: `handshake` with success 0, then `close`, or `broken`, with EPROTO, or
# ETIMEDOUT after `handshake_timeout` seconds. The caller has the GIL.
# `tls` is what upgrade_tls takes. An ssl.SSLContext decides alone about the peer, as it does in the standard library, and
# `server_hostname` is what that takes; it is for clients. What is wrong with either is raised by tls_prepare, before anything
# has begun; what that returns can start one connection. socket_start_tls: RuntimeError unless the socket is established,
# plain, and neither piped nor read by a SocketReader; ValueError unless handshake_timeout > 0.
cdef object tls_prepare(object tls, bint server, object server_hostname=*)
cdef int socket_start_tls(socket_t* s, object prepared, double handshake_timeout, const char* initial=*, size_t size=*) except -1
cdef object socket_ssl_object(socket_t* s)      # its ssl.SSLObject, to be asked, not to be moved; None: no TLS
# What has ended the connection, or the peer's side of it: TLS's own exception or an OSError; None: nothing has failed. A FIN
# without close_notify is `end` where only a verb closes (SLOTS_OPEN_UNTIL_CLOSED), and ssl.SSLEOFError here.
cdef object socket_exception(socket_t* s)

# What arrives at `s` is written to `target`, in the core; if `end` is not 0, the target ends with it. -1 also if `s` is
# piped already, or its SocketReader waits, or if `target` takes no writes or is of another loop. See docs/piping.md.
cdef int socket_pipe(socket_t* s, socket_t* target, int end) noexcept nogil
cdef int socket_unpipe(socket_t* s) noexcept nogil


# ---------------------------------------------------------------------------- a loop's own calls

cdef struct loop_timer_t        # a timer without a socket; opaque
cdef struct loop_poster_t       # a way into a loop for other threads; opaque

ctypedef void (*loop_call)(void* user) noexcept nogil

# In this thread's loop, or the running asyncio loop, like listen(). The caller has the GIL, owns what is made, and gives it
# back with the function that frees it; `user` is borrowed. A timer belongs to the thread of its loop. It calls once for each
# start; its function may start it again, or free it. `loop_post` and `loop_poster_free` may be called by any thread.
cdef loop_timer_t* loop_timer_new(loop_call call, void* user) except NULL
cdef int loop_timer_start(loop_timer_t* timer, double seconds) noexcept nogil     # never early; moves one that runs
cdef int loop_timer_stop(loop_timer_t* timer) noexcept nogil                       # -1: it does not run
cdef int loop_timer_ref(loop_timer_t* timer) noexcept nogil
cdef int loop_timer_unref(loop_timer_t* timer) noexcept nogil
cdef void loop_timer_free(loop_timer_t* timer) noexcept nogil
cdef loop_poster_t* loop_poster_new() except NULL                           # keeps run() going until it is freed
cdef int loop_post(loop_poster_t* poster, loop_call call, void* user) noexcept nogil   # -1: refused, -2: no memory
cdef void loop_poster_free(loop_poster_t* poster) noexcept nogil              # what was posted before is carried out


# ---------------------------------------------------------------------------- the seam to _tls

# For pybuntcp's own `_tls`, which is built with this very file. It is no part of the C API and may change.

cdef struct tls_t:
    # One connection's TLS, as the core sees it. An engine's own struct begins with this.
    void* wrapper               # borrowed: the TLSConnection
    size_t sealed               # plaintext bytes in the ciphertext that was not sent yet
    size_t control              # bytes of unsent ciphertext that is no user's data: handshake, alerts
    char* buffered              # ciphertext that must not be decrypted yet; malloc'ed
    size_t buffered_size
    bint undelivered            # the engine has an event or data to deliver when tls_may_deliver
    bint handshake_pending      # `handshake` must still be called, with these two
    bint success
    long verify_result

cdef enum:
    SEALED = 0
    SEAL_WANT_READ = 1          # nothing was encrypted: a handshake message of the peer's has arrived in part only

cdef struct tls_scratch_t:
    # The buffers that all engines of a loop work in.
    char* out                   # ciphertext: the core sends it before an engine runs again
    size_t out_size
    size_t out_capacity
    char* plain                 # plaintext that was decrypted
    size_t plain_capacity
    bint busy                   # an engine is at work: user code that it calls must not use these buffers

cdef struct filter_t:
    # An engine. `feed` takes ciphertext and returns how many bytes it consumed; it reports what was in them by
    # tls_deliver and the functions below. `seal` encrypts all of the data into `out` and returns SEALED; or it does
    # nothing and returns SEAL_WANT_READ; or it returns -1: the connection has failed. `close_notify` does the same with
    # its alert.
    size_t (*feed)(tls_t*, socket_t*, const char*, size_t) noexcept nogil
    int (*seal)(tls_t*, socket_t*, const char*, size_t) noexcept nogil
    int (*close_notify)(tls_t*, socket_t*) noexcept nogil
    void (*eof)(tls_t*, socket_t*) noexcept nogil           # the peer's FIN arrived
    void (*detach)(tls_t*, socket_t*) noexcept nogil        # the descriptor is closed

cdef void tls_register(const filter_t* engine, object begin) noexcept
cdef tls_scratch_t* tls_scratch(socket_t* s) noexcept nogil                                 # NULL: no memory
cdef bint tls_scratch_reserve(tls_scratch_t* scratch, size_t more) noexcept nogil           # False: no memory
cdef bint tls_may_deliver(socket_t* s) noexcept nogil                   # may the user get data, or the peer's end, now?
cdef bint tls_wants_read(socket_t* s) noexcept nogil                    # was SEAL_WANT_READ the last answer?
cdef bint tls_accepts_fin(socket_t* s) noexcept nogil                   # is a FIN without close_notify an end?
cdef void tls_deliver(socket_t* s, const char* data, size_t size) noexcept nogil
cdef void tls_deliver_eof(socket_t* s) noexcept nogil                   # the peer's close_notify arrived
cdef void tls_handshake_done(socket_t* s, bint success, long verify_result) noexcept nogil
cdef void tls_failed(socket_t* s) noexcept nogil                        # after the handshake; `wrapper` has the error
cdef void tls_truncated(socket_t* s) noexcept nogil                     # a FIN without close_notify, or no memory
cdef void tls_take_gil(socket_t* s) noexcept nogil                      # until the next poll
cdef void tls_interrupted(socket_t* s, object error) noexcept           # KeyboardInterrupt, SystemExit: `run` raises it
cdef void tls_hello_failed(object config, object error) noexcept        # a client is refused: report why
