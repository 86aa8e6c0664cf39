"""The native asyncio loop: asyncio's own descriptors and transports beside our sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as stdlib

import pytest
from support import Recorder
from support.addresses import dialled
from support.asyncio_loops import on_loop, run_on
from support.coroutines import LOCAL, connection, read_exactly, until
from support.handlers import echo

import pybuntcp

ECHO = {"data": echo}
OPEN = pytest.mark.parametrize("opened", [True, False], ids=["a listener open", "nothing open"])


@contextlib.contextmanager
def something(opened):
    """A listener of ours, or nothing: the loop selects in two ways."""
    with pybuntcp.listen(socket=ECHO, **LOCAL) if opened else contextlib.nullcontext() as listener:
        yield listener


@contextlib.contextmanager
def pipe():
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for fd in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(fd)


async def ready(add, fd):
    """Until `add(fd, callback)` calls back."""
    future = asyncio.get_running_loop().create_future()
    add(fd, lambda: future.done() or future.set_result(None))
    await future


# ---------------------------------------------------------------- add_reader, add_writer


@OPEN
@on_loop("native")
async def test_a_reader_on_a_pipe_is_called_for_bytes_and_for_the_end(opened):
    loop = asyncio.get_running_loop()
    with something(opened), pipe() as (reader, writer):
        for _ in range(3):
            loop.call_later(0.005, os.write, writer, b"x")
            await ready(loop.add_reader, reader)
            assert os.read(reader, 9) == b"x"
        loop.call_later(0.005, os.close, writer)
        await ready(loop.add_reader, reader)
        assert os.read(reader, 9) == b""
        assert loop.remove_reader(reader) is True
        assert loop.remove_reader(reader) is False


@OPEN
@on_loop("native")
async def test_a_reader_is_called_again_while_there_is_something_to_read(opened):
    loop = asyncio.get_running_loop()
    with something(opened), pipe() as (reader, writer):
        enough = loop.create_future()
        calls = []

        def readable():
            calls.append(1)
            if len(calls) == 5:
                enough.set_result(None)

        os.write(writer, b"x")
        loop.add_reader(reader, readable)
        await enough
        loop.remove_reader(reader)
        os.read(reader, 1)


@OPEN
@on_loop("native")
async def test_a_writer_on_a_full_pipe_is_called_when_there_is_room(opened):
    loop = asyncio.get_running_loop()
    with something(opened), pipe() as (reader, writer):
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, bytes(65536)):
                pass
        waiting = asyncio.ensure_future(ready(loop.add_writer, writer))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        os.read(reader, 1 << 20)
        await waiting
        assert loop.remove_writer(writer) is True


@OPEN
@on_loop("native")
async def test_a_reader_and_a_writer_on_one_socket_are_distinguished(opened):
    loop = asyncio.get_running_loop()
    with something(opened), contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(sock) for sock in stdlib.socketpair())
        reading = asyncio.ensure_future(ready(loop.add_reader, one))
        await ready(loop.add_writer, one)
        loop.remove_writer(one)
        await asyncio.sleep(0.005)
        assert not reading.done()
        other.send(b"x")
        await reading
        loop.remove_reader(one)


@OPEN
def test_a_descriptor_stays_blocking_if_it_was(opened):
    async def main():
        loop = asyncio.get_running_loop()
        with something(opened), pipe() as (reader, writer):
            os.write(writer, b"x")
            await ready(loop.add_reader, reader)
            await ready(loop.add_writer, writer)
            during = os.get_blocking(reader), os.get_blocking(writer)
            loop.remove_reader(reader)
            loop.remove_writer(writer)
            return during, (os.get_blocking(reader), os.get_blocking(writer))

    assert run_on("native", main) == ((True, True), (True, True))


@OPEN
@on_loop("native")
async def test_a_reader_on_a_regular_file_is_refused_as_by_the_stock_loop(opened, tmp_path):
    with something(opened), open(tmp_path / "file", "w+") as file, pytest.raises(PermissionError):
        asyncio.get_running_loop().add_reader(file, print)


@on_loop("native")
async def test_a_descriptor_closed_while_watched_harms_no_socket_of_ours_that_gets_its_number():
    """The kernel gives the smallest free number to the next accepted connection."""
    called = []
    loop = asyncio.get_running_loop()
    server = Recorder(data=echo)
    with pybuntcp.listen(socket=server.handlers, **LOCAL) as listener, contextlib.ExitStack() as stack:
        watched = [sock.detach() for _ in range(4) for sock in stdlib.socketpair()]
        for fd in watched:
            loop.add_reader(fd, called.append, fd)
        await asyncio.sleep(0)
        clients = [stack.enter_context(dialled(listener.port)) for _ in watched]
        for fd in watched:
            os.close(fd)
        await until(lambda: len(server.sockets) == len(watched))
        reused = {accepted.fileno() for accepted in server.sockets} & set(watched)
        assert len(reused) >= len(watched) - 2  # libuv may take one for itself
        called.clear()
        for again in (True, False):
            for client in clients:
                client.setblocking(False)
                client.send(b"hello")
                assert await read_exactly(client, 5) == b"hello"
            for fd in watched:  # what a careful program does, too late
                assert loop.remove_reader(fd) is again
        assert called == []


@on_loop("native")
async def test_a_watched_descriptor_gets_the_number_of_a_socket_of_ours_that_was_closed():
    loop = asyncio.get_running_loop()
    server = Recorder()
    listener, accepted, connected = await connection(server, Recorder())
    numbers = {accepted.fileno(), connected.fileno()}
    connected.terminate()
    await until(lambda: server.count("close"))
    with contextlib.ExitStack() as stack:
        pipes = [stack.enter_context(pipe()) for _ in range(4)]
        assert numbers & {fd for ends in pipes for fd in ends}
        for reader, writer in pipes:
            os.write(writer, b"x")
            await ready(loop.add_reader, reader)
            await ready(loop.add_writer, writer)
            loop.remove_reader(reader)
            loop.remove_writer(writer)
    listener.stop()


# ---------------------------------------------------------------- asyncio's own transports


async def busy(body):
    """`body()` while bytes of ours go to and fro in the same loop."""
    client = Recorder(data=echo)
    listener, _, connected = await connection(Recorder(data=echo), client)
    connected.write(b"to and fro")
    try:
        result = await body()
        seen = client.count("data")
        await until(lambda: client.count("data") > seen + 5)
    finally:
        listener.stop(True)
    await until(lambda: client.count("close"))
    return result


async def streams():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"a line\n")
    line = await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()
    return line


async def unix_streams(path):
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"a line\n")
    line = await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()
    return line


async def datagrams():
    loop = asyncio.get_running_loop()
    got = loop.create_future()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            got.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=transport.get_extra_info("sockname")
    )
    sender.sendto(b"a datagram")
    data = await got
    sender.close()
    transport.close()
    await asyncio.sleep(0)
    return data


async def large_stream():
    """Both directions stall and go on."""

    async def serve(reader, writer):
        writer.write(await reader.readexactly(4 << 20))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(bytes(4 << 20))
    await writer.drain()
    size = len(await reader.read())
    writer.close()
    server.close()
    return size


def test_asyncios_streams_work_beside_our_sockets():
    assert run_on("native", lambda: busy(streams)) == b"a line\n"


def test_asyncios_unix_streams_work_beside_our_sockets(tmp_path):
    assert run_on("native", lambda: busy(lambda: unix_streams(str(tmp_path / "s")))) == b"a line\n"


def test_asyncios_datagrams_work_beside_our_sockets():
    assert run_on("native", lambda: busy(datagrams)) == b"a datagram"


def test_asyncios_streams_stall_and_go_on_beside_our_sockets():
    assert run_on("native", lambda: busy(large_stream)) == 4 << 20


@on_loop("native")
async def test_asyncios_clients_reach_our_listener_and_our_clients_asyncios_server():
    with pybuntcp.listen(socket={"data": lambda socket, chunk: socket.end(chunk)}, **LOCAL) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"from asyncio")
        first = await reader.read()
        writer.close()

    async def serve(reader, writer):
        writer.write(await reader.read(99))
        writer.close()

    client = Recorder(open=lambda socket: socket.write(b"from us"))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await pybuntcp.connect(hostname="127.0.0.1", port=port, socket=client.handlers)
    await until(lambda: client.count("close"))
    server.close()
    assert first, client.received() == (b"from asyncio", b"from us")
