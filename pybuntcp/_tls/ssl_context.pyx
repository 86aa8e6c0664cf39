"""ssl_context: what only OpenSSL itself can set in a context of ours; see tls/config.py.

A context's `SSL_CTX*` is learnt from a connection that is made of it for that purpose only. A user's own context is
never asked for here.

Owns the choice of a protocol (ALPN), where a client that supports none of ours is refused (RFC 7301, section 3.2),
which the standard library cannot do. Owns also the choice of a certificate by the name that a client requests, where
OpenSSL reports it (elsewhere: see client_hello). That choice is made before OpenSSL looks for the client's session: a
session of one name must not be resumed under another, whose clients may have to present a certificate.
"""
import collections
import ssl
import sys

from libc.string cimport memcmp

from cpython.ref cimport PyObject

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


def choose_protocol(config):
    """A client gets the first of our protocols that it supports, or a fatal alert."""
    cdef bytes protocols = config.protocols
    cdef void* pointer = context_pointer(config.context) if protocols else NULL
    if pointer != NULL:
        openssl.SSL_CTX_set_alpn_select_cb(pointer, on_protocols, <void*><char*>protocols)


cdef int on_protocols(void* connection, const unsigned char** chosen, unsigned char* chosen_size,
                      const unsigned char* offered, unsigned int size, void* protocols) noexcept nogil:
    """OpenSSL's callback for ALPN.

    protocols: our list, in wire format, with a 0 at its end. It belongs to the configuration, which outlives its
    connections.
    """
    cdef const unsigned char* ours = <const unsigned char*>protocols
    cdef unsigned int at
    while ours[0] != 0:
        at = 0
        while at < size and at + 1 + offered[at] <= size:
            if offered[at] == ours[0] and memcmp(offered + at + 1, ours + 1, ours[0]) == 0:
                chosen[0] = offered + at + 1
                chosen_size[0] = offered[at]
                return ossl.ALPN_CHOSEN
            at += 1 + offered[at]
        ours += 1 + ours[0]
    return ossl.ALPN_NONE_IN_COMMON


def choose_by_name(config):
    """A client gets the certificate of the name that it requests, and has to meet its policy."""
    cdef void* pointer = context_pointer(config.context)
    if pointer == NULL:
        for name, host in config.hosts.items():
            if config.request_cert or host.request_cert:
                raise NotImplementedError(f"sni with request_cert {borrowed_alone()}")
            for option in [option for option in host.limits if host.limits[option] != config.limits[option]]:
                raise NotImplementedError(f"sni[{name!r}]: {option} other than the listener's {borrowed_alone()}")
    elif config.hosts:
        for each in (config, *config.hosts.values()):       # a second hello comes to the context of the first
            openssl.SSL_CTX_set_client_hello_cb(context_pointer(each.context), on_client_hello, <void*><PyObject*>config)


cdef int on_client_hello(void* connection, int* alert, void* argument) noexcept with gil:
    """OpenSSL's callback for a hello. 1: continue; 0: refuse, with `alert`."""
    cdef object config = <object><PyObject*>argument
    cdef tls_connection_t* self = <tls_connection_t*>openssl.SSL_get_ex_data(connection, _index)
    try:
        if self == NULL:
            raise RuntimeError("a connection that is not ours")
        asked = name_asked_for(self)
        chosen = config.host(asked) if asked is not None else config
        if tls_connection_of(self).sni_config is not None and tls_connection_of(self).sni_config is not chosen:
            alert[0] = ossl.ALERT_ILLEGAL_PARAMETER    # another name in its second hello
            return 0
        tls_connection_of(self).sni_config = chosen
        if chosen is not config:
            connection_become(connection, self, chosen)
        connection_set_groups(connection, chosen)
        return 1
    except (KeyboardInterrupt, SystemExit) as stop:
        tls_note_error(tls_connection_of(self), stop)
        return 0
    except BaseException as error:
        sys.unraisablehook(Unraisable(type(error), error, error.__traceback__, None, config))
        return 0


cdef int connection_become(void* connection, tls_connection_t* self, object chosen) except -1:
    """From here on the chosen configuration alone applies, and nothing of the listener's.

    OpenSSL itself switches the certificate, the suites, the protocols, the trusted CAs and the session cache. The rest
    is what a connection copies from its context when it is made; it is copied again here.
    """
    cdef void* context
    tls_connection_of(self).object.context = chosen.context       # `_ssl` asks its object for the key log
    context = openssl.SSL_get_SSL_CTX(connection)
    connection_check_as(connection, context)
    openssl.SSL_clear_options(connection, ~<unsigned long>0)
    openssl.SSL_set_options(connection, openssl.SSL_CTX_get_options(context))
    if (openssl.SSL_ctrl(connection, ossl.CTRL_SET_MIN_PROTO_VERSION, chosen.context.minimum_version, NULL) != 1
            or openssl.SSL_ctrl(connection, ossl.CTRL_SET_MAX_PROTO_VERSION, chosen.context.maximum_version, NULL) != 1):
        raise refused("OpenSSL does not take the versions of a name in sni")
    chosen.prepare(tls_connection_of(self))
    return 0


cdef int connection_check_as(void* connection, void* context) except -1:
    """Verify as the context does: flags (CRLs among them), depth and purpose are all replaced."""
    cdef void* own = openssl.SSL_get0_param(connection)
    cdef unsigned int before = openssl.X509_VERIFY_PARAM_get_inh_flags(own)
    openssl.X509_VERIFY_PARAM_set_inh_flags(own, ossl.PARAM_OVERWRITE | ossl.PARAM_RESET_FLAGS)
    taken = openssl.X509_VERIFY_PARAM_set1(own, openssl.SSL_CTX_get0_param(context))
    openssl.X509_VERIFY_PARAM_set_inh_flags(own, before)
    if taken != 1:
        raise MemoryError()
    return 0


cdef void connection_verify(void* connection, bint server, bint asked, bint refusing) noexcept nogil:
    """Request and verify a certificate if `asked`; refuse an invalid one if `refusing`."""
    cdef int mode = ossl.SSL_VERIFY_PEER
    if not asked:
        openssl.SSL_set_verify(connection, ossl.SSL_VERIFY_NONE, NULL)
        return
    if server and refusing:
        mode |= ossl.SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    openssl.SSL_set_verify(connection, mode, NULL if refusing else <void*>ossl.accept_any)


cdef int connection_set_groups(void* connection, object chosen) except -1:
    """Set the groups, which cannot be unset: so a listener with several names sets none in its context."""
    cdef bytes groups
    if chosen.curve is None:
        return 0
    groups = chosen.curve.encode()
    if openssl.SSL_ctrl(connection, ossl.CTRL_SET_GROUPS_LIST, 0, <char*>groups) != 1:
        raise refused(f"OpenSSL does not take ecdh_curve {chosen.curve!r}")
    return 0


Unraisable = collections.namedtuple("Unraisable", "exc_type exc_value exc_traceback err_msg object")


def borrowed_alone():
    """The end of a message: which engine is needed, and why it is not there."""
    why = _reason or "it is not used for a modified ssl.SSLObject"
    return f"needs the engine that borrows OpenSSL's connection ({why}); see tls_engine_info()"
