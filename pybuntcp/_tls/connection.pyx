"""connection: a secured connection as Python sees it.

Owns `TLSConnection`, and in it `tls_connection_t`, what the engines work on. The socket holds the Secured for as
long as it lives; the `Socket` does as long as anybody asks it, so the verdict and the certificates
stay readable. `tls_connection_t.ssl` is NULL where the engine works on the standard library's object: then
what only OpenSSL itself can tell raises `NotImplementedError`.
"""
cimport cython
import ssl

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free

from pybuntcp._core cimport tls_scratch_t, tls_t

from pybuntcp._c cimport openssl as ossl

from pybuntcp.checks import boolean, integer
from pybuntcp.names import peer_name
from pybuntcp.tls.certificate import certificate_as_dict

SIGNATURES = {      # OpenSSL's names, and those of the field
    "id-ecPublicKey": "ECDSA",
    "rsaEncryption": "RSA",
    "RSASSA-PSS": "RSA-PSS",
    "ED25519": "Ed25519",
    "ED448": "Ed448",
}

cdef enum:
    RECORD = 16384      # the most plaintext of one record
    FRAGMENT_MIN = 512
    FINISHED_MAX = 64   # bytes of a finished message
    EXPORT_MAX = 65535

cdef enum:      # outcomes of opening
    MORE        # there was no room for all of it
    DRY         # there is nothing to open
    FINISHED    # the peer says that nothing more comes
    FAILED


cdef struct tls_connection_t:
    tls_t core              # first: the core's pointer is ours
    void* ssl
    const char* input       # what came and was not read: input..input_end
    const char* input_end
    tls_scratch_t* scratch  # where what is sealed goes, while an engine is at work
    tls_scratch_t flight    # ... during the handshake, in which anybody's code may run
    unsigned long code      # OpenSSL's, of what failed
    char* sni_name          # on a server, the name that its client asks for; owned; NULL: none
    int outcome
    bint want_read          # OpenSSL asked for more than came
    int empty_reads         # reads of what came that brought no data
    bint handshake_started  # the handshake
    bint handshaking        # ... goes on
    bint handshake_done     # ... has succeeded
    bint peer_closed        # the peer has said that nothing more comes
    bint eof_delivered      # ... and the user knows
    bint detached           # the connection is


@cython.final
@cython.no_gc_clear             # the handshake's room is freed by __dealloc__
cdef class TLSConnection:
    """What a `Socket` asks about its TLS connection. Names and shapes are those of `Socket`."""
    cdef tls_connection_t c
    cdef readonly object object             # the standard library's: an ssl.SSLObject
    cdef object incoming                    # ... and its two ends, where the engine works on it
    cdef object outgoing
    cdef readonly object config
    cdef public object error                # what ended the connection
    cdef object stop                        # KeyboardInterrupt, SystemExit
    cdef public object authorization_error
    cdef public bint authorized
    cdef public object server_hostname      # the name that the peer's certificate must be for
    cdef public bint request_cert           # is the peer's certificate looked at?
    cdef public bint reject_unauthorized    # ... and a peer refused whose is not good?
    cdef readonly bint verify_mode_set       # ... by `set_verify_mode`, and by no configuration any more
    cdef public object sni_config            # the configuration that the client's name led to; None: `config`
    cdef public object sni_name              # ... that name, where OpenSSL cannot be asked
    cdef bytearray hello                    # ... what came of the hello with it; None: that is known
    cdef readonly bint server

    def __dealloc__(self):
        free(self.c.flight.out)
        free(self.c.sni_name)

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
        return None if not self.c.handshake_done else self.object.version()

    def get_cipher(self):
        cdef const char* standard = NULL
        found = None if not self.c.handshake_done else self.object.cipher()
        if found is None:
            return None
        name = found[0]
        if self.c.ssl != NULL:
            standard = openssl.SSL_CIPHER_standard_name(openssl.SSL_get_current_cipher(self.c.ssl))
        return {
            "name": name,
            "standard_name": standard.decode() if standard != NULL else standard_name(name),
            "version": found[1],
        }

    def alpn_protocol(self):
        return None if not self.c.handshake_done else self.object.selected_alpn_protocol()

    def is_session_reused(self):
        return self.c.handshake_done and bool(self.object.session_reused)

    def get_servername(self):
        return secured_name(self)

    def get_shared_sigalgs(self):
        cdef int i, count
        cdef int sign = 0
        cdef int digest = 0
        tls_require_openssl(self, "get_shared_sigalgs")
        count = openssl.SSL_get_shared_sigalgs(self.c.ssl, 0, NULL, NULL, NULL, NULL, NULL)
        found = []
        for i in range(count):
            if openssl.SSL_get_shared_sigalgs(self.c.ssl, i, &sign, &digest, NULL, NULL, NULL) > 0:
                name = SIGNATURES.get(short_name(sign), short_name(sign))
                found.append(f"{name}+{short_name(digest)}" if digest != 0 else name)
        return found

    def get_ephemeral_key_info(self):
        cdef void* key = NULL
        tls_require_openssl(self, "get_ephemeral_key_info")
        if self.server or not self.c.handshake_done:
            return None if self.server else {}
        if openssl.SSL_ctrl(self.c.ssl, ossl.CTRL_GET_PEER_TMP_KEY, 0, &key) <= 0 or key == NULL:
            return {}
        try:
            return key_info(self, key)
        finally:
            openssl.EVP_PKEY_free(key)

    # ------------------------------------------------------------------ certificates

    def get_peer_certificate(self):
        if not self.c.handshake_done:
            return None
        try:
            raw = self.object.getpeercert(True)
            return None if raw is None else {**self.object.getpeercert(), "raw": raw}
        except ValueError:      # `_ssl` takes a connection that has failed for one that has not begun
            return tls_certificate_after_failure(self)

    def get_certificate(self):
        cdef void* found
        if self.c.ssl == NULL:
            return (self.sni_config or self.config).own_certificate()
        found = openssl.SSL_get_certificate(self.c.ssl)
        return None if found == NULL else certificate_as_dict(der_of(found))

    # ------------------------------------------------------------------ sessions, keys

    def get_session(self):
        cdef void* session
        cdef unsigned char* at
        cdef int size
        tls_require_openssl(self, "get_session")
        session = openssl.SSL_get1_session(self.c.ssl)
        if session == NULL:
            return None
        try:
            size = openssl.i2d_SSL_SESSION(session, NULL) if openssl.SSL_SESSION_is_resumable(session) else 0
            if size <= 0:
                return None
            raw = PyBytes_FromStringAndSize(NULL, size)
            at = <unsigned char*><char*>raw
            openssl.i2d_SSL_SESSION(session, &at)
            return raw
        finally:
            openssl.SSL_SESSION_free(session)

    def set_session(self, data):
        cdef void* session
        tls_require_openssl(self, "set_session")
        if self.c.handshake_started or self.server:
            return False
        session = session_from(data)
        taken = openssl.SSL_set_session(self.c.ssl, session) == 1
        openssl.SSL_SESSION_free(session)
        openssl.ERR_clear_error()           # of why not
        return taken

    def get_tls_ticket(self):
        cdef void* session
        cdef const unsigned char* at = NULL
        cdef size_t size = 0
        tls_require_openssl(self, "get_tls_ticket")
        session = openssl.SSL_get1_session(self.c.ssl)
        if session == NULL:
            return None
        openssl.SSL_SESSION_get0_ticket(session, &at, &size)
        ticket = (<const char*>at)[:size] if at != NULL and size != 0 else None
        openssl.SSL_SESSION_free(session)
        return ticket

    def export_keying_material(self, length, label, context=None):
        cdef int size = integer("length", length, 1, EXPORT_MAX)
        cdef bytes name = label.encode() if isinstance(label, str) else bytes(memoryview(label))
        cdef bytes extra = b"" if context is None else bytes(memoryview(context))
        tls_require_openssl(self, "export_keying_material")
        if not self.c.handshake_done:
            raise ValueError("export_keying_material: the handshake is not done")
        made = PyBytes_FromStringAndSize(NULL, size)
        if openssl.SSL_export_keying_material(self.c.ssl, <unsigned char*><char*>made, size, name, len(name),
                                              <const unsigned char*><const char*>extra, len(extra), context is not None) != 1:
            openssl.ERR_clear_error()
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "export_keying_material failed")
        return made

    def get_tls_finished_message(self):
        return self.finished_message(False)

    def get_tls_peer_finished_message(self):
        return self.finished_message(True)

    def finished_message(self, bint peer):
        cdef char made[FINISHED_MAX]
        cdef size_t size
        tls_require_openssl(self, "get_tls_peer_finished_message" if peer else "get_tls_finished_message")
        if peer:
            size = openssl.SSL_get_peer_finished(self.c.ssl, made, FINISHED_MAX)
        else:
            size = openssl.SSL_get_finished(self.c.ssl, made, FINISHED_MAX)
        return made[:min(size, <size_t>FINISHED_MAX)] if size != 0 else None

    # ------------------------------------------------------------------ before the handshake

    def set_servername(self, name):
        cdef bytes encoded
        tls_require_openssl(self, "set_servername")
        if self.server:
            raise ValueError("set_servername: a server is asked for a name")
        if self.c.handshake_started:
            return False
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(f"name must be a str that is not empty, not {name!r}")
        name = peer_name("name", name)
        encoded = name.encode()
        if openssl.SSL_ctrl(self.c.ssl, ossl.CTRL_SET_TLSEXT_HOSTNAME, 0, NULL if is_address(name) else <char*>encoded) != 1:
            raise refused(f"name: OpenSSL does not take {name!r}")
        self.server_hostname = name
        if self.config.check_hostname:
            self.check_name(name)
        return True

    def set_max_send_fragment(self, size):
        number = integer("size", size, -2**63, 2**63 - 1)
        tls_require_openssl(self, "set_max_send_fragment")
        if self.c.detached or not FRAGMENT_MIN <= number <= RECORD:
            return False
        return openssl.SSL_ctrl(self.c.ssl, ossl.CTRL_SET_MAX_SEND_FRAGMENT, number, NULL) == 1

    def set_verify_mode(self, request_cert, reject_unauthorized):
        boolean("request_cert", request_cert)
        boolean("reject_unauthorized", reject_unauthorized)
        tls_require_openssl(self, "set_verify_mode")
        if not self.c.handshaking:
            return False
        self.verify_mode_set = True
        self.request_cert, self.reject_unauthorized = request_cert, request_cert and reject_unauthorized
        self.set_verify(request_cert, reject_unauthorized)
        return True

    # ------------------------------------------------------------------ for configurations

    def set_verify(self, bint asked, bint reject_unauthorized):
        """Whom to accept, of this connection alone. What verification found is there in any case."""
        connection_verify(self.c.ssl, self.server, asked, reject_unauthorized)

    def set_session_id_context(self, bytes name):
        """A session made under one configuration cannot be resumed under another. It is this connection's and not its
        context's, since from CPython 3.13 on `_ssl` gives each connection one that is the same for all."""
        openssl.SSL_set_session_id_context(self.c.ssl, <const unsigned char*><const char*>name, <unsigned int>len(name))

    def check_name(self, str name):
        """Have verification look at the name, too, by the flags that the context has for that."""
        cdef void* param = openssl.SSL_get0_param(self.c.ssl)
        cdef bytes encoded = name.encode()
        openssl.X509_VERIFY_PARAM_set1_host(param, NULL, 0)
        openssl.X509_VERIFY_PARAM_set1_ip(param, NULL, 0)
        if is_address(name):
            taken = openssl.X509_VERIFY_PARAM_set1_ip_asc(param, encoded)
        else:
            taken = openssl.X509_VERIFY_PARAM_set1_host(param, encoded, len(encoded))
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
                return openssl.X509_check_ip_asc(found, encoded, 0) == 1
            return openssl.X509_check_host(found, encoded, len(encoded), host_flags(self.c.ssl), NULL) == 1
        finally:
            openssl.X509_free(found)

    def verify_result(self):
        """OpenSSL's code, 0 = all is well, and its words."""
        cdef long code = openssl.SSL_get_verify_result(self.c.ssl)
        return code, openssl.X509_verify_cert_error_string(code).decode()


cdef void tls_note_error(TLSConnection self, object error) noexcept:
    """What ended the connection: the first error counts."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        self.stop = error
        interrupted = ssl.SSLError(ssl.SSL_ERROR_SSL, "interrupted")
        interrupted.__cause__ = error
        error = interrupted
    if self.error is None:
        self.error = error


cdef int tls_require_openssl(TLSConnection self, str what) except -1:
    """What the standard library alone cannot do is refused."""
    if self.c.ssl == NULL:
        raise NotImplementedError(f"{what} {borrowed_alone()}")
    return 0


cdef object refused(str why):
    """What OpenSSL has noted of it shall not be taken for somebody else's error."""
    openssl.ERR_clear_error()
    return ValueError(why)


cdef object tls_certificate_after_failure(TLSConnection self):
    """The peer's certificate, of a connection that has failed."""
    cdef void* found
    if self.c.ssl == NULL:
        return None
    found = peer_certificate(self.c.ssl)
    if found == NULL:
        return None
    try:
        return certificate_as_dict(der_of(found))
    finally:
        openssl.X509_free(found)


cdef inline void* peer_certificate(void* connection) noexcept:
    """To be freed."""
    return (openssl.SSL_get1_peer_certificate or openssl.SSL_get_peer_certificate)(connection)


cdef bytes der_of(void* certificate):
    cdef unsigned char* at
    cdef int size = openssl.i2d_X509(certificate, NULL)
    raw = PyBytes_FromStringAndSize(NULL, max(size, 0))
    at = <unsigned char*><char*>raw
    if size > 0:
        openssl.i2d_X509(certificate, &at)
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
    session = openssl.d2i_SSL_SESSION(NULL, &at, len(raw))
    if session == NULL:
        openssl.ERR_clear_error()
        raise ValueError("session: these bytes are no session of this OpenSSL")
    return session


def check_session(data):
    """Refuse, at the call, what can never be resumed."""
    if not _borrowing:
        raise NotImplementedError(f"session {borrowed_alone()}")
    openssl.SSL_SESSION_free(session_from(data))


cdef object standard_name(str name):
    """Of a suite, where OpenSSL cannot be asked: those of TLS 1.3 are named by it."""
    return name if name.startswith("TLS_") else None


cdef str short_name(int nid):
    cdef const char* name = openssl.OBJ_nid2sn(nid)
    return "?" if name == NULL else name.decode()


cdef dict key_info(TLSConnection self, void* key):
    cdef int kind = openssl.EVP_PKEY_get_id(key) if openssl.EVP_PKEY_get_id != NULL else openssl.EVP_PKEY_id(key)
    cdef int size = openssl.EVP_PKEY_get_bits(key) if openssl.EVP_PKEY_get_bits != NULL else openssl.EVP_PKEY_bits(key)
    cdef const char* group = NULL
    name = short_name(kind)
    if name == "dhKeyAgreement":
        return {"type": "DH", "size": size}
    if openssl.SSL_group_to_name != NULL:
        group = openssl.SSL_group_to_name(self.c.ssl, <int>openssl.SSL_ctrl(self.c.ssl, ossl.CTRL_GET_NEGOTIATED_GROUP, 0, NULL))
    return {"type": "ECDH", "name": name if group == NULL else group.decode(), "size": size}
