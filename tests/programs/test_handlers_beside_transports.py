"""One program with both: handlers of `pybuntcp.listen` and asyncio's transports, in one loop of ours, talking to each other."""

from __future__ import annotations

import asyncio

import pytest
from carried import MIB, is_ours
from support import pattern
from support.asyncio_loops import on_loop
from support.coroutines import LOCAL, seen

import pybuntcp

BODY = pattern(2 * MIB)


class Echo:
    """Handlers."""

    def data(self, socket, chunk):
        taken = socket.write(chunk)
        if 0 <= taken < len(chunk):
            socket.data = chunk[taken:]
            socket.pause()

    def drain(self, socket):
        socket.resume()
        self.data(socket, socket.data)


class EchoProtocol(asyncio.Protocol):
    """The same with asyncio's words."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def serve_streams(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def by_streams(port):
    """What comes back to a client of asyncio's streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert is_ours(writer.transport)
    writer.write(BODY)
    writer.write_eof()
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


async def by_reader(port):
    """What comes back to a client of ours."""
    async with pybuntcp.connect(hostname="127.0.0.1", port=port) as socket:
        sink = socket.sink(limit=None)
        sink.end(BODY)
        return await socket.reader().read()


@on_loop("native")
async def test_each_kind_of_client_talks_to_each_kind_of_server_at_the_same_time():
    loop = asyncio.get_running_loop()
    protocols = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    streams = await asyncio.start_server(serve_streams, "127.0.0.1", 0)
    async with protocols, streams, pybuntcp.listen(socket=Echo(), **LOCAL) as listener:
        ports = [server.sockets[0].getsockname()[1] for server in (protocols, streams)] + [listener.port]
        asked = [client(port) for client in (by_streams, by_reader) for port in ports]
        assert await asyncio.gather(*asked) == [BODY] * 6
        assert pybuntcp.stats()["accepted"] == 6


@on_loop("native")
async def test_a_handler_writes_to_a_transport_and_a_protocol_to_a_socket():
    """A bridge: what comes to the listener goes out at a transport, and back."""

    class Inner(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.outer.write(data)

    class Bridge:
        async def open(self, socket):
            _, inner = await loop.create_connection(Inner, *echo.sockets[0].getsockname())
            inner.outer = socket
            socket.data = inner.transport
            async for chunk in socket:
                inner.transport.write(chunk)
            inner.transport.close()

    loop = asyncio.get_running_loop()
    echo = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    bridge = pybuntcp.listen(socket=Bridge(), **LOCAL)
    async with echo, bridge, pybuntcp.connect(hostname="127.0.0.1", port=bridge.port) as socket:
        reader = socket.reader()
        for number in range(50):
            socket.write(f"{number}\n")
            assert await reader.readline() == f"{number}\n".encode()


@on_loop("native")
async def test_what_both_write_in_one_callback_leaves_at_its_end():
    received = {"socket": [], "transport": []}

    def data(name):
        return lambda socket, chunk: received[name].append(chunk)

    loop = asyncio.get_running_loop()
    one = pybuntcp.listen(socket={"data": data("transport")}, **LOCAL)
    other = pybuntcp.listen(socket={"data": data("socket")}, **LOCAL)
    with one, other:
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", one.port)
        socket = await pybuntcp.connect(hostname="127.0.0.1", port=other.port)
        before = pybuntcp.stats()["writes"]
        with socket.cork():
            for _ in range(10):
                transport.write(b"a")
                socket.write(b"b")
        await seen(lambda: all(received.values()), "what was written to arrive")
        writes = pybuntcp.stats()["writes"] - before
        transport.close()
        socket.close()
    assert received == {"socket": [b"b" * 10], "transport": [b"a" * 10]}
    assert writes == 2


@on_loop("native")
async def test_transports_are_those_of_the_loop_also_where_pybuntcp_is_attached_already():
    """A listener of ours is open before and after; asyncio's own descriptors are watched at the same time."""
    with pybuntcp.listen(socket=Echo(), **LOCAL) as listener:
        server = await asyncio.start_server(serve_streams, "127.0.0.1", 0)
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        async with server:
            port = server.sockets[0].getsockname()[1]
            answers = await asyncio.gather(by_streams(port), by_streams(listener.port), process.communicate(b"meow"))
        assert answers == [BODY, BODY, (b"meow", None)]


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_on_another_loop_its_own_transports_run_beside_our_handlers(kind):
    from support.asyncio_loops import run_on

    async def main():
        server = await asyncio.start_server(serve_streams, "127.0.0.1", 0)
        async with server, pybuntcp.listen(socket=Echo(), **LOCAL) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"hello")
            received = await reader.readexactly(5)
            ours = is_ours(writer.transport)
            writer.close()
            await writer.wait_closed()
            return received, ours, await by_reader(server.sockets[0].getsockname()[1]) == BODY

    if kind == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    assert run_on(kind, main) == (b"hello", False, True)
