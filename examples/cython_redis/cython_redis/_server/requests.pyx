"""requests: RESP, the protocol that Redis speaks, from bytes to requests.

Owns `request_t`, one request as far as it was understood. `read_request` is given the bytes from
its first one on; while it says INCOMPLETE, it is called again with the same bytes and more behind
them, wherever they are by then, and goes on where it stopped: work is in proportion to the bytes
received, however they are cut. The words of a complete request point into those bytes; nothing is
copied. What cannot be a request is BROKEN, and `wrong` says why, in the words of Redis 7.0.
Does not know commands or sockets, nor RESP3.
"""
from libc.limits cimport INT_MAX
from libc.string cimport memchr
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef enum:
    LONGEST_LINE = 64 * 1024
    LONGEST_WORD = 512 * 1024 * 1024

cdef enum:                      # what became of the bytes
    COMPLETE
    INCOMPLETE
    BROKEN


cdef cppclass request_t:
    const char* base            # borrowed: what the words' starts are counted from
    vector[word_t] words
    string unquoted             # the words of an inline command
    string wrong
    size_t taken                # bytes understood
    size_t searched             # no line ends before this
    size_t missing              # words still to come
    long long length            # of the word under way; -1: not known yet


cdef inline void reset_request(request_t* self) noexcept nogil:
    self.words.clear()
    self.taken = self.searched = self.missing = 0
    self.length = -1


cdef inline line_t word_of(request_t* self, size_t number) noexcept nogil:
    """Borrowed: where a word of a complete request is."""
    cdef line_t word
    word.at = self.base + self.words[number].start
    word.end = word.at + self.words[number].size
    return word


cdef int read_request(request_t* self, const char* at, size_t size) except -1 nogil:
    """Read on in a request of which `size` bytes are there, at least one. A verdict as above."""
    cdef long long count = 0
    cdef int verdict
    self.base = at
    if self.taken == 0:
        if at[0] != c"*":
            return read_inline(self, at, size)
        verdict = read_header(self, at, size, c"*", &count)
        if verdict != COMPLETE:
            return verdict
        self.missing = max(count, 0)
    while self.missing:
        verdict = read_word(self, at, size)
        if verdict != COMPLETE:
            return verdict
        self.missing -= 1
    return COMPLETE


cdef inline int read_word(request_t* self, const char* at, size_t size) except -1 nogil:
    """One word: a line `$3`, and three bytes on a line of their own."""
    cdef int verdict
    if self.length < 0:
        verdict = read_header(self, at, size, c"$", &self.length)
        if verdict != COMPLETE:
            return verdict
    if size - self.taken < <size_t>self.length + 2:
        return INCOMPLETE
    self.words.emplace_back()
    self.words.back().start = self.taken
    self.words.back().size = self.length
    self.taken += self.length + 2
    self.length = -1
    return COMPLETE


cdef inline int read_header(request_t* self, const char* at, size_t size, char kind, long long* number) except -1 nogil:
    """A line such as `*3` or `$11`. Nearly all are short, whole and well: those are read at a glance."""
    cdef size_t i = self.taken + 1
    cdef long long value = 0
    if size - self.taken >= 8 and at[self.taken] == kind and c"1" <= at[i] <= c"9":
        while c"0" <= at[i] <= c"9" and i < self.taken + 6:
            value = value * 10 + (at[i] - c"0")
            i += 1
        if at[i] == c"\r" and at[i + 1] == c"\n":
            self.taken = i + 2
            number[0] = value
            return COMPLETE
    return read_any_header(self, at, size, kind, number)


cdef int read_any_header(request_t* self, const char* at, size_t size, char kind, long long* number) except -1 nogil:
    """The same of any line, also of one that is not all there or wrong."""
    cdef bint is_count = kind == c"*"
    cdef line_t line
    cdef int verdict = read_line(self, at, size, c"\r", 1, &line)
    cdef long long most = INT_MAX if is_count else LONGEST_WORD
    if verdict == INCOMPLETE:
        return verdict
    if verdict == BROKEN:
        return broken(self, "too big mbulk count string" if is_count else "too big bulk count string")
    if line.at[0] != kind:
        broken(self, "expected '$', got '")
        self.wrong.push_back(line.at[0])
        self.wrong.push_back(c"'")
        return BROKEN
    if not read_number(line.at + 1, line.end - line.at - 1, number) or number[0] > most:
        return broken(self, "invalid multibulk length" if is_count else "invalid bulk length")
    return COMPLETE if is_count or number[0] >= 0 else broken(self, "invalid bulk length")


cdef int read_inline(request_t* self, const char* at, size_t size) except -1 nogil:
    """A whole request on one line, for people."""
    cdef line_t line
    cdef int verdict = read_line(self, at, size, c"\n", 0, &line)
    if verdict == BROKEN:
        return broken(self, "too big inline request")
    if verdict == INCOMPLETE:
        return verdict
    if not split_line(line, &self.unquoted, &self.words):
        return broken(self, "unbalanced quotes in request")
    self.base = self.unquoted.data()
    return COMPLETE


cdef int read_line(request_t* self, const char* at, size_t size, char last, size_t behind, line_t* line) noexcept nogil:
    """The line at hand, up to its letter `last`, of whose end `behind` bytes more are no part."""
    cdef size_t start = max(self.taken, self.searched)
    cdef const char* end = <const char*>memchr(at + start, last, size - start)
    if end == NULL or end + 1 + behind > at + size:
        self.searched = size if end == NULL else end - at
        return BROKEN if size - self.taken > LONGEST_LINE else INCOMPLETE
    line.at, line.end = at + self.taken, end
    self.taken = end + 1 + behind - at
    return COMPLETE


cdef int broken(request_t* self, const char* why) except -1 nogil:
    self.wrong.assign(why)
    return BROKEN
