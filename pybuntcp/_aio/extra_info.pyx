"""extra_info: the values of `get_extra_info`.

asyncio notes the addresses and makes a Python socket for every connection. Here that is done when a program first asks, and
most never do. Only the peer's address is noted in the beginning, and our own in the end: see peer.
"""
from asyncio.trsock import TransportSocket
from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcpy


cdef object stream_socket(Stream self):
    """The Python socket of the descriptor. The core owns the descriptor, and `stream_disown` takes it away again."""
    if self.sock is None:
        self.sock = socket_of_descriptor(self.fd) if stream_has_descriptor(self) else closed_socket(socket.AF_INET)
    return self.sock


cdef object socket_of_descriptor(int fd):
    """It must know that it does not block: `dup()` makes the descriptor block otherwise, and debug mode refuses it."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return closed_socket(socket.AF_INET)    # somebody has closed it behind our back
    sock.setblocking(False)
    return sock


cdef inline bint stream_has_descriptor(Stream self) noexcept:
    """False also if the core has closed it, after a deadline, and on_close has not told yet."""
    return self.s != NULL and socket_fileno(self.s) == self.fd


cdef object closed_socket(int family):
    sock = socket.socket(family)
    sock.close()
    return sock


cdef object stream_extra(Stream self, object name, object default):
    if not PBT_HAS_GIL and host_is_elsewhere(self.host):
        return stream_extra_elsewhere(self, name, default)
    if self.successor is not None:
        return stream_extra_of_socket(self.successor, name, default)
    if self.tls is not None:
        found = secured_extra(self.tls, name, default)
        if found is not NotImplemented:
            return found
    return stream_extra_of_socket(self, name, default)


cdef object stream_extra_elsewhere(Stream self, object name, object default):
    """For another thread, where there is no GIL: the peer's address, which does not change. RuntimeError for all else."""
    peer = peer_name(&self.peer) if name == "peername" else None
    if peer is None:
        host_check_thread(self.host)
    return default if peer is None else peer


cdef object stream_extra_of_socket(Stream self, object name, object default):
    if self.extra is None or "socket" not in self.extra:
        stream_note_extra(self)
    return self.extra.get(name, default)


cdef int stream_note_extra(Stream self) except -1:
    """What asyncio notes in the beginning. Names that were given are left."""
    own = stream_own_name(self)
    sock = stream_socket(self)
    names = {} if self.extra is None else self.extra
    names["socket"] = TransportSocket(sock)
    names.setdefault("sockname", name_of_socket(sock.getsockname) if own is None else own)
    peer = peer_name(&self.peer)
    names.setdefault("peername", name_of_socket(sock.getpeername) if peer is None else peer)
    self.extra = names
    return 0


cdef object stream_keep_name(Stream self):
    """The descriptor is about to be closed: what `stream_own_name` needs of it, or None and all is noted now."""
    if self.sock is None and peer_is_known(&self.peer) and stream_has_descriptor(self):
        kept = peer_note_local(self.fd)
        if kept is not None:
            return kept
    stream_note_extra(self)
    return None


cdef object stream_own_name(Stream self):
    """Our address, if it is closed and its address was kept."""
    cdef peer_t own
    if not isinstance(self.sock, bytes):
        return None
    memcpy(&own, PyBytes_AS_STRING(self.sock), sizeof(peer_t))
    self.sock = closed_socket(own.any.sa_family)
    return peer_name(&own)


cdef object name_of_socket(object ask):
    try:
        return ask()
    except OSError:
        return None
