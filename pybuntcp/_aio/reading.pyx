"""reading: incoming bytes.

Owns the slots `on_alloc`, `on_data` and `on_end`, and pause_reading and resume_reading. An exception of a protocol's method
ends its connection, as asyncio's `_fatal_error` does (see ending); SystemExit and KeyboardInterrupt end the program.
"""
from pybuntcp cimport (
    alloc_slot,
    data_slot,
    open_slot,
    socket_bytes,
    socket_pause,
    socket_resume,
    socket_t,
    socket_take_gil,
)


cdef char* on_alloc(socket_t* s, size_t suggested, size_t* capacity) noexcept nogil:
    """NULL: the loop's own memory, for a Protocol; with a capacity of 0, nothing is read now."""
    if not own_of(s).buffered:
        return NULL
    socket_take_gil(s)
    return (<alloc_slot><void*>read_into_user_buffer)(s, suggested, capacity)


cdef char* read_into_user_buffer(socket_t* s, size_t suggested, size_t* capacity) noexcept:
    cdef Stream self = stream_at(s)
    capacity[0] = 0
    if self is None or self.lost != 0:
        return NULL
    try:
        PyContext_Enter(self.context)
        self.asking = True
        try:
            buffer = self.protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        finally:
            self.asking = False
            PyContext_Exit(self.context)
    except BaseException as error:
        stream_protocol_failed(self, error, "get_buffer")
        return NULL
    return hold_buffer_or_fail(self, buffer, capacity)


cdef char* hold_buffer_or_fail(Stream self, object buffer, size_t* capacity) noexcept:
    """What asyncio meets when it reads into it: a buffer that nobody may write to, or none at all."""
    if self.closing:
        return NULL             # get_buffer() has closed it
    try:
        return host_hold_buffer(self.host, buffer, capacity)
    except BaseException as error:
        capacity[0] = 0
        stream_fatal_error(self, error, "Fatal read error on socket transport")
        return NULL


cdef void on_data(socket_t* s, const char* data, size_t size) noexcept nogil:
    socket_take_gil(s)
    (<data_slot><void*>stream_received)(s, data, size)


cdef void stream_received(socket_t* s, const char* data, size_t size) noexcept:
    """size: 0 if nothing was read into the memory that `on_alloc` gave."""
    cdef Stream self = stream_at(s)
    if self is None:
        return
    if self.tls is not None:
        host_begin_data(self.host)
        stream_opened(self, data, size)
        host_end_data(self.host)
        return
    if self.paused:
        socket_pause(s)         # by get_buffer(): as in asyncio, this read came before the pause
    host_begin_data(self.host)
    if own_of(s).buffered:
        host_release_buffer(self.host)
        if size != 0 and self.lost == 0:
            stream_buffer_updated(self, size)
    else:
        if size != 0 and self.lost == 0:
            stream_data_received(self, data, size)
        host_release_buffer(self.host)      # held if get_buffer() has set another protocol
    host_end_data(self.host)


# These two are written out, not `stream_call`: calling a method by its name makes neither a bound method nor a tuple.

cdef int stream_data_received(Stream self, const char* data, size_t size) except -1:
    try:
        chunk = socket_bytes(self.s, data, size)
        PyContext_Enter(self.context)
        try:
            if host_is_debug(self.host):
                stream_call_measured(self, self.protocol.data_received, (chunk,))
            else:
                self.protocol.data_received(chunk)
        finally:
            PyContext_Exit(self.context)
    except BaseException as error:
        stream_protocol_failed(self, error, "data_received")
    return 0


cdef int stream_buffer_updated(Stream self, size_t size) except -1:
    try:
        PyContext_Enter(self.context)
        try:
            if host_is_debug(self.host):
                stream_call_measured(self, self.protocol.buffer_updated, (size,))
            else:
                self.protocol.buffer_updated(size)
        finally:
            PyContext_Exit(self.context)
    except BaseException as error:
        stream_protocol_failed(self, error, "buffer_updated")
    return 0


cdef void on_end(socket_t* s) noexcept nogil:
    socket_take_gil(s)
    (<open_slot><void*>stream_peer_ended)(s)


cdef void stream_peer_ended(socket_t* s) noexcept:
    """The peer's FIN. The connection is closed unless its protocol wants to go on writing."""
    cdef Stream self = stream_at(s)
    if self is None:
        return
    if self.tls is not None:
        stream_peer_ended_secured(self)
        return
    if self.closing:
        return
    if host_is_debug(self.host):
        stream_log(self, "%r received EOF", (self.transport,), None)
    try:
        keep_open = stream_call(self, self.protocol.eof_received, ())
    except BaseException as error:
        stream_protocol_failed(self, error, "eof_received")
        keep_open = False       # also if the program ends: nothing will be read again that closes it later
    if not keep_open:
        stream_close(self)


cdef void stream_protocol_failed(Stream self, object error, str method) noexcept:
    if interrupts(error):
        stream_interrupted(self, error)
    elif self.tls is not None and isinstance(error, Exception):
        stream_fatal_error(self, error, "Fatal error on SSL protocol")
    else:
        stream_fatal_error(self, error, f"Fatal error: protocol.{method}() call failed.")


# ---------------------------------------------------------------------------- pausing

cdef int stream_pause(Stream self) except -1:
    host_check_thread(self.host)
    if self.successor is not None:
        return stream_pause(self.successor)
    if self.closing or self.paused:
        return 0
    self.paused = True
    if not self.asking:
        socket_pause(self.s)
    if host_is_debug(self.host) and self.tls is None:
        logger.debug("%r pauses reading", self.transport)
    return 0


cdef int stream_resume(Stream self) except -1:
    host_check_thread(self.host)
    if self.successor is not None:
        return stream_resume(self.successor)
    if self.closing or not self.paused:
        return 0
    self.paused = False
    if self.tls is not None and stream_holds_data(self):
        return 0
    socket_resume(self.s)
    if host_is_debug(self.host) and self.tls is None:
        logger.debug("%r resumes reading", self.transport)
    return 0
