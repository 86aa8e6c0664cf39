"""fallback: the engine that works on the standard library's object and its two MemoryBIOs.

Slower (an object and two calls for each step), and the same to its users; what it cannot do raises
an error that names the engine. Needs the GIL, which its callers have taken.
"""
import ssl

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from pybuntcp._core cimport room_t, secure_reserve


cdef int fallback_take_in(Secured self) except -1:
    """Hand over what came."""
    cdef Py_ssize_t size = self.c.end - self.c.at
    if size != 0:
        self.incoming.write(PyBytes_FromStringAndSize(self.c.at, size))
        self.c.at = self.c.end
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
        fallback_take_in(self)
        while total + RECORD <= room.plain_room:
            if not self.incoming.pending and not self.object.pending():
                self.c.outcome = DRY
                break
            piece = fallback_again(self.object.read, RECORD)
            if not piece:
                self.c.outcome = FINISHED
                break
            memcpy(room.plain + total, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            total += PyBytes_GET_SIZE(piece)
    except ssl.SSLWantReadError:
        self.c.outcome = DRY
    except ssl.SSLZeroReturnError:
        self.c.outcome = FINISHED
    except BaseException as error:
        self.c.outcome = FAILED
        secured_note(self, error)
    fallback_send(self, room)
    return total


cdef int fallback_seal(Secured self, room_t* room, const char* at, size_t size) noexcept:
    cdef bytes data
    cdef size_t done = 0
    room.busy = True
    try:
        data = PyBytes_FromStringAndSize(at, size)
        while done < size:
            done += fallback_again(self.object.write, data[done:] if done else data)
    except BaseException as error:
        secured_note(self, error)
    fallback_send(self, room)
    return 0 if done == size else -1


cdef void fallback_notify(Secured self, room_t* room) noexcept:
    room.busy = True
    held = b""
    try:
        held = self.incoming.read()     # it would look for the peer's farewell in there, and fail at data
        self.object.unwrap()
    except ssl.SSLError:
        pass                    # the peer has not said so yet, and is not waited for
    except BaseException as error:
        secured_note(self, error)
    fallback_put_back(self, held)
    fallback_send(self, room)


cdef object fallback_again(object step, object argument):
    """What other code left in OpenSSL's queue of errors fails a step once, and is gone then.

    An error of TLS is taken for the connection's own: asked again, it would call it an orderly end.
    """
    try:
        return step(argument)
    except ssl.SSLError as error:
        if getattr(error, "library", None) in (None, "SSL"):
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
