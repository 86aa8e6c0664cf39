"""module: what the core offers to the facade beside its classes: `run` and `stats`; and the wiring.

Owns `up`, the table of what the layers below tell those above. Does not check options: that is done
in Python, before.
"""
from pybuntcp._c cimport uv

libuv_version = uv.uv_version_string().decode()


def run_loop():
    """Turn this thread's loop until no referenced handle is left."""
    if host_running() is not None:
        raise RuntimeError("run(): an asyncio loop runs in this thread, and turns what is opened in it")
    loop_run(loop_here())


def is_running():
    """Is this thread inside `run()`, in a handler?"""
    return host_running() is None and loop_here().c.running


def stats():
    """The counters of this thread's loop, as a dict of int. Inside asyncio: of what was opened there.

    Gauges: `open_sockets`, `open_listeners`, `connecting`, `armed_timers`, `pending_bytes`.
    Counters since the loop was made: `accepted`, `connected`, `closed`, `bytes_read`,
    `bytes_written`, `reads`, `writes`, `short_writes`, `drains`, `turns`, `gil_takes`,
    `accept_errors`, `handshakes`, `handshake_failures`.
    """
    cdef loop_t* loop = loop_to_ask().c
    cdef size_t pending = 0
    cdef dict found
    uv.uv_walk(&loop.uv, on_count_pending, &pending)
    found = loop.count
    found["pending_bytes"] = pending
    return found


cdef void on_count_pending(uv.uv_handle_t* handle, void* total) noexcept nogil:
    if handle.type == uv.UV_TCP and not uv.uv_is_closing(handle):
        (<size_t*>total)[0] += output_unsent(<socket_t*>handle)


def compile_handlers(source):
    """What `socket=` means, as a Handlers."""
    return handlers_from(source)


# ---------------------------------------------------------------------------- what is left open

cdef void list_unclosed(loop_t* loop, list found) noexcept:
    """Sockets, listeners and connections under way."""
    cdef connector_t* each = loop.connectors
    uv.uv_walk(&loop.uv, on_list_unclosed, <void*>found)
    while each != NULL:
        found.append(<object>each.face)
        each = each.next


cdef void on_list_unclosed(uv.uv_handle_t* handle, void* found) noexcept with gil:
    if loop_owns(loop_of(handle), handle) or uv.uv_is_closing(handle):
        return
    if handle.type != uv.UV_TCP:
        (<list>found).append(<object>(<listener_t*>handle).face)
    elif (<socket_t*>handle).flags & S_OPENED:
        (<list>found).append(socket_face(<socket_t*>handle))


# ---------------------------------------------------------------------------- what streams tell

cdef void on_handle_abandoned(uv.uv_handle_t* handle) noexcept nogil:
    if handle.type == uv.UV_TCP:
        stream_close(<socket_t*>handle)
    else:
        listener_abandon(<listener_t*>handle)


cdef void loop_forsaken(loop_t* loop) noexcept nogil:
    """The loop is dead: what libuv does not know of ends here."""
    connectors_abandon(loop)
    (<loop_slot><void*>running_abandon)(loop)


up.received = socket_received
up.ended = socket_ended
up.flushed = socket_flushed
up.broken = socket_broken
up.writable = tails_go_on
up.moved = clocks_moved
up.closing = socket_closing
up.closed = socket_closed
up.read_to = reader_read_on
up.held = secure_turn
up.end_read = socket_end_read
up.unclosed = list_unclosed
up.abandoned = on_handle_abandoned
up.forsaken = loop_forsaken
up.handled = output_flush_dirty
up.turned = output_flush_late
up.drained = sink_tell
up.again = connectors_tell_posted
