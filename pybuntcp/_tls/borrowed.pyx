"""borrowed: the engine that works on the `SSL*` of the standard library's object.

One BIO serves both directions. It reads from where the bytes that came are, in the loop's slab, and
writes to the loop's room; so each byte is copied once by us on its way in, and once on its way out,
and a connection that is idle holds no buffer.

OpenSSL seals nothing while a message of the peer's between two records of data (a key update, a
session ticket) is half there: it looks for the rest of that first, and asks the BIO for it. Who
has to seal then is told SEAL_LATER.

Promises: no function of Python's is called. What other code left in this thread's error queue does
no harm, and costs nothing to avoid: the queue is looked at when something has failed.
"""
from libc.string cimport memcpy, strcmp

from pybuntcp._core cimport SEAL_LATER, SEALED, room_t, secure_reserve

from pybuntcp._c cimport openssl as c

cdef enum:
    SILENT_READS = 128          # a turn, two a record: a slab holds 3,000 key updates, of 25 microseconds each

cdef void* _bio_method = NULL


cdef bint borrowed_prepare() noexcept:
    """Once. False: no memory."""
    global _bio_method
    _bio_method = api.BIO_meth_new(api.BIO_get_new_index() | c.BIO_TYPE_SOURCE_SINK, b"pybuntcp")
    if _bio_method == NULL:
        return False
    api.BIO_meth_set_read(_bio_method, on_bio_read)
    api.BIO_meth_set_write(_bio_method, on_bio_write)
    api.BIO_meth_set_ctrl(_bio_method, on_bio_ctrl)
    return True


cdef int borrowed_attach(secured_t* self) except -1:
    """Put our BIO in the place of the object's two."""
    cdef void* bio = api.BIO_new(_bio_method)
    if bio == NULL:
        raise MemoryError()
    api.BIO_set_data(bio, self)
    api.BIO_set_init(bio, 1)
    api.SSL_set_bio(self.ssl, bio, bio)
    api.SSL_set_ex_data(self.ssl, _index, self)
    api.SSL_set_options(self.ssl, c.SSL_OP_NO_RENEGOTIATION)
    return 0


cdef void borrowed_detach(secured_t* self) noexcept nogil:
    """The object may live on, and be asked; it can move nothing any more."""
    api.SSL_set_bio(self.ssl, NULL, NULL)
    api.SSL_set_ex_data(self.ssl, _index, NULL)


# ---------------------------------------------------------------------------- the BIO

cdef int on_bio_read(void* bio, char* at, int size) noexcept nogil:
    cdef secured_t* self = <secured_t*>api.BIO_get_data(bio)
    cdef int count = <int>min(<size_t>size, <size_t>(self.end - self.at))
    api.BIO_clear_flags(bio, c.BIO_FLAGS_RETRY)
    if count == 0 or self.silent >= SILENT_READS:
        self.starved = True
        api.BIO_set_flags(bio, c.BIO_FLAGS_READ_RETRY)
        return -1
    memcpy(at, self.at, count)
    self.at += count
    self.silent += 1
    return count


cdef int on_bio_write(void* bio, const char* at, int size) noexcept nogil:
    cdef secured_t* self = <secured_t*>api.BIO_get_data(bio)
    api.BIO_clear_flags(bio, c.BIO_FLAGS_RETRY)
    if self.room == NULL or not secure_reserve(self.room, size):
        return -1
    memcpy(self.room.out + self.room.out_size, at, size)
    self.room.out_size += size
    return size


cdef long on_bio_ctrl(void* bio, int command, long number, void* pointer) noexcept nogil:
    cdef secured_t* self
    if command == c.BIO_CTRL_FLUSH:
        return 1
    if command == c.BIO_CTRL_PENDING:
        self = <secured_t*>api.BIO_get_data(bio)
        return self.end - self.at
    return 0


# ---------------------------------------------------------------------------- work

cdef inline void borrowed_begin(secured_t* self, room_t* room) noexcept nogil:
    self.room = room
    room.busy = True


cdef inline void borrowed_end(secured_t* self) noexcept nogil:
    self.room.busy = False
    self.room = NULL


cdef size_t borrowed_open(secured_t* self, room_t* room) noexcept nogil:
    """Open what is there, as far as there is room, and others need not wait; how many bytes it was. See `outcome`."""
    cdef size_t total = 0
    cdef int count
    borrowed_begin(self, room)
    self.outcome = MORE
    while total + RECORD <= room.plain_room:
        if self.at == self.end and api.SSL_pending(self.ssl) == 0:
            self.outcome = DRY          # it would only say so, after a look at everything
            break
        self.starved = False
        self.silent -= 2                # a header and what follows it: that of data is not counted
        count = api.SSL_read(self.ssl, room.plain + total, <int>(room.plain_room - total))
        if count > 0:
            total += count
            continue
        self.outcome = DRY if self.starved else borrowed_why(self)
        break
    borrowed_end(self)
    return total


cdef int borrowed_why(secured_t* self) noexcept nogil:
    """Why nothing is to be had. What is in the queue may be of other code; the newest is what has just happened.

    A fatal alert counts as a farewell, too, and leaves the connection in its state of error.
    """
    self.code = api.ERR_peek_last_error()
    api.ERR_clear_error()
    if api.SSL_get_shutdown(self.ssl) & c.SSL_RECEIVED_SHUTDOWN and not borrowed_has_failed(self):
        return FINISHED
    return FAILED


cdef int borrowed_seal(secured_t* self, room_t* room, const char* at, size_t size) noexcept nogil:
    cdef int count
    self.starved = False
    borrowed_begin(self, room)
    count = api.SSL_write(self.ssl, at, <int>size)
    if count != <int>size and not self.starved:
        self.code = api.ERR_peek_last_error()
        api.ERR_clear_error()
    borrowed_end(self)
    if count == <int>size:
        return SEALED
    return SEAL_LATER if self.starved else -1


cdef int borrowed_notify(secured_t* self, room_t* room) noexcept nogil:
    """A connection that has failed says nothing more, and is not waited for."""
    if api.SSL_in_init(self.ssl) and not borrowed_has_failed(self):
        return SEAL_LATER
    borrowed_begin(self, room)
    if api.SSL_shutdown(self.ssl) < 0:
        api.ERR_clear_error()
    borrowed_end(self)
    return SEALED


cdef void borrowed_step(secured_t* self, room_t* room) noexcept nogil:
    """With what came go on with the half message, and no further. DRY: half of it is still to come."""
    borrowed_begin(self, room)
    self.outcome = MORE
    self.starved = False
    if api.SSL_do_handshake(self.ssl) <= 0:
        self.outcome = DRY if self.starved else borrowed_why(self)
    borrowed_end(self)


cdef inline bint borrowed_has_failed(secured_t* self) noexcept nogil:
    return strcmp(api.SSL_state_string(self.ssl), "SSLERR") == 0


cdef object borrowed_error(secured_t* self):
    """As `_ssl` makes its own: "[SSL: REASON] reason", with `library` and `reason`."""
    cdef const char* library = api.ERR_lib_error_string(self.code)
    cdef const char* reason = api.ERR_reason_error_string(self.code)
    words = reason.decode() if reason != NULL else "unknown error"
    name = words.upper().replace(" ", "_")
    where = "SSL" if library == NULL else library.decode().replace(" routines", "").replace("lib(20)", "SSL")
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[{where}: {name}] {words}")
    error.library, error.reason = where, name
    return error
