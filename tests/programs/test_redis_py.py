"""redis-py on our loop, against a real redis-server, in plain text and over TLS: pipelines, publish and subscribe, waits that are cancelled, a server that dies."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from carried import MIB, carried, is_ours
from support import pattern
from support.asyncio_loops import on_loop
from support.programs import HOST
from support.servers import redis_server as start_server
from support.tls import CA, OTHER_CA

import pybuntcp

redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")

VALUE = pattern(4 * MIB)


@pytest.fixture(scope="module", params=["tcp", "tls"])
def address(request):
    """Where a real server is, and how it is spoken to."""
    if request.param == "tls":
        return tls_address(request.getfixturevalue("tls_redis_server"), CA)
    server = request.getfixturevalue("redis_server")
    if request.param == "unix":
        return {"unix_socket_path": str(server.folder / "redis")}
    return {"host": HOST, "port": server.port}


every_way = pytest.mark.parametrize("address", ["tcp", "unix", "tls"], indirect=True)


def tls_address(server, authority):
    return {"host": HOST, "port": server.port, "ssl": True, "ssl_ca_data": authority.pem.decode()}


@contextlib.asynccontextmanager
async def client_of(address):
    client = redis.Redis(**address)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()
        await client.connection_pool.disconnect()


@every_way
@on_loop("native")
async def test_values_are_set_and_got_on_a_transport_of_ours(address):
    async with client_of(address) as client:
        assert await client.set("key", "value") is True
        assert await client.get("key") == b"value"
        assert await client.get("nothing") is None
        connection = await client.connection_pool.get_connection()
        assert is_ours(connection._writer.transport, tls="ssl" in address)
        await client.connection_pool.release(connection)


@every_way
@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back(address):
    async with client_of(address) as client:
        await client.set("large", VALUE)
        assert await client.get("large") == VALUE
        assert carried(received=len(VALUE), sent=len(VALUE))


@on_loop("native")
async def test_a_pipeline_of_1000_commands_has_its_answers_in_order(address):
    async with client_of(address) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(1000):
            pipeline.set(f"key:{number}", number)
            pipeline.get(f"key:{number}")
        answers = await pipeline.execute()
    assert answers[::2] == [True] * 1000
    assert answers[1::2] == [str(number).encode() for number in range(1000)]


@on_loop("native")
async def test_fifty_tasks_share_ten_connections(address):
    async def count():
        for _ in range(20):
            await client.incr("count")

    where = dict(address)
    kind = redis.SSLConnection if where.pop("ssl", False) else redis.Connection
    pool = redis.BlockingConnectionPool(max_connections=10, connection_class=kind, **where)
    async with redis.Redis.from_pool(pool) as client:
        await client.flushall()
        await asyncio.gather(*(count() for _ in range(50)))
        assert await client.get("count") == b"1000"
        assert pybuntcp.stats()["open_sockets"] == 10


@on_loop("native")
async def test_what_is_published_reaches_the_subscriber_in_order(address):
    async with client_of(address) as client, client.pubsub() as subscriber:
        await subscriber.subscribe("news")
        assert (await subscriber.get_message(timeout=None))["type"] == "subscribe"
        for number in range(100):
            assert await client.publish("news", number) == 1
        heard = [(await subscriber.get_message(timeout=None))["data"] for _ in range(100)]
    assert heard == [str(number).encode() for number in range(100)]


@on_loop("native")
async def test_a_blocking_pop_gets_what_another_connection_pushes(address):
    async with client_of(address) as client:
        popped = asyncio.ensure_future(client.blpop("list"))
        await blocked(client)
        await client.rpush("list", "value")
        assert list(await popped) == [b"list", b"value"]


@on_loop("native")
async def test_a_blocking_pop_that_is_cancelled_takes_nothing(address):
    async with client_of(address) as client:
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


@on_loop("native")
async def test_a_server_whose_authority_is_unknown_is_refused_by_tls(tls_redis_server):
    client = redis.Redis(**tls_address(tls_redis_server, OTHER_CA), retry=None)
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        await client.ping()
    await client.aclose()
