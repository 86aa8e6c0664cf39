"""borrowed: the engine that works on the `SSL*` of the standard library's object.

One BIO of ours serves both directions. It reads from where the input lies, in the loop's slab, and writes to the loop's
scratch buffer. So we copy each byte once on its way in and once on its way out, and an idle connection holds no buffer.

OpenSSL encrypts nothing while a message of the peer's between two records of data (a key update, a session ticket) has
arrived in part: it looks for the rest first, and asks the BIO for it. Then sealing returns SEAL_WANT_READ.

Promises: no function of Python's is called, `borrowed_error` apart. What other code left in this thread's error queue
does no harm, and costs nothing to avoid: the queue is read only when something has failed, and its newest entry counts.
"""
from libc.string cimport memcpy, strcmp

from pybuntcp._core cimport SEAL_WANT_READ, SEALED, tls_scratch_t, tls_scratch_reserve

from pybuntcp._c cimport openssl as ossl

cdef enum:
    RECORD_LAYER_FAILURE = 0x0A000139   # a code of OpenSSL 3.2 and later
    EMPTY_READS_MAX = 128   # a call, two for a record: a slab may hold 3,000 key updates, at 25 microseconds each

cdef void* _bio_method = NULL


cdef bint borrowed_prepare() noexcept:
    """Make the BIO method, once. False: no memory."""
    global _bio_method
    _bio_method = openssl.BIO_meth_new(openssl.BIO_get_new_index() | ossl.BIO_TYPE_SOURCE_SINK, b"pybuntcp")
    if _bio_method == NULL:
        return False
    openssl.BIO_meth_set_read(_bio_method, on_bio_read)
    openssl.BIO_meth_set_write(_bio_method, on_bio_write)
    openssl.BIO_meth_set_ctrl(_bio_method, on_bio_ctrl)
    return True


cdef int borrowed_attach(tls_connection_t* self) except -1:
    """Replace the object's two BIOs by ours."""
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
    """The object may live on and be queried, but it can move no data any more."""
    openssl.SSL_set_bio(self.ssl, NULL, NULL)
    openssl.SSL_set_ex_data(self.ssl, _index, NULL)


# ---------------------------------------------------------------------------- the BIO

cdef int on_bio_read(void* bio, char* data, int size) noexcept nogil:
    """Read from the input. Without input, or after EMPTY_READS_MAX reads without data: retry later."""
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
    """Append to the scratch buffer; outside of a call of ours, when a program uses the SSLObject itself, to what leaves next."""
    cdef tls_connection_t* self = <tls_connection_t*>openssl.BIO_get_data(bio)
    cdef tls_scratch_t* scratch = self.scratch if self.scratch != NULL else &self.flight
    openssl.BIO_clear_flags(bio, ossl.BIO_FLAGS_RETRY)
    if not tls_scratch_reserve(scratch, size):
        return -1
    memcpy(scratch.out + scratch.out_size, data, size)
    scratch.out_size += size
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
    """Decrypt the input into `plain`; returns how many bytes. `outcome`: why it stopped.

    MORE: the buffer is full. DRY: there is no more input, or other sockets have to be served first.
    """
    cdef size_t total = 0
    cdef int count
    borrowed_begin(self, scratch)
    self.outcome = MORE
    while total + RECORD <= scratch.plain_capacity:
        if self.input == self.input_end and openssl.SSL_pending(self.ssl) == 0:
            self.outcome = DRY          # SSL_read would only find that out at a higher cost
            break
        self.want_read = False
        self.empty_reads -= 2                # a record takes two reads, header and body: one with data is not counted
        count = openssl.SSL_read(self.ssl, scratch.plain + total, <int>(scratch.plain_capacity - total))
        if count > 0:
            total += count
            continue
        self.outcome = DRY if self.want_read else borrowed_why(self)
        break
    borrowed_end(self)
    return total


cdef int borrowed_why(tls_connection_t* self) noexcept nogil:
    """Why SSL_read returned no data: FINISHED or FAILED.

    A fatal alert also sets SSL_RECEIVED_SHUTDOWN, but leaves the connection in its error state.
    """
    self.code = borrowed_take_error()
    if openssl.SSL_get_shutdown(self.ssl) & ossl.SSL_RECEIVED_SHUTDOWN and not borrowed_has_failed(self):
        return FINISHED
    return FAILED


cdef unsigned long borrowed_take_error() noexcept nogil:
    """The error of this call, which empties the queue. It may hold errors of other code; the newest entry is of this call.

    OpenSSL 3.2 and later put RECORD_LAYER_FAILURE on top of what was wrong with a record.
    """
    cdef unsigned long cause = 0
    cdef unsigned long each = openssl.ERR_get_error()       # the oldest
    while each != 0:
        if each != RECORD_LAYER_FAILURE or cause == 0:
            cause = each
        each = openssl.ERR_get_error()
    return cause


cdef int borrowed_seal(tls_connection_t* self, tls_scratch_t* scratch, const char* data, size_t size) noexcept nogil:
    """SEALED; SEAL_WANT_READ, and nothing was sealed; -1: failed, see `code`."""
    cdef int count
    self.want_read = False
    borrowed_begin(self, scratch)
    count = openssl.SSL_write(self.ssl, data, <int>size)
    if count != <int>size and not self.want_read:
        self.code = borrowed_take_error()
    borrowed_end(self)
    if count == <int>size:
        return SEALED
    return SEAL_WANT_READ if self.want_read else -1


cdef int borrowed_close_notify(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    """A connection that has failed sends nothing more, and is not waited for."""
    if openssl.SSL_in_init(self.ssl) and not borrowed_has_failed(self):
        return SEAL_WANT_READ
    borrowed_begin(self, scratch)
    if openssl.SSL_shutdown(self.ssl) < 0:
        openssl.ERR_clear_error()
    borrowed_end(self)
    return SEALED


cdef void borrowed_step(tls_connection_t* self, tls_scratch_t* scratch) noexcept nogil:
    """Process the peer's message that has arrived in part, and nothing behind it. DRY: the rest is still missing."""
    borrowed_begin(self, scratch)
    self.outcome = MORE
    self.want_read = False
    if openssl.SSL_do_handshake(self.ssl) <= 0:
        self.outcome = DRY if self.want_read else borrowed_why(self)
    borrowed_end(self)


cdef inline bint borrowed_has_failed(tls_connection_t* self) noexcept nogil:
    """Is OpenSSL's state machine in its error state?"""
    return strcmp(openssl.SSL_state_string(self.ssl), "SSLERR") == 0


cdef object borrowed_error(tls_connection_t* self):
    """The exception as `_ssl` makes its own: "[SSL: REASON] reason", with `library` and `reason`.

    Names stay: OpenSSL 3.4 changed texts to "ssl/tls alert ..."; its constants, which `_ssl` tells, are SSLV3_ALERT_....
    """
    cdef const char* library = openssl.ERR_lib_error_string(self.code)
    cdef const char* reason = openssl.ERR_reason_error_string(self.code)
    text = reason.decode() if reason != NULL else "unknown error"
    name = text.upper().replace(" ", "_").replace("SSL/TLS_", "SSLV3_")
    where = "SSL" if library == NULL else library.decode().replace(" routines", "").replace("lib(20)", "SSL")
    error = ssl.SSLError(int(ssl.SSL_ERROR_SSL), f"[{where}: {name}] {text}")
    error.library, error.reason = where, name
    return error
