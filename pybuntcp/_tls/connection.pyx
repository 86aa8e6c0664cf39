"""connection: `TLSConnection`, a TLS connection as C and as Python see it.

One object with two sides. In C it is `tls_connection_t`, which the engines work on, and whose first member is the
core's `tls_t`. In Python it answers what a `Socket` is asked about TLS:

  socket_t --> tls_t = TLSConnection.c.core --wrapper--> TLSConnection <-- Socket.tls_connection
                                                             |
                         c.ssl, the SSL* inside  <-- object: an ssl.SSLObject, which does the handshake

`c.ssl` is NULL where the engine works on the standard library's object. What only OpenSSL itself can answer then raises
NotImplementedError (tls_require_openssl).

Life: TLS_NEW; TLS_STARTED, when no name or session can be set any more; TLS_AGREED, when certificates, cipher and ALPN
can be queried. Beside it the peer's end: TLS_OPEN, TLS_PEER_CLOSED, TLS_EOF_DELIVERED. The socket owns one reference
until it is gone (`detached`), and the `Socket` one as long as the user has it, so the verdict and the certificates stay
readable.

Owns both sides, the methods that a configuration calls (see tls/config.py), and the connection's first error. Does not
know sockets.
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

SIGNATURES = {      # OpenSSL's names: the usual ones
    "id-ecPublicKey": "ECDSA",
    "rsaEncryption": "RSA",
    "RSASSA-PSS": "RSA-PSS",
    "ED25519": "Ed25519",
    "ED448": "Ed448",
}

cdef enum:
    RECORD = 16384      # the largest plaintext of one record
    FRAGMENT_MIN = 512
    FINISHED_MAX = 64   # bytes of a Finished message
    EXPORT_MAX = 65535

cdef enum:      # outcomes of decrypting
    MORE        # there may be more: the buffer was full
    DRY         # there is nothing to decrypt
    FINISHED    # the peer's close_notify
    FAILED      # the connection has failed


cdef enum tls_progress_t:   # of the handshake
    TLS_NEW         # it was made
    TLS_STARTED     # do_handshake was called
    TLS_AGREED      # do_handshake has succeeded; the configuration may still refuse the peer

cdef enum tls_end_t:        # of the peer's side
    TLS_OPEN            # the peer may send
    TLS_PEER_CLOSED     # its close_notify was read
    TLS_EOF_DELIVERED   # its end was delivered to the core

cdef struct tls_connection_t:
    tls_t core                  # first: the core's pointer is ours
    void* ssl                   # borrowed from the ssl.SSLObject: its SSL*; NULL: the engine works on the object
    const char* input           # borrowed while `feed` runs: ciphertext not read yet, input..input_end
    const char* input_end
    tls_scratch_t* scratch      # where ciphertext goes; NULL: no engine runs
    tls_scratch_t flight        # a handshake's output: user code may run meanwhile, and use the loop's
    unsigned long code          # OpenSSL's code of what failed
    char* sni_name              # owned: on a server, the name that its client requests; NULL: none
    int outcome                 # MORE, DRY, FINISHED, FAILED
    bint want_read              # OpenSSL asked for more input than there was
    int empty_reads             # reads of the input that brought no data
    tls_progress_t progress     # only forward
    tls_end_t end               # only forward
    bint handshaking            # the handshake is not done, and has not failed
    bint detached               # the socket is gone


@cython.final
@cython.no_gc_clear             # the buffer of the handshake is freed by __dealloc__
cdef class TLSConnection:
    """What a `Socket` asks about its TLS connection. Names and shapes are those of `Socket`."""
    cdef tls_connection_t c
    cdef readonly object object             # an ssl.SSLObject
    cdef object incoming                    # its ssl.MemoryBIO for input, where the engine works on it
    cdef object outgoing                    # its ssl.MemoryBIO for output
    cdef readonly object config
    cdef public object error                # what ended the connection
    cdef object interrupt                   # a KeyboardInterrupt or SystemExit that has to stop the loop
    cdef public object authorization_error
    cdef public bint authorized
    cdef public object server_hostname      # the name that the peer's certificate must match
    cdef public bint request_cert           # the peer's certificate is requested and verified
    cdef public bint reject_unauthorized    # a peer whose certificate is not valid is refused
    cdef readonly bint verify_mode_set      # `set_verify_mode` has set both; a configuration does not any more
    cdef public object sni_config           # the configuration that the client's name selected; None: `config`
    cdef public object sni_name             # that name, where OpenSSL cannot be asked
    cdef bytearray hello                    # the client's hello so far; None: it was read, or nothing depends on it
    cdef readonly bint server

    def __dealloc__(self):
        if self.c.ssl != NULL and not self.c.detached:
            borrowed_detach(&self.c)        # it was never started; the object may live on
        free(self.c.flight.out)
        free(self.c.sni_name)

    @property
    def address(self):
        """Address of the tls_t, for the core."""
        return <size_t>&self.c

    @property
    def borrowed(self):
        """Does the engine work on the `SSL*`?"""
        return self.c.ssl != NULL

    # ------------------------------------------------------------------ the result of the handshake

    def get_tls_version(self):
        return None if self.c.progress != TLS_AGREED else self.object.version()

    def get_cipher(self):
        cdef const char* standard = NULL
        found = None if self.c.progress != TLS_AGREED else self.object.cipher()
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
        return None if self.c.progress != TLS_AGREED else self.object.selected_alpn_protocol()

    def is_session_reused(self):
        return self.c.progress == TLS_AGREED and bool(self.object.session_reused)

    def get_servername(self):
        return tls_server_name(self)

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
        if self.server or self.c.progress != TLS_AGREED:
            return None if self.server else {}
        if openssl.SSL_ctrl(self.c.ssl, ossl.CTRL_GET_PEER_TMP_KEY, 0, &key) <= 0 or key == NULL:
            return {}
        try:
            return key_info(self, key)
        finally:
            openssl.EVP_PKEY_free(key)

    # ------------------------------------------------------------------ certificates

    def get_peer_certificate(self):
        if self.c.progress != TLS_AGREED:
            return None
        try:
            raw = self.object.getpeercert(True)
            return None if raw is None else {**self.object.getpeercert(), "raw": raw}
        except ValueError:      # `_ssl` treats a connection that failed like one that has not begun
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
        if self.c.progress != TLS_NEW or self.server:
            return False
        session = session_from(data)
        taken = openssl.SSL_set_session(self.c.ssl, session) == 1
        openssl.SSL_SESSION_free(session)
        openssl.ERR_clear_error()           # its entry must not be taken for another call's error
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
        if self.c.progress != TLS_AGREED:
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
        if self.c.progress != TLS_NEW:
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
        """Which peers this connection accepts. The result of verification is kept in any case."""
        connection_verify(self.c.ssl, self.server, asked, reject_unauthorized)

    def set_session_id_context(self, bytes name):
        """A session of one configuration cannot be resumed under another. Set on the connection, not on its context: from
        CPython 3.13 on `_ssl` sets one on each connection, the same for all."""
        openssl.SSL_set_session_id_context(self.c.ssl, <const unsigned char*><const char*>name, <unsigned int>len(name))

    def check_name(self, str name):
        """Have verification check the name as well, with the context's flags for that."""
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
        """Does the peer's certificate match this name? OpenSSL checks it when it verifies, but not when it resumes."""
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
        """OpenSSL's code, 0 = valid, and its text."""
        cdef long code = openssl.SSL_get_verify_result(self.c.ssl)
        return code, openssl.X509_verify_cert_error_string(code).decode()


cdef void tls_note_error(TLSConnection self, object error) noexcept:
    """The error that ended the connection; the first one counts."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        self.interrupt = error
        interrupted = ssl.SSLError(ssl.SSL_ERROR_SSL, "interrupted")
        interrupted.__cause__ = error
        error = interrupted
    if self.error is None:
        self.error = error


cdef int tls_require_openssl(TLSConnection self, str what) except -1:
    """Refuse what the standard library alone cannot do."""
    if self.c.ssl == NULL:
        raise NotImplementedError(f"{what} {borrowed_alone()}")
    return 0


cdef object refused(str why):
    """A ValueError. OpenSSL's error queue is cleared, so that its entry is not taken for another call's error."""
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
    """The caller has to free it. NULL: there is none."""
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
    """Refuse, when an option is read, bytes that can never be resumed."""
    if not _borrowing:
        raise NotImplementedError(f"session {borrowed_alone()}")
    openssl.SSL_SESSION_free(session_from(data))


cdef object standard_name(str name):
    """A cipher suite's standard name, where OpenSSL cannot be asked: TLS 1.3 suites are named by it."""
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
