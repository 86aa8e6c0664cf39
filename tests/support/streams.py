"""Connections of asyncio's protocols (`protocols`), made by the loop that runs: the tests of transports in `contract/aio`.

    async def test_of_a_peer_that_blocks(transport):
        protocol, peer = await connected(transport)

    async def test_of_a_peer_in_the_same_loop(streams):
        async with streams.accepted(Plain()) as (protocol, peer): ...

Owns: a connection as a protocol and its peer. The peer is a raw one in a thread of its own (`peers`) where the loop must wait
for it, and where it resets or reads late; or a raw socket that the loop itself reads and writes (`Streams`; `streams` is a
fixture: tcp, unix).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from .coroutines import done, seen
from .kernel import TIMEOUT, pattern, shrink_send_buffer, was_reset
from .peers import Peer
from .protocols import Plain
from .transports import TRANSPORTS, Transport

BIG = 1 << 22  # more than the kernels of two ends take, whose buffers are small
LARGE = 1_500_000  # of the fixture `file`

no_tls_yet = pytest.mark.plain("transports with TLS are asyncio's own")

# ---------------------------------------------------------------- servers and connections, anywhere


async def _server(transport: Transport, factory: Callable[[], Any], **options: Any) -> Any:
    loop, where = asyncio.get_running_loop(), transport.listen_options()
    if "unix" in where:
        return await loop.create_unix_server(factory, where["unix"], **options)
    return await loop.create_server(factory, where["hostname"], where["port"], **options)


async def _connection(factory: Callable[[], Any], address: Any, **options: Any) -> tuple[Any, Any]:
    loop = asyncio.get_running_loop()
    if isinstance(address, str):
        return await loop.create_unix_connection(factory, address, **options)
    return await loop.create_connection(factory, *address[:2], **options)


def address_of(server: Any) -> Any:
    """Of the first socket of a server, or of a raw one."""
    return (server.sockets[0] if hasattr(server, "sockets") else server.sock).getsockname()


async def abort(*protocols: Any) -> None:
    """End their connections, unless that has happened."""
    lost = [protocol for protocol in protocols if "connection_lost" not in protocol.log]
    for protocol in lost:
        protocol.transport.abort()
    for protocol in lost:
        await protocol.called("connection_lost")


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """asyncio's own code leaves some sockets and transports to the garbage collector, which runs at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


# ---------------------------------------------------------------- peers in threads of their own


async def serve(transport: Transport, factory: Callable[[], Any], **options: Any) -> Any:
    """A server of the loop that runs, closed at the end of the test."""
    server = await _server(transport, factory, **options)
    transport.at_end(server.close)
    return server


def dialled(transport: Transport, server: Any, *, rcvbuf: int | None = None) -> Peer:
    """A raw peer that dials this server of a loop."""
    address = address_of(server)
    return transport.peer(SimpleNamespace(unix=address, port=address[1]), rcvbuf=rcvbuf)


async def connect(transport: Transport, factory: Callable[[], Any], server: Any) -> tuple[Any, Any]:
    """What `create_connection` gives; aborted at the end of the test."""
    connection, protocol = await _connection(factory, address_of(server))
    transport.at_end(lambda: end(connection))
    return connection, protocol


def end(connection: Any) -> None:
    """Abort it, if it has not ended. What asyncio closed after pending bytes had left must not be aborted any more."""
    if connection.get_protocol() is not None:
        connection.abort()


async def accepted(
    transport: Transport, protocol: Plain | None = None, *, rcvbuf: int | None = None
) -> tuple[Plain, Peer]:
    """A protocol whose connection its loop has accepted, and the peer. The server is closed."""
    protocol = protocol or Plain()
    server = await serve(transport, lambda: protocol)
    peer = dialled(transport, server, rcvbuf=rcvbuf)
    await protocol.called("connection_made")
    transport.at_end(lambda: end(protocol.transport))
    await done(peer.connected)
    server.close()
    return protocol, peer


async def connected(
    transport: Transport, protocol: Plain | None = None, *, rcvbuf: int | None = None
) -> tuple[Plain, Peer]:
    """A protocol whose connection its loop has made, and the peer."""
    protocol = protocol or Plain()
    server = transport.raw_server(rcvbuf=rcvbuf)
    peer = server.accept()
    await connect(transport, lambda: protocol, server)
    await done(peer.connected)
    return protocol, peer


ENDINGS: dict[str, Callable[..., None]] = {
    "close": lambda protocol, *_: protocol.transport.close(),
    "abort": lambda protocol, *_: protocol.transport.abort(),
}
either_side = pytest.mark.parametrize(
    "side", [pytest.param(accepted, id="accepted"), pytest.param(connected, id="connected")]
)


async def slow(transport: Transport, protocol: Plain | None = None) -> tuple[Plain, Peer]:
    """As `connected`; the kernels at both ends have small buffers, so that much of what is written must wait."""
    protocol, peer = await connected(transport, protocol, rcvbuf=32768)
    small_buffer(protocol.transport)
    return protocol, peer


def small_buffer(transport: Any) -> None:
    shrink_send_buffer(transport.get_extra_info("socket"))


async def paused(transport: Transport, protocol: Plain | None = None) -> tuple[Plain, Peer]:
    """As `slow`; the protocol has written `pattern(BIG)` and was paused by it. The peer reads nothing yet."""
    protocol, peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    assert protocol.calls == ["connection_made", "pause_writing"]
    return protocol, peer


async def goes_on(protocol: Plain, peer: Peer) -> None:
    """What is written now arrives, and nothing before it."""
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


async def reset_unseen(protocol: Any, peer: Peer) -> None:
    """The peer of a protocol, or of a stream's writer, has reset, and the loop does not see it, since it does not read."""
    protocol.transport.pause_reading()
    peer.reset()
    await seen(lambda: was_reset(protocol.transport.get_extra_info("socket")), "the reset")


def write_five(transport: Any) -> None:
    for _ in range(5):
        transport.write(b"five ")


def use_all(transport: Any) -> None:
    """Every method of a transport of ours, when its connection or its loop is gone."""
    transport.write(b"x")
    transport.writelines([b"x", b"y"])
    transport.close()
    transport.abort()
    transport.pause_reading()
    transport.resume_reading()
    transport.set_write_buffer_limits(0)
    assert transport.get_write_buffer_size() == 0
    assert transport.is_closing()
    assert transport.get_extra_info("socket").fileno() == -1
    assert "SocketTransport closed" in repr(transport)


async def open_writer(transport: Transport, *, rcvbuf: int | None = None) -> tuple[asyncio.StreamWriter, Peer]:
    """The writer of `asyncio.open_connection`, and the peer; aborted at the end of the test."""
    server = transport.raw_server(rcvbuf=rcvbuf)
    peer = server.accept()
    address = address_of(server)
    if isinstance(address, str):
        _, writer = await asyncio.open_unix_connection(address)
    else:
        _, writer = await asyncio.open_connection(*address)
    transport.at_end(lambda: end(writer.transport))
    await done(peer.connected)
    return writer, peer


# ---------------------------------------------------------------- peers in the same loop


class Streams:
    """A family of stream connections: tcp, or unix."""

    def __init__(self, name: str = "tcp") -> None:
        self._transport = TRANSPORTS[name]()
        self.name = name
        self.family = socket.AF_UNIX if name == "unix" else socket.AF_INET

    def close(self) -> None:
        """Remove what it has made."""
        self._transport.close()

    async def server(self, factory: Callable[[], Any], **options: Any) -> Any:
        """A server of the running loop, at a new address."""
        return await _server(self._transport, factory, **options)

    async def connect(self, factory: Callable[[], Any], address: Any, **options: Any) -> tuple[Any, Any]:
        """`create_connection`: (transport, protocol)."""
        return await _connection(factory, address, **options)

    def bound(self) -> socket.socket:
        """A socket at a new address, which does not listen yet."""
        return self._transport.raw_listener()

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
        """A raw client, which does not block, and whose small writes do not wait for acknowledgements."""
        client = socket.socket(self.family)
        client.setblocking(False)
        if self.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def arrives(sock: socket.socket, protocol: Any) -> None:
    """A first message of a raw peer comes to the protocol."""
    await send(sock, b"x")
    await protocol.received(b"x")


async def ends(sock: socket.socket) -> bytes:
    """What a raw peer sends until its end, or until it resets."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 16), TIMEOUT):
            data += chunk
    return data
