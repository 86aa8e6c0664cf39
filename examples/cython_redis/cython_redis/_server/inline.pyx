"""inline: the words of a command typed by hand, as into telnet: `SET key "two words\\n"`.

Promises what Redis does: words apart by white space, "..." with escapes, '...' with none but \\',
and a closing quote ends its word. The words are written one after the other into a string of the
caller's, for they are not what was received. Does not know where lines end.
"""
from libc.ctype cimport isspace, isxdigit
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef struct word_t:             # one word of a request
    size_t start                # from the request's first byte, or its unquoted text's
    size_t size


cdef struct line_t:             # what is being read
    const char* at
    const char* end


cdef int split_line(line_t line, string* text, vector[word_t]* words) except -1 nogil:
    """The words of a line. 1, or 0 for quotes that do not balance."""
    cdef word_t word
    text.clear()
    while skip_spaces(&line):
        word.start = text.size()
        if not read_plain(&line, text):
            return 0
        word.size = text.size() - word.start
        words.push_back(word)
    return 1


cdef inline bint skip_spaces(line_t* line) noexcept nogil:
    """True: a word follows."""
    while line.at < line.end and isspace(<unsigned char>line.at[0]):
        line.at += 1
    return line.at < line.end


cdef int read_plain(line_t* line, string* text) except -1 nogil:
    """A word, up to white space or to the end of its quotes. 1, or 0 as above."""
    while line.at < line.end and not isspace(<unsigned char>line.at[0]):
        line.at += 1
        if line.at[-1] == b'"' or line.at[-1] == b"'":
            return read_quoted(line, text, line.at[-1])
        text.push_back(line.at[-1])
    return 1


cdef int read_quoted(line_t* line, string* text, char quote) except -1 nogil:
    """Up to the closing quote, behind which the word must end. 1, or 0 as above."""
    while line.at < line.end:
        line.at += 1
        if line.at[-1] == quote:
            return line.at == line.end or isspace(<unsigned char>line.at[0]) != 0
        if line.at[-1] == b"\\" and line.at < line.end:
            read_escape(line, text, quote)
        else:
            text.push_back(line.at[-1])
    return 0


cdef int read_escape(line_t* line, string* text, char quote) except -1 nogil:
    """What a backslash and that which follows it mean between such quotes."""
    if quote == b"'":
        if line.at[0] == quote:
            line.at += 1
        text.push_back(line.at[-1])
    elif line.end - line.at >= 3 and line.at[0] == b"x" and isxdigit(line.at[1]) and isxdigit(line.at[2]):
        text.push_back(<char>(hex_digit(line.at[1]) * 16 + hex_digit(line.at[2])))
        line.at += 3
    else:
        line.at += 1
        text.push_back(escaped(line.at[-1]))
    return 0


cdef int hex_digit(char letter) noexcept nogil:
    return letter - b"0" if letter <= b"9" else (letter | 0x20) - b"a" + 10


cdef char escaped(char letter) noexcept nogil:
    if letter == b"n":
        return b"\n"
    if letter == b"r":
        return b"\r"
    if letter == b"t":
        return b"\t"
    if letter == b"b":
        return b"\b"
    return b"\a" if letter == b"a" else letter
