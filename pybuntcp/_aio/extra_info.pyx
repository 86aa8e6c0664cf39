"""extra_info: what get_extra_info knows.

asyncio notes the addresses and makes a Python socket for every connection. Here that is done when a program first asks, and
most never do. Only the peer's address is noted in the beginning: see peer.
"""
from asyncio.trsock import TransportSocket


cdef object stream_socket(Stream self):
    """The Python socket of the descriptor. The core owns the descriptor, and `stream_disown` takes it away again."""
    if self.sock is None:
        self.sock = socket.socket(fileno=self.fd) if stream_has_descriptor(self) else closed_socket()
    return self.sock


cdef inline bint stream_has_descriptor(Stream self) noexcept:
    """False also if the core has closed it, after a deadline, and on_close has not told yet."""
    return self.s != NULL and socket_fileno(self.s) == self.fd


cdef object closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


cdef object stream_extra(Stream self, object name, object default):
    if self.extra is None or "socket" not in self.extra:
        stream_note_extra(self)
    return self.extra.get(name, default)


cdef int stream_note_extra(Stream self) except -1:
    """What asyncio notes in the beginning. Names that were given are left."""
    sock = stream_socket(self)
    names = {} if self.extra is None else self.extra
    names["socket"] = TransportSocket(sock)
    names.setdefault("sockname", name_of_socket(sock.getsockname))
    peer = peer_name(&self.peer)
    names.setdefault("peername", name_of_socket(sock.getpeername) if peer is None else peer)
    self.extra = names
    return 0


cdef object name_of_socket(object ask):
    try:
        return ask()
    except OSError:
        return None
