"""secured: the options of a TLS connection, and the state that only such a connection has.

Owns `Secured`, the options of TLS as asyncio's methods have them, one object for all connections of a server; and `Tls`, which
a Stream with TLS has. The handshake is in `handshake`; what is read then and how it ends in `secured_reading`, `secured_ending`.
Does not know OpenSSL, nor records: the core seals and opens.
"""
cimport cython
from asyncio import constants, sslproto

from pybuntcp cimport tls_prepare


cdef enum:
    SECURED_HIGH_WATER = 524288     # bytes, as asyncio has them for TLS
    SECURED_READ_HIGH_WATER = 262144


cdef object _shutdown_timeout = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)       # from Python 3.11 on


@cython.final
cdef class Secured:
    """The TLS options of one connection, or of all connections of a server. Each connection checks them, as in asyncio."""
    cdef readonly object context
    cdef readonly bint server_side
    cdef readonly object server_hostname
    cdef readonly object handshake_timeout
    cdef readonly object shutdown_timeout
    cdef bint checked

    def __cinit__(self, context, server_side=False, server_hostname=None, handshake_timeout=None, shutdown_timeout=None):
        self.context, self.server_side = context, bool(server_side)
        self.server_hostname = server_hostname if server_hostname and not server_side else None
        self.handshake_timeout, self.shutdown_timeout = handshake_timeout, shutdown_timeout


cdef int secured_check(Secured self) except -1:
    """Not before there is a connection: asyncio's servers refuse each one, and not the options."""
    self.handshake_timeout = secured_timeout("ssl_handshake_timeout", self.handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT)
    self.shutdown_timeout = secured_timeout("ssl_shutdown_timeout", self.shutdown_timeout, _shutdown_timeout)
    self.context = self.context or sslproto._create_transport_context(self.server_side, self.server_hostname)
    self.context.wrap_bio
    self.checked = True
    return 0


cdef object secured_timeout(str name, seconds, usual):
    """As it was given: it is in asyncio's messages. OverflowError: it is beyond what a double holds."""
    if seconds is None:
        return usual
    if seconds <= 0 or not <double>seconds > 0:     # NaN
        raise ValueError(f"{name} should be a positive number, got {seconds}")
    return seconds


cdef object secured_prepare(Secured self):
    """What `stream_start_tls` takes. Errors: those of asyncio's SSLProtocol, and of the context's `wrap_bio`."""
    if not self.checked:
        secured_check(self)
    return tls_prepare(self.context, self.server_side, self.server_hostname)


@cython.final
@cython.internal
cdef class Tls:
    """What a Stream with TLS has besides."""
    cdef Secured secured
    cdef object ssl_object          # None: the handshake is not done
    cdef object waiter              # a future of who waits for the handshake; None: nobody does
    cdef object predecessor         # after start_tls: the transport that asyncio's Server knows
    cdef bytes held                 # what its BufferedProtocol has not had yet, since it has paused in between
    cdef size_t read_high           # kept for who asks: this side stops reading when the protocol does
    cdef size_t read_low
    cdef double began               # in debug mode: when the handshake did
    cdef int dropped                # writes that nobody will get
    cdef flag_t handshaking
    cdef flag_t accepted            # by a listener
    cdef flag_t known               # the protocol knows of the connection: `connection_lost` is due
    cdef flag_t peer_ended          # `eof_received` was called
    cdef flag_t cut                 # for a FIN without close_notify, which asyncio answers with the same
    cdef flag_t finishing           # the peer has ended, and so do we
    cdef flag_t closed_early        # in connection_made: what has come with the handshake is delivered still, as in asyncio


cdef Tls secured_new(Secured secured):
    cdef Tls self = Tls.__new__(Tls)
    self.secured = secured
    self.handshaking = True
    self.read_high, self.read_low = SECURED_READ_HIGH_WATER, SECURED_READ_HIGH_WATER // 4
    return self


cdef object secured_extra(Tls self, str name, object default):
    """What get_extra_info knows of TLS. NotImplemented: it is no name of TLS."""
    if name == "sslcontext":
        return self.secured.context
    if self.ssl_object is None:
        return NotImplemented
    if name == "ssl_object":
        return self.ssl_object
    if name == "peercert":
        return secured_certificate(self.ssl_object, default)
    if name == "cipher":
        return self.ssl_object.cipher()
    if name == "compression":
        return self.ssl_object.compression()
    return NotImplemented


cdef object secured_certificate(object ssl_object, object default):
    """asyncio notes it in the beginning. Here it is made when a program asks, which a connection that has failed cannot any more."""
    try:
        return ssl_object.getpeercert()
    except ValueError:
        return default
