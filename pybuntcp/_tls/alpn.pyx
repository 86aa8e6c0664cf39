"""alpn: which protocol a server agrees on (RFC 7301).

A client that supports none of ours is refused with a fatal alert (section 3.2), which the standard library cannot do.
"""
from libc.string cimport memcmp

from pybuntcp._c cimport openssl as ossl


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
