"""piping: `Socket.pipe`, from its arguments to the pipe of the core.

Owns the checks of the two sockets, the errors, and what a pipe from a connection that is gone means: its end, or its
reset, comes at once. Does not move a byte: see connection/pipe.
"""
import errno


cdef int piping_start(Socket self, object target, bint end) except -1:
    cdef Socket into
    cdef bint from_open
    if not isinstance(target, Socket):
        raise TypeError(f"target must be a Socket, not {type(target).__name__}")
    into = <Socket>target
    from_open = wrapper_is_open(self) and not self.s.flags & S_CLOSED
    if not wrapper_is_open(into) or not may_write(into.s):
        if not from_open:
            return 0            # both are gone: as any verb of a closed socket
        raise piping_error(into)
    if not from_open:
        return piping_from_closed(self, into.s, end)
    piping_check_source(self, into)
    if socket_pipe(self.s, into.s, end) == -2:
        raise MemoryError()
    return 0


cdef int piping_check_source(Socket self, Socket target) except -1:
    if loop_of(self.s) != loop_of(target.s):
        raise ValueError("target is a socket of another loop of this thread")
    if is_piped(self.s):
        raise RuntimeError("the socket is piped already: call unpipe() first")
    if self.s.flags & S_RECEIVER and piping_reader_waits(self.s):
        raise RuntimeError("a read of this socket waits: it cannot be piped meanwhile")
    return 0


cdef int piping_code(Socket self) noexcept:
    """The code that it has closed with, or will; 0: none."""
    return self.s.error if self.s != NULL else wrapper_snapshot(self).error


cdef object piping_error(Socket target):
    """The target takes no bytes: the error that it closed with, if there is one."""
    if piping_code(target) != 0:
        return wrapper_error(target, piping_code(target), "write")
    return BrokenPipeError(errno.EPIPE, "target takes no more bytes: it has ended, or is closed")


cdef int piping_from_closed(Socket self, socket_t* target, bint end) except -1:
    """The source is gone: what its reader holds is all that comes; then its end, or its reset."""
    cdef SocketReader reader = <SocketReader>self.own_reader
    if reader is not None and reader.loop is not None and not loop_check(reader.loop.c):
        return 0
    if reader is not None and reader.c.held != NULL:
        pipe_write(target, chunk_bytes(reader.c.held), chunk_length(reader.c.held))
        reader_free_chunk(reader)
    if piping_code(self) != 0:
        pipe_reset(target)
    elif end and not (self.s == NULL and wrapper_snapshot(self).detached):
        socket_end(target)
    return 0


# ---------------------------------------------------------------------------- a source with a SocketReader

cdef object piping_refusal():
    """The error of `reader()`, and of a read."""
    return RuntimeError("the socket is piped: what arrives goes to its target, until unpipe() is called")


cdef bint piping_reader_waits(socket_t* s) noexcept nogil:
    """Does a read wait?"""
    return reader_at(s).minimum != 0


cdef void piping_hand_over(socket_t* s) noexcept nogil:
    """The socket is piped now: what is held goes to the target, and the end, if it was not read yet, counts as read."""
    cdef reader_t* self = reader_at(s)
    cdef chunk_t* chunk = self.held
    self.held = NULL
    if chunk != NULL:
        pipe_write(s.pipe.target, chunk_bytes(chunk), chunk_length(chunk))
        spare_give_back(loop_of(s), chunk)
    if reader_owes_end(s) and self.state == READER_ENDED:
        reader_note_end_delivered(s, self)
