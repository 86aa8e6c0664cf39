"""Protocols of asyncio that remember, and where their connections come from: the tests of transports in `contract/aio`.

    @on_ours_and_asyncio
    async def test_what_asyncio_does_too(streams):
        async with streams.pair(Plain(data_received=f)) as (accepted, connected): ...

Owns: `Plain` and `Buffered`, which log every call and then run the function that the test gave under its name, whose answer
is theirs; `Streams`, one of the families that stream connections have (`streams` is a fixture: tcp, unix), which makes
servers, connections and raw peers by the running loop. Nothing here knows whose the loop is: a sentence about asyncio runs
on its own loop as well, as a control.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .asyncio_loops import on_loop, on_loops
from .kernel import TIMEOUT

on_ours_and_asyncio = on_loops("asyncio", "native")
on_ours = on_loop("native")

# ---------------------------------------------------------------- protocols


class _Remembers:
    def __init__(self, **answers: Callable[..., Any]) -> None:
        self.transport: Any = None
        self.log: list[str] = []
        self.data = bytearray()
        self.error: Any = "not lost"
        self.answers = answers
        self._looks: list[Callable[[], None]] = []

    def _called(self, name: str, *arguments: Any) -> Any:
        self.log.append(name)
        try:
            if name in self.answers:
                return self.answers[name](self, *arguments)
        finally:
            self.look()
        return None

    def look(self) -> None:
        """Look at what is waited for."""
        for look in list(self._looks):
            look()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Until it holds; it is looked at after each call of the protocol."""
        held = asyncio.get_running_loop().create_future()

        def look() -> None:
            if not held.done() and condition():
                held.set_result(None)

        self._looks.append(look)
        try:
            look()
            await held
        finally:
            self._looks.remove(look)

    async def called(self, name: str, times: int = 1) -> None:
        await self.until(lambda: self.log.count(name) >= times)

    async def received(self, data: bytes) -> None:
        """Until so many bytes were received: these."""
        await self.until(lambda: len(self.data) >= len(data))
        assert self.data == data

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._called("connection_made", transport)

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self._called("connection_lost", error)

    def eof_received(self) -> Any:
        return self._called("eof_received")

    def pause_writing(self) -> None:
        self._called("pause_writing")

    def resume_writing(self) -> None:
        self._called("resume_writing")


class Plain(_Remembers, asyncio.Protocol):
    """A Protocol that logs each call, and then runs `answers[name](protocol, *arguments)`."""

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._called("data_received", data)


class Buffered(_Remembers, asyncio.BufferedProtocol):
    """A BufferedProtocol of the same kind. Without an answer `get_buffer` gives `memory`."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__(**answers)
        self.memory = bytearray(4096)

    def get_buffer(self, sizehint: int) -> Any:
        return self._called("get_buffer", sizehint) if "get_buffer" in self.answers else self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.memory[:nbytes]
        self._called("buffer_updated", nbytes)


# ---------------------------------------------------------------- connections


class Streams:
    """A family of stream connections."""

    name = "tcp"
    family = socket.AF_INET

    def close(self) -> None:
        """Remove what it has made."""

    async def server(self, factory: Callable[[], Any], **options: Any) -> Any:
        """A server of the running loop, at a new address."""
        return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **options)

    async def connect(self, factory: Callable[[], Any], address: Any, **options: Any) -> tuple[Any, Any]:
        """`create_connection`: (transport, protocol)."""
        return await asyncio.get_running_loop().create_connection(factory, *address[:2], **options)

    def bound(self) -> socket.socket:
        """A socket at a new address, which does not listen yet."""
        sock = socket.socket(self.family)
        sock.bind(("127.0.0.1", 0))
        return sock

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """Two raw sockets, connected with each other, which do not block."""
        with self.bound() as listening:
            listening.listen()
            one = socket.socket(self.family)
            one.connect(listening.getsockname())
            other = listening.accept()[0]
        one.setblocking(False)
        other.setblocking(False)
        return one, other

    async def dial(self, address: Any) -> socket.socket:
        """A raw client, which does not block."""
        client = socket.socket(self.family)
        client.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(client, address)
        except BaseException:
            client.close()
            raise
        return client

    @contextlib.asynccontextmanager
    async def served(self, factory: Callable[[], Any], **options: Any) -> AsyncIterator[Any]:
        """A server, closed at the end. The connections are the test's."""
        server = await self.server(factory, **options)
        try:
            yield server
        finally:
            server.close()

    @contextlib.asynccontextmanager
    async def pair(self, accepted: Any, connected: Any) -> AsyncIterator[tuple[Any, Any]]:
        """Two protocols, which have their connection. It is aborted at the end, if it is open then."""
        async with self.served(lambda: accepted) as server:
            await self.connect(lambda: connected, address_of(server))
            await accepted.called("connection_made")
        try:
            yield accepted, connected
        finally:
            await abort(accepted, connected)

    @contextlib.asynccontextmanager
    async def accepted(self, protocol: Any) -> AsyncIterator[tuple[Any, socket.socket]]:
        """A protocol whose connection a server has accepted, and its raw peer. As `pair` at the end."""
        async with self.served(lambda: protocol) as server:
            client = await self.dial(address_of(server))
            await protocol.called("connection_made")
        with client:
            try:
                yield protocol, client
            finally:
                await abort(protocol)


class UnixStreams(Streams):
    name = "unix"
    family = socket.AF_UNIX

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="pbt")
        self._count = 0

    def close(self) -> None:
        shutil.rmtree(self._folder)

    def _path(self) -> str:
        self._count += 1
        return os.path.join(self._folder, str(self._count))

    async def server(self, factory: Callable[[], Any], **options: Any) -> Any:
        return await asyncio.get_running_loop().create_unix_server(factory, self._path(), **options)

    async def connect(self, factory: Callable[[], Any], address: Any, **options: Any) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_unix_connection(factory, address, **options)

    def bound(self) -> socket.socket:
        sock = socket.socket(self.family)
        sock.bind(self._path())
        return sock


FAMILIES = {"tcp": Streams, "unix": UnixStreams}


async def abort(*protocols: Any) -> None:
    """End their connections, unless that has happened."""
    lost = [protocol for protocol in protocols if "connection_lost" not in protocol.log]
    for protocol in lost:
        protocol.transport.abort()
    for protocol in lost:
        await protocol.called("connection_lost")


def address_of(server: Any) -> Any:
    """Of its first socket."""
    return server.sockets[0].getsockname()


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """asyncio's own code leaves some sockets and transports to the garbage collector, which runs at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


async def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes of a raw peer; fewer: it has ended."""
    data = b""
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not chunk:
            break
        data += chunk
    return data


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def ends(sock: socket.socket) -> bytes:
    """What a raw peer sends until its end, or until it resets."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 16), TIMEOUT):
            data += chunk
    return data
