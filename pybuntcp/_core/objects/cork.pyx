"""cork: `Socket.cork`, a context manager inside which writes are gathered.

Owns `Cork`, which counts the depth on the socket and holds no bytes: see output. Corks nest, up to CORKS_MAX.
"""
cimport cython


@cython.final
@cython.internal
cdef class Cork:
    """`with socket.cork():`"""
    cdef Socket socket

    def __enter__(self):
        if wrapper_is_open(self.socket):
            if self.socket.s.corks == CORKS_MAX:
                raise RuntimeError(f"more than {CORKS_MAX} corks on one socket")
            socket_cork(self.socket.s)
        return self.socket

    def __exit__(self, *exception):
        if wrapper_is_open(self.socket):
            socket_uncork(self.socket.s)


cdef Cork cork_new(Socket socket):
    cdef Cork cork = Cork.__new__(Cork)
    cork.socket = socket
    return cork
