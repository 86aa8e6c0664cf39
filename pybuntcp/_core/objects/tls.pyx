"""tls: what Python sees and makes of a secured connection."""
from cpython.ref cimport PyObject, Py_INCREF

from pybuntcp._c cimport uv


cdef object _make_tls_connection      # _tls's: (config, server) -> its object, with the address of its tls_t
cdef object _read_tls                 # the facade's: (tls, server, hostname) -> a config, or None for no TLS
cdef object _read_upgrade             # the facade's, for upgrade_tls: never None


cdef void tls_register(const filter_t* filter, object begin) noexcept:
    """Called by `_tls` when it is imported."""
    global engine, _make_tls_connection
    engine = filter
    _make_tls_connection = begin


def set_tls_readers(read_tls, read_upgrade, /):
    """Called by the facade when it is imported. The core itself knows no option of `tls=`."""
    global _read_tls, _read_upgrade
    _read_tls = read_tls
    _read_upgrade = read_upgrade


cdef bint tls_make_connection(socket_t* s, bint server) noexcept:
    """The engine's object, which the socket owns."""
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
            report_unraisable(error, <object>context_of(s).tls)
        return False
    tls_slot_of(s)[0] = <tls_t*><size_t>made.address
    Py_INCREF(made)
    s.flags |= S_TLS
    if s.wrapper != NULL:
        (<Socket>s.wrapper).secure = made
    return True


cdef void tls_emit_error(socket_t* s) noexcept:
    cdef PyObject* report = context_of(s).table.callable[E_ERROR]
    if report == NULL or loop_of(s).dead or not may_emit_error(s):
        return
    handler_enter(loop_of(s))
    call_raised(s, E_DATA, <object>report, (<object>tls_of(s).wrapper).error)
    handler_leave(loop_of(s))


cdef void tls_note_timeout(socket_t* s) noexcept:
    """The error says which of the timeouts it was."""
    cdef address_t name
    address_of_fd(&name, stream_fd(s), True)
    error = error_from_code(uv.UV_ETIMEDOUT, "handshake", address_host(&name), address_port(&name))
    (<object>tls_of(s).wrapper).error = error


cdef void tls_interrupted(socket_t* s, object error) noexcept:
    loop_fail(loop_of(s), error)


cdef object tls_authorization_error(socket_t* s):
    """What `handshake` is told: what was checked and failed."""
    if s.error != 0:
        return wrapper_close_error(s, s.error)
    return (<object>tls_of(s).wrapper).authorization_error


cdef object tls_failure(socket_t* s):
    """What the engine has to say of a connection that is gone; None: nothing."""
    return tls_error(<object>tls_of(s).wrapper, s.error) if s.flags & S_TLS else None


cdef object tls_error(object connection, int code):
    """The same of any code: it is the engine's, or that of `handshake_timeout`."""
    error = connection.error
    if code == uv.UV_EPROTO or code == uv.UV_ETIMEDOUT and isinstance(error, TimeoutError):
        return error
    return None


cdef object tls_query(Socket self, str what, first=_uninitialised, second=_uninitialised, third=_uninitialised):
    """Of the engine's object; None: it is not secured."""
    cdef bint alive = wrapper_is_open(self)
    if self is None or self.secure is None or (self.s != NULL and not alive):
        return None
    found = getattr(self.secure, what)
    given = [each for each in (first, second, third) if each is not _uninitialised]
    return found(*given) if callable(found) else found
