"""module: the functions that the core offers to the facade, and the wiring of its layers.

Owns `run_loop`, `is_running`, `stats`, `either` and `compile_handlers`; the list of what is open when a loop is closed; and the
table of upcalls, which is filled here because this file alone may name all layers (see base/upcalls).
Does not check options: the facade has done that.
"""
from cpython.pythread cimport PyThread_get_thread_ident

from pybuntcp._c cimport uv


libuv_version = uv.uv_version_string().decode()


def run_loop(double seconds=-1):
    """Run this thread's loop until no referenced handle is left, or for that many seconds."""
    if host_running() is not None:
        raise RuntimeError("run(): an asyncio loop runs in this thread, and turns what is opened in it")
    loop_run(current_loop(), seconds)


def note_asyncio():
    """`run(main)` begins: what is open in the thread's own loop is not served meanwhile."""
    cdef Loop own = thread_loops_find(thread_loops(), None)
    if own is not None:
        loop_warn_unturned(own)


def is_running():
    """True if this thread is inside `run()`, in a handler."""
    return host_running() is None and current_loop().c.running


def stats():
    """The counters of this thread's loop, as a dict of numbers. Inside asyncio: those of the sockets opened there.

    Gauges: `open_sockets`, `open_listeners`, `connecting`, `armed_timers`, `pipes`, `pending_bytes`.
    Counters since the loop was made: `accepted`, `connected`, `closed`, `bytes_read`,
    `bytes_written`, `bytes_piped`, `reads`, `writes`, `short_writes`, `short_writes_unnoticed`, `drains`, `turns`,
    `gil_takes`, `accept_errors`, `handshakes`, `handshake_failures`, `handler_errors`.
    And `longest_turn`: the seconds, to the millisecond, that the longest turn of the loop took since the loop was made. A
    turn is one iteration of the loop; while it runs, nothing else is served. Its time includes the callbacks of users'
    timers, and excludes waiting.

    Errors: RuntimeError in a thread, other than the main one, that has no loop. For the loop of another thread there is
    `Listener.loop_stats`.
    """
    current_must_exist()
    return roster_stats(current_loop_peek().c)


def turn_clock(seconds):
    """For `pybuntcp.testing`: advance the clock. The loops of this thread check at once what is due."""
    cdef Loop loop
    clock_turn(min(callback_seconds(seconds), 1e9))
    for each in loops_alive():
        loop = <Loop>each
        if loop.c.thread == PyThread_get_thread_ident() and not loop.c.dead:
            wheel_restart(loop.c)


def turned():
    """By how much the clock was advanced, in seconds."""
    return _clock_turned / 1e9


def is_open():
    """For `pybuntcp.testing`: True if this thread's loop has anything that could call a handler."""
    return not loop_is_empty(current_loop_peek().c)


def turn(double seconds):
    """For `pybuntcp.testing`: run one turn of the loop, which waits for at most `seconds`.

    Returns the descriptor that is readable while something is ready for the next turn, or -1 if it has work already.
    """
    if host_running() is not None:
        raise RuntimeError("an asyncio loop runs in this thread, and turns what is opened in it: await there")
    cdef Loop loop = current_loop()
    cdef bint busy
    loop_run(loop, seconds, True)
    loop_ref(loop.c)            # otherwise libuv would say that a loop in which all is unreferenced has work
    busy = loop_has_work(loop.c)
    loop_unref(loop.c)
    return -1 if busy else uv.uv_backend_fd(&loop.c.uv)


def either(socket, handlers):
    """The handlers of a call: `socket=`, or `handlers=`, which is another name of it."""
    return handlers_either(socket, handlers)


def compile_handlers(source):
    """The value of `socket=` as a Handlers."""
    return handlers_compile(source)


# ---------------------------------------------------------------------------- what a closed asyncio loop left open

cdef void list_unclosed(loop_t* loop, list found) noexcept:
    """Append the objects of all open sockets, listeners and connection attempts.

    A socket that its user has closed is not among them, unless bytes of it would be lost.
    """
    cdef connector_t* each = loop.connectors
    roster_walk(loop, on_list_unclosed, <void*>found)
    while each != NULL:
        found.append(<object>each.wrapper)
        each = each.next


cdef void on_list_unclosed(uv.uv_handle_t* handle, void* found) noexcept with gil:
    if loop_owns(loop_of(handle), handle) or uv.uv_is_closing(handle):
        return
    if handle.type != uv.UV_TCP:
        list_unclosed_listener((<acceptor_t*>handle).listener, <acceptor_t*>handle, <list>found)
    elif is_unclosed(<socket_t*>handle) and not tells_abandoned(context_of(<socket_t*>handle)):
        (<list>found).append(wrapper_of(<socket_t*>handle))


cdef inline bint is_unclosed(socket_t* s) noexcept nogil:
    return s.flags & S_OPENED != 0 and not (is_closing(s) and output_pending(s) == 0)


cdef int list_unclosed_listener(listener_t* listener, acceptor_t* acceptor, list found) except -1:
    """Append the Listener, for the first of its descriptors alone."""
    if acceptor == listener.acceptors.each and not tells_abandoned(listener.context):
        found.append(<object>listener.wrapper)
    return 0


cdef inline bint tells_abandoned(context_t* context) noexcept nogil:
    """Its user has a slot for it, and warns of what it likes."""
    return context.table.slots.abandoned != NULL


cdef void tell_abandoned(loop_t* loop) noexcept:
    roster_walk(loop, on_tell_abandoned, NULL)


cdef void on_tell_abandoned(uv.uv_handle_t* handle, void* nothing) noexcept nogil:
    cdef socket_t* s = <socket_t*>handle
    if handle.type == uv.UV_TCP and may_emit_abandoned(s):
        emit_event(s, context_of(s).table.slots.abandoned)


# ---------------------------------------------------------------------------- the table of upcalls

cdef void on_handle_abandoned(void* abandoned) noexcept nogil:
    cdef uv.uv_handle_t* handle = <uv.uv_handle_t*>abandoned
    if handle.type == uv.UV_TCP:
        stream_close(<socket_t*>handle)
    else:
        listener_abandon((<acceptor_t*>handle).listener)


cdef void on_abandon_rest(loop_t* loop) noexcept nogil:
    """The loop is dead: end connection attempts and handlers' tasks, which have no libuv handle."""
    connectors_abandon(loop)
    (<loop_fn><void*>tasks_abandon)(loop)


upcalls.handler_returned = output_flush_after_handler
upcalls.turn_begins = connectors_emit_posted
upcalls.turn_ends = output_flush_after_turn
upcalls.turn_flushes = unbounded_flush
upcalls.writable = send_queues_resume
upcalls.deferred_input = tls_process_pending
upcalls.tell_abandoned = tell_abandoned
upcalls.abandon_handle = on_handle_abandoned
upcalls.abandon_rest = on_abandon_rest
upcalls.list_unclosed = list_unclosed

upcalls.wrapper_closing = wrapper_closing
upcalls.wrapper_closed = wrapper_wake_closed
upcalls.wrapper_detach = <socket_fn><void*>wrapper_detach
upcalls.drained = sink_wake
upcalls.tls_make_connection = <bint (*)(socket_t*, bint) noexcept nogil><void*>tls_make_connection
upcalls.tls_emit_error = <socket_fn><void*>tls_emit_error
upcalls.tls_note_timeout = <socket_fn><void*>tls_note_timeout

upcalls.reader_resume = reader_read
upcalls.reader_capacity = reader_capacity
upcalls.reader_received = reader_received
upcalls.reader_ended = reader_ended
upcalls.reader_stop = reader_stop
upcalls.reader_closed = reader_closed
upcalls.reader_waits = piping_reader_waits
upcalls.reader_hand_over = piping_hand_over

upcalls.upgrade_raw_flushed = upgrade_raw_flushed
upcalls.upgrade_raw_lost = upgrade_raw_lost
upcalls.upgrade_tls_closed = upgrade_tls_closed
upcalls.upgrade_emit_failure = upgrade_emit_failure

upcalls.listener_socket_closed = listener_socket_closed
upcalls.connector_handshake_done = connector_handshake_done
upcalls.connector_socket_closed = connector_socket_closed
upcalls.connector_note_failure = connector_note_failure
