"""examples/redis_client.py: its demonstration in a process of its own, and the client itself, on a real redis-server."""

from __future__ import annotations

import random
import socket
import sys

import pytest
from programs import EXAMPLES, HOST, MEGABYTE, example_module, output_of, redis_server
from support import run_loop

SHOWN = """\
PING -> 'PONG'
SET example:greeting hello -> 'OK'
GET example:greeting -> b'hello'
SET example:visits 41 -> 'OK'
INCR example:visits -> 42
INCR example:greeting -> RedisError('ERR value is not an integer or out of range')
MGET example:greeting example:visits example:nothing -> [b'hello', b'42', None]
DEL example:greeting example:visits -> 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as program:
        yield program


@pytest.fixture(scope="module")
def module():
    return example_module("redis_client")


def test_the_demonstration_prints_replies_in_order_and_ends(server):
    assert output_of(sys.executable, EXAMPLES / "redis_client.py", "--port", str(server.port)) == SHOWN


def test_ten_thousand_commands_at_once_are_answered_in_order(server, module):
    client = module.RedisClient(HOST, server.port)
    replies = []
    for number in range(10_000):
        client.command("ECHO", number, callback=replies.append)
    client.close()
    run_loop()
    assert replies == [b"%d" % number for number in range(10_000)]


def test_large_binary_values_come_back_whole(server, module):
    client = module.RedisClient(HOST, server.port)
    values = [random.Random(seed).randbytes(4 * MEGABYTE) for seed in range(4)]
    replies = []
    for number, value in enumerate(values):
        client.command("SET", f"large:{number}", value, callback=replies.append)
    client.command("MGET", *[f"large:{number}" for number in range(4)], callback=replies.append)
    client.command("FLUSHALL", callback=replies.append)
    client.close()
    run_loop()
    assert replies == ["OK"] * 4 + [values, "OK"]


def test_a_callback_may_send_the_next_command(server, module):
    client = module.RedisClient(HOST, server.port)
    counted = []

    def count(reply):
        counted.append(reply)
        if len(counted) == 100:
            client.command("DEL", "count", callback=module.ignore)
            client.close()
        else:
            client.command("INCR", "count", callback=count)

    client.command("INCR", "count", callback=count)
    run_loop()
    assert counted == list(range(1, 101))


def test_arrays_in_arrays_and_nothing_are_understood(server, module):
    client = module.RedisClient(HOST, server.port)
    replies = []
    script = "return {1, {'a', {}, false}, redis.status_reply('fine'), redis.error_reply('ERR no')}"
    client.command("EVAL", script, 0, callback=replies.append)
    client.command("LRANGE", "nothing", 0, -1, callback=replies.append)
    client.close()
    run_loop()
    (first, second) = replies
    assert first[:3] == [1, [b"a", [], None], "fine"]
    assert isinstance(first[3], module.RedisError)
    assert second == []


def test_all_who_wait_get_the_error_when_the_connection_is_lost(module, tcp):
    peer_of = tcp.raw_server()
    client = module.RedisClient(HOST, peer_of.sock.getsockname()[1])
    replies = []
    for _ in range(3):
        client.command("PING", callback=replies.append)
    peer = peer_of.accept()
    peer.recv_exactly(3 * len(b"*1\r\n$4\r\nPING\r\n"))
    peer.send(b"+PONG\r\n+PO")
    peer.close()
    run_loop()
    assert replies[0] == "PONG"
    assert [type(reply) for reply in replies[1:]] == [ConnectionError, ConnectionError]
    with pytest.raises(ConnectionError):
        client.command("PING", callback=replies.append)


def test_a_callback_that_raises_ends_the_connection_and_the_others_are_called(server, module, monkeypatch):
    client = module.RedisClient(HOST, server.port)
    reported, replies = [], []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: reported.append(kind))
    for callback in (replies.append, int, replies.append, dict, replies.append):
        client.command("PING", callback=callback)  # int("PONG"), then dict(an error)
    run_loop()
    assert reported == [ValueError, TypeError]
    assert [type(reply) for reply in replies] == [str, ConnectionError, ConnectionError]


def test_all_who_wait_get_the_error_when_no_server_is_there(module):
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # ours, and nobody listens
        client = module.RedisClient(HOST, unused.getsockname()[1])
        replies = []
        client.command("PING", callback=replies.append)
        run_loop()
    (error,) = replies
    assert isinstance(error, ConnectionRefusedError)
