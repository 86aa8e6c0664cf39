"""tls_in_place: TLS on an established connection by the C API, without a second socket.

`Socket.upgrade_tls` gives its user another `Socket`, so it needs two sockets on one connection (see starttls). A Cython
user's slots know in which state their connection is, and go on with the same `socket_t`.
Two steps. `tls_prepare` reads the option, which may run user code, and raises what is wrong with it; then nothing has
begun. `socket_start_tls` cannot fail for any reason of TLS's.

Plain bytes that are pending are sent where they are, in the send queue, and the first record queues behind them: see
tls_take_over_output. Also owns what a slot may ask about TLS: `socket_ssl_object`, `socket_exception`.
"""
cimport cython
from libc.stdint cimport uint64_t


@cython.final
@cython.internal
cdef class PreparedTLS:
    """What tls_prepare returns."""
    cdef object connection      # the engine's object; None: it was used
    cdef bint server


cdef object tls_prepare(object tls, bint server, object server_hostname=None):
    """It counts as time of the handshakes, as `tls_begin` does."""
    cdef PreparedTLS made = PreparedTLS.__new__(PreparedTLS)
    cdef Loop loop = current_loop_peek()
    cdef uint64_t started = tls_begin_cost(loop.c) if loop is not None else 0
    made.server = server
    config = _read_in_place(tls, server, server_hostname)      # loads the engine, which sets what is called next
    made.connection = _make_tls_connection(config, server)
    if loop is not None:
        tls_end_cost(loop.c, started)
    return made


cdef int socket_start_tls(
    socket_t* s, object prepared, double handshake_timeout, const char* initial=NULL, size_t size=0
) except -1:
    """Errors: nothing has changed, but what is pending may have been sent."""
    cdef PreparedTLS begun = <PreparedTLS?>prepared
    tls_check_in_place(s)
    if begun.connection is None:
        raise RuntimeError("socket_start_tls: this was used by another connection")
    if not handshake_timeout > 0:
        raise ValueError("handshake_timeout must be greater than 0")
    output_flush(s)
    tls_check_in_place(s)
    connection, begun.connection = begun.connection, None
    tls_attach_connection(s, connection)
    tls_take_over_output(s)
    tls_buffer_input(s, initial, size)
    if not s.flags & S_CLOSED:
        tls_start_in_place(s, begun.server, handshake_timeout)
    state_check(s)
    return 0


cdef int tls_check_plain(socket_t* s, str verb) except -1:
    """s: NULL = it is closed."""
    if s == NULL or socket_state(s) != SOCKET_ESTABLISHED:
        raise RuntimeError(f"{verb}: the connection is not established")
    if s.flags & S_TLS:
        raise RuntimeError(f"{verb}: the connection is secured by TLS already")
    return 0


cdef int tls_check_in_place(socket_t* s) except -1:
    tls_check_plain(s, "socket_start_tls")
    if s.flags & S_RECEIVER or is_piped_into(s):
        raise RuntimeError("socket_start_tls: the socket is piped, piped into, or has a SocketReader")
    return 0


cdef object socket_ssl_object(socket_t* s):
    return (<object>tls_of(s).wrapper).object if s.flags & S_TLS else None


cdef object socket_exception(socket_t* s):
    error = tls_failure(s)
    if error is None and s.error != 0:
        error = error_from_code(s.error, "write" if s.flags & S_BROKEN else "read")
    if error is None and s.flags & S_TLS:
        error = (<object>tls_of(s).wrapper).error
    return error
