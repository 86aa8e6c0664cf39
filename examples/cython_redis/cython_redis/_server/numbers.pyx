"""numbers: signed 64-bit integers as text, the way Redis reads and writes them.

Promises the strict reading of Redis: no spaces, no plus sign, no leading zeros, no "-0"; what is
written is read back as the same. Does not know what the numbers mean.
"""
from libc.stdint cimport INT64_MAX
from libc.string cimport memcpy

cdef enum:
    LONGEST_NUMBER = 20         # characters of -9223372036854775808


cdef bint read_number(const char* at, size_t size, long long* number) noexcept nogil:
    """False: these bytes are no number, or one that does not fit."""
    cdef size_t i = size > 0 and at[0] == b"-"
    cdef bint negative = i
    cdef unsigned long long value = 0
    if size - i < 1 or size - i > 19 or (at[i] == b"0" and size > 1):
        return False
    for i in range(i, size):
        if not b"0" <= at[i] <= b"9":
            return False
        value = value * 10 + <unsigned char>(at[i] - b"0")     # 19 digits fit
    number[0] = <long long>(0 - value if negative else value)
    return value <= <unsigned long long>INT64_MAX + negative


cdef inline size_t write_number(char* text, long long number) noexcept nogil:
    """Into `text`, which has room for LONGEST_NUMBER; its length."""
    cdef char[LONGEST_NUMBER] digits
    cdef size_t first = LONGEST_NUMBER
    cdef unsigned long long left = <unsigned long long>number if number >= 0 else 0 - <unsigned long long>number
    while True:
        first -= 1
        digits[first] = <char>(b"0" + left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        first -= 1
        digits[first] = b"-"
    memcpy(text, digits + first, LONGEST_NUMBER - first)
    return LONGEST_NUMBER - first
