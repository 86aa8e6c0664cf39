"""The peers `asyncio-proxy` and `uvloop-proxy`: a TCP proxy of two Protocols a connection, on the event loop that `--loop` names.

Promises: the protocol of this folder; bytes in order, backpressure (a transport that is full stops the reading of the other), half-close, and a reset for a reset.
It does not know: what is behind it.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, cast

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import BACKLOG, make_parser, serve_with


class Early:
    """What stands for the connection to the server until that is there: it keeps what comes. uvloop starts to read after `connection_made`, paused or not."""

    def __init__(self) -> None:
        self.transport: Any = self
        self.ended = False
        self.kept = b""

    def write(self, data: bytes) -> None:
        self.kept += data

    def write_eof(self) -> None:
        """Nothing to keep: the client remembers that it has ended."""

    def abort(self) -> None:
        """Nothing to reset."""


class Side(asyncio.Protocol):
    """One of the two connections of a pair."""

    __slots__ = ("ended", "other", "transport")

    def __init__(self, other: Side | Early) -> None:
        self.ended = False
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """The other way goes on until it has ended, too."""
        self.ended = True
        if self.other.ended:
            self.transport.close()
            self.other.transport.close()
        else:
            self.other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.other.transport.abort()


class Client(Side):
    """The connection that was accepted."""

    __slots__ = ("server", "task")

    def __init__(self, host: str, port: int) -> None:
        super().__init__(Early())
        self.server = host, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.task = asyncio.get_running_loop().create_task(self.join())

    async def join(self) -> None:
        _, upstream = await asyncio.get_running_loop().create_connection(lambda: Side(self), *self.server)
        kept = cast(Early, self.other).kept
        self.other = upstream
        upstream.transport.write(kept)
        if self.ended:
            upstream.transport.write_eof()


async def serve(arguments: argparse.Namespace) -> None:
    """Listen, say so, serve for ever."""
    loop: Any = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Client(arguments.host, arguments.upstream), arguments.host, arguments.port, backlog=BACKLOG
    )
    print(f"LISTENING {server.sockets[0].getsockname()[1]}", flush=True)
    await loop.create_future()


if __name__ == "__main__":
    parser = make_parser("A TCP proxy of asyncio Protocols.", modes=("proxy",))
    parser.add_argument("--upstream", type=int, required=True, metavar="PORT")
    parser.add_argument("--loop", choices=EVENT_LOOPS, required=True)
    given = parser.parse_args()
    serve_with(factory_of(given.loop), given, serve)
