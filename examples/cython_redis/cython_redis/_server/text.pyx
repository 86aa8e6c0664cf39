"""text: ASCII letters, and signed 64-bit integers as text.

Promises the strict reading of Redis: no spaces, no plus sign, no leading zeros, no "-0". Letters are
those of ASCII, whatever the locale. Does not know what the text means.
"""
from libc.stdint cimport INT64_MAX

cdef enum:
    LONGEST_NUMBER = 20         # characters of -9223372036854775808


cdef bint read_number(const char* at, size_t size, long long* number) noexcept nogil:
    """False: these bytes are no number, or one that does not fit."""
    cdef size_t i = size > 0 and at[0] == c"-"
    cdef bint negative = i
    cdef unsigned long long value = 0
    if size - i < 1 or size - i > 19 or (at[i] == c"0" and size > 1):
        return False
    for i in range(i, size):
        if not c"0" <= at[i] <= c"9":
            return False
        value = value * 10 + <unsigned char>(at[i] - c"0")     # 19 digits fit
    number[0] = <long long>(0 - value if negative else value)
    return value <= <unsigned long long>INT64_MAX + negative


cdef inline size_t write_number(char* text, long long number) noexcept nogil:
    """Into `text`, which has LONGEST_NUMBER bytes; its length."""
    cdef unsigned long long left = <unsigned long long>number
    cdef size_t size, last
    if number < 0:
        text[0] = c"-"
        left = 0 - left
    size = (number < 0) + count_digits(left)
    last = size - 1
    while left >= 10:
        text[last] = <char>(c"0" + left % 10)
        left //= 10
        last -= 1
    text[last] = <char>(c"0" + left)
    return size


cdef inline size_t count_digits(unsigned long long number) noexcept nogil:
    cdef size_t count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


# ---------------------------------------------------------------------------- letters

cdef inline bint is_space(char letter) noexcept nogil:
    return letter == c" " or c"\t" <= letter <= c"\r"


cdef inline char upper(char letter) noexcept nogil:
    return letter - 32 if c"a" <= letter <= c"z" else letter


cdef inline char lower(char letter) noexcept nogil:
    return letter + 32 if c"A" <= letter <= c"Z" else letter


cdef int hex_digit(char letter) noexcept nogil:
    """-1: it is none."""
    letter = lower(letter)
    if c"0" <= letter <= c"9":
        return letter - c"0"
    return letter - c"a" + 10 if c"a" <= letter <= c"f" else -1
