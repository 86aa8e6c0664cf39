"""[A14] `pybuntcp.aio`'s functions, in loops that are not ours, and in ours."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket

import pytest
from support.asyncio_loops import FOREIGN, on_every_loop, on_loops
from support.coroutines import read_exactly
from support.kernel import pattern
from support.protocols import Plain
from support.streams import abort, address_of
from support.tls_peer import client_context, server_context

import pybuntcp
from pybuntcp import _aio, aio

on_foreign = on_loops(*FOREIGN)
SIZE = 1 << 20


async def upper(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


async def ask(reader, writer):
    """What a server that runs `upper` answers."""
    writer.write(b"one\n")
    writer.write(b"two\n")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def is_ours(transport):
    return isinstance(transport, _aio.SocketTransport) and transport._loop is asyncio.get_running_loop()


# ---------------------------------------------------------------- streams


@on_every_loop
async def test_streams_of_both_sides_are_on_our_sockets():
    made = []

    async def serve(reader, writer):
        made.append(writer.transport)
        await upper(reader, writer)

    server = await aio.start_server(serve, "127.0.0.1", 0)
    assert server.get_loop() is asyncio.get_running_loop()
    assert isinstance(server, asyncio.Server)
    async with server:
        reader, writer = await aio.open_connection(*address_of(server))
        assert is_ours(writer.transport)
        assert await ask(reader, writer) == b"ONE\nTWO\n"
        assert is_ours(made[0])


@on_every_loop
async def test_streams_on_unix_sockets(tmp_path):
    async with await aio.start_unix_server(upper, tmp_path / "s", limit=1000) as server:
        assert not isinstance(server.sockets[0].getsockname(), tuple)
        reader, writer = await aio.open_unix_connection(tmp_path / "s", limit=1000)
        assert is_ours(writer.transport)
        assert await ask(reader, writer) == b"ONE\nTWO\n"


@on_every_loop
async def test_a_limit_of_a_reader_is_that_of_the_call():
    async with await aio.start_server(upper, "127.0.0.1", 0) as server:
        reader, writer = await aio.open_connection(*address_of(server), limit=4)
        writer.write(b"longer than four\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        writer.transport.abort()
        await asyncio.sleep(0)


# ---------------------------------------------------------------- protocols


@on_every_loop
async def test_protocols_of_both_sides_have_our_transports():
    accepted = Plain()
    server = await aio.create_server(lambda: accepted, "127.0.0.1", 0)
    transport, connected = await aio.create_connection(Plain, *address_of(server))
    assert connected.transport is transport
    await accepted.called("connection_made")
    assert is_ours(transport)
    assert is_ours(accepted.transport)
    transport.write(b"hello")
    await accepted.received(b"hello")
    await abort(accepted, connected)
    server.close()
    await server.wait_closed()


@on_every_loop
async def test_a_connection_that_other_code_has_accepted():
    ours, theirs = socket.socketpair()
    transport, protocol = await aio.connect_accepted_socket(Plain, ours)
    assert is_ours(transport)
    with theirs:
        theirs.sendall(b"hello")
        await protocol.received(b"hello")
        await abort(protocol)


@on_every_loop
async def test_a_server_takes_limits_of_ours():
    lost = Plain()
    async with await aio.create_server(lambda: lost, "127.0.0.1", 0, idle_timeout=0.05) as server:
        _, protocol = await aio.create_connection(Plain, *address_of(server))
        await lost.called("connection_lost")
        assert isinstance(lost.error, TimeoutError)
        await protocol.called("connection_lost")
    with pytest.raises(TypeError, match="idle_timeout"):
        await aio.create_server(Plain, "127.0.0.1", 0, idle_timeout="soon")


@on_every_loop
async def test_a_server_that_closed_refuses_and_is_waited_for():
    server = await aio.create_server(Plain, "127.0.0.1", 0)
    address = address_of(server)
    assert server.is_serving()
    server.close()
    await server.wait_closed()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await aio.create_connection(Plain, *address)


@on_every_loop
async def test_serve_forever_ends_when_its_task_is_cancelled():
    server = await aio.create_server(Plain, "127.0.0.1", 0, start_serving=False)
    task = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    assert server.is_serving()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()


# ---------------------------------------------------------------- as asyncio's


FUNCTIONS = {
    "open_connection": asyncio.open_connection,
    "open_unix_connection": asyncio.open_unix_connection,
    **{
        name: getattr(asyncio.SelectorEventLoop, name)
        for name in (
            "create_connection",
            "create_unix_connection",
            "connect_accepted_socket",
            "start_tls",
            "sendfile",
        )
    },
}
SERVERS = {
    "start_server": asyncio.start_server,
    "start_unix_server": asyncio.start_unix_server,
    "create_server": asyncio.SelectorEventLoop.create_server,
    "create_unix_server": asyncio.SelectorEventLoop.create_unix_server,
}


def names_of(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_asyncios_signature(name):
    assert names_of(getattr(aio, name)) == names_of(FUNCTIONS[name])
    assert inspect.iscoroutinefunction(getattr(aio, name))


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_asyncios_signature_and_limits(name):
    ours = names_of(getattr(aio, name))
    assert [each for each in ours if each not in aio.functions.LIMITS] == names_of(SERVERS[name])
    assert {*aio.functions.LIMITS} < {*ours}


MISTAKES = {
    "nothing": lambda of: of.create_connection(Plain),
    "a host and a socket": lambda of: of.create_connection(Plain, "127.0.0.1", 1, sock=socket.socket()),
    "a datagram socket": lambda of: of.create_connection(Plain, sock=socket.socket(type=socket.SOCK_DGRAM)),
    "a name without ssl": lambda of: of.create_connection(Plain, "127.0.0.1", 1, server_hostname="x"),
    "a timeout without ssl": lambda of: of.create_connection(Plain, "127.0.0.1", 1, ssl_handshake_timeout=1),
    "a path and a socket": lambda of: of.create_unix_connection(Plain, "x", sock=socket.socket()),
    "no path": lambda of: of.create_unix_connection(Plain, "/nowhere/at/all"),
    "a server of nothing": lambda of: of.create_server(Plain),
    "a server with ssl=True": lambda of: of.create_server(Plain, "127.0.0.1", 0, ssl=True),
    "an unknown option": lambda of: of.create_server(Plain, "127.0.0.1", 0, colour="red"),
    "a port that nobody has": lambda of: of.create_connection(Plain, "127.0.0.1", 1),
    "a family": lambda of: of.create_connection(Plain, "127.0.0.1", 1, family=socket.AF_INET6),
    "an address of others": lambda of: of.create_server(Plain, "192.0.2.1", 0),
    "tls without a context": lambda of: of.start_tls(None, None, None),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("mistake", MISTAKES)
@on_foreign
async def test_errors_are_those_of_asyncios_own_loop(mistake):
    def theirs():
        loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(MISTAKES[mistake](loop))
        except Exception as error:
            return type(error), str(error).partition("fd=")[0]
        finally:
            loop.close()

    expected = await asyncio.to_thread(theirs)
    with pytest.raises(expected[0]) as caught:
        await MISTAKES[mistake](aio)
    assert str(caught.value).partition("fd=")[0] == expected[1]


def test_without_a_loop_it_is_a_runtime_error():
    coroutine = aio.create_connection(Plain, "127.0.0.1", 1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)


@on_foreign
async def test_names_and_several_addresses_are_tried_as_in_asyncio():
    async with await aio.start_server(upper, "127.0.0.1", 0) as server:
        port = address_of(server)[1]
        for options in ({}, {"happy_eyeballs_delay": 0.25}, {"local_addr": ("127.0.0.1", 0)}):
            assert await ask(*await aio.open_connection("localhost", port, **options)) == b"ONE\nTWO\n"


@on_loops("asyncio")
async def test_a_socket_of_another_family_stays_the_loops():
    class Odd(socket.socket):
        family = socket.AF_UNIX + 100

    plain, peer = socket.socketpair()
    odd = Odd(fileno=plain.detach())
    transport, protocol = await aio.create_connection(Plain, sock=odd)
    assert type(transport).__module__.startswith("asyncio")
    peer.close()
    await protocol.called("connection_lost")


# ---------------------------------------------------------------- TLS


@on_every_loop
async def test_tls_on_our_sockets():
    async with await aio.start_server(upper, "127.0.0.1", 0, ssl=server_context()) as server:
        assert server.get_loop() is asyncio.get_running_loop()
        reader, writer = await aio.open_connection(
            *address_of(server), ssl=client_context(), server_hostname="127.0.0.1"
        )
        writer.write(b"secret\n")
        assert await reader.readline() == b"SECRET\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "start_tls"), reason="came with Python 3.11")
@on_every_loop
async def test_a_stream_that_goes_over_to_tls():
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context())
        await upper(reader, writer)

    async with await aio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await aio.open_connection(*address_of(server))
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(client_context(), server_hostname="127.0.0.1")
        writer.write(b"secret\n")
        assert await reader.readline() == b"SECRET\n"
        writer.close()
        await writer.wait_closed()


@on_every_loop
async def test_a_transport_that_goes_over_to_tls():
    accepted = Plain()
    async with await aio.create_server(lambda: accepted, "127.0.0.1", 0) as server:
        plain, protocol = await aio.create_connection(Plain, *address_of(server))
        await accepted.called("connection_made")
        theirs = asyncio.ensure_future(aio.start_tls(accepted.transport, accepted, server_context(), server_side=True))
        ours = await aio.start_tls(plain, protocol, client_context(), server_hostname="127.0.0.1")
        await theirs
        ours.write(b"secret")
        await accepted.received(b"secret")
        ours.abort()
        theirs.result().abort()
        await protocol.called("connection_lost")
        await accepted.called("connection_lost")


# ---------------------------------------------------------------- files


@on_every_loop
async def test_a_file_is_sent_after_what_was_written(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pattern(SIZE))
    one, other = socket.socketpair()
    other.setblocking(False)
    transport, protocol = await aio.connect_accepted_socket(Plain, one)
    with other, path.open("rb") as file:
        transport.write(b"head")
        received = asyncio.ensure_future(read_exactly(other, 4 + SIZE))
        assert await aio.sendfile(transport, file) == SIZE
        assert await received == b"head" + pattern(SIZE)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == SIZE
        await abort(protocol)


@on_loops("uvloop")
async def test_a_transport_of_the_loops_own_is_left_to_the_loop(tmp_path):
    server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
    transport, protocol = await asyncio.get_running_loop().create_connection(Plain, *address_of(server))
    with (tmp_path / "file").open("wb+") as file, pytest.raises(NotImplementedError):
        await aio.sendfile(transport, file)
    await abort(protocol)
    server.close()


# ---------------------------------------------------------------- figures


@on_foreign
async def test_transports_are_counted_as_sockets_of_the_loop_that_runs():
    async with await aio.start_server(upper, "127.0.0.1", 0) as server:
        before = pybuntcp.stats()["open_sockets"]
        _, writer = await aio.open_connection(*address_of(server))
        assert pybuntcp.stats()["open_sockets"] > before
        writer.close()
        await writer.wait_closed()
