"""websockets on our loop, server and client: large messages, compression, pings, closing codes, who leaves in the middle, the end of a server."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from carried import MIB, carried, is_ours
from support import pattern
from support.asyncio_loops import on_loop
from support.coroutines import seen

import pybuntcp

websockets = pytest.importorskip("websockets", reason="websockets is not installed")
client = pytest.importorskip("websockets.asyncio.client", reason="websockets is older than 13")
server = pytest.importorskip("websockets.asyncio.server", reason="websockets is older than 13")

ConnectionClosed = websockets.exceptions.ConnectionClosed


async def echo(connection):
    async for message in connection:
        if message == "leave":
            await connection.close(4001, "as you wish")
        else:
            await connection.send(message)


@contextlib.asynccontextmanager
async def talking(handler=echo, **options):
    """A server and a connection to it."""
    async with server.serve(handler, "127.0.0.1", 0, max_size=None, **options) as serving:
        host, port = serving.sockets[0].getsockname()
        async with client.connect(f"ws://{host}:{port}", max_size=None, **options) as connection:
            yield serving, connection


@on_loop("native")
async def test_both_ends_are_transports_of_ours():
    async with talking() as (serving, connection):
        await connection.send("hello")
        assert await connection.recv() == "hello"
        assert is_ours(connection.transport)
        assert [is_ours(other.transport) for other in serving.connections] == [True]
    assert carried(received=len("hello"), sent=len("hello"))


@on_loop("native")
async def test_a_message_of_1_mib_comes_back():
    message = pattern(MIB)
    async with talking(compression=None) as (_, connection):
        await connection.send(message)
        assert await connection.recv() == message
        assert carried(received=2 * MIB, sent=2 * MIB)


@on_loop("native")
async def test_a_compressed_message_and_one_in_fragments_come_back():
    async with talking() as (_, connection):
        await connection.send("grüß dich " * 10_000)
        assert await connection.recv() == "grüß dich " * 10_000
        await connection.send(["one ", "two ", "three"])
        assert await connection.recv() == "one two three"


@on_loop("native")
async def test_a_thousand_messages_come_back_in_order():
    async def ask(connection):
        for number in range(1000):
            await connection.send(str(number))

    async with talking(compression=None) as (_, connection):
        asking = asyncio.ensure_future(ask(connection))
        assert [await connection.recv() for _ in range(1000)] == [str(number) for number in range(1000)]
        await asking


@on_loop("native")
async def test_a_ping_is_answered_with_its_own_payload():
    async with talking() as (_, connection):
        for _ in range(10):
            assert await (await connection.ping(os.urandom(4))) >= 0


@on_loop("native")
async def test_who_closes_says_why_and_the_other_end_is_told():
    async with talking() as (_, connection):
        await connection.send("leave")
        with pytest.raises(ConnectionClosed) as caught:
            await connection.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as you wish")


@on_loop("native")
async def test_a_peer_that_is_gone_without_a_word_is_an_abnormal_closure():
    codes = asyncio.Queue()

    async def handler(connection):
        with contextlib.suppress(ConnectionClosed):
            await connection.recv()
        codes.put_nowait(connection.close_code)

    async with talking(handler) as (_, connection):
        connection.transport.abort()
        assert await codes.get() == 1006
    assert connection.close_code == 1006


@on_loop("native")
async def test_a_sender_waits_for_a_reader_that_does_not_read():
    sent = 0

    async def flood(connection):
        nonlocal sent
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(bytes(100_000))
                sent += 1

    async with talking(flood, compression=None) as (serving, connection):
        (other,) = serving.connections
        await seen(lambda: other.paused, "the sender to wait")
        assert pybuntcp.stats()["pending_bytes"] < MIB
        before = sent
        while sent <= before:
            await connection.recv()
        connection.transport.abort()


@on_loop("native")
async def test_a_server_that_stops_closes_its_connections():
    async with talking() as (serving, connection):
        serving.close()
        with pytest.raises(ConnectionClosed) as caught:
            await connection.recv()
        assert caught.value.rcvd.code == 1001
        await serving.wait_closed()


@on_loop("native")
async def test_it_serves_and_connects_on_a_unix_socket(tmp_path):
    path = str(tmp_path / "ws")
    async with server.unix_serve(echo, path), client.unix_connect(path) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
        assert is_ours(connection.transport)
