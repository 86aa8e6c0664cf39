"""examples/cython_redis: what it does not share with examples/redis_server, or promises beyond it.

All that both do is tested in test_redis_server.py, on both. Here: client libraries, what it does not know of what
Redis knows, memory, and what is in the package.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys

import pytest
from programs import HOST, MEGABYTE, Service, impatient_example, installed_example, listening, peak_memory, redis_server
from redis_traffic import connected, replies_to, resp
from support import TIMEOUT, unread_bytes, wait_for

import pybuntcp

NAME = "cython_redis"
LITTLE_MEMORY = 512 * MEGABYTE  # of address space, for the whole process
NO_REDIS_PY = "the client library, redis from PyPI, is not installed"

pytestmark = pytest.mark.timeout(300)  # the first test builds it


@pytest.fixture(scope="module")
def server(cython_redis):
    with installed_example(NAME, cython_redis, "--port", "0") as program:
        yield program


@pytest.fixture
def fresh_server(cython_redis):
    """One whose memory nobody has used yet."""
    with installed_example(NAME, cython_redis, "--port", "0") as program:
        yield program


# --- redis-py ------------------------------------------------------------------------------------


@pytest.fixture
def client(server):
    redis = pytest.importorskip("redis", reason=NO_REDIS_PY)
    with redis.Redis(HOST, server.port, socket_timeout=TIMEOUT, protocol=2) as client:
        client.flushall()
        yield client


def test_redis_py_reads_what_it_wrote(client):
    binary = bytes(range(256))
    assert client.ping()
    assert client.set("k", binary)
    assert client.get("k") == binary
    assert client.get("none") is None
    assert client.mset({"a": 1, "b": "zwei", binary: b""})
    assert client.mget("a", "b", "c", binary) == [b"1", b"zwei", None, b""]
    assert client.exists("a", "b", "c") == 2
    assert client.delete("a", "c") == 1
    assert client.dbsize() == 3


def test_redis_py_counts(client):
    assert [client.incr("n") for _ in range(3)] == [1, 2, 3]
    assert client.incrby("n", 2**40) == 2**40 + 3
    assert client.decr("n", 2**41) == 3 - 2**40


def test_redis_py_raises_what_the_server_refuses(client):
    redis = pytest.importorskip("redis", reason=NO_REDIS_PY)
    client.set("text", "no number")
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.incr("text")
    with pytest.raises(redis.ResponseError, match="unknown command 'LPUSH'"):
        client.lpush("list", "x")


def test_redis_py_pipelines(client):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.set(f"key:{number}", number)
            pipeline.get(f"key:{number}")
        assert pipeline.execute() == [reply for number in range(1000) for reply in (True, b"%d" % number)]


def test_redis_py_names_its_connection_and_asks_about_the_server(server):
    redis = pytest.importorskip("redis", reason=NO_REDIS_PY)
    with redis.Redis(HOST, server.port, socket_timeout=TIMEOUT, protocol=2, client_name="tester") as client:
        assert client.client_getname() == "tester"
        assert client.client_setinfo("LIB-NAME", "tests")
        assert client.config_get("save") == {"save": ""}
        assert client.info()["redis_mode"] == "standalone"


# --- what it does not know -----------------------------------------------------------------------


def test_there_is_one_database_as_in_a_real_server_told_so(server, real_server, tmp_path):
    asked = [resp("SELECT", number) for number in ("0", "1", "-1", "x")] + [resp("CONFIG", "GET", "databases")]
    with redis_server(tmp_path, "--databases", "1") as real:
        assert replies_to(server, asked) == replies_to(real, asked)


def test_options_of_set_are_a_syntax_error_and_set_nothing(server):
    case = [resp("FLUSHALL"), resp("SET", "k", "v", "EX", "10"), resp("SET", "k", "v", "NX"), resp("EXISTS", "k")]
    assert replies_to(server, case) == b"+OK\r\n-ERR syntax error\r\n-ERR syntax error\r\n:0\r\n"


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [b"*2147483647\r\n", b"*2\r\n$3\r\nGET\r\n$536870912\r\n"])
def test_what_is_announced_takes_no_memory_before_it_comes(fresh_server, announced):
    before = peak_memory(fresh_server)
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            sock = stack.enter_context(connected(fresh_server))
            sock.sendall(resp("PING") + announced + b"$1")
            assert sock.recv(100) == b"+PONG\r\n"
        assert peak_memory(fresh_server) - before < 4 * MEGABYTE


def test_a_value_replaced_by_a_small_one_gives_back_its_memory(fresh_server):
    before = peak_memory(fresh_server)
    large = bytes(4 * MEGABYTE)
    case = [resp("SET", f"key:{number}", value) for number in range(16) for value in (large, b"x")]
    assert replies_to(fresh_server, case) == b"+OK\r\n" * 32
    assert peak_memory(fresh_server) - before < 24 * MEGABYTE


def test_connections_that_end_within_a_request_give_back_its_memory(fresh_server):
    part = resp("PING") + b"*2\r\n$4\r\nECHO\r\n$1000000\r\n" + bytes(900_000)
    before = peak_memory(fresh_server)
    for _ in range(50):
        with connected(fresh_server) as sock:
            sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
            assert sock.makefile("rb").read() == b"+PONG\r\n"
    assert peak_memory(fresh_server) - before < 8 * MEGABYTE


def test_clients_that_go_with_replies_unread_leave_nothing_behind(cython_redis, tmp_path):
    """Neither a descriptor nor what was kept for them, of which 64 would be more than the bound."""
    path = tmp_path / "redis.sock"
    with impatient_example(NAME, cython_redis, path) as server:
        with dialled(path) as sock:
            sock.sendall(resp("SET", "m", bytes(MEGABYTE)))
            assert sock.recv(100) == b"+OK\r\n"
            before, open_before = peak_memory(server), descriptors_of(server)
        for _ in range(8):
            with contextlib.ExitStack() as stack:
                for sock in [stack.enter_context(dialled(path)) for _ in range(8)]:
                    sock.sendall(resp("GET", "m") * 20)
                    wait_for(lambda sock=sock: unread_bytes(sock), "the first reply")
            wait_for(lambda: descriptors_of(server) < open_before, "their connections to end")
        assert peak_memory(server) - before < 24 * MEGABYTE


def dialled(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT)
    sock.connect(os.fspath(path))
    return sock


def descriptors_of(program):
    folder = f"/proc/{program.pid}/fd"
    return len(os.listdir(folder)) if os.path.isdir(folder) else pytest.skip("needs /proc")


def test_a_request_too_large_for_the_memory_there_is_ends_that_connection_alone(cython_redis):
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the address sanitizer needs an address space without limits")
    command = f'ulimit -v {LITTLE_MEMORY // 1024} && exec "$@"'
    arguments = ("sh", "-c", command, "sh", sys.executable, "-m", NAME, "--port", "0")
    server = listening(Service(*arguments, env={"PYTHONPATH": os.fspath(cython_redis)}), NAME)
    try:
        with connected(server) as other:
            assert replies_to(server, [resp("SET", "k", bytes(LITTLE_MEMORY))]) == b"<end>"
            other.sendall(resp("PING"))
            assert other.recv(100) == b"+PONG\r\n"
    finally:
        said = server.stop()  # not as a context, which takes a traceback for a bug
    assert "MemoryError" in said


# --- where it listens ----------------------------------------------------------------------------


def test_it_serves_a_unix_socket_and_removes_it_at_the_end(cython_redis, tmp_path):
    path = tmp_path / "redis.sock"
    with installed_example(NAME, cython_redis, "--unix", str(path)) as program:
        with dialled(path) as sock:
            sock.sendall(resp("PING") + resp("QUIT"))
            assert sock.makefile("rb").read() == b"+PONG\r\n+OK\r\n"
        assert program.stop().endswith("stopped\n")
    assert program.exit_code == 0
    assert not path.exists()


def test_threads_serve_the_same_keys(cython_redis):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(installed_example(NAME, cython_redis, "--port", "0", "--threads", "3"))
        socks = [stack.enter_context(connected(server)) for _ in range(30)]
        for sock in socks:
            sock.sendall(resp("INCR", "n") * 1000 + resp("CLIENT", "ID") + resp("QUIT"))
        lines = [line for sock in socks for line in sock.makefile("rb").read().split(b"\r\n")]
        assert lines.count(b"+OK") == 30
        assert sorted(int(line[1:]) for line in lines if line.startswith(b":")) == sorted(
            [*range(1, 30_001), *range(1, 31)]
        )
        assert replies_to(server, [resp("GET", "n")]) == b"$5\r\n30000\r\n"
        assert server.stop().endswith("stopped\n")
        assert server.exit_code == 0


@pytest.fixture
def package(cython_redis, monkeypatch):
    """The package, in this process."""
    monkeypatch.syspath_prepend(os.fspath(cython_redis))
    import cython_redis

    return cython_redis


def test_handlers_share_the_keys_of_their_server_and_no_other(loop, tcp, package):
    one, other = package.Server(), package.Server()
    listeners = [tcp.listen(server.handlers()) for server in (one, one, other)]
    peers = [tcp.peer(listener) for listener in listeners]
    peers[0].send(resp("SET", "k", "v"))
    assert loop.wait(peers[0].recv_exactly(5)) == b"+OK\r\n"
    for peer, reply in zip(peers, (b"$1\r\nv\r\n", b"$1\r\nv\r\n", b"$-1\r\n"), strict=True):
        peer.send(resp("GET", "k"))
        assert loop.wait(peer.recv_exactly(len(reply))) == reply
    for listener in listeners:
        listener.stop(True)
    loop.run()


def test_requests_take_no_gil(loop, tcp, package):
    listener = tcp.listen(package.handlers())
    peer = tcp.peer(listener)

    def count():
        for number in range(1, 301):
            peer.sock.sendall(resp("INCR", "n"))
            assert peer.sock.recv(100) == b":%d\r\n" % number

    before = pybuntcp.stats()
    loop.wait(peer.call(count))
    after = pybuntcp.stats()
    assert after["turns"] - before["turns"] >= 300
    assert after["gil_takes"] - before["gil_takes"] < 30
    listener.stop(True)
    loop.run()


# --- the package ---------------------------------------------------------------------------------


def test_its_generated_code_names_neither_libuv_nor_openssl(cython_redis):
    (generated,) = cython_redis.parent.glob("cython_redis/cython_redis/*.cpp")
    assert re.findall(r"(?i)libuv|\buv_\w+|openssl|\bSSL_\w+", generated.read_text()) == []


def test_only_what_runs_is_installed(cython_redis):
    installed = sorted(path.name for path in (cython_redis / NAME).iterdir() if path.is_file())
    assert installed[:2] == ["__init__.py", "__main__.py"]
    assert [name.partition(".")[0] for name in installed[2:]] == ["_server"]
