"""fallback: the engine that works on the standard library's object and its two MemoryBIOs.

Slower (an object and two calls for each step), and the same to its users; what it cannot do raises
an error that names the engine. Needs the GIL, which its callers have taken.
"""
import ssl

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from pybuntcp._core cimport SEAL_LATER, SEALED, room_t, secure_reserve

cdef enum:
    SILENT_PORTIONS = 2         # a turn, of RECORD bytes: whatever a record holds, it is in two of them


cdef int fallback_take_in(Secured self, Py_ssize_t most) except -1:
    """Hand over what came. A MemoryBIO never gives back the room that it once needed."""
    cdef Py_ssize_t size = min(self.c.end - self.c.at, most)
    if size != 0:
        self.incoming.write(PyBytes_FromStringAndSize(self.c.at, size))
        self.c.at += size
    return 0


cdef int fallback_take_out(Secured self, room_t* room) except -1:
    """Take what is to be sent."""
    cdef bytes sealed
    if not self.outgoing.pending:
        return 0
    sealed = self.outgoing.read()
    if not secure_reserve(room, PyBytes_GET_SIZE(sealed)):
        raise MemoryError()
    memcpy(room.out + room.out_size, PyBytes_AS_STRING(sealed), PyBytes_GET_SIZE(sealed))
    room.out_size += PyBytes_GET_SIZE(sealed)
    return 0


cdef size_t fallback_open(Secured self, room_t* room) noexcept:
    """As `borrowed_open`."""
    cdef size_t total = 0
    cdef bytes piece
    self.c.outcome = MORE
    room.busy = True
    try:
        while total + RECORD <= room.plain_room:
            if not self.object.pending():
                fallback_take_in(self, RECORD)
            piece = fallback_read(self)
            if piece is None:
                self.c.silent += 1
                if self.c.at != self.c.end and self.c.silent < SILENT_PORTIONS:
                    continue
                self.c.outcome = DRY
                break
            if not piece:
                self.c.outcome = FINISHED
                break
            if PyBytes_GET_SIZE(piece) > RECORD:
                raise ValueError(f"read() gave more than the {RECORD} bytes that were asked for")
            memcpy(room.plain + total, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            total += PyBytes_GET_SIZE(piece)
            self.c.silent = 0
    except ssl.SSLZeroReturnError:
        self.c.outcome = FINISHED
    except BaseException as error:
        self.c.outcome = FAILED
        secured_note(self, error)
    fallback_send(self, room)
    return total


cdef bytes fallback_read(Secured self):
    """None: there is nothing to open."""
    if not self.incoming.pending and not self.object.pending():
        return None
    try:
        return fallback_again(self.object.read, RECORD)
    except ssl.SSLWantReadError:
        return None


cdef int fallback_seal(Secured self, room_t* room, const char* at, size_t size) noexcept:
    cdef bytes data
    cdef size_t done = 0
    cdef bint later = False
    room.busy = True
    try:
        data = PyBytes_FromStringAndSize(at, size)
        while done < size:
            done += fallback_again(self.object.write, data[done:done + RECORD] if size > RECORD else data)
            fallback_take_out(self, room)
    except ssl.SSLWantReadError as error:
        later = done == 0       # it is asked before the first record alone
        if not later:
            secured_note(self, error)
    except BaseException as error:
        secured_note(self, error)
    fallback_send(self, room)
    if done == size:
        return SEALED
    return SEAL_LATER if later else -1


cdef int fallback_notify(Secured self, room_t* room) noexcept:
    cdef int rc = SEALED
    room.busy = True
    held = b""
    try:
        held = self.incoming.read()     # it would look for the peer's farewell in there, and fail at data
        self.object.unwrap()
    except ssl.SSLError as error:
        # else: the peer has not said so yet, and is not waited for
        if self.error is None and getattr(error, "reason", None) == "SHUTDOWN_WHILE_IN_INIT":
            rc = SEAL_LATER
    except BaseException as error:
        secured_note(self, error)
    fallback_put_back(self, held)
    fallback_send(self, room)
    return rc


cdef void fallback_step(Secured self, room_t* room) noexcept:
    """As `borrowed_step`."""
    room.busy = True
    self.c.outcome = DRY
    try:
        while self.c.outcome == DRY:
            if not self.incoming.pending and self.c.at == self.c.end:
                break
            fallback_take_in(self, RECORD)
            self.c.outcome = fallback_go_on(self)
            if self.c.at == self.c.end:
                break
    except BaseException as error:
        self.c.outcome = FAILED
        secured_note(self, error)
    fallback_send(self, room)


cdef int fallback_go_on(Secured self) except -1:
    try:
        self.object.do_handshake()
    except ssl.SSLWantReadError:
        return DRY
    except ssl.SSLZeroReturnError:
        return FINISHED
    return MORE


cdef object fallback_again(object step, object argument):
    """What other code left in OpenSSL's queue of errors fails a step once, and is gone then.

    An error of TLS is taken for the connection's own: asked again, it would call it an orderly end.
    """
    try:
        return step(argument)
    except ssl.SSLError as error:
        library = getattr(error, "library", None)
        if library is None or library == "SSL":
            raise
    return step(argument)


cdef void fallback_put_back(Secured self, bytes held) noexcept:
    try:
        if held:
            self.incoming.write(held)
    except BaseException as error:
        secured_note(self, error)


cdef void fallback_send(Secured self, room_t* room) noexcept:
    try:
        fallback_take_out(self, room)
    except BaseException as error:
        self.c.outcome = FAILED
        secured_note(self, error)
    room.busy = False
