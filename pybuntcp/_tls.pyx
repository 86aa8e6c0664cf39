# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, embedsignature=False, binding=True, always_allow_keywords=True
# cython: freethreading_compatible=True
"""_tls: the engine behind secured sockets. This page is its table of contents.

The core knows `filter_t` (see _core.pxd) and nothing of TLS; this module knows no socket but as
the thing that what it opened, or sealed, belongs to. It is imported when first needed.

Every connection object is made by the standard library from an `ssl.SSLContext`, and its handshake
is driven by that object. What comes after is done by one of two engines: "borrowed" works on the
connection's `SSL*` itself, "stdlib" on the Python object.
"""
include "_tls/openssl.pyx"      # the functions of the interpreter's OpenSSL, and whether to trust them
include "_tls/connection.pyx"      # Secured: what Python sees of a secured connection
include "_tls/server_name.pyx"        # the host name that a client asks for
include "_tls/ssl_context.pyx"     # what only OpenSSL can set; a certificate for each name
include "_tls/borrowed.pyx"     # the engine that works on SSL*
include "_tls/fallback.pyx"     # the engine that works on the standard library's object
include "_tls/client_hello.pyx"        # the name in a client's hello, for that one
include "_tls/selftest.pyx"        # whether to borrow, tried once
include "_tls/engine.pyx"       # handshakes, and what both engines tell the core
