"""What a server keeps: the databases that all connections share, and the state of each connection.

Promises that `get` finds no expired key: it goes when it is next asked for, and is counted until then.
Keeps everything in memory. Does not know what commands there are, how replies look, or sockets.
"""

from __future__ import annotations

import time

from resp import RequestParser

DATABASES = 16


class CommandError(Exception):
    """The answer to the client: a code and a text, as `ERR syntax error`."""


class Database:
    """Keys, values, and when some of them expire. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._expiry: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> bytes | None:
        if self._expiry:
            self._expire(key)
        return self._values.get(key)

    def set(self, key: bytes, value: bytes) -> None:
        """A new value; when the key expires does not change."""
        self._values[key] = value

    def delete(self, key: bytes) -> bool:
        existed = self.get(key) is not None
        self._values.pop(key, None)
        self._expiry.pop(key, None)
        return existed

    def clear(self) -> None:
        self._values.clear()
        self._expiry.clear()

    def expire_in(self, key: bytes, seconds: float | None) -> None:
        """None: never."""
        if seconds is None:
            self._expiry.pop(key, None)
        else:
            self._expiry[key] = time.monotonic() + seconds

    def time_to_live(self, key: bytes) -> float | None:
        """Seconds; None for a key that stays."""
        at = self._expiry.get(key)
        return None if at is None else max(at - time.monotonic(), 0.0)

    def _expire(self, key: bytes) -> None:
        at = self._expiry.get(key)
        if at is not None and at <= time.monotonic():
            del self._values[key], self._expiry[key]


class Server:
    """What all sessions share."""

    def __init__(self) -> None:
        self.databases = [Database() for _ in range(DATABASES)]
        self.sessions = 0


class Session:
    """One connection; its `socket.data`."""

    def __init__(self, server: Server) -> None:
        server.sessions += 1
        self.id = server.sessions
        self.server = server
        self.database = server.databases[0]
        self.name = b""
        self.parser = RequestParser()
        self.unsent = memoryview(b"")  # the rest of a reply that the socket did not take
        self.ending = False  # after QUIT or a protocol error nothing more is heard
