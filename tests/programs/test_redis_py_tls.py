"""redis-py over TLS on our loop, against a real redis-server: pipelines, publish and subscribe, a pool, who is refused."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from carried import MIB, is_ours_with_tls
from support import pattern
from support.asyncio_loops import on_loop
from support.programs import HOST
from support.tls import CA, OTHER_CA

redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")

VALUE = pattern(4 * MIB)


def address(server, authority=CA):
    return {"host": HOST, "port": server.port, "ssl": True, "ssl_ca_data": authority.pem.decode()}


@contextlib.asynccontextmanager
async def client_of(server, **options):
    client = redis.Redis(**address(server), **options)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()
        await client.connection_pool.disconnect()


@on_loop("native")
async def test_values_are_set_and_got_over_tls(tls_redis_server):
    async with client_of(tls_redis_server) as client:
        assert await client.set("key", "value") is True
        assert await client.get("key") == b"value"
        connection = await client.connection_pool.get_connection()
        assert is_ours_with_tls(connection._writer.transport)
        await client.connection_pool.release(connection)


@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back_over_tls(tls_redis_server):
    async with client_of(tls_redis_server) as client:
        await client.set("large", VALUE)
        assert await client.get("large") == VALUE


@on_loop("native")
async def test_a_pipeline_of_1000_commands_over_tls_has_its_answers_in_order(tls_redis_server):
    async with client_of(tls_redis_server) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(1000):
            pipeline.set(f"key:{number}", number)
            pipeline.get(f"key:{number}")
        answers = await pipeline.execute()
    assert answers[::2] == [True] * 1000
    assert answers[1::2] == [str(number).encode() for number in range(1000)]


@on_loop("native")
async def test_what_is_published_over_tls_reaches_the_subscriber_in_order(tls_redis_server):
    async with client_of(tls_redis_server) as client, client.pubsub() as subscriber:
        await subscriber.subscribe("news")
        assert (await subscriber.get_message(timeout=None))["type"] == "subscribe"
        for number in range(100):
            assert await client.publish("news", number) == 1
        heard = [(await subscriber.get_message(timeout=None))["data"] for _ in range(100)]
    assert heard == [str(number).encode() for number in range(100)]


@on_loop("native")
async def test_fifty_tasks_share_ten_tls_connections(tls_redis_server):
    async def count():
        for _ in range(20):
            await client.incr("count")

    kind = {"connection_class": redis.SSLConnection, **address(tls_redis_server)}
    del kind["ssl"]
    pool = redis.BlockingConnectionPool(max_connections=10, **kind)
    async with redis.Redis.from_pool(pool) as client:
        await client.flushall()
        await asyncio.gather(*(count() for _ in range(50)))
        assert await client.get("count") == b"1000"


@on_loop("native")
async def test_a_blocking_pop_over_tls_that_is_cancelled_takes_nothing(tls_redis_server):
    async with client_of(tls_redis_server) as client:
        popped = asyncio.ensure_future(client.blpop("list"))
        while not (await client.info("clients"))["blocked_clients"]:
            pass
        popped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await popped
        while (await client.info("clients"))["blocked_clients"]:  # the server has seen the end of its connection
            pass
        await client.rpush("list", "value")
        assert await client.lpop("list") == b"value"


@on_loop("native")
async def test_a_server_whose_authority_is_unknown_is_refused_by_tls(tls_redis_server):
    client = redis.Redis(**address(tls_redis_server, OTHER_CA), retry=None)
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        await client.ping()
    await client.aclose()
