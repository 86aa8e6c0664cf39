"""fallback: the engine that works on the standard library's object and its two MemoryBIOs.

It is slower (an object and two calls for each step), and otherwise the same to its users; what it cannot do raises an
error that names the engine. Needs the GIL, which its callers have taken. Exceptions become the connection's error
(tls_note_error). Does not know sockets.
"""
import ssl

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from pybuntcp._core cimport SEAL_WANT_READ, SEALED, tls_scratch_t, tls_scratch_reserve

cdef enum:
    EMPTY_PORTIONS_MAX = 2  # in a call, of RECORD bytes each: any record is complete within two


cdef int fallback_take_in(TLSConnection self, Py_ssize_t maximum) except -1:
    """Pass the input to the object, `maximum` bytes at most: a MemoryBIO never releases memory that it once needed."""
    cdef Py_ssize_t size = min(self.c.input_end - self.c.input, maximum)
    if size != 0:
        self.incoming.write(PyBytes_FromStringAndSize(self.c.input, size))
        self.c.input += size
    return 0


cdef int fallback_take_out(TLSConnection self, tls_scratch_t* scratch) except -1:
    """Move the object's output to the scratch buffer."""
    cdef bytes sealed
    if not self.outgoing.pending:
        return 0
    sealed = self.outgoing.read()
    if not tls_scratch_reserve(scratch, PyBytes_GET_SIZE(sealed)):
        raise MemoryError()
    memcpy(scratch.out + scratch.out_size, PyBytes_AS_STRING(sealed), PyBytes_GET_SIZE(sealed))
    scratch.out_size += PyBytes_GET_SIZE(sealed)
    return 0


cdef size_t fallback_open(TLSConnection self, tls_scratch_t* scratch) noexcept:
    """As `borrowed_open`."""
    cdef size_t total = 0
    cdef bytes piece
    self.c.outcome = MORE
    scratch.busy = True
    try:
        while total + RECORD <= scratch.plain_capacity:
            if not self.object.pending():
                fallback_take_in(self, RECORD)
            piece = fallback_read(self)
            if piece is None:
                self.c.empty_reads += 1
                if self.c.input != self.c.input_end and self.c.empty_reads < EMPTY_PORTIONS_MAX:
                    continue
                self.c.outcome = DRY
                break
            if not piece:
                self.c.outcome = FINISHED
                break
            if PyBytes_GET_SIZE(piece) > RECORD:
                raise ValueError(f"read() returned more than the {RECORD} bytes that were asked for")
            memcpy(scratch.plain + total, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            total += PyBytes_GET_SIZE(piece)
            self.c.empty_reads = 0
    except ssl.SSLZeroReturnError:
        self.c.outcome = FINISHED
    except BaseException as error:
        self.c.outcome = FAILED
        tls_note_error(self, error)
    fallback_send(self, scratch)
    return total


cdef bytes fallback_read(TLSConnection self):
    """None: there is nothing to decrypt. b"": the peer's end."""
    if not self.incoming.pending and not self.object.pending():
        return None
    try:
        return fallback_retry(self.object.read, RECORD)
    except ssl.SSLWantReadError:
        return None


cdef int fallback_seal(TLSConnection self, tls_scratch_t* scratch, const char* at, size_t size) noexcept:
    cdef bytes data
    cdef size_t done = 0
    cdef bint later = False
    scratch.busy = True
    try:
        data = PyBytes_FromStringAndSize(at, size)
        while done < size:
            done += fallback_retry(self.object.write, data[done:done + RECORD] if size > RECORD else data)
            fallback_take_out(self, scratch)
    except ssl.SSLWantReadError as error:
        later = done == 0       # OpenSSL looks for input before the first record only
        if not later:
            tls_note_error(self, error)
    except BaseException as error:
        tls_note_error(self, error)
    fallback_send(self, scratch)
    if done == size:
        return SEALED
    return SEAL_WANT_READ if later else -1


cdef int fallback_close_notify(TLSConnection self, tls_scratch_t* scratch) noexcept:
    cdef int rc = SEALED
    scratch.busy = True
    held = b""
    try:
        held = self.incoming.read()     # unwrap() would look in there for the peer's close_notify, and fail at data
        self.object.unwrap()
    except ssl.SSLError as error:
        # Any other error: the peer's close_notify has not arrived, and is not waited for.
        if self.error is None and getattr(error, "reason", None) == "SHUTDOWN_WHILE_IN_INIT":
            rc = SEAL_WANT_READ
    except BaseException as error:
        tls_note_error(self, error)
    fallback_put_back(self, held)
    fallback_send(self, scratch)
    return rc


cdef void fallback_step(TLSConnection self, tls_scratch_t* scratch) noexcept:
    """As `borrowed_step`."""
    scratch.busy = True
    self.c.outcome = DRY
    try:
        while self.c.outcome == DRY:
            if not self.incoming.pending and self.c.input == self.c.input_end:
                break
            fallback_take_in(self, RECORD)
            self.c.outcome = fallback_resume_handshake(self)
            if self.c.input == self.c.input_end:
                break
    except BaseException as error:
        self.c.outcome = FAILED
        tls_note_error(self, error)
    fallback_send(self, scratch)


cdef int fallback_resume_handshake(TLSConnection self) except -1:
    try:
        self.object.do_handshake()
    except ssl.SSLWantReadError:
        return DRY
    except ssl.SSLZeroReturnError:
        return FINISHED
    return MORE


cdef object fallback_retry(object step, object argument):
    """Call `step`, twice if need be.

    An error that other code left in OpenSSL's queue fails one call, and is gone then. An error of TLS is the
    connection's own: a second call would report it as an orderly end.
    """
    try:
        return step(argument)
    except ssl.SSLError as error:
        library = getattr(error, "library", None)
        if library is None or library == "SSL":
            raise
    return step(argument)


cdef void fallback_put_back(TLSConnection self, bytes held) noexcept:
    try:
        if held:
            self.incoming.write(held)
    except BaseException as error:
        tls_note_error(self, error)


cdef void fallback_send(TLSConnection self, tls_scratch_t* scratch) noexcept:
    try:
        fallback_take_out(self, scratch)
    except BaseException as error:
        self.c.outcome = FAILED
        tls_note_error(self, error)
    scratch.busy = False
