"""selftest: whether the borrowing engine works with the OpenSSL of this interpreter; run once, at import.

Two ends in memory: a handshake by the standard library's objects through our BIO, a record each way, and a close_notify
each way. Anything unexpected is a reason to use the other engine.
"""
import ssl
from pybuntcp.tls.memory_file import readable

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pybuntcp._core cimport tls_scratch_t

cdef enum:
    SELFTEST_STEPS = 8  # in TLS 1.3 two of each end suffice

# A key that protects nothing: it is public.
SELFTEST_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgs0Sytfb1WSmANYU3
ndVMjPBVGkvTF4Du7kSm+f5Me16hRANCAAQGip4dBTNePzG1VG31yFtLEvvQGNb6
i8ddF8PW4iy7Ag7esUlCOhssTL/pp/Srq2WmJi6gkteN6+ZpRx6Qy9sl
-----END PRIVATE KEY-----
"""
SELFTEST_CERT = """-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIURwyTsKRZhKBkM86lVB8/LAotRTIwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFdHJpYWwwIBcNMjYxMTIzMTMzOTAzWhgPMjEyNjEwMzAxMzM5
MDNaMBAxDjAMBgNVBAMMBXRyaWFsMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
BoqeHQUzXj8xtVRt9chbSxL70BjW+ovHXRfD1uIsuwIO3rFJQjobLEy/6af0q6tl
piYuoJLXjevmaUcekMvbJaNTMFEwHQYDVR0OBBYEFNx2BwTEWa9wrAcD2eSvXx6N
hoE8MB8GA1UdIwQYMBaAFNx2BwTEWa9wrAcD2eSvXx6NhoE8MA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgYiMgZds9l++hCBQ5J4JbNECzdxXu8VUU
E0xh89gkAwcCIQD6ccknfCDb6LGs9db7dvP/Tc30sAE7pMGU3qJg1NjCxw==
-----END CERTIFICATE-----
"""


class SelfTest:
    """A configuration, as far as `begin` needs one."""

    server_name = None

    def __init__(self, context):
        self.context = context

    def prepare(self, connection):
        pass


cdef str selftest():
    """Returns "", or the reason why not."""
    global _borrowing
    reason = openssl_open()
    if reason:
        return reason
    if not borrowed_prepare():
        return "no memory"
    _borrowing = True
    try:
        client, server = selftest_contexts()
        return selftest_of_contexts(client, server)
    except Exception as error:
        return f"the trial failed: {error!r}"
    finally:
        _borrowing = False


cdef tuple selftest_contexts():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with readable(SELFTEST_CERT.encode()) as cert, readable(SELFTEST_KEY.encode()) as key:
        server.load_cert_chain(cert, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        client.hostname_checks_common_name = False
    return client, server


cdef str selftest_of_contexts(object client, object server):
    cdef TLSConnection one = begin(SelfTest(client), False)
    cdef TLSConnection two = begin(SelfTest(server), True)
    cdef tls_scratch_t scratch
    if one.c.ssl == NULL or two.c.ssl == NULL:
        return "the connection behind an ssl.SSLObject cannot be found"
    if openssl.SSL_CTX_get_options(openssl.SSL_get_SSL_CTX(one.c.ssl)) & 0xFFFFFFFF != client.options & 0xFFFFFFFF:
        return "the context behind a connection is not the one that it was made of"
    if ssl.HAS_NEVER_CHECK_COMMON_NAME and not host_flags(one.c.ssl) & ossl.NEVER_CHECK_SUBJECT:
        return "a connection does not compare names as its context says"
    memset(&scratch, 0, sizeof(scratch))
    scratch.plain_capacity = 2 * RECORD
    scratch.plain = <char*>calloc(1, scratch.plain_capacity)
    try:
        if scratch.plain == NULL:
            raise MemoryError()
        return selftest_of_ends(one, two, &scratch)
    finally:
        free(scratch.plain)
        free(scratch.out)
        borrowed_detach(&one.c)
        borrowed_detach(&two.c)


cdef str selftest_of_ends(TLSConnection one, TLSConnection two, tls_scratch_t* scratch):
    for _ in range(SELFTEST_STEPS):
        first = selftest_step(one, two)
        if selftest_step(two, one) and first:
            break
    else:
        return "a handshake in memory does not end"
    if selftest_send(one, two, scratch) and selftest_send(two, one, scratch):
        return ""
    return "a record in memory does not arrive"


cdef bint selftest_step(TLSConnection self, TLSConnection other) except -1:
    """One step of the handshake, with the output of the other end. True: it is done."""
    cdef tls_scratch_t received = selftest_take(self, other)
    self.c.scratch = &self.c.flight
    try:
        self.object.do_handshake()
    except ssl.SSLWantReadError:
        return False
    finally:
        selftest_put(self, &received)
    return True


cdef bint selftest_send(TLSConnection self, TLSConnection other, tls_scratch_t* scratch) except -1:
    """One record and a close_notify, from `self` to `other`."""
    cdef bytes record = b"one record and no more"
    cdef tls_scratch_t received
    cdef size_t count
    if borrowed_seal(&self.c, &self.c.flight, record, len(record)) < 0:
        return False
    borrowed_close_notify(&self.c, &self.c.flight)
    received = selftest_take(other, self)
    count = borrowed_open(&other.c, scratch)
    selftest_put(other, &received)
    return scratch.plain[:count] == record and other.c.outcome == FINISHED


cdef tls_scratch_t selftest_take(TLSConnection self, TLSConnection other) noexcept:
    """Make the other end's output this end's input. The caller frees it by selftest_put."""
    cdef tls_scratch_t received = other.c.flight
    memset(&other.c.flight, 0, sizeof(tls_scratch_t))
    self.c.input, self.c.input_end = received.out, received.out + received.out_size
    return received


cdef void selftest_put(TLSConnection self, tls_scratch_t* received) noexcept:
    """The input was read: free it."""
    self.c.scratch = NULL
    self.c.input = self.c.input_end = NULL
    free(received.out)
