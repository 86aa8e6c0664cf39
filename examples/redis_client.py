"""A small pipelining Redis client with callbacks, and a `main` that shows it on a real server.

    redis-server --port 6379
    python examples/redis_client.py --port 6379

Owns the order of things: replies come in the order of the commands, so each reply belongs to the
callback that has waited longest. Promises to call every callback exactly once, with the reply, with
a RedisError that the server answered, or with the OSError that ended the connection. Commands may
be given before the connection is there. Does not reconnect.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pybuntcp


class RedisError(Exception):
    """An error that the server answered; it answers one command, not the connection."""


Reply = Any  # bytes, str (a status such as "OK"), int, None, RedisError, or a list of these
Callback = Callable[[Reply], None]


# --- the protocol --------------------------------------------------------------------------------


def encode(arguments: tuple[str | bytes | int, ...]) -> bytes:
    """A command as RESP sends it: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        value = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


class ReplyParser:
    """Cuts a stream of bytes into replies, however they are cut into chunks."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._length = -1  # bytes of the bulk string under way; -1: none is
        self._arrays: list[tuple[int, list[Reply]]] = []  # those under way, outermost first: size, elements

    def feed(self, chunk: bytes) -> Iterator[Reply]:
        """The replies that `chunk` completes."""
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += chunk
        while self._element():
            yield from self._completed()

    def _element(self) -> bool:
        """Read one element into the innermost array; False until it is complete."""
        if self._length >= 0:
            return self._bulk()
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            return False
        kind, text = self._buffer[self._at : self._at + 1], bytes(self._buffer[self._at + 1 : end])
        self._at = end + 2
        if kind == b"$" and text != b"-1":
            self._length = int(text)
            return self._bulk()
        if kind == b"*" and text != b"-1":
            self._arrays.append((int(text), []))
        else:
            self._add(simple_reply(bytes(kind), text))
        return True

    def _bulk(self) -> bool:
        end = self._at + self._length
        if len(self._buffer) < end + 2:
            return False
        self._add(bytes(self._buffer[self._at : end]))
        self._at = end + 2
        self._length = -1
        return True

    def _add(self, element: Reply) -> None:
        if not self._arrays:
            self._arrays.append((-1, []))  # a reply that is no array: handed on as it is
        self._arrays[-1][1].append(element)

    def _completed(self) -> Iterator[Reply]:
        """Close the arrays that are full; the outermost one is a reply."""
        while self._arrays:
            size, elements = self._arrays[-1]
            if len(elements) < size:
                return
            self._arrays.pop()
            reply = elements[0] if size < 0 else elements
            if not self._arrays:
                yield reply
            else:
                self._arrays[-1][1].append(reply)


def simple_reply(kind: bytes, text: bytes) -> Reply:
    """A reply of one line."""
    if kind == b"+":
        return text.decode()
    if kind == b"-":
        return RedisError(text.decode("utf-8", "replace"))
    if kind == b":":
        return int(text)
    if kind in (b"$", b"*"):
        return None
    raise ValueError(f"not a reply: {kind + text!r}")


# --- the client ----------------------------------------------------------------------------------


class RedisClient:
    """One connection. `command(*arguments, callback=f)` sends, `f(reply)` is called later."""

    def __init__(self, hostname: str, port: int) -> None:
        self._waiting: deque[Callback] = deque()
        self._unsent = bytearray()  # commands the socket has not taken yet
        self._parser = ReplyParser()
        self._socket: pybuntcp.Socket[None] | None = None
        self._lost: OSError | None = None
        pybuntcp.connect(socket=Connection(self), hostname=hostname, port=port, timeout=10)

    def command(self, *arguments: str | bytes | int, callback: Callback) -> None:
        """Send a command. Those given in one handler or callback leave together. OSError once the connection is lost."""
        if self._lost is not None:
            raise self._lost
        self._waiting.append(callback)
        self._unsent += encode(arguments)
        self.send()

    def close(self) -> None:
        """No more commands; replies to those already sent still arrive."""
        self.command("QUIT", callback=ignore)

    # Events of the connection.

    def opened(self, socket: pybuntcp.Socket[None]) -> None:
        self._socket = socket
        self.send()

    def send(self) -> None:
        """Hand the socket what it takes; the rest goes at its next drain."""
        if self._socket is not None and self._unsent:
            taken = self._socket.write(self._unsent)
            del self._unsent[: max(taken, 0)]

    def received(self, chunk: bytes) -> None:
        for reply in self._parser.feed(chunk):
            self._waiting.popleft()(reply)

    def lost(self, error: OSError) -> None:
        """Every callback that still waits gets the error."""
        self._lost = error
        while self._waiting:
            try:
                self._waiting.popleft()(error)
            except Exception:  # one callback's failure is not the others'
                sys.excepthook(*sys.exc_info())


class Connection:
    """The handlers of a client's socket: each passes on what happened."""

    def __init__(self, client: RedisClient) -> None:
        self.client = client

    def open(self, socket: pybuntcp.Socket[None]) -> None:
        self.client.opened(socket)

    def data(self, socket: pybuntcp.Socket[None], chunk: bytes) -> None:
        self.client.received(chunk)

    def drain(self, socket: pybuntcp.Socket[None]) -> None:
        self.client.send()

    def close(self, socket: pybuntcp.Socket[None], error: OSError | None) -> None:
        self.client.lost(error or ConnectionError("the connection was closed"))

    def connect_error(self, socket: pybuntcp.Socket[None], error: OSError) -> None:
        self.client.lost(error)

    def error(self, socket: pybuntcp.Socket[None], error: BaseException) -> None:
        """A callback raised, or the server does not speak RESP."""
        sys.excepthook(type(error), error, error.__traceback__)
        socket.terminate()


def ignore(reply: Reply) -> None:
    """For commands whose reply does not matter."""


# --- a demonstration -----------------------------------------------------------------------------


def show(*arguments: str | bytes | int) -> Callback:
    """A callback that prints the command and its reply."""
    return lambda reply: print(*arguments, "->", repr(reply), flush=True)


def demonstrate(client: RedisClient) -> None:
    """All of these are sent at once; the replies are printed in the same order."""
    commands: list[tuple[str | bytes | int, ...]] = [
        ("PING",),
        ("SET", "example:greeting", "hello"),
        ("GET", "example:greeting"),
        ("SET", "example:visits", 41),
        ("INCR", "example:visits"),
        ("INCR", "example:greeting"),
        ("MGET", "example:greeting", "example:visits", "example:nothing"),
        ("DEL", "example:greeting", "example:visits"),
    ]
    for arguments in commands:
        client.command(*arguments, callback=show(*arguments))
    client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk to a Redis server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    options = parser.parse_args()
    demonstrate(RedisClient(options.host, options.port))
    pybuntcp.run()  # returns when the connection is closed: nothing is left to wait for


if __name__ == "__main__":
    main()
