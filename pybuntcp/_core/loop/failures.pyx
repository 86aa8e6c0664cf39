"""failures: what happens to an exception that no code catches, in one of our loops.

The rule, everywhere: the exception handler of the asyncio loop, where one runs; else logging, `sys.unraisablehook`, or
both (see base/reports). What is told with the exception: the handler's name and the peer's address, in the message and
as members of asyncio's context or of the log record (`handler`, `remote_address`, `remote_port`).

    an exception of a handler, or of a socket's callback    objects/exceptions; without an `error` handler exception_report
    of a callback that belongs to no socket                 failure_of_callback
    of anything else, for example a listener that is lost   failure_report

Promises that nothing leaves these functions, and that KeyboardInterrupt and SystemExit stop the loop.
Does not know sockets: who is asked for an address is any object that has one.
"""


cdef void failure_report(
    Loop loop, str message, object error, object whose, object where=None, dict extra=None
) noexcept:
    """Report the exception. The loop goes on.

    whose: the Socket, Listener or Connecting concerned, or None. where: the callable, or what else the hook shall name.
    extra: more members of asyncio's context, and attributes of the log record.
    """
    try:
        if host_report(loop, message, error, whose, extra):
            return
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop.c, stop)
        return
    except BaseException as second:
        if second.__context__ is None and second is not error:
            second.__context__ = error
        error = second
    stop = report_error(message, error, whose if where is None else where, extra)
    if stop is not None:
        loop_fail(loop.c, stop)


cdef void failure_of_callback(Loop loop, str name, object callback, object error) noexcept:
    """A callback of a loop, for example a timer's, has raised. name: what calls it, as users know it."""
    if error_stops(error):
        loop_fail(loop.c, error)
        return
    stats_add(&loop.c.count.handler_errors, 1)
    failure_report(
        loop, f"Unhandled exception in a callback ({name!r})", error_plain(error), None, callback, {"handler": name}
    )


cdef void failure_of_handler(Loop loop, str name, object handler, object error, object socket) noexcept:
    """The handler `name` of this socket has raised, and no `error` handler has taken it. It was counted already."""
    place, extra = failure_place(name, socket)
    failure_report(loop, f"Unhandled exception in a handler ({place})", error, socket, handler, extra)


cdef tuple failure_place(str name, object socket):
    """A handler of a socket, as a message names it, and the attributes of a log record for it."""
    address, port = failure_peer(socket)
    peer = error_place("unknown" if address is None else address or "of a unix socket", port)
    return f"{name!r}, peer {peer}", {"handler": name, "remote_address": address, "remote_port": port}


cdef tuple failure_peer(object socket):
    """The peer's address and port; (None, None): nobody knows them any more."""
    try:
        return socket.remote_address, socket.remote_port
    except BaseException:
        return None, None
