"""receiver: who gets the bytes of a socket that has S_RECEIVER: another socket, or a SocketReader.

Owns the choice between the two, and nothing else. A socket that is piped and has a reader is piped: the reader waits
until it is not. Does not know what either does with the bytes: see pipe, and objects/reader.
"""


cdef inline void receiver_read(socket_t* s) noexcept nogil:
    """As `stream_read`: read, if the receiver has space."""
    if is_piped(s):
        pipe_read(s)
    else:
        upcalls.reader_resume(s)


cdef inline bint receiver_has_space(socket_t* s) noexcept nogil:
    return pipe_has_space(s) if is_piped(s) else upcalls.reader_capacity(s) != 0


cdef inline void receiver_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    if is_piped(s):
        pipe_received(s, data, size)
    else:
        upcalls.reader_received(s, data, size)


cdef void receiver_ended(socket_t* s) noexcept nogil:
    """The peer's FIN."""
    if is_piped(s):
        pipe_ended(s)
        return
    upcalls.reader_ended(s)
    if s.flags & S_ENDED:   # no answer can be written, so the end need not wait until the reader has read it
        s.flags |= S_EOF_DELIVERED
        events_eof_delivered(s)
