"""sni: which certificate and policy a server uses for the name that a client requests.

OpenSSL reports the client's hello to `on_client_hello`, before it looks for the client's session: a session of one name
must not be resumed under another, whose clients may have to present a certificate. The chosen configuration then
replaces all that the listener's own has set in the connection. Where OpenSSL cannot report it: see client_hello.
"""
from cpython.ref cimport PyObject

from pybuntcp._c cimport openssl as ossl
from pybuntcp._core cimport tls_hello_failed


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
        tls_hello_failed(config, error)
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


cdef int connection_set_groups(void* connection, object chosen) except -1:
    """Set the groups, which cannot be unset: so a listener with several names sets none in its context."""
    cdef bytes groups
    if chosen.curve is None:
        return 0
    groups = chosen.curve.encode()
    if openssl.SSL_ctrl(connection, ossl.CTRL_SET_GROUPS_LIST, 0, <char*>groups) != 1:
        raise refused(f"OpenSSL does not take ecdh_curve {chosen.curve!r}")
    return 0
