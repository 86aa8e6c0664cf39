# cython: language_level=3
"""The types that other Cython code may name. Header-free: no libuv, no OpenSSL."""

cdef struct socket_t
