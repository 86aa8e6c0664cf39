"""inline: the words of a command typed by hand, as into telnet: `SET key "two words\\n"`.

Promises what Redis does: words apart by white space, "..." with escapes, '...' with none but \\',
and a closing quote ends its word. The words are written one after the other into a string of the
caller's, for they are not what was received. Does not know where lines end.
"""
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
    while line.at < line.end and is_space(line.at[0]):
        line.at += 1
    return line.at < line.end


cdef inline char take(line_t* line) noexcept nogil:
    """The next letter. There is one."""
    line.at += 1
    return line.at[-1]


cdef int read_plain(line_t* line, string* text) except -1 nogil:
    """A word, up to white space or to the end of its quotes. 1, or 0 as above."""
    cdef char letter
    while line.at < line.end and not is_space(line.at[0]):
        letter = take(line)
        if letter == c'"' or letter == c"'":
            return read_quoted(line, text, letter)
        text.push_back(letter)
    return 1


cdef int read_quoted(line_t* line, string* text, char quote) except -1 nogil:
    """Up to the closing quote, behind which the word must end. 1, or 0 as above."""
    cdef char letter
    while line.at < line.end:
        letter = take(line)
        if letter == quote:
            return line.at == line.end or is_space(line.at[0])
        if letter == c"\\" and line.at < line.end:
            letter = read_escape(line, quote)
        text.push_back(letter)
    return 0


cdef char read_escape(line_t* line, char quote) noexcept nogil:
    """What a backslash and that which follows it mean between such quotes."""
    cdef char letter
    cdef int high
    if quote == c"'":
        return take(line) if line.at[0] == quote else c"\\"
    letter = take(line)
    if letter == c"x" and line.end - line.at >= 2 and hex_digit(line.at[0]) >= 0 and hex_digit(line.at[1]) >= 0:
        high = hex_digit(take(line))
        return <char>(high * 16 + hex_digit(take(line)))
    return escaped(letter)


cdef char escaped(char letter) noexcept nogil:
    if letter == c"n":
        return c"\n"
    if letter == c"r":
        return c"\r"
    if letter == c"t":
        return c"\t"
    if letter == c"b":
        return c"\b"
    return c"\a" if letter == c"a" else letter
