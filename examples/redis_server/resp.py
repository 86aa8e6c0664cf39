"""RESP, the protocol Redis speaks: requests out of bytes, and replies into bytes.

RequestParser             arrays and inline commands, in chunks cut anywhere
simple, number, bulk ...  one kind of reply each

Promises work in proportion to the bytes received, however they are cut; and a ProtocolError worded as
Redis 7.0 words it where the bytes cannot be a request. Does not know commands or sockets, nor RESP3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_LINE = 64 * 1024
LONGEST_VALUE = 512 * 1024 * 1024
LARGEST_COUNT = 2**31 - 1

Arguments = list[bytes]


# --- requests ------------------------------------------------------------------------------------


class ProtocolError(Exception):
    """What came cannot be a request; nothing after it can be understood."""


class RequestParser:
    """Cuts a stream of bytes into requests. `feed` what arrives, then call `next` until None.

    A request that is not complete is kept as far as it was understood, and not looked at again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # what is before it was understood
        self._searched = 0  # what is before it holds no end of line
        self._missing = 0  # arguments still to come of the request under way
        self._length = -1  # bytes of the argument under way; -1: not known yet
        self._arguments: Arguments = []

    def feed(self, chunk: bytes) -> None:
        del self._buffer[: self._at]
        self._searched = max(self._searched - self._at, 0)
        self._at = 0
        self._buffer += chunk

    def next(self) -> Arguments | None:
        """The next request; None until more is fed. Raises ProtocolError."""
        while self._at < len(self._buffer):
            if not self._missing and not self._start():
                return None
            while self._missing:
                argument = self._argument()
                if argument is None:
                    return None
                self._arguments.append(argument)
                self._missing -= 1
            if self._arguments:  # an empty request is no request
                arguments, self._arguments = self._arguments, []
                return arguments
        return None

    def _start(self) -> bool:
        """Read the first line of a request: the count of an array, or all of an inline command."""
        if self._buffer[self._at] != ord("*"):
            line = self._line(b"\n", "too big inline request")
            if line is not None:
                self._arguments = split_inline(line.removesuffix(b"\r"))
            return line is not None
        line = self._line(b"\r\n", "too big mbulk count string")
        if line is None:
            return False
        count = integer_of(line[1:])
        if count is None or count > LARGEST_COUNT:
            raise ProtocolError("invalid multibulk length")
        self._missing = max(count, 0)
        return True

    def _argument(self) -> bytes | None:
        """Read one argument, a line `$3` and three bytes on a line of their own; None until it is complete."""
        if self._length < 0:
            line = self._line(b"\r\n", "too big bulk count string")
            if line is None:
                return None
            self._length = argument_length(line)
        end = self._at + self._length
        if len(self._buffer) < end + 2:
            return None
        argument = bytes(self._buffer[self._at : end])
        self._at = end + 2
        self._length = -1
        return argument

    def _line(self, newline: bytes, too_long: str) -> bytes | None:
        """The line at hand without its end; None until it is complete."""
        end = self._buffer.find(newline, max(self._at, self._searched))
        if end >= 0:
            line = bytes(self._buffer[self._at : end])
            self._at = end + len(newline)
            return line
        self._searched = len(self._buffer) - 1  # its last byte may be half an end
        if len(self._buffer) - self._at > LONGEST_LINE:
            raise ProtocolError(too_long)
        return None


STRICT_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def integer_of(text: bytes) -> int | None:
    """A signed 64-bit number as Redis reads it: no spaces, no plus sign, no leading zeros."""
    if not STRICT_INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def argument_length(line: bytes) -> int:
    """The length in `$3`."""
    if line[:1] != b"$":
        found = line[:1] or b"\r"
        raise ProtocolError(f"expected '$', got '{printable(found)}'")
    length = integer_of(line[1:])
    if length is None or not 0 <= length <= LONGEST_VALUE:
        raise ProtocolError("invalid bulk length")
    return length


INLINE_WORD = re.compile(
    rb"""\s* (?=\S) (?P<plain> [^\s"']* )
         (?: " (?P<double> (?: \\. | [^"\\] )* ) "
           | ' (?P<single> (?: \\' | \\(?!') | [^'\\] )* ) ' )?
         (?=\s|\Z)""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_inline(line: bytes) -> Arguments:
    """The words of an inline command, as typed into telnet; quotes keep spaces together."""
    words = []
    line = line.strip()
    at = 0
    while at < len(line):
        word = INLINE_WORD.match(line, at)
        if word is None:
            raise ProtocolError("unbalanced quotes in request")
        words.append(unquoted(word))
        at = word.end()
    return words


def unquoted(word: re.Match[bytes]) -> bytes:
    """The word itself: what stands before the quotes, and what stands in them."""
    if word["double"] is not None:
        return word["plain"] + ESCAPE.sub(unescaped, word["double"])
    if word["single"] is not None:
        return word["plain"] + word["single"].replace(b"\\'", b"'")
    return word["plain"]


def unescaped(escape: re.Match[bytes]) -> bytes:
    if escape[1] is not None:
        return bytes.fromhex(escape[1].decode())
    return ESCAPED.get(escape[2], escape[2])


# --- replies -------------------------------------------------------------------------------------

OK = b"+OK\r\n"
NIL = b"$-1\r\n"


def simple(text: str) -> bytes:
    return b"+%b\r\n" % text.encode()


def number(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes | None) -> bytes:
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def array(replies: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def failure(message: str) -> bytes:
    """An error; a reply's line cannot hold a newline, and bytes that are no UTF-8 pass unchanged."""
    line = message.encode("utf-8", "surrogateescape").replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-%b\r\n" % line


def printable(text: bytes) -> str:
    """For the words of an error; `failure` turns it back into the same bytes."""
    return text.decode("utf-8", "surrogateescape")
