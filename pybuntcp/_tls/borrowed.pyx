"""borrowed: the engine that works on the `SSL*` of the standard library's object.

One BIO serves both directions. It reads from where the bytes that came are, in the loop's slab, and
writes to the loop's room; so each byte is copied once by us on its way in, and once on its way out,
and a connection that is idle holds no buffer.

OpenSSL seals nothing while a message of the peer's between two records of data (a key update, a
session ticket) is half there: it looks for the rest of that first, and asks the BIO for it. Who
has to seal then is told SEAL_WANT_READ.

Promises: no function of Python's is called. What other code left in this thread's error queue does
no harm, and costs nothing to avoid: the queue is looked at when something has failed.
"""
from libc.string cimport memcpy, strcmp

from pybuntcp._core cimport SEAL_WANT_READ, SEALED, tls_scratch_t, tls_scratch_reserve

from pybuntcp._c cimport openssl as ossl

cdef enum:
    EMPTY_READS_MAX = 128          # a turn, two a record: a slab holds 3,000 key updates, of 25 microseconds each

cdef void* _bio_method = NULL


cdef bint borrowed_prepare() noexcept:
    """Once. False: no memory."""
    global _bio_method
    _bio_method = openssl.BIO_meth_new(openssl.BIO_get_new_index() | ossl.BIO_TYPE_SOURCE_SINK, b"pybuntcp")
    if _bio_method == NULL:
        return False
    openssl.BIO_meth_set_read(_bio_method, on_bio_read)
    openssl.BIO_meth_set_write(_bio_method, on_bio_write)
    openssl.BIO_meth_set_ctrl(_bio_method, on_bio_ctrl)
    return True


cdef int borrowed_attach(tls_connection_t* self) except -1:
    """Put our BIO in the place of the object's two."""
    cdef void* bio = openssl.BIO_new(_bio_method)
    if bio == NULL:
        raise MemoryError()
    openssl.BIO_set_data(bio, self)
    openssl.BIO_set_init(bio, 1)
    openssl.SSL_set_bio(self.ssl, bio, bio)
    openssl.SSL_set_ex_data(self.ssl, _index, self)
    openssl.SSL_set_options(self.ssl, ossl.SSL_OP_NO_RENEGOTIATION)
    return 0


cdef void borrowed_detach(tls_connection_t* self) noexcept nogil:
    """The object may live on, and be asked; it can move nothing any more."""
    openssl.SSL_set_bio(self.ssl, NULL, NULL)
    openssl.SSL_set_ex_data(self.ssl, _index, NULL)


# ---------------------------------------------------------------------------- the BIO

cdef int on_bio_read(void* bio, char* data, int size) noexcept nogil:
    cdef tls_connection_t* self = <tls_connection_t*>openssl.BIO_get_data(bio)
    cdef int count = <int>min(<size_t>size, <size_t>(self.input_end - self.input))
    openssl.BIO_clear_flags(bio, ossl.BIO_FLAGS_RETRY)
    if count == 0 or self.empty_reads >= EMPTY_READS_MAX:
        self.want_read = True
        openssl.BIO_set_flags(bio, ossl.BIO_FLAGS_READ_RETRY)
        return -1
    memcpy(data, self.input, count)
    self.input += count
    self.empty_reads += 1
    return count


cdef int on_bio_write(void* bio, const char* data, int size) noexcept nogil:
    cdef tls_connection_t* self = <tls_connection_t*>openssl.BIO_get_data(bio)
    openssl.BIO_clear_flags(bio, ossl.BIO_FLAGS_RETRY)
    if self.scratch == NULL or not tls_scratch_reserve(self.scratch, size):
        return -1
    memcpy(self.scratch.out + self.scratch.out_size, data, size)
    self.scratch.out_size += size
    return size


cdef long on_bio_ctrl(void* bio, int command, long number, void* pointer) noexcept nogil:
    cdef tls_connection_t* self
    if command == ossl.BIO_CTRL_FLUSH:
        return 1
    if command == ossl.BIO_CTRL_PENDING:
        self = <tls_connection_t*>openssl.BIO_get_data(bio)
        return self.input_end - self.input
    return 0


# ---------------------------------------------------------------------------- work

cdef inline void borrowed_begin(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    self.scratch = scratch
    scratch.busy = True


cdef inline void borrowed_end(tls_connection_t* self) noexcept nogil:
    self.scratch.busy = False
    self.scratch = NULL


cdef size_t borrowed_open(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    """Open what is there, as far as there is room, and others need not wait; how many bytes it was. See `outcome`."""
    cdef size_t total = 0
    cdef int count
    borrowed_begin(self, scratch)
    self.outcome = MORE
    while total + RECORD <= scratch.plain_capacity:
        if self.input == self.input_end and openssl.SSL_pending(self.ssl) == 0:
            self.outcome = DRY          # it would only say so, after a look at everything
            break
        self.want_read = False
        self.empty_reads -= 2                # a header and what follows it: that of data is not counted
        count = openssl.SSL_read(self.ssl, scratch.plain + total, <int>(scratch.plain_capacity - total))
        if count > 0:
            total += count
            continue
        self.outcome = DRY if self.want_read else borrowed_why(self)
        break
    borrowed_end(self)
    return total


cdef int borrowed_why(tls_connection_t* self) noexcept nogil:
    """Why nothing is to be had. What is in the queue may be of other code; the newest is what has just happened.

    A fatal alert counts as a farewell, too, and leaves the connection in its state of error.
    """
    self.code = openssl.ERR_peek_last_error()
    openssl.ERR_clear_error()
    if openssl.SSL_get_shutdown(self.ssl) & ossl.SSL_RECEIVED_SHUTDOWN and not borrowed_has_failed(self):
        return FINISHED
    return FAILED


cdef int borrowed_seal(tls_connection_t* self, tls_scratch_t* scratch, const char* data, size_t size) noexcept nogil:
    cdef int count
    self.want_read = False
    borrowed_begin(self, scratch)
    count = openssl.SSL_write(self.ssl, data, <int>size)
    if count != <int>size and not self.want_read:
        self.code = openssl.ERR_peek_last_error()
        openssl.ERR_clear_error()
    borrowed_end(self)
    if count == <int>size:
        return SEALED
    return SEAL_WANT_READ if self.want_read else -1


cdef int borrowed_close_notify(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    """A connection that has failed says nothing more, and is not waited for."""
    if openssl.SSL_in_init(self.ssl) and not borrowed_has_failed(self):
        return SEAL_WANT_READ
    borrowed_begin(self, scratch)
    if openssl.SSL_shutdown(self.ssl) < 0:
        openssl.ERR_clear_error()
    borrowed_end(self)
    return SEALED


cdef void borrowed_step(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    """With what came go on with the half message, and no further. DRY: half of it is still to come."""
    borrowed_begin(self, scratch)
    self.outcome = MORE
    self.want_read = False
    if openssl.SSL_do_handshake(self.ssl) <= 0:
        self.outcome = DRY if self.want_read else borrowed_why(self)
    borrowed_end(self)


cdef inline bint borrowed_has_failed(tls_connection_t* self) noexcept nogil:
    return strcmp(openssl.SSL_state_string(self.ssl), "SSLERR") == 0


cdef object borrowed_error(tls_connection_t* self):
    """As `_ssl` makes its own: "[SSL: REASON] reason", with `library` and `reason`."""
    cdef const char* library = openssl.ERR_lib_error_string(self.code)
    cdef const char* reason = openssl.ERR_reason_error_string(self.code)
    words = reason.decode() if reason != NULL else "unknown error"
    name = words.upper().replace(" ", "_")
    where = "SSL" if library == NULL else library.decode().replace(" routines", "").replace("lib(20)", "SSL")
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[{where}: {name}] {words}")
    error.library, error.reason = where, name
    return error
