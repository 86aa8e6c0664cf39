"""client_hello: the name in a client's hello, for the engine that works on the standard library's object.

The problem: the standard library reports the name that a client requests in a callback, which it calls after decoding
the name; if that is not ASCII, it prints a traceback and refuses the client. There is no other way to ask it.
The rule: a ClientHello (RFC 8446, section 4.1.2) is read before the object receives its last byte. If its name selects
another configuration than the listener's, an object of that one replaces the first, and receives the hello from the
start.

Owns the reading of a ClientHello, which judges nothing: what it cannot read has no name in it, and OpenSSL reports what
is wrong with it. A hello of more than HELLO_MAX bytes has none either.
"""
import ssl

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef enum:
    HELLO_MAX = 32768
    RECORD_HEADER = 5
    MESSAGE_HEADER = 4
    HANDSHAKE_RECORD = 22
    CLIENT_HELLO = 1
    VERSION_AND_RANDOM = 34
    SERVER_NAME = 0     # the type of the extension, and that of a host name inside it


cdef struct part_t:
    # Bytes still to be read; borrowed. Past their end nothing is read, and `left` stays 0.
    const unsigned char* at
    size_t left


cdef size_t part_number(part_t* self, size_t size) noexcept nogil:
    """The next number, of `size` bytes; 0 past the end."""
    cdef size_t number = 0
    if size > self.left:
        self.left = 0
        return 0
    for _ in range(size):
        number = number << 8 | self.at[0]
        self.at += 1
        self.left -= 1
    return number


cdef part_t part_take(part_t* self, size_t size) noexcept nogil:
    """The next `size` bytes. If there are fewer, an empty part, and nothing is left."""
    cdef part_t taken
    taken.at = self.at
    taken.left = size if size <= self.left else 0
    self.at += taken.left
    self.left -= size if size <= self.left else self.left
    return taken


cdef part_t part_vector(part_t* self, size_t size) noexcept nogil:
    """The next vector: its length, a number of `size` bytes, then its contents (RFC 8446, section 3.4)."""
    return part_take(self, part_number(self, size))


# ---------------------------------------------------------------------------- a hello

cdef bint hello_assemble(part_t records, unsigned char* scratch, part_t* message) except -1:
    """Assemble the first message in `scratch`. False: more of it has to arrive.

    If it is not a handshake message, `message` is empty.
    """
    cdef part_t piece
    message.at = scratch
    message.left = 0
    while records.left >= RECORD_HEADER:
        if records.at[0] != HANDSHAKE_RECORD:
            message.left = 0
            return True
        part_take(&records, 3)
        if records.left < 2 or records.left - 2 < <size_t>(records.at[0] << 8 | records.at[1]):
            return False
        piece = part_vector(&records, 2)
        memcpy(scratch + message.left, piece.at, piece.left)
        message.left += piece.left
        if message.left >= MESSAGE_HEADER and message.left >= MESSAGE_HEADER + hello_length(scratch):
            return True
    return False


cdef size_t hello_length(const unsigned char* message) noexcept nogil:
    """The length in the header of a handshake message."""
    return <size_t>message[1] << 16 | <size_t>message[2] << 8 | message[3]


cdef part_t hello_name(part_t hello) noexcept nogil:
    """The host name that it requests; empty: none."""
    cdef part_t extensions, extension, names, name
    cdef size_t kind
    name.at, name.left = NULL, 0
    if part_number(&hello, 1) != CLIENT_HELLO:
        return name
    hello = part_vector(&hello, 3)
    part_take(&hello, VERSION_AND_RANDOM)
    part_vector(&hello, 1)              # the session; then the cipher suites, and the compression methods
    part_vector(&hello, 2)
    part_vector(&hello, 1)
    extensions = part_vector(&hello, 2)
    while extensions.left != 0:
        kind = part_number(&extensions, 2)
        extension = part_vector(&extensions, 2)
        if kind == SERVER_NAME and extension.left != 0:
            names = part_vector(&extension, 2)
            return part_vector(&names, 2) if part_number(&names, 1) == SERVER_NAME else name
    return name


# ---------------------------------------------------------------------------- a connection's

cdef int hello_note(TLSConnection self) except -1:
    """Add the input to the hello. If that is complete, select the configuration by its name."""
    cdef size_t before
    cdef bint whole = False
    if self.hello is None:
        return 0
    before = len(self.hello)
    self.hello += (<const char*>self.c.input)[:self.c.input_end - self.c.input]
    name = hello_look(self.hello, &whole)
    if not whole and len(self.hello) < HELLO_MAX:
        return 0
    hello, self.hello = self.hello, None
    if not name or not name.isascii():
        return 0
    self.sni_name = name.decode("ascii")
    self.sni_config = self.config.host(self.sni_name)
    if self.sni_config is not self.config:
        hello_restart(self, hello[:before])
    return 0


cdef bytes hello_look(bytearray records, bint* whole):
    """The name requested, as it was sent; None: there is none, or none yet."""
    cdef part_t given, message
    cdef unsigned char* scratch = <unsigned char*>malloc(len(records) + 1)
    if scratch == NULL:
        raise MemoryError()
    try:
        given.at = <const unsigned char*><char*>records
        given.left = len(records)
        whole[0] = hello_assemble(given, scratch, &message)
        message = hello_name(message) if whole[0] else message
        return (<const char*>message.at)[:message.left] if whole[0] and message.left != 0 else None
    finally:
        free(scratch)


cdef int hello_restart(TLSConnection self, bytearray earlier) except -1:
    """Replace the object by one of the selected configuration, which receives the hello from the start.

    The first object has read `earlier`, and answered nothing.
    """
    self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    self.object = self.sni_config.context.wrap_bio(self.incoming, self.outgoing, server_side=True)
    self.incoming.write(earlier)
    return 0
