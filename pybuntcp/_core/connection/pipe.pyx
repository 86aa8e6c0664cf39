"""pipe: bytes that arrive at one socket go to another, without Python.

Owns `pipe_t`, the links of a socket that is piped or piped into, and the verbs `socket_pipe` and `socket_unpipe`. What is
read from the source is written to its target at once, from the memory that it was read into: no chunk is made, no slot
called, and the GIL is not needed.

  bytes at the source         written to the target; what the kernel does not take is the target's output (see output)
  the target is full          the source is not read (pipe_has_space) until the target is flushed (pipe_flushed)
  the source ends             the source's `end`; then the target ends, too, unless `ends` is False
  the source is closed        the same, without `end`: close(), shutdown(True), stop(True)
  the target ends             by end(), shutdown() or close() of its user: the pipe is undone
  either fails, is reset      by its peer, a deadline, TLS or terminate(): the other is reset, with UV_ECONNABORTED

           pipe.target                     pipe.target
  source 1 ----------->   target   <----------- source 2        A socket may be both: its own target is an echo,
             pipe.sources |  pipe.next   ^                      two that are each other's target are a proxy.
                          '-> source 1 --'

All links are borrowed. They are cleared, from both sides, before either socket is freed: `stream_close` undoes every
pipe of a socket. A target that has sources stays open after its peer's end, as if half-open were allowed.

How much is held: nothing is read while the kernel refuses more, or while the handshake of the target keeps what it was
given, if that fills its high water mark; and one read takes no more than there is space under the mark. A source with
TLS delivers whole records, so it may exceed a small mark by one. A mark of 0 counts as PIPE_READ_MIN.

Promises order, with the target's other writes, too; that no verb here calls a handler. Does not know readers: the bytes
of a `SocketReader` are handed over by the table of upcalls.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc

from pybuntcp._c cimport uv


cdef enum:
    PIPE_READ_MIN = 4096    # bytes of a read for a target in the literal mode, which has no mark

cdef struct pipe_t:
    # The links of one socket. Made when it is first piped or piped into, freed with it.
    socket_t* target    # where its bytes go; NULL: it is not piped
    socket_t* next      # the next of the same target's sources
    socket_t* sources   # the sockets that are piped into this one
    bint ends           # its end becomes its target's end
    bint over_reader    # it has a SocketReader, which gets the bytes when it is piped no more


cdef pipe_t* pipe_of(socket_t* s) noexcept nogil:
    """Its links, made when first needed. NULL: no memory."""
    if s.pipe == NULL:
        s.pipe = <pipe_t*>calloc(1, sizeof(pipe_t))
    return s.pipe


# ---------------------------------------------------------------------------- verbs

cdef int socket_pipe(socket_t* s, socket_t* target, int end) noexcept nogil:
    """What arrives at `s` from now on is written to `target`. If it has ended already, so does `target`.

    -1: `s` is closed, or piped, or its reader waits; `target` takes no writes, or is of another loop. -2: no memory.
    """
    if s.flags & S_CLOSED or not may_write(target) or loop_of(s) != loop_of(target):
        return -1
    if is_piped(s) or s.flags & S_RECEIVER and upcalls.reader_waits(s):
        return -1
    if pipe_of(s) == NULL or pipe_of(target) == NULL:
        return -2
    pipe_link(s, target, end != 0)
    if s.pipe.over_reader:
        upcalls.reader_hand_over(s)         # calls pipe_write; if that breaks the target, `s` is reset
    if is_piped(s) and is_input_over(s):
        pipe_finish(s)
    elif is_piped(s):
        s.flags &= ~S_PAUSED
        pipe_switch_reading(s)
    return 0


cdef int socket_unpipe(socket_t* s) noexcept nogil:
    """What arrives from now on goes to `data` again, or to its reader. Without either it is paused. -1: not piped."""
    if not is_piped(s):
        return -1
    pipe_unlink(s)
    if context_of(s).table.slots.data == NULL and not s.flags & S_RECEIVER:
        s.flags |= S_PAUSED
    pipe_switch_reading(s)
    return 0


cdef void pipe_switch_reading(socket_t* s) noexcept nogil:
    """Its bytes have another receiver from now on."""
    stream_pause_reading(s)
    stream_read(s)


# ---------------------------------------------------------------------------- links

cdef void pipe_link(socket_t* s, socket_t* target, bint ends) noexcept nogil:
    s.pipe.over_reader = s.flags & S_RECEIVER != 0
    s.pipe.ends = ends
    s.pipe.target = target
    s.pipe.next = target.pipe.sources
    target.pipe.sources = s
    s.flags |= S_RECEIVER
    stats_add(&loop_of(s).count.pipes, 1)


cdef socket_t* pipe_unlink(socket_t* s) noexcept nogil:
    """Undo the pipe of a source. Returns what was its target."""
    cdef socket_t* target = s.pipe.target
    cdef socket_t** link = &target.pipe.sources
    while link[0] != s:
        link = &link[0].pipe.next
    link[0] = s.pipe.next
    s.pipe.target = s.pipe.next = NULL
    if not s.pipe.over_reader:
        s.flags &= ~S_RECEIVER
    stats_add(&loop_of(s).count.pipes, -1)
    return target


# ---------------------------------------------------------------------------- bytes

cdef bint pipe_has_space(socket_t* s) noexcept nogil:
    """May this source be read?"""
    cdef socket_t* target = s.pipe.target
    if target.send_queue != NULL or not may_write(target):
        return False
    return not is_tls_blocked(target) or output_unsent(target) < pipe_mark(target)


cdef bint pipe_waits_for_target(socket_t* s) noexcept nogil:
    """Is it not read because its target is full?"""
    return is_piped(s) and may_send(s) and not pipe_has_space(s)


cdef inline uint64_t pipe_mark(socket_t* target) noexcept nogil:
    cdef uint64_t mark = context_of(target).high_water_mark
    return mark if mark != 0 else PIPE_READ_MIN


cdef size_t pipe_capacity(socket_t* s) noexcept nogil:
    """Bytes to read at most. 0: a cork or a sink has gathered so much at the target that it is sent first."""
    cdef socket_t* target = s.pipe.target
    cdef uint64_t mark = pipe_mark(target)
    cdef uint64_t unsent = output_unsent(target)
    if unsent >= mark:
        return 0
    return max(mark - unsent, <uint64_t>(READ_MIN if s.flags & S_TLS else 1))


cdef void pipe_read(socket_t* s) noexcept nogil:
    """As `stream_read`, for a source."""
    if pipe_has_space(s):
        stream_start(s, on_pipe_alloc, on_pipe_read)


cdef void on_pipe_alloc(uv.uv_handle_t* handle, size_t suggested, uv.uv_buf_t* buffer) noexcept nogil:
    """As `on_alloc`, but no more than the target has space for. Here the socket may be neither stopped nor closed."""
    cdef socket_t* s = <socket_t*>handle
    cdef size_t size
    if not is_piped(s) or is_tls_blocked(s):
        on_alloc(handle, suggested, buffer)
        return
    size = stream_read_size(s)
    if size != 0 and pipe_has_space(s):
        buffer.len = min(size, pipe_capacity(s))
        buffer.base = loop_slab(loop_of(s)) if buffer.len != 0 else NULL


cdef void on_pipe_read(uv.uv_stream_t* stream, ssize_t n, const uv.uv_buf_t* buffer) noexcept nogil:
    """As `on_read`. Without a buffer: others may have filled the target since the last read."""
    cdef socket_t* s = <socket_t*>stream
    if n == uv.UV_ENOBUFS and is_piped(s) and not (pipe_has_space(s) and pipe_capacity(s) != 0):
        pipe_make_space(s)
    else:
        on_read(stream, n, buffer)


cdef void pipe_make_space(socket_t* s) noexcept nogil:
    """Send what is gathered at the target. If the kernel does not take it, the source is not read for now."""
    output_flush(s.pipe.target)
    if is_piped(s) and not pipe_has_space(s):
        stream_pause_reading(s)


cdef void pipe_received(socket_t* s, const char* data, size_t size) noexcept nogil:
    """Bytes have arrived at a source."""
    if s.deadlines != NULL:
        deadlines_piped(s)
    pipe_write(s.pipe.target, data, size)
    if is_piped(s) and not pipe_has_space(s):
        stream_pause_reading(s)


cdef void pipe_write(socket_t* target, const char* data, size_t size) noexcept nogil:
    """All of it becomes output of the target. If that fails, the target resets its sources."""
    cdef ssize_t taken
    if not may_write(target):
        return                  # it is broken, and resets them when it closes
    stats_add(&loop_of(target).count.bytes_piped, size)
    taken = output_write(target, data, size, max(pipe_mark(target), output_unsent(target) + size))
    if 0 <= taken < <ssize_t>size:
        output_fail(target, uv.UV_ENOMEM)


cdef void pipe_flushed(socket_t* target) noexcept nogil:
    """Everything that the target was given is with the kernel: read its sources on."""
    cdef socket_t* each = target.pipe.sources
    while each != NULL:
        stream_read(each)       # may wake an asyncio loop, and so run a signal's handler, which may unpipe
        each = each.pipe.next if each.pipe.target == target else target.pipe.sources


# ---------------------------------------------------------------------------- ends and resets

cdef void pipe_ended(socket_t* s) noexcept nogil:
    """The peer of a source has ended: call `end`, then end the target. If an async handler runs, `end` waits for it."""
    s.flags |= S_EOF_DELIVERED
    if s.pipe.over_reader:
        upcalls.reader_ended(s)
    events_eof_delivered(s)
    if is_piped(s):
        pipe_finish(s)


cdef void pipe_finish(socket_t* s) noexcept nogil:
    """Nothing more comes from this source, and all that came is with its target."""
    cdef bint ends = s.pipe.ends
    cdef socket_t* target = pipe_unlink(s)
    if ends:
        socket_end(target)


cdef void pipe_leave(socket_t* s) noexcept nogil:
    """The user of a source wants no more input, or closes it."""
    if is_piped(s):
        pipe_finish(s)


cdef void pipe_release_sources(socket_t* target) noexcept nogil:
    """The target takes no more, by its user's wish: undo its pipes. Later bytes go where they went before."""
    cdef socket_t* source
    while target.pipe.sources != NULL:
        source = target.pipe.sources
        pipe_unlink(source)
        if not loop_of(target).dead:
            pipe_switch_reading(source)


cdef void pipe_closed(socket_t* s) noexcept nogil:
    """The descriptor was closed: undo all pipes of the socket. A failure resets the others."""
    if loop_of(s).dead:
        if is_piped(s):
            pipe_unlink(s)
        pipe_release_sources(s)
    elif s.error != 0:
        pipe_reset_others(s)
    else:
        pipe_leave(s)
        pipe_release_sources(s)


cdef void pipe_reset_others(socket_t* s) noexcept nogil:
    cdef socket_t* other
    while is_piped(s) or s.pipe.sources != NULL:
        if is_piped(s):
            other = pipe_unlink(s)
        else:
            other = s.pipe.sources
            pipe_unlink(other)
        if other != s:
            pipe_reset(other)


cdef void pipe_reset(socket_t* other) noexcept nogil:
    if not other.flags & S_CLOSED:
        socket_fail(other, uv.UV_ECONNABORTED)
        closing_with_reset(other)
        stream_close(other)
