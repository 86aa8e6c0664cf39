"""examples/redis_await.py on each loop: its demonstration as a program, the client on a real redis-server and on raw peers."""

from __future__ import annotations

import asyncio
import random
import socket
import sys

import pytest
from programs import EXAMPLES, HOST, MEGABYTE, Service, example_module, redis_server
from support import unread_bytes
from support.asyncio_loops import each_host, run_on
from support.coroutines import seen

import pybuntcp

SHOWN = """\
SET example:greeting hello -> 'OK'
GET example:greeting -> b'hello'
INCR example:greeting -> raises RedisError('ERR value is not an integer or out of range')
a pipeline: ['OK', 42, RedisError("ERR unknown command 'NO', with args beginning with: ")]
20 tasks on one connection:
GET example:visits -> b'242'
SCARD example:visitors -> 20
BLPOP timed out; its reply, when it comes, is nobody else's:
DEL example:greeting example:visits example:visitors -> 3
"""
PING = b"*1\r\n$4\r\nPING\r\n"
QUIT = b"*1\r\n$4\r\nQUIT\r\n"
NAMES = {"native": "pybuntcp"}  # of loops: the tests', and the example's

pytestmark = each_host


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as program:
        yield program


@pytest.fixture(scope="module")
def module():
    return example_module("redis_await")


@pytest.fixture
def redis_of(module, host):
    """`redis_of(port, test)` runs `test(redis)` with a connected client, on the loop of the test."""

    def run(port, test, timeout=10.0):
        async def connected():
            async with module.Redis(HOST, port, timeout) as redis:
                return await test(redis)

        return run_on(host, connected)

    return run


@pytest.fixture
def on_server(server, redis_of):
    """The same on the real server, and its keys are gone afterwards."""

    def run(test):
        async def and_clean(redis):
            try:
                return await test(redis)
            finally:
                await redis.command("FLUSHALL")

        return redis_of(server.port, and_clean)

    return run


@pytest.fixture
def on_peer(tcp, redis_of):
    """`on_peer(test)` runs `test(redis, peer)` against a server that says what the test lets it say."""
    raw = tcp.raw_server()
    raw.port = raw.sock.getsockname()[1]

    def run(test, timeout=10.0):
        peer = raw.accept()
        return redis_of(raw.port, lambda redis: test(redis, peer), timeout)

    return run


async def received(peer, data):
    """What the client sent so far is exactly this; the loop turns meanwhile."""
    assert await asyncio.wrap_future(peer.recv_exactly(len(data))) == data
    assert unread_bytes(peer.sock) == 0


# ---------------------------------------------------------------- the program


def test_the_demonstration_prints_what_it_should_and_ends_without_a_warning(server, host):
    arguments = ("--port", str(server.port), "--loop", NAMES.get(host, host))
    command = (sys.executable, EXAMPLES / "redis_await.py", *arguments)
    with Service(*command, env={"PYTHONWARNINGS": "always::ResourceWarning"}) as program:
        with pytest.raises(EOFError):
            program.wait_for_line("nothing that it says")
        assert program.stop() == SHOWN
        assert program.exit_code == 0


# ---------------------------------------------------------------- replies and their order


def test_a_pipeline_of_ten_thousand_is_answered_in_order(on_server):
    replies = on_server(lambda redis: redis.pipeline([("ECHO", number) for number in range(10_000)]))
    assert replies == [b"%d" % number for number in range(10_000)]


def test_each_of_many_tasks_on_one_connection_gets_its_own_replies(on_server):
    async def task(redis, name):
        for number in range(50):
            assert await redis.command("ECHO", f"{name} {number}") == f"{name} {number}".encode()
            assert await redis.pipeline([("ECHO", name), ("INCR", f"count:{name}")]) == [b"%d" % name, number + 1]

    on_server(lambda redis: asyncio.gather(*[task(redis, name) for name in range(100)]))


def test_what_tasks_send_in_one_turn_leaves_in_one_system_call(on_server):
    async def test(redis):
        before = pybuntcp.stats()["writes"]
        assert await asyncio.gather(*[redis.command("PING") for _ in range(100)]) == ["PONG"] * 100
        return pybuntcp.stats()["writes"] - before

    assert on_server(test) == 1


def test_large_binary_values_come_back_whole(on_server):
    values = [random.Random(seed).randbytes(4 * MEGABYTE) for seed in range(4)]

    async def test(redis):
        for number, value in enumerate(values):
            assert await redis.command("SET", f"large:{number}", value) == "OK"
        return await redis.command("MGET", *[f"large:{number}" for number in range(4)])

    assert on_server(test) == values


def test_an_empty_pipeline_sends_nothing(on_peer):
    async def test(redis, peer):
        assert await redis.pipeline([]) == []
        ping = asyncio.create_task(redis.command("PING"))
        await received(peer, PING)
        peer.send(b"+PONG\r\n")
        assert await ping == "PONG"
        peer.recv_exactly(len(QUIT))
        peer.send(b"+OK\r\n")

    on_peer(test)


# ---------------------------------------------------------------- errors


def test_an_error_that_the_server_answers_is_raised_and_concerns_nobody_else(on_server, module):
    async def test(redis):
        wrong = asyncio.create_task(redis.command("INCR", "text", "too much"))
        right = asyncio.create_task(redis.command("PING"))
        with pytest.raises(module.RedisError, match="wrong number of arguments"):
            await wrong
        assert await right == "PONG"

    on_server(test)


def test_a_pipeline_has_errors_among_its_replies(on_server, module):
    first, error, last = on_server(
        lambda redis: redis.pipeline([("SET", "text", "x"), ("INCR", "text"), ("GET", "text")])
    )
    assert (first, last) == ("OK", b"x")
    assert isinstance(error, module.RedisError)


def test_what_cannot_be_sent_leaves_the_connection_as_it_was(on_server):
    async def test(redis):
        with pytest.raises(UnicodeEncodeError):
            await redis.pipeline([("PING",), ("ECHO", "\ud800")])
        assert await redis.command("PING") == "PONG"

    on_server(test)


def test_no_server_is_an_error_of_async_with(host, module):
    async def test():
        with socket.socket() as unused:
            unused.bind((HOST, 0))  # ours, and nobody listens
            async with module.Redis(HOST, unused.getsockname()[1]):
                raise AssertionError("there is a server")

    with pytest.raises(ConnectionRefusedError):
        run_on(host, test)


def test_all_who_wait_get_the_error_when_the_connection_is_lost(on_peer):
    async def test(redis, peer):
        tasks = [asyncio.create_task(redis.command("PING")) for _ in range(3)]
        await received(peer, 3 * PING)
        peer.send(b"+PONG\r\n+PO")
        peer.close()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert first == "PONG"
        assert [type(error) for error in others] == [ConnectionError, ConnectionError]
        with pytest.raises(ConnectionError):
            await redis.command("PING")

    on_peer(test)


def test_a_reset_is_reported_as_what_it_is(on_peer):
    async def test(redis, peer):
        ping = asyncio.create_task(redis.command("PING"))
        await received(peer, PING)
        peer.reset()
        with pytest.raises(ConnectionResetError):
            await ping

    on_peer(test)


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n", b"+PONG\r\n+a reply to nothing\r\n"])
def test_a_server_that_does_not_speak_redis_ends_the_connection(on_peer, nonsense):
    async def test(redis, peer):
        ping = asyncio.create_task(redis.command("PING"))
        await received(peer, PING)
        peer.send(nonsense)
        await asyncio.wait([ping])
        assert await asyncio.wrap_future(peer.recv_until_eof()) == b""
        with pytest.raises(ConnectionError):
            await redis.command("PING")
        return ping

    ping = on_peer(test)
    if nonsense.startswith(b"+PONG"):
        assert ping.result() == "PONG"
    else:
        with pytest.raises(ConnectionError, match="does not speak RESP"):
            ping.result()


# ---------------------------------------------------------------- giving up


def test_a_cancelled_command_does_not_shift_the_replies_of_the_others(on_peer):
    async def test(redis, peer):
        tasks = [asyncio.create_task(redis.command("PING")) for _ in range(4)]
        await received(peer, 4 * PING)
        peer.send(b"+one\r\n+tw")  # the second has begun
        assert await tasks[0] == "one"
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.wait(tasks[1:3])
        peer.send(b"o\r\n+three\r\n+four\r\n")
        assert await tasks[3] == "four"
        assert tasks[1].cancelled()
        assert tasks[2].cancelled()
        peer.recv_exactly(len(QUIT))
        peer.send(b"+OK\r\n")

    on_peer(test)


def test_a_cancelled_pipeline_keeps_its_place_for_all_its_replies(on_peer):
    async def test(redis, peer):
        pipeline = asyncio.create_task(redis.pipeline([("PING",)] * 3))
        ping = asyncio.create_task(redis.command("PING"))
        await received(peer, 4 * PING)
        pipeline.cancel()
        await asyncio.wait([pipeline])
        peer.send(b"+one\r\n+two\r\n+three\r\n+four\r\n")
        assert await ping == "four"
        peer.recv_exactly(len(QUIT))
        peer.send(b"+OK\r\n")

    on_peer(test)


def test_random_cancellations_leave_every_reply_with_its_command(on_server):
    chance = random.Random(7)

    async def task(redis, number):
        assert await redis.command("ECHO", number) == b"%d" % number
        return number

    async def test(redis):
        tasks = []
        for number in range(2000):
            tasks.append(asyncio.create_task(task(redis, number)))
            if chance.random() < 0.3:
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                chance.choice(tasks[-20:]).cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        left = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, asyncio.CancelledError)]
        assert [outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError)] == left
        assert 0 < len(left) < len(tasks)

    on_server(test)


def test_a_command_that_times_out_ends_and_the_next_one_gets_its_own_reply(on_server):
    async def test(redis):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(redis.command("BLPOP", "nothing", 1), 0.05)
        assert await redis.command("ECHO", "mine") == b"mine"

    on_server(test)


# ---------------------------------------------------------------- a slow server, and the end


def test_tasks_wait_for_a_server_that_does_not_read_and_little_piles_up(on_peer):
    value = b"v" * 100_000

    async def test(redis, peer):
        tasks = [asyncio.create_task(redis.command("SET", "key", value)) for _ in range(400)]
        await seen(lambda: pybuntcp.stats()["pending_bytes"] >= 65536, "a server that is behind")
        assert pybuntcp.stats()["pending_bytes"] < 65536 + 2 * len(value)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        peer.reset()

    on_peer(test)


def test_replies_under_way_still_arrive_at_the_end(on_peer):
    tasks = []

    async def test(redis, peer):
        tasks.append(asyncio.create_task(redis.command("PING")))
        await received(peer, PING)
        peer.recv_exactly(len(QUIT))
        peer.send(b"+PONG\r\n+OK\r\n")

    on_peer(test)
    assert tasks[0].result() == "PONG"


def test_a_server_that_answers_nothing_holds_up_the_end_for_the_timeout_alone(on_peer):
    tasks = []

    async def test(redis, peer):
        tasks.append(asyncio.create_task(redis.command("PING")))
        await received(peer, PING)

    on_peer(test, timeout=0.2)
    assert isinstance(tasks[0].exception(), ConnectionError)


def test_an_exception_leaves_at_once(on_peer):
    async def test(redis, peer):
        ping = asyncio.create_task(redis.command("PING"))
        await received(peer, PING)
        ping.add_done_callback(lambda ping: ping.exception())
        raise LookupError("a bug of the caller")

    with pytest.raises(LookupError):
        on_peer(test, timeout=3600)
