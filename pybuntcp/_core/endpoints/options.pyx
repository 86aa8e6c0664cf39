"""options: from the checked options of `listen` and `connect` to a socket context and to socket options.

Owns which option goes into which member of `context_t`, and the keep-alive of a descriptor. The options were checked
before (pybuntcp/options.py); `tls` is a Config or None.
"""

from pybuntcp._c cimport net


cdef void options_set_no_delay(int fd) noexcept nogil:
    """TCP_NODELAY: what is written leaves at once, whatever is not acknowledged."""
    cdef int on = 1
    net.setsockopt(fd, net.IPPROTO_TCP, net.TCP_NODELAY, &on, sizeof(on))


cdef int options_set_keep_alive(int fd, object seconds) except -1:
    """Turn SO_KEEPALIVE on, with the first probe after `seconds` idle; None leaves it off."""
    cdef int value = 1
    if seconds is None:
        return 0
    net.setsockopt(fd, net.SOL_SOCKET, net.SO_KEEPALIVE, &value, sizeof(value))
    value = seconds
    net.setsockopt(fd, net.IPPROTO_TCP, net.PBT_KEEPIDLE, &value, sizeof(value))
    return 0


cdef context_t* options_context(Handlers handlers, options) except NULL:
    """A new socket context, with the handlers and options of a listener or an outgoing connection."""
    cdef context_t* context = context_with_table(&handlers.table, options.data)
    context.high_water_mark = options.high_water_mark
    context.idle_timeout = options.idle_timeout
    context.read_timeout = options.read_timeout
    context.linger_timeout = options.linger_timeout
    context.slow_handler = options.slow_handler
    context.allow_half_open = options.allow_half_open
    context.handshake_timeout = options.handshake_timeout
    if options.tls is not None:
        context_set_tls(context, options.tls)
    context.pause_on_connect = options.pause_on_connect or handlers.opens_paused
    return context
