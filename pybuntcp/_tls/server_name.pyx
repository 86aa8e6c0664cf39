"""server_name: the host name that a client requests (RFC 6066, section 3), and how names are passed to OpenSSL.

The problem: when a client resumes a TLS 1.2 session, OpenSSL forgets the name that it requested, and reports the name
that was accepted when the session was made, which is none if no callback accepted one.
The rule: a server notes the name when it arrives. OpenSSL passes every extension of a hello to a hook for tracing,
which belongs to the connection and not to its context.

Does not know which certificate belongs to which name: see ssl_context.
"""
import ipaddress

from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy

from pybuntcp._c cimport openssl as ossl

cdef enum:
    EXTENSION_SERVER_NAME = 0
    NAME_HEADER = 5     # the list's length, then the type and the length of its first entry
    HOST_NAME_MAX_BYTES = 255


cdef void name_watch(void* connection) noexcept nogil:
    """Have OpenSSL pass the extensions of this connection's hello to `on_extension`."""
    openssl.SSL_callback_ctrl(connection, ossl.CTRL_SET_TLSEXT_DEBUG_CB, <void*>on_extension)


cdef void on_extension(
    void* connection, int from_server, int kind, const unsigned char* data, int size, void* argument
) noexcept nogil:
    """An extension was received or sent. A second hello has the name once more."""
    cdef tls_connection_t* self
    if kind == EXTENSION_SERVER_NAME and not from_server:
        self = <tls_connection_t*>openssl.SSL_get_ex_data(connection, _index)
        if self != NULL:
            free(self.sni_name)
            self.sni_name = name_in(data, size)


cdef char* name_in(const unsigned char* data, size_t size) noexcept nogil:
    """A copy of the host name in the extension; the caller owns it. NULL: none, malformed, or no memory."""
    cdef size_t length
    cdef char* name
    if size < NAME_HEADER or data[0] * 256 + data[1] != <int>size - 2 or data[2] != 0:
        return NULL
    length = data[3] * 256 + data[4]
    data += NAME_HEADER
    if length == 0 or length > HOST_NAME_MAX_BYTES or length > size - NAME_HEADER or memchr(data, 0, length) != NULL:
        return NULL
    name = <char*>malloc(length + 1)
    if name != NULL:
        memcpy(name, data, length)
        name[length] = 0
    return name


cdef object name_asked_for(tls_connection_t* self):
    """The name that the client requested; None: none, or one that is not ASCII."""
    if self.sni_name == NULL:
        return None
    try:
        return self.sni_name.decode("ascii")
    except UnicodeDecodeError:
        return None


cdef object tls_server_name(TLSConnection self):
    """`Socket.get_servername`: on a server the name that its client requested, on a client the name it requests."""
    cdef const char* name
    if self.c.ssl == NULL:
        return tls_server_name_fallback(self)
    name = <const char*>self.c.sni_name if self.server else openssl.SSL_get_servername(self.c.ssl, 0)
    return None if name == NULL or not (<bytes>name).isascii() else name.decode("ascii")


cdef object tls_server_name_fallback(TLSConnection self):
    """The same where OpenSSL cannot be asked."""
    name = self.object.server_hostname
    if self.server and not hasattr(self.config, "host"):
        raise NotImplementedError(f"get_servername with an ssl.SSLContext {borrowed_alone()}")
    return self.sni_name if self.server else None if name is None or is_address(name) else name


cdef bint is_address(str name) except -1:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
