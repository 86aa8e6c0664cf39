"""replies: RESP2, from values to the bytes of a reply, one function for each kind.

All append to a string of the caller's. Promises that a line of text stays one line: text of a
client that is repeated in an error has its line ends replaced. Does not know who is answered.
"""
from libc.string cimport memcpy, strlen
from libcpp.string cimport string

cdef enum:
    LONGEST_HEADER = LONGEST_NUMBER + 3
    SHORT = 64                  # bytes


cdef inline int reply_ok(string* out) except -1 nogil:
    out.append("+OK\r\n", 5)
    return 0


cdef inline int reply_nil(string* out) except -1 nogil:
    out.append("$-1\r\n", 5)
    return 0


cdef inline int reply_number(string* out, long long number) except -1 nogil:
    return reply_header(out, c":", number)


cdef inline int reply_array(string* out, size_t count) except -1 nogil:
    """That many replies follow."""
    return reply_header(out, c"*", count)


cdef inline int reply_header(string* out, char kind, long long number) except -1 nogil:
    cdef char[LONGEST_HEADER] text
    out.append(text, write_header(text, kind, number))
    return 0


cdef inline size_t write_header(char* text, char kind, long long number) noexcept nogil:
    """A line such as `$3`, into LONGEST_HEADER bytes; its length."""
    cdef size_t size = 1 + write_number(text + 1, number)
    text[0] = kind
    text[size] = c"\r"
    text[size + 1] = c"\n"
    return size + 2


cdef inline int reply_bulk(string* out, const char* at, size_t size) except -1 nogil:
    cdef char[LONGEST_HEADER + SHORT + 2] text
    cdef size_t header = write_header(text, c"$", size)
    if size > SHORT:
        out.append(text, header)
        out.append(at, size)
        out.append("\r\n", 2)
        return 0
    memcpy(text + header, at, size)         # put together here: one append, and not three
    memcpy(text + header + size, <const char*>"\r\n", 2)
    out.append(text, header + size + 2)
    return 0


cdef int reply_text(string* out, const char* text) except -1 nogil:
    """A bulk reply of a text of ours."""
    return reply_bulk(out, text, strlen(text))


cdef int reply_error(string* out, const char* text) except -1 nogil:
    """A code and a text, as `ERR syntax error`."""
    out.push_back(c"-")
    out.append(text)
    out.append("\r\n", 2)
    return 0


cdef int append_on_line(string* out, const char* at, size_t size) except -1 nogil:
    """Bytes of a client's, on a line that they do not end."""
    cdef size_t i
    for i in range(size):
        out.push_back(c" " if at[i] == c"\r" or at[i] == c"\n" else at[i])
    return 0
