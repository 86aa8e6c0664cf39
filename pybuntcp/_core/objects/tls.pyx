"""tls: what connects the core's sockets to the TLS engine's Python objects.

The problem: the core calls an engine once per chunk, without the GIL, and knows neither OpenSSL nor `ssl` nor any
option of `tls=`. Users want certificates, sessions and errors from a `Socket`, also when the connection is gone.
The rule: two registrations, each made once. `_tls` calls `tls_register` when it is imported, with the C functions of
the engine and the function that makes a connection object. The facade calls `set_tls_readers`, with the functions that
turn the option `tls=` into a configuration.

  context.tls (a configuration) -> _make_tls_connection -> its object, a TLSConnection
                                                             |-> socket_t.tls: the address of its tls_t, for C
                                                             '-> Socket.tls_connection, for Python

Who frees: the socket owns one reference to the object (`tls_t.wrapper`), released by `engine.detach` when the
connection is gone. The `Socket` has one of its own, so the verdict and the certificates stay readable.

Owns these registrations, the methods of `Socket` that query the object (`tls_query`), and which of its errors `close`,
`error` and `handshake` receive. Does not know what an engine does: see tls_input and tls_output.
"""
from cpython.ref cimport PyObject, Py_INCREF

from pybuntcp._c cimport uv


cdef object _make_tls_connection      # set by _tls: (config, server) -> an object; its `address`: the tls_t
cdef object _read_tls                 # set by the facade: (tls, server, hostname) -> a configuration; None: no TLS
cdef object _read_upgrade             # set by the facade: the same for upgrade_tls; never None
cdef object _read_in_place            # set by the facade: the same for tls_prepare


cdef void tls_register(const filter_t* filter, object begin) noexcept:
    """Called by `_tls` when it is imported."""
    global engine, _make_tls_connection
    engine = filter
    _make_tls_connection = begin


def set_tls_readers(read_tls, read_upgrade, read_in_place, /):
    """Called by the facade when it is imported. The core itself reads no option of `tls=`."""
    global _read_tls, _read_upgrade, _read_in_place
    _read_tls = read_tls
    _read_upgrade = read_upgrade
    _read_in_place = read_in_place


cdef bint tls_make_connection(socket_t* s, bint server) noexcept:
    """Make the engine's object, which the socket owns. False: failed, and reported."""
    cdef object made
    try:
        made = _make_tls_connection(<object>context_of(s).tls, server)
    except (KeyboardInterrupt, SystemExit) as stop:
        loop_fail(loop_of(s), stop)
        return False
    except BaseException as error:
        if context_of(s).connector != NULL:
            upcalls.connector_note_failure(context_of(s).connector, error)
        else:
            failure_report(
                <Loop>loop_of(s).owner, "A TLS connection could not be made", error, None, <object>context_of(s).tls
            )
        return False
    tls_attach_connection(s, made)
    return True


cdef void tls_attach_connection(socket_t* s, object connection) noexcept:
    """The socket owns it from now on."""
    s.tls = <tls_t*><size_t>connection.address
    Py_INCREF(connection)
    s.flags |= S_TLS
    if s.wrapper != NULL:
        (<Socket>s.wrapper).tls_connection = connection


cdef void tls_emit_error(socket_t* s) noexcept:
    """Call the `error` handler, if the socket is open for its user."""
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if report == NULL or loop_of(s).dead or not may_emit_error(s):
        return
    handler_enter(loop_of(s))
    exception_deliver(s, E_DATA, <object>report, (<object>tls_of(s).wrapper).error)
    handler_leave(loop_of(s))


cdef void tls_note_timeout(socket_t* s) noexcept:
    """The error names `handshake`: it was no other timeout."""
    cdef address_t name
    address_of_fd(&name, stream_fd(s), True)
    error = error_from_code(uv.UV_ETIMEDOUT, "handshake", address_host(&name), address_port(&name))
    (<object>tls_of(s).wrapper).error = error


cdef void tls_interrupted(socket_t* s, object error) noexcept:
    loop_fail(loop_of(s), error)


cdef void tls_hello_failed(object config, object error) noexcept:
    failure_report(current_loop_peek(), "A client's hello could not be answered", error, None, config)


cdef object tls_authorization_error(socket_t* s):
    """The third argument of `handshake`: the connection's error, or what verification found wrong; None: nothing."""
    if s.error != 0:
        return wrapper_close_error(s, s.error)
    return (<object>tls_of(s).wrapper).authorization_error


cdef object tls_failure(socket_t* s):
    """The engine's error for a connection that is gone; None: there is none."""
    return tls_error(<object>tls_of(s).wrapper, s.error) if s.flags & S_TLS else None


cdef object tls_error(object connection, int code):
    """The engine's error for this code: it explains EPROTO, and the timeout of a handshake."""
    error = connection.error
    if code == uv.UV_EPROTO or code == uv.UV_ETIMEDOUT and isinstance(error, TimeoutError):
        return error
    return None


cdef object tls_query(Socket self, str what, first=_uninitialised, second=_uninitialised, third=_uninitialised):
    """An attribute of the engine's object, called if it is callable. None: no TLS, or the loop is gone."""
    cdef bint alive = wrapper_is_open(self)
    if self is None or self.tls_connection is None or (self.s != NULL and not alive):
        return None
    found = getattr(self.tls_connection, what)
    given = [each for each in (first, second, third) if each is not _uninitialised]
    return found(*given) if callable(found) else found
