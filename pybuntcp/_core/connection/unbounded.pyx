"""unbounded: writes that are never refused, and the drain that their writer asks for.

For code that has its own rule for when to stop writing, and its own low-water mark, as asyncio's transports have. Nothing is
refused, so there is no short write, and no drain by itself: `socket_want_drain` asks for one.

Owns `socket_t.drain_at`, one more than the bytes that may be pending when `drain` is due, and `broken`, which is owed once
when a write fails for good. Both are told by the loop: when the send queue has sent something, or when a turn ends.
Promises that a write is gathered where that saves a system call: in a handler or a cork until it ends, otherwise until the
turn does; and that CORK_SIZE bytes or more go to the kernel at once.
"""
from libc.stdint cimport SIZE_MAX

from pybuntcp._c cimport uv

cdef extern from *:
    Py_ssize_t PY_SSIZE_T_MAX


cdef enum:
    PARTS_AT_ONCE = 64      # parts of socket_writev in one system call


cdef int socket_write_all(socket_t* s, const char* data, size_t size) noexcept nogil:
    """-1: this side has ended or is broken; -2: no memory, nothing was taken."""
    cdef ssize_t taken
    if not may_write(s) or size > <size_t>PY_SSIZE_T_MAX:
        return -1
    taken = unbounded_write(s, data, size)
    return 0 if taken >= 0 else -2 if taken == uv.UV_ENOMEM else -1


cdef int socket_writev(socket_t* s, const socket_part_t* parts, int count) noexcept nogil:
    """-1: as socket_write_all, which a part may also cause; -2: no memory, and the connection is broken."""
    cdef ssize_t taken
    cdef int batch
    if not may_write(s):
        return -1
    while count > 0:
        if not may_write(s):
            return -1
        batch = min(count, PARTS_AT_ONCE)
        taken = unbounded_write_parts(s, parts, batch)
        if taken < 0:
            if taken == uv.UV_ENOMEM:
                output_fail(s, uv.UV_ENOMEM)
            return -2 if taken == uv.UV_ENOMEM else -1
        parts += batch
        count -= batch
    return 0


cdef int socket_want_drain(socket_t* s, size_t low) noexcept nogil:
    """-1: nothing is sent any more, or close() was called. It is also told if no more are pending now, and not before this
    returns."""
    if not may_send(s) or is_closing(s):
        return -1
    s.drain_at = low + 1 if low < SIZE_MAX else SIZE_MAX
    unbounded_tell_at_turn_end(s)
    return 0


cdef inline void unbounded_tell_at_turn_end(socket_t* self) noexcept nogil:
    if is_drain_due(self) or is_failure_owed(self):
        output_list_add(self, &loop_of(self).turn_flush, S_TURN_FLUSH)


# ---------------------------------------------------------------------------- writing

cdef ssize_t unbounded_write(socket_t* self, const char* data, size_t size) noexcept nogil:
    """Accept all of it: the size, or a negative code."""
    if size == 0:
        return 0
    if output_blocked(self):
        if not output_append(self, data, size, SIZE_MAX, SIZE_MAX):
            return uv.UV_ENOMEM
        self.accepted += size
        return size
    if output_corked(self):
        if output_gather(self, data, size, CORK_SIZE):
            return size
        return output_send_all(self, data, size, SIZE_MAX)
    return output_coalesce(self, data, size, CORK_SIZE, SIZE_MAX)


cdef ssize_t unbounded_write_parts(socket_t* self, const socket_part_t* parts, int count) noexcept nogil:
    """Accept all of them: one system call if they are too many bytes to be gathered. 0, or a negative code."""
    cdef size_t size = 0
    cdef ssize_t taken
    cdef int i
    for i in range(count):
        size += parts[i].size
    if not output_blocked(self) and not self.flags & S_TLS and chunk_length(self.gather) + size >= CORK_SIZE:
        return unbounded_send_parts(self, parts, count)
    for i in range(count):
        if not may_write(self):
            return self.error if self.error != 0 else uv.UV_EPIPE
        taken = unbounded_write(self, parts[i].data, parts[i].size)
        if taken < 0:
            return taken
    return 0


cdef ssize_t unbounded_send_parts(socket_t* self, const socket_part_t* parts, int count) noexcept nogil:
    """One attempt: what is gathered, then these. What the kernel refuses is kept."""
    cdef uv.uv_buf_t each[PARTS_AT_ONCE + 1]
    cdef size_t gathered = chunk_length(self.gather)
    cdef int first = gathered != 0
    cdef size_t left, size
    cdef ssize_t sent
    cdef int i
    if first:
        each[0].base = chunk_bytes(self.gather)
        each[0].len = gathered
    for i in range(count):
        each[first + i].base = <char*>parts[i].data
        each[first + i].len = parts[i].size
    sent = output_attempt(self, each, first + count)
    if sent < 0:
        return sent
    output_advance(self, min(<size_t>sent, gathered))
    left = sent - min(<size_t>sent, gathered)
    for i in range(count):
        size = min(left, parts[i].size)
        left -= size
        if size < parts[i].size and not output_append(self, parts[i].data + size, parts[i].size - size, SIZE_MAX, SIZE_MAX):
            return uv.UV_ENOMEM
        self.accepted += parts[i].size
    output_keep_rest(self)
    return 0


# ---------------------------------------------------------------------------- what is owed

cdef inline bint unbounded_tell(socket_t* self) noexcept nogil:
    """By the loop: call `drain` or `broken`, if it is owed and due. True: one of them was called."""
    return self.drain_at != 0 and unbounded_tell_due(self)


cdef bint unbounded_tell_due(socket_t* self) noexcept nogil:
    if is_drain_due(self):
        self.drain_at = 0
        stats_add(&loop_of(self).count.drains, 1)
        emit_event(self, context_of(self).table.slots.drain)
        return True
    if is_failure_owed(self):
        self.drain_at = 0
        emit_broken(self, self.error)
        return True
    return False


cdef void unbounded_flush(loop_t* loop) noexcept nogil:
    """Send what waits for the end of the turn now, and call no slot."""
    cdef size_t i = 0
    while i < loop.turn_flush.count:
        if loop.turn_flush.at[i].corks == 0:
            output_flush(loop.turn_flush.at[i])
        i += 1
