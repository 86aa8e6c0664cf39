"""ssl_context: the settings of our contexts that only OpenSSL itself can change; see tls/config.py.

A context's `SSL_CTX*` is learnt from a connection that is made of it for that purpose only. A user's own context is
never asked for here.

Owns the suites of TLS 1.3, the groups, and how a peer is verified; and the texts of errors for what the fallback engine
cannot set. What is chosen during a handshake: see alpn and sni.
"""
import ssl

from pybuntcp._c cimport openssl as ossl


cdef void* context_pointer(object context) except? NULL:
    """Its SSL_CTX*, valid as long as the context is; NULL: it cannot be found."""
    cdef list made = []
    cdef void* found
    if not _borrowing:
        return NULL
    found = openssl_wrap(context, (ssl.MemoryBIO(), ssl.MemoryBIO()),
                         {"server_side": context.protocol == ssl.PROTOCOL_TLS_SERVER}, made)
    return NULL if found == NULL else openssl.SSL_get_SSL_CTX(found)


def set_suites(context, str names):
    """Set the cipher suites of TLS 1.3. False: not possible with this engine."""
    cdef void* pointer = context_pointer(context)
    if pointer == NULL:
        return False
    if openssl.SSL_CTX_set_ciphersuites(pointer, names.encode()) != 1:
        openssl.ERR_clear_error()
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"no such suites: {names}")
    return True


def set_groups(context, str names):
    """Set the groups of the key exchange, in order of preference. False: not possible with this engine."""
    cdef void* pointer = context_pointer(context)
    cdef bytes encoded = names.encode()
    if pointer == NULL:
        return False
    if openssl.SSL_CTX_ctrl(pointer, ossl.CTRL_SET_GROUPS_LIST, 0, <char*>encoded) != 1:
        openssl.ERR_clear_error()
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"no such groups: {names}")
    return True


cdef void connection_verify(void* connection, bint server, bint asked, bint refusing) noexcept nogil:
    """Request and verify a certificate if `asked`; refuse an invalid one if `refusing`."""
    cdef int mode = ossl.SSL_VERIFY_PEER
    if not asked:
        openssl.SSL_set_verify(connection, ossl.SSL_VERIFY_NONE, NULL)
        return
    if server and refusing:
        mode |= ossl.SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    openssl.SSL_set_verify(connection, mode, NULL if refusing else <void*>ossl.accept_any)


def borrowed_alone():
    """The end of a message: which engine is needed, and why it is not there."""
    why = _reason or "it is not used for a modified ssl.SSLObject"
    return f"needs the engine that borrows OpenSSL's connection ({why}); see tls_engine_info()"
