"""secured: a secured connection as Python sees it.

Owns `Secured`, and in it `secured_t`, what the engines work on. The socket holds the Secured for as
long as it lives; the `Socket` does as long as anybody asks it, so the verdict and the certificates
stay readable. `secured_t.ssl` is NULL where the engine works on the standard library's object: then
what only OpenSSL itself can tell raises `NotImplementedError`.
"""
cimport cython
import ssl
from pybuntcp.names import of_peer

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free

from pybuntcp._core cimport room_t, secure_t

from pybuntcp._c cimport openssl as c

from pybuntcp.options import boolean, integer

SIGNATURES = {      # OpenSSL's names, and those of the field
    "id-ecPublicKey": "ECDSA",
    "rsaEncryption": "RSA",
    "RSASSA-PSS": "RSA-PSS",
    "ED25519": "Ed25519",
    "ED448": "Ed448",
}

cdef enum:
    RECORD = 16384              # the most plaintext of one record
    FRAGMENT_LEAST = 512
    FINISHED_MOST = 64          # bytes of a finished message
    EXPORT_MOST = 65535

cdef enum:      # outcomes of opening
    MORE                        # there was no room for all of it
    DRY                         # there is nothing to open
    FINISHED                    # the peer says that nothing more comes
    FAILED


cdef struct secured_t:
    secure_t core               # first: the core's pointer is ours
    void* ssl
    const char* at              # what came and was not read: at..end
    const char* end
    room_t* room                # where what is sealed goes, while an engine is at work
    room_t flight               # ... during the handshake, in which anybody's code may run
    unsigned long code          # OpenSSL's, of what failed
    char* asked                 # on a server, the name that its client asks for; owned; NULL: none
    int outcome
    bint starved                # OpenSSL asked for more than came
    int silent                  # reads of what came that brought no data
    bint begun                  # the handshake
    bint shaking                # ... goes on
    bint agreed                 # ... has succeeded
    bint finished               # the peer has said that nothing more comes
    bint told                   # ... and the user knows
    bint gone                   # the connection is


@cython.final
@cython.no_gc_clear             # the handshake's room is freed by __dealloc__
cdef class Secured:
    """What a `Socket` asks about its TLS connection. Names and shapes are those of `Socket`."""
    cdef secured_t c
    cdef readonly object object         # the standard library's: an ssl.SSLObject
    cdef object incoming                # ... and its two ends, where the engine works on it
    cdef object outgoing
    cdef readonly object config
    cdef public object error            # what ended the connection
    cdef object stop                    # KeyboardInterrupt, SystemExit
    cdef public object authorization_error
    cdef public bint authorized
    cdef public object expected         # the name that the peer's certificate must be for
    cdef public bint asking             # is the peer's certificate looked at?
    cdef public bint refusing           # ... and a peer refused whose is not good?
    cdef readonly bint decided          # ... by `set_verify_mode`, and by no configuration any more
    cdef public object chosen           # the configuration that the client's name led to; None: `config`
    cdef public object asked            # ... that name, where OpenSSL cannot be asked
    cdef bytearray hello                # ... what came of the hello with it; None: that is known
    cdef readonly bint server

    def __dealloc__(self):
        free(self.c.flight.out)
        free(self.c.asked)

    @property
    def address(self):
        """Where the core finds its part."""
        return <size_t>&self.c

    @property
    def borrowed(self):
        """Is it the `SSL*` that the engine works on?"""
        return self.c.ssl != NULL

    # ------------------------------------------------------------------ what was agreed

    def get_tls_version(self):
        return None if not self.c.agreed else self.object.version()

    def get_cipher(self):
        cdef const char* standard = NULL
        found = None if not self.c.agreed else self.object.cipher()
        if found is None:
            return None
        name = found[0]
        if self.c.ssl != NULL:
            standard = api.SSL_CIPHER_standard_name(api.SSL_get_current_cipher(self.c.ssl))
        return {
            "name": name,
            "standard_name": standard.decode() if standard != NULL else standard_name(name),
            "version": found[1],
        }

    def alpn_protocol(self):
        return None if not self.c.agreed else self.object.selected_alpn_protocol()

    def is_session_reused(self):
        return self.c.agreed and bool(self.object.session_reused)

    def get_servername(self):
        return secured_name(self)

    def get_shared_sigalgs(self):
        cdef int i, count
        cdef int sign = 0
        cdef int digest = 0
        secured_need(self, "get_shared_sigalgs")
        count = api.SSL_get_shared_sigalgs(self.c.ssl, 0, NULL, NULL, NULL, NULL, NULL)
        found = []
        for i in range(count):
            if api.SSL_get_shared_sigalgs(self.c.ssl, i, &sign, &digest, NULL, NULL, NULL) > 0:
                name = SIGNATURES.get(short_name(sign), short_name(sign))
                found.append(f"{name}+{short_name(digest)}" if digest != 0 else name)
        return found

    def get_ephemeral_key_info(self):
        cdef void* key = NULL
        secured_need(self, "get_ephemeral_key_info")
        if self.server or not self.c.agreed:
            return None if self.server else {}
        if api.SSL_ctrl(self.c.ssl, c.CTRL_GET_PEER_TMP_KEY, 0, &key) <= 0 or key == NULL:
            return {}
        try:
            return key_info(self, key)
        finally:
            api.EVP_PKEY_free(key)

    # ------------------------------------------------------------------ certificates

    def get_peer_certificate(self):
        if not self.c.agreed:
            return None
        try:
            raw = self.object.getpeercert(True)
            return None if raw is None else {**self.object.getpeercert(), "raw": raw}
        except ValueError:      # `_ssl` takes a connection that has failed for one that has not begun
            return secured_certificate_after(self)

    def get_certificate(self):
        cdef void* found
        from pybuntcp.tls import certificate_as_dict

        if self.c.ssl == NULL:
            return (self.chosen or self.config).own_certificate()
        found = api.SSL_get_certificate(self.c.ssl)
        return None if found == NULL else certificate_as_dict(der_of(found))

    # ------------------------------------------------------------------ sessions, keys

    def get_session(self):
        cdef void* session
        cdef unsigned char* at
        cdef int size
        secured_need(self, "get_session")
        session = api.SSL_get1_session(self.c.ssl)
        if session == NULL:
            return None
        try:
            size = api.i2d_SSL_SESSION(session, NULL) if api.SSL_SESSION_is_resumable(session) else 0
            if size <= 0:
                return None
            raw = PyBytes_FromStringAndSize(NULL, size)
            at = <unsigned char*><char*>raw
            api.i2d_SSL_SESSION(session, &at)
            return raw
        finally:
            api.SSL_SESSION_free(session)

    def set_session(self, data):
        cdef void* session
        secured_need(self, "set_session")
        if self.c.begun or self.server:
            return False
        session = session_from(data)
        taken = api.SSL_set_session(self.c.ssl, session) == 1
        api.SSL_SESSION_free(session)
        api.ERR_clear_error()           # of why not
        return taken

    def get_tls_ticket(self):
        cdef void* session
        cdef const unsigned char* at = NULL
        cdef size_t size = 0
        secured_need(self, "get_tls_ticket")
        session = api.SSL_get1_session(self.c.ssl)
        if session == NULL:
            return None
        api.SSL_SESSION_get0_ticket(session, &at, &size)
        ticket = (<const char*>at)[:size] if at != NULL and size != 0 else None
        api.SSL_SESSION_free(session)
        return ticket

    def export_keying_material(self, length, label, context=None):
        cdef int size = integer("length", length, 1, EXPORT_MOST)
        cdef bytes name = label.encode() if isinstance(label, str) else bytes(memoryview(label))
        cdef bytes extra = b"" if context is None else bytes(memoryview(context))
        secured_need(self, "export_keying_material")
        if not self.c.agreed:
            raise ValueError("export_keying_material: the handshake is not done")
        made = PyBytes_FromStringAndSize(NULL, size)
        if api.SSL_export_keying_material(self.c.ssl, <unsigned char*><char*>made, size, name, len(name),
                                          <const unsigned char*><const char*>extra, len(extra), context is not None) != 1:
            api.ERR_clear_error()
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "export_keying_material failed")
        return made

    def get_tls_finished_message(self):
        return self.finished_message(False)

    def get_tls_peer_finished_message(self):
        return self.finished_message(True)

    def finished_message(self, bint peer):
        cdef char made[FINISHED_MOST]
        cdef size_t size
        secured_need(self, "get_tls_peer_finished_message" if peer else "get_tls_finished_message")
        if peer:
            size = api.SSL_get_peer_finished(self.c.ssl, made, FINISHED_MOST)
        else:
            size = api.SSL_get_finished(self.c.ssl, made, FINISHED_MOST)
        return made[:min(size, <size_t>FINISHED_MOST)] if size != 0 else None

    # ------------------------------------------------------------------ before the handshake

    def set_servername(self, name):
        cdef bytes encoded
        secured_need(self, "set_servername")
        if self.server:
            raise ValueError("set_servername: a server is asked for a name")
        if self.c.begun:
            return False
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(f"name must be a str that is not empty, not {name!r}")
        name = of_peer("name", name)
        encoded = name.encode()
        if api.SSL_ctrl(self.c.ssl, c.CTRL_SET_TLSEXT_HOSTNAME, 0, NULL if is_address(name) else <char*>encoded) != 1:
            raise refused(f"name: OpenSSL does not take {name!r}")
        self.expected = name
        if self.config.named:
            self.check_name(name)
        return True

    def set_max_send_fragment(self, size):
        number = integer("size", size, -2**63, 2**63 - 1)
        secured_need(self, "set_max_send_fragment")
        if self.c.gone or not FRAGMENT_LEAST <= number <= RECORD:
            return False
        return api.SSL_ctrl(self.c.ssl, c.CTRL_SET_MAX_SEND_FRAGMENT, number, NULL) == 1

    def set_verify_mode(self, request_cert, reject_unauthorized):
        boolean("request_cert", request_cert)
        boolean("reject_unauthorized", reject_unauthorized)
        secured_need(self, "set_verify_mode")
        if not self.c.shaking:
            return False
        self.decided = True
        self.asking, self.refusing = request_cert, request_cert and reject_unauthorized
        self.set_verify(request_cert, reject_unauthorized)
        return True

    # ------------------------------------------------------------------ for configurations

    def set_verify(self, bint asked, bint refusing):
        """Whom to accept, of this connection alone. What verification found is there in any case."""
        connection_verify(self.c.ssl, self.server, asked, refusing)

    def set_session_id_context(self, bytes name):
        """A session made under one configuration cannot be resumed under another. It is this connection's and not its
        context's, since from CPython 3.13 on `_ssl` gives each connection one that is the same for all."""
        api.SSL_set_session_id_context(self.c.ssl, <const unsigned char*><const char*>name, <unsigned int>len(name))

    def check_name(self, str name):
        """Have verification look at the name, too, by the flags that the context has for that."""
        cdef void* param = api.SSL_get0_param(self.c.ssl)
        cdef bytes encoded = name.encode()
        api.X509_VERIFY_PARAM_set1_host(param, NULL, 0)
        api.X509_VERIFY_PARAM_set1_ip(param, NULL, 0)
        if is_address(name):
            taken = api.X509_VERIFY_PARAM_set1_ip_asc(param, encoded)
        else:
            taken = api.X509_VERIFY_PARAM_set1_host(param, encoded, len(encoded))
        if taken != 1:
            raise refused(f"server_name: OpenSSL does not take {name!r}")

    def has_peer_certificate(self):
        return self.object.getpeercert(True) is not None

    def is_for(self, str name):
        """Is the peer's certificate for this name? OpenSSL asks that where it verifies; not of a session resumed."""
        cdef void* found = peer_certificate(self.c.ssl)
        cdef bytes encoded = name.encode()
        if found == NULL:
            return False
        try:
            if is_address(name):
                return api.X509_check_ip_asc(found, encoded, 0) == 1
            return api.X509_check_host(found, encoded, len(encoded), host_flags(self.c.ssl), NULL) == 1
        finally:
            api.X509_free(found)

    def verify_result(self):
        """OpenSSL's code, 0 = all is well, and its words."""
        cdef long code = api.SSL_get_verify_result(self.c.ssl)
        return code, api.X509_verify_cert_error_string(code).decode()


cdef void secured_note(Secured self, object error) noexcept:
    """What ended the connection: the first error counts."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        self.stop = error
        interrupted = ssl.SSLError(ssl.SSL_ERROR_SSL, "interrupted")
        interrupted.__cause__ = error
        error = interrupted
    if self.error is None:
        self.error = error


cdef int secured_need(Secured self, str what) except -1:
    """What the standard library alone cannot do is refused."""
    if self.c.ssl == NULL:
        raise NotImplementedError(f"{what} {borrowed_alone()}")
    return 0


cdef object refused(str why):
    """What OpenSSL has noted of it shall not be taken for somebody else's error."""
    api.ERR_clear_error()
    return ValueError(why)


cdef object secured_certificate_after(Secured self):
    """The peer's certificate, of a connection that has failed."""
    cdef void* found
    from pybuntcp.tls import certificate_as_dict

    if self.c.ssl == NULL:
        return None
    found = peer_certificate(self.c.ssl)
    if found == NULL:
        return None
    try:
        return certificate_as_dict(der_of(found))
    finally:
        api.X509_free(found)


cdef inline void* peer_certificate(void* connection) noexcept:
    """To be freed."""
    return (api.SSL_get1_peer_certificate or api.SSL_get_peer_certificate)(connection)


cdef bytes der_of(void* certificate):
    cdef unsigned char* at
    cdef int size = api.i2d_X509(certificate, NULL)
    raw = PyBytes_FromStringAndSize(NULL, max(size, 0))
    at = <unsigned char*><char*>raw
    if size > 0:
        api.i2d_X509(certificate, &at)
    return raw


cdef void* session_from(object data) except NULL:
    cdef const unsigned char* at
    cdef void* session
    cdef bytes raw
    try:
        raw = bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"session must be bytes, not {type(data).__name__!r}") from None
    at = <const unsigned char*><const char*>raw
    session = api.d2i_SSL_SESSION(NULL, &at, len(raw))
    if session == NULL:
        api.ERR_clear_error()
        raise ValueError("session: these bytes are no session of this OpenSSL")
    return session


def check_session(data):
    """Refuse, at the call, what can never be resumed."""
    if not _borrowing:
        raise NotImplementedError(f"session {borrowed_alone()}")
    api.SSL_SESSION_free(session_from(data))


cdef object standard_name(str name):
    """Of a suite, where OpenSSL cannot be asked: those of TLS 1.3 are named by it."""
    return name if name.startswith("TLS_") else None


cdef str short_name(int nid):
    cdef const char* name = api.OBJ_nid2sn(nid)
    return "?" if name == NULL else name.decode()


cdef dict key_info(Secured self, void* key):
    cdef int kind = api.EVP_PKEY_get_id(key) if api.EVP_PKEY_get_id != NULL else api.EVP_PKEY_id(key)
    cdef int size = api.EVP_PKEY_get_bits(key) if api.EVP_PKEY_get_bits != NULL else api.EVP_PKEY_bits(key)
    cdef const char* group = NULL
    name = short_name(kind)
    if name == "dhKeyAgreement":
        return {"type": "DH", "size": size}
    if api.SSL_group_to_name != NULL:
        group = api.SSL_group_to_name(self.c.ssl, <int>api.SSL_ctrl(self.c.ssl, c.CTRL_GET_NEGOTIATED_GROUP, 0, NULL))
    return {"type": "ECDH", "name": name if group == NULL else group.decode(), "size": size}
