"""openssl: the functions of the OpenSSL that the interpreter itself uses, and whether to trust them.

The problem: an `SSL*` may be used by the library that made it and by no other copy. The interpreter's `ssl` module has
one, and neither its place nor its layout are public.
The naive answers, to link with the system's library or to read the pointer out of Python's objects, end in memory
corruption with the first interpreter that is built otherwise.
The rule: functions are looked up in the handle of `_ssl` itself. An `SSL*` is learnt from OpenSSL's own hook for data
that applications attach, and verified by asking it for the Python object that `_ssl` attached. All of it is tried once,
at import (see selftest). Any difference from what is expected means "no", with a reason, and the other engine is used.

Owns the table of functions, the reason, and the index of what we attach to an `SSL*`.
"""
import _ssl
import os
import ssl

from cpython.ref cimport PyObject

from pybuntcp._c cimport openssl as ossl

cdef ossl.openssl openssl                  # filled by openssl_open
cdef str _reason = ""               # why the borrowing engine is not used; "": it is
cdef bint _borrowing = False
cdef int _index = -1                # of what we attach to an SSL*: its tls_connection_t

SWITCH = "PYBUNTCP_TLS_ENGINE"      # in the environment: "stdlib" forces the fallback


cdef str openssl_open():
    """Fill the table, and check it. "", or what is wrong."""
    cdef void* library
    cdef const char* missing
    global _index
    wanted = os.environ.get(SWITCH, "borrowed")
    if wanted == "stdlib":
        return f"{SWITCH}=stdlib"
    if wanted != "borrowed":
        return f"{SWITCH}={wanted}: no such engine"
    path = getattr(_ssl, "__file__", None)
    if path is None:
        library = ossl.dlopen(NULL, ossl.RTLD_LAZY)
    else:
        library = ossl.dlopen(os.fsencode(path), ossl.RTLD_LAZY | ossl.RTLD_NOLOAD)
    if library == NULL:
        return f"{path} cannot be opened again: {ossl.dlerror().decode()}"
    missing = ossl.find(&openssl, library)
    if missing != NULL:
        return f"this interpreter's OpenSSL does not show {missing.decode()}"
    if openssl.OpenSSL_version(0).decode() != ssl.OPENSSL_VERSION:
        return f"found {openssl.OpenSSL_version(0).decode()}, and ssl uses {ssl.OPENSSL_VERSION}"
    _index = openssl.CRYPTO_get_ex_new_index(0, 0, NULL, <void*>ossl.on_ssl_new, NULL, <void*>ossl.on_ssl_free)
    if _index < 0:
        return "OpenSSL has no index left for data of an application"
    return ""


cdef void* openssl_wrap(object context, tuple arguments, dict options, list made) except? NULL:
    """Call `context.wrap_bio(...)`, append its object to `made`, and return its SSL*. NULL: it was not found."""
    cdef void* found
    ossl.catch_begin()
    try:
        made.append(context.wrap_bio(*arguments, **options))
    finally:
        found = ossl.catch_end()
    inner = getattr(made[0], "_sslobj", None)
    if found == NULL or inner is None or openssl.SSL_get_ex_data(found, 0) != <void*><PyObject*>inner:
        return NULL
    return found


cdef bint is_plain_object(object one) except -1:
    """Are its methods those of ssl.SSLObject? The borrowing engine bypasses them, and must not bypass a subclass."""
    for name in ("read", "write", "unwrap"):
        if getattr(type(one), name, None) is not getattr(ssl.SSLObject, name):
            return False
    return True


cdef unsigned int host_flags(void* connection) noexcept:
    """How names are compared, for example whether a common name counts. A connection has its context's flags."""
    return openssl.X509_VERIFY_PARAM_get_hostflags(openssl.SSL_get0_param(connection))
