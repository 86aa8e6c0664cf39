"""The echo server of any asyncio event loop, once: asyncio_protocol.py hands in the loop, asyncio_buffered.py the loop and other protocols.

Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
`five` answers each chunk in 20-byte writes, `fifty` with fifty writes of its first 20 bytes, the handler everybody writes first: no gathering by hand.
`upload`, `download`, `fanout` and `http` are those of README.md.
With `--tls FOLDER` all of it over TLS, with the certificate in it.
It does not know: which loop it runs on.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import ssl
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

PIECE = 20
PIECES = 50
BACKLOG = 4096
BLOCK = b"!" * (1 << 20)  # what an upload is long, and what a download brings
UNSENT_AT_MOST = 1 << 16  # of one subscriber of a fan-out; what would pass it is left out
HTTP_END = b"\r\n\r\n"
HTTP_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"


class Echo(asyncio.Protocol):
    """One connection: received bytes go out with one write."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Five(Echo):
    """One connection: received bytes go out in pieces of 20 bytes."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        write = self.transport.write
        for at in range(0, len(data), PIECE):
            write(data[at : at + PIECE])


class Fifty(Echo):
    """One connection: whatever comes in is answered with fifty pieces of 20 bytes. A message is one record, so it comes in one piece."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        write = self.transport.write
        piece = data[:PIECE]
        for _ in range(PIECES):
            write(piece)


class Upload(Echo):
    """One connection: a byte for each block that has come."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        while self.received >= len(BLOCK):
            self.received -= len(BLOCK)
            self.transport.write(BLOCK[:1])


class Download(Echo):
    """One connection: a block for each byte. The load asks for one at a time, so that is all a transport holds."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        for _ in data:
            self.transport.write(BLOCK)


class Fanout(Echo):
    """One connection: its bytes go to all others."""

    __slots__ = ()
    everybody: ClassVar[set[Fanout]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.everybody.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.everybody.discard(self)

    def data_received(self, data: bytes) -> None:
        for other in self.everybody:
            transport = other.transport
            if other is not self and transport.get_write_buffer_size() + len(data) <= UNSENT_AT_MOST:
                transport.write(data)


class Http(Echo):
    """One connection: the same reply for each head that ends in a chunk."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self.transport.write(HTTP_REPLY * data.count(HTTP_END))


PROTOCOLS = {
    "echo": Echo,
    "five": Five,
    "fifty": Fifty,
    "upload": Upload,
    "download": Download,
    "fanout": Fanout,
    "http": Http,
}


class Buffered(asyncio.BufferedProtocol):
    """One connection: `Echo` for transports that read into the protocol's memory. All share it: what was read is copied at once."""

    __slots__ = ("transport",)
    view: ClassVar[memoryview] = memoryview(bytearray(1 << 18))  # over TLS asyncio reads into slices of it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))


class BufferedUpload(Buffered):
    """One connection: `Upload` without a copy."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        while self.received >= len(BLOCK):
            self.received -= len(BLOCK)
            self.transport.write(BLOCK[:1])


BUFFERED = {"echo": Buffered, "upload": BufferedUpload}


def make_parser(
    description: str, modes: tuple[str, ...] = tuple(PROTOCOLS), tls: bool = False
) -> argparse.ArgumentParser:
    """The command line every server of this folder has; `--tls` for those that can."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=modes, default="echo")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--unix", default=None, metavar="PATH")
    if tls:
        parser.add_argument("--tls", metavar="FOLDER", help="over TLS, with the cert.pem and key.pem there")
    return parser


def raise_descriptor_limit() -> None:
    """As many connections as the system allows this process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_allocator() -> None:
    """Put glibc's allocator in the state of a program that has been running for a while.

    asyncio's transport asks for 256 KiB before each read. In a fresh process that is above glibc's mmap threshold, and stays above it, because the block is
    shrunk before it is freed: three system calls a message that vanish as soon as the program has once freed anything larger (mallopt(3), dynamic threshold).
    The peer gets the better of the two states, which is not the one a small benchmark would show.
    """
    block = bytearray(1 << 20)
    del block


def tls_context(folder: str | None) -> ssl.SSLContext | None:
    """The standard library's server context as it is, with that certificate."""
    if folder is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(folder) / "cert.pem", Path(folder) / "key.pem")
    return context


async def serve(
    arguments: argparse.Namespace, protocols: Mapping[str, Callable[[], asyncio.BaseProtocol]] = PROTOCOLS
) -> None:
    """Listen, say so, serve for ever."""
    loop = asyncio.get_running_loop()
    protocol, context = protocols[arguments.mode], tls_context(arguments.tls)
    if arguments.unix is not None:
        server = await loop.create_unix_server(protocol, arguments.unix, backlog=BACKLOG, ssl=context)
        where = arguments.unix
    else:
        server = await loop.create_server(protocol, arguments.host, arguments.port, backlog=BACKLOG, ssl=context)
        where = server.sockets[0].getsockname()[1]
    print(f"LISTENING {where}", flush=True)
    await loop.create_future()  # never set; rloop 0.5 stops accepting in serve_forever()


def serve_with(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    arguments: argparse.Namespace,
    serving: Callable[[argparse.Namespace], Coroutine[Any, Any, None]] = serve,
) -> None:
    """Serve on the loop that `new_loop` makes, until ended; `serving` may be another server than this file's."""
    raise_descriptor_limit()
    settle_allocator()
    loop = new_loop()
    try:
        loop.run_until_complete(serving(arguments))
    except KeyboardInterrupt:
        pass
    finally:
        loop.close()
