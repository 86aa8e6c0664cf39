"""redis-py on our loop, against a real redis-server: pipelines, publish and subscribe, waits that are cancelled, a server that dies."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from carried import MIB, carried, is_ours
from support import pattern
from support.asyncio_loops import on_loop
from support.programs import HOST
from support.servers import redis_server as start_server

import pybuntcp

redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")

VALUE = pattern(4 * MIB)


@contextlib.asynccontextmanager
async def client_of(server, *, unix=False, **options):
    where = {"unix_socket_path": str(server.folder / "redis")} if unix else {"host": HOST, "port": server.port}
    client = redis.Redis(**where, **options)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()
        await client.connection_pool.disconnect()


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@on_loop("native")
async def test_values_are_set_and_got_on_a_transport_of_ours(redis_server, unix):
    async with client_of(redis_server, unix=unix) as client:
        assert await client.set("key", "value") is True
        assert await client.get("key") == b"value"
        assert await client.get("nothing") is None
        connection = await client.connection_pool.get_connection()
        assert is_ours(connection._writer.transport)
        await client.connection_pool.release(connection)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back(redis_server, unix):
    async with client_of(redis_server, unix=unix) as client:
        await client.set("large", VALUE)
        assert await client.get("large") == VALUE
        assert carried(received=len(VALUE), sent=len(VALUE))


@on_loop("native")
async def test_a_pipeline_of_1000_commands_has_its_answers_in_order(redis_server):
    async with client_of(redis_server) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(1000):
            pipeline.set(f"key:{number}", number)
            pipeline.get(f"key:{number}")
        answers = await pipeline.execute()
    assert answers[::2] == [True] * 1000
    assert answers[1::2] == [str(number).encode() for number in range(1000)]


@on_loop("native")
async def test_fifty_tasks_share_ten_connections(redis_server):
    async def count():
        for _ in range(20):
            await client.incr("count")

    pool = redis.BlockingConnectionPool(host=HOST, port=redis_server.port, max_connections=10)
    async with redis.Redis.from_pool(pool) as client:
        await client.flushall()
        await asyncio.gather(*(count() for _ in range(50)))
        assert await client.get("count") == b"1000"
        assert pybuntcp.stats()["open_sockets"] == 10


@on_loop("native")
async def test_what_is_published_reaches_the_subscriber_in_order(redis_server):
    async with client_of(redis_server) as client, client.pubsub() as subscriber:
        await subscriber.subscribe("news")
        assert (await subscriber.get_message(timeout=None))["type"] == "subscribe"
        for number in range(100):
            assert await client.publish("news", number) == 1
        heard = [(await subscriber.get_message(timeout=None))["data"] for _ in range(100)]
    assert heard == [str(number).encode() for number in range(100)]


@on_loop("native")
async def test_a_blocking_pop_gets_what_another_connection_pushes(redis_server):
    async with client_of(redis_server) as client:
        popped = asyncio.ensure_future(client.blpop("list"))
        await blocked(client)
        await client.rpush("list", "value")
        assert list(await popped) == [b"list", b"value"]


@on_loop("native")
async def test_a_blocking_pop_that_is_cancelled_takes_nothing(redis_server):
    async with client_of(redis_server) as client:
        popped = asyncio.ensure_future(client.blpop("list"))
        await blocked(client)
        popped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await popped
        while (await client.info("clients"))["blocked_clients"]:  # the server has seen the end of its connection
            pass
        await client.rpush("list", "value")
        assert await client.lpop("list") == b"value"


async def blocked(client):
    while not (await client.info("clients"))["blocked_clients"]:
        pass


@on_loop("native")
async def test_a_client_goes_on_when_a_server_that_died_is_back(tmp_path):
    with start_server(tmp_path) as server:
        client = redis.Redis(host=HOST, port=server.port, retry=None)
        await client.set("key", "value")
        waiting = asyncio.ensure_future(client.blpop("list"))
        await blocked(client)
        server.kill()
        with pytest.raises(redis.ConnectionError):
            await waiting
        with pytest.raises(redis.ConnectionError):
            await client.get("key")
    with start_server(tmp_path, server.port):
        assert await client.get("key") is None  # it kept nothing
        assert await client.set("key", "again") is True
        await client.aclose()
