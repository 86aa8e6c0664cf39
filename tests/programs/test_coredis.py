"""coredis on our loop, against a real redis-server. It connects by AnyIO, whose TCP streams are asyncio's transports."""

from __future__ import annotations

import asyncio
import gc

import pytest
from carried import MIB, carried
from support import pattern
from support.asyncio_loops import on_loop
from support.programs import HOST
from support.servers import redis_server as start_server

import pybuntcp

coredis = pytest.importorskip("coredis", reason="coredis is not installed")

VALUE = pattern(4 * MIB)

pytestmark = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")  # coredis's own, on any loop


@pytest.fixture(autouse=True)
def _collect():
    """Its garbage is that of its test."""
    yield
    gc.collect()


def client_of(server):
    return coredis.Redis(host=HOST, port=server.port)


async def blocked(client):
    """Until a connection waits for a list."""
    while b"blocked_clients:0" in await information(client):
        pass


async def information(client):
    return str(await client.info("clients")).replace("'", "").replace(" ", "").encode()


@on_loop("native")
async def test_values_are_set_and_got_on_sockets_of_ours(redis_server):
    async with client_of(redis_server) as client:
        await client.flushall()
        assert await client.set("key", "value") is True
        assert await client.get("key") == b"value"
        assert await client.get("nothing") is None
        assert pybuntcp.stats()["open_sockets"] >= 1
        assert carried(received=len("value"), sent=len("value"))


@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back(redis_server):
    async with client_of(redis_server) as client:
        await client.set("large", VALUE)
        assert await client.get("large") == VALUE
        assert carried(received=len(VALUE), sent=len(VALUE))


@on_loop("native")
async def test_it_connects_to_a_unix_socket(redis_server):
    async with coredis.Redis(unix_socket_path=str(redis_server.folder / "redis")) as client:
        await client.set("key", VALUE[:MIB])
        assert await client.get("key") == VALUE[:MIB]


@on_loop("native")
async def test_a_pipeline_of_500_commands_has_its_answers_in_order(redis_server):
    async with client_of(redis_server) as client:
        async with client.pipeline(transaction=False) as pipeline:
            answers = []
            for number in range(500):
                answers.append(pipeline.set(f"key:{number}", number))
                answers.append(pipeline.get(f"key:{number}"))
        assert [await answer for answer in answers[1::2]] == [str(number).encode() for number in range(500)]


@on_loop("native")
async def test_what_is_published_reaches_the_subscriber_in_order(redis_server):
    async with (
        client_of(redis_server) as client,
        client.pubsub(channels=["news"], ignore_subscribe_messages=True) as subscriber,
    ):
        for number in range(100):
            assert await client.publish("news", str(number)) == 1
        heard = [(await subscriber.__anext__())["data"] for _ in range(100)]
    assert heard == [str(number).encode() for number in range(100)]


@on_loop("native")
async def test_a_blocking_pop_that_is_cancelled_takes_nothing(redis_server):
    async with client_of(redis_server) as client:
        await client.flushall()

        async def pop():
            return await client.blpop(["list"], timeout=0)

        popped = asyncio.ensure_future(pop())
        await blocked(client)
        popped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await popped
        while b"blocked_clients:0" not in await information(client):  # the server has seen the end of its connection
            pass
        await client.rpush("list", ["value"])
        assert await client.lpop("list") == b"value"


@on_loop("native")
async def test_a_client_goes_on_when_a_server_that_died_is_back(tmp_path):
    with start_server(tmp_path) as server:
        async with client_of(server) as client:
            await client.set("key", "value")
            server.kill()
            with pytest.raises(coredis.exceptions.ConnectionError):
                await client.get("key")
            with start_server(tmp_path, server.port):
                assert await client.get("key") is None  # it kept nothing
                assert await client.set("key", "again") is True
