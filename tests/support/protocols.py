"""asyncio's protocols that remember, and connections made for them by the loop that runs.

Owns `Recording`, and a connection as one end that is asyncio's and a raw peer, whichever side has called. Such a test runs
in a stock loop of asyncio's first: that it passes there shows that it states what asyncio does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from .asyncio_loops import on_loop, on_loops
from .coroutines import done
from .peers import Peer
from .transports import Transport

on_both = on_loops("asyncio", "native")
on_ours = on_loop("native")  # what asyncio does otherwise, or not at all
no_tls_yet = pytest.mark.plain("transports with TLS are asyncio's own")


class Recording(asyncio.Protocol):
    """Remembers what it was called for: `calls`, in which chunks that follow each other are one. `hooks`: by the names of
    `calls`, called with the protocol after the call was noted; that of "eof" says what `eof_received` answers."""

    def __init__(self, **hooks: Callable[[Recording], Any]) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.error: BaseException | None = None
        self.transport: Any = None
        self._hooks = hooks
        self._waiters: list[tuple[Callable[[], Any], asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.calls[-1:] == ["data"]:
            self.calls.pop()
        self._note("data")

    def eof_received(self) -> bool | None:
        return self._note("eof")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self._note("lost")

    def _note(self, name: str) -> Any:
        self.calls.append(name)
        answer = self._hooks[name](self) if name in self._hooks else None
        for waiter in list(self._waiters):
            if waiter[0]() and not waiter[1].done():
                waiter[1].set_result(None)
        return answer

    async def until(self, what: str | Callable[[], Any]) -> None:
        """Until it was called for this, or the condition holds."""
        holds = (lambda: what in self.calls) if isinstance(what, str) else what
        if not holds():
            waiter = (holds, asyncio.get_running_loop().create_future())
            self._waiters.append(waiter)
            try:
                await waiter[1]
            finally:
                self._waiters.remove(waiter)

    async def got(self, size: int) -> bytes:
        """The first bytes that it received."""
        await self.until(lambda: len(self.received) >= size)
        return bytes(self.received[:size])


# ---------------------------------------------------------------- connections


async def serve(transport: Transport, factory: Callable[[], Any], **options: Any) -> Any:
    """A server of the loop that runs, closed at the end of the test."""
    loop = asyncio.get_running_loop()
    where = transport.listen_options()
    if "unix" in where:
        server = await loop.create_unix_server(factory, where["unix"], **options)
    else:
        server = await loop.create_server(factory, where["hostname"], where["port"], **options)
    transport.at_end(server.close)
    return server


def target_of(server: Any) -> Any:
    """Where the peers of a transport find it."""
    name = server.sockets[0].getsockname()
    return SimpleNamespace(unix=name, port=name[1])


async def connect(transport: Transport, factory: Callable[[], Any], target: Any, **options: Any) -> Any:
    """What `create_connection` gives; aborted at the end of the test."""
    loop = asyncio.get_running_loop()
    where = transport.connect_options(target)
    if "unix" in where:
        made = await loop.create_unix_connection(factory, where["unix"], **options)
    else:
        made = await loop.create_connection(factory, where["hostname"], where["port"], **options)
    connection = made[0]
    transport.at_end(lambda: end(connection))
    return made


def end(connection: Any) -> None:
    """Abort it, if it has not ended. What asyncio closed after pending bytes had left must not be aborted any more."""
    if connection.get_protocol() is not None:
        connection.abort()


async def accepted(transport: Transport, protocol: Recording, *, rcvbuf: int | None = None) -> Peer:
    """The protocol has a connection that its loop has accepted, and this is the peer. The server is closed."""
    server = await serve(transport, lambda: protocol)
    peer = transport.peer(target_of(server), rcvbuf=rcvbuf)
    await protocol.until("made")
    transport.at_end(lambda: end(protocol.transport))
    await done(peer.connected)
    server.close()
    return peer


async def connected(transport: Transport, protocol: Recording, *, rcvbuf: int | None = None) -> Peer:
    """The protocol has a connection that its loop has made, and this is the peer."""
    server = transport.raw_server(rcvbuf=rcvbuf)
    peer = server.accept()
    await connect(transport, lambda: protocol, server)
    await done(peer.connected)
    return peer


either_side = pytest.mark.parametrize(
    "side", [pytest.param(accepted, id="accepted"), pytest.param(connected, id="connected")]
)


async def slow(transport: Transport, protocol: Recording) -> Peer:
    """As `connected`; the kernels at both ends have small buffers, so that much of what is written must wait."""
    peer = await connected(transport, protocol, rcvbuf=32768)
    small_buffer(protocol.transport)
    return peer


def small_buffer(transport: Any) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
