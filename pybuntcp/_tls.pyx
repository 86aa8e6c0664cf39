# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, embedsignature=False, binding=True, always_allow_keywords=True
# cython: freethreading_compatible=True
"""_tls: the engines behind TLS sockets. This page is its table of contents.

The core knows `filter_t` (see _core.pxd) and nothing of TLS. This module passes sockets on and knows nothing else of
them. It is imported when TLS is first used.

The standard library makes every connection object from an `ssl.SSLContext`, and that object does the handshake. What
comes after is done by one of two engines: "borrowed" works on the connection's `SSL*` itself, "stdlib" on the Python
object.
"""
include "_tls/openssl.pyx"          # the functions of the interpreter's OpenSSL, and whether to trust them
include "_tls/connection.pyx"       # TLSConnection: a TLS connection in C and in Python
include "_tls/server_name.pyx"      # the host name that a client requests
include "_tls/ssl_context.pyx"      # what only OpenSSL can set in a context
include "_tls/alpn.pyx"             # which protocol a server agrees on
include "_tls/sni.pyx"              # which certificate a server shows, by the name that a client requests
include "_tls/borrowed.pyx"         # the engine that works on SSL*
include "_tls/fallback.pyx"         # the engine that works on the standard library's object
include "_tls/client_hello.pyx"     # the name in a client's hello, for the fallback engine
include "_tls/selftest.pyx"         # whether borrowing works, tried once
include "_tls/engine.pyx"           # handshakes, and the functions that the core calls
