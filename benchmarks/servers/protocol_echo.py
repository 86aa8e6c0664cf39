"""The echo server of any asyncio event loop, once: asyncio_protocol.py, uvloop_protocol.py and native_protocol.py differ in the loop they hand in and in nothing else.

Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
`five` answers each chunk in 20-byte writes, `fifty` with fifty writes of its first 20 bytes, the handler everybody writes first: no gathering by hand.
With `--tls FOLDER` all of it over TLS, with the certificate that lies there.
It does not know: which loop it runs on.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

PIECE = 20
PIECES = 50
BACKLOG = 4096


class Echo(asyncio.Protocol):
    """One connection: what comes in goes out with one write."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Five(Echo):
    """One connection: what comes in goes out in pieces of 20 bytes."""

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


PROTOCOLS = {"echo": Echo, "five": Five, "fifty": Fifty}


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


async def serve(arguments: argparse.Namespace) -> None:
    """Listen, say so, serve for ever."""
    loop = asyncio.get_running_loop()
    protocol, context = PROTOCOLS[arguments.mode], tls_context(arguments.tls)
    if arguments.unix is not None:
        server = await loop.create_unix_server(protocol, arguments.unix, backlog=BACKLOG, ssl=context)
        where = arguments.unix
    else:
        server = await loop.create_server(protocol, arguments.host, arguments.port, backlog=BACKLOG, ssl=context)
        where = server.sockets[0].getsockname()[1]
    print(f"LISTENING {where}", flush=True)
    await server.serve_forever()


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], description: str) -> None:
    """Serve on the loop that `new_loop` makes, until ended."""
    serve_with(new_loop, make_parser(description, tls=True).parse_args())


def serve_with(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    arguments: argparse.Namespace,
    serving: Callable[[argparse.Namespace], Coroutine[Any, Any, None]] = serve,
) -> None:
    """The same, with the command line read already; `serving` may be another server than this file's."""
    raise_descriptor_limit()
    settle_allocator()
    loop = new_loop()
    try:
        loop.run_until_complete(serving(arguments))
    except KeyboardInterrupt:
        pass
    finally:
        loop.close()
