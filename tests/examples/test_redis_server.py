"""examples/redis_server and examples/cython_redis as processes of their own, driven by the tools of the Redis project.

What they answer is compared byte by byte with a real redis-server: the same bytes go to both. What the second
does not know (databases, keys that expire) is asked of the first alone; what is its own is in test_cython_redis.py.
"""

from __future__ import annotations

import random
import re

import pytest
from programs import MEGABYTE, example, installed_example, peak_memory
from redis_traffic import benchmark, connected, replies_to, resp
from support import unread_bytes, wait_for

BUILDING = 300  # seconds; the first test of the Cython server builds it


@pytest.fixture(scope="module")
def python_server():
    with example("redis_server", "--port", "0") as program:
        yield program


@pytest.fixture(scope="module")
def cython_server(cython_redis):
    with installed_example("cython_redis", cython_redis, "--port", "0") as program:
        yield program


@pytest.fixture(scope="module", params=["python", pytest.param("cython", marks=pytest.mark.timeout(BUILDING))])
def server(request):
    return request.getfixturevalue(f"{request.param}_server")


# --- redis-cli -----------------------------------------------------------------------------------


def test_redis_cli_reads_what_it_wrote(cli):
    assert cli("PING") == "PONG\n"
    assert cli("SET", "greeting", "hello world") == "OK\n"
    assert cli("GET", "greeting") == "hello world\n"
    assert cli("GET", "nothing") == "\n"
    assert cli("MSET", "a", "1", "b", "2") == "OK\n"
    assert cli("MGET", "a", "b", "c") == "1\n2\n\n"
    assert cli("INCRBY", "a", "41") == "42\n"
    assert cli("EXISTS", "a", "b", "c") == "2\n"
    assert cli("DEL", "a", "c") == "1\n"
    assert cli("DBSIZE") == "2\n"


def test_redis_cli_shows_types_and_errors(cli):
    assert cli("--no-raw", "INCR", "n") == "(integer) 1\n"
    assert cli("--no-raw", "GET", "nothing") == "(nil)\n"
    assert cli("--no-raw", "SET", "k", "v", "PX") == "(error) ERR syntax error\n"
    assert cli("--no-raw", "NONSENSE").startswith("(error) ERR unknown command 'NONSENSE'")


def test_redis_cli_runs_a_session_in_another_database(python_server, cli_of):
    said = cli_of(python_server)(
        stdin=b"SELECT 3\nSET k here\nGET k\nSELECT 0\nGET k\nINFO\nCONFIG GET save\nCOMMAND COUNT\n"
    )
    assert said.startswith("OK\nOK\nhere\nOK\n\n# Server")
    assert "db3:keys=1" in said


def test_redis_cli_keeps_binary_values_whole(server, cli):
    value = bytes(range(256)) * 300
    assert cli("-x", "SET", "binary", stdin=value) == "OK\n"
    assert replies_to(server, [resp("GET", "binary")]) == b"$%d\r\n%b\r\n" % (len(value), value)


def test_redis_cli_loads_a_hundred_thousand_commands_in_one_stream(cli):
    stream = b"".join(resp("SET", f"key:{number}", number) for number in range(100_000))
    assert "errors: 0, replies: 100000" in cli("--pipe", stdin=stream)
    assert cli("DBSIZE") == "100000\n"
    assert cli("GET", "key:99999") == "99999\n"


# --- redis-benchmark -----------------------------------------------------------------------------


def test_redis_benchmark_runs_its_tests(server, cli):
    rates = benchmark(server, "-t", "ping,set,get,incr,mset")
    assert len(rates) == 6  # ping inline and as an array
    assert all(rate > 0 for rate in rates.values())
    assert cli("GET", "counter:__rand_int__") == "20000\n"
    assert len(cli("GET", "key:__rand_int__")) == len("xxx\n")


def test_redis_benchmark_runs_mget(server, cli):
    cli("MSET", "a", "1", "b", "2")
    (rate,) = benchmark(server, "MGET", "a", "b").values()
    assert rate > 0


# --- byte by byte --------------------------------------------------------------------------------

CASES = {
    "ping": [resp("PING"), resp("ping", "x"), resp("PING", "a", "b"), b"PING\r\n", b"PiNg\n", b"ping 'a b'\r\n"],
    "echo": [resp("ECHO", bytes(range(256))), resp("ECHO", ""), resp("ECHO"), resp("ECHO", "a", "b")],
    "set": [
        resp("SET", "k", "v"),
        resp("GET", "k"),
        resp("SET", "k", "w"),
        resp("GET", "k"),
        resp("GET", "none"),
        resp("SET", b"\0\r\n", b"\r\n\0$-1\r\n"),
        resp("GET", b"\0\r\n"),
        resp("SET", "", ""),
        resp("GET", ""),
        resp("SET", "k"),
        resp("SET", "k", "v", "SOON"),
    ],
    "numbers": [
        resp("INCR", "n"),
        resp("INCRBY", "n", "-5"),
        resp("DECR", "n"),
        resp("DECRBY", "n", "10"),
        resp("GET", "n"),
        resp("SET", "n", "9223372036854775807"),
        resp("INCR", "n"),
        resp("DECRBY", "n", "-9223372036854775808"),
        resp("INCRBY", "n", "-9223372036854775808"),
        *[resp("INCRBY", "n", text) for text in ("+1", " 1", "01", "1_0", "-0", "", "1.0", "٣", "9" * 30)],
        *[part for text in ("", "+1", "1 ", "007", "x") for part in (resp("SET", "n", text), resp("INCR", "n"))],
    ],
    "several": [
        resp("MSET", "a", "1", "b", "2", "a", "3"),
        resp("MGET", "a", "b", "c", "a"),
        resp("MSET", "a"),
        resp("MSET", "a", "1", "b"),
        resp("EXISTS", "a", "a", "c"),
        resp("DBSIZE"),
        resp("DEL", "a", "a", "c"),
        resp("EXISTS", "a"),
        resp("DBSIZE"),
        resp("DEL"),
        resp("MGET"),
    ],
    "unknown": [
        resp("NONSENSE"),
        resp("Nonsense", "a", "b\r\nc", "d"),
        resp("x" * 200, "y" * 200, "z"),
        resp("x", *["y" * 50] * 5),
        resp("x\r\ny", b"\xff\xfe"),
        resp(""),
        resp("get"),
        resp("Get", "a", "b"),
    ],
    "connection": [
        resp("CLIENT", "GETNAME"),
        resp("CLIENT", "SETNAME", "me"),
        resp("client", "getname"),
        resp("CLIENT", "SETNAME", "two words"),
        resp("CLIENT"),
        resp("CLIENT", "DANCE"),
        resp("CLIENT", "ID", "x"),
        resp("CONFIG"),
        resp("CONFIG", "GET"),
        resp("CONFIG", "GET", "appendonl?"),
        resp("CONFIG", "GET", "save"),
        resp("CONFIG", "GET", "nothing*"),
        resp("CONFIG", "DANCE"),
        resp("COMMAND", "DOCS", "nothing"),
        resp("HELLO", "4"),
        resp("HELLO", "x"),
        resp("HELLO", "2", "DANCE"),
    ],
    "inline": [
        b'SET k "a b\\x41\\n\\""\r\n',
        b"GET k\r\n",
        b"  SET\tk   'it\\'s \\n'  \r\n",
        b"GET k\n",
        b'SET k foo"bar"\r\nGET k\r\n',
        b"SET k ''\r\nGET k\r\n",
        b"\r\n\n   \r\n",
        b"NONSENSE a b\r\n",
    ],
    "empty requests": [b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"\r\n", resp("PING")],
    "quit": [resp("PING"), resp("QUIT"), resp("PING")],
    "bad count": [resp("PING"), b"*x\r\n", resp("PING")],
    "count too large": [b"*9223372036854775807\r\n"],
    "count with a plus": [b"*+1\r\n$4\r\nPING\r\n"],
    "no dollar": [b"*1\r\nPING\r\n"],
    "no dollar but a byte": [b"*1\r\n\xff\r\n"],
    "empty line": [b"*1\r\n\r\n"],
    "bad length": [b"*1\r\n$x\r\n"],
    "negative length": [b"*1\r\n$-1\r\n"],
    "length too large": [b"*1\r\n$536870913\r\n"],
    "error in the second argument": [b"*2\r\n$3\r\nGET\r\n:1\r\n"],
    "unbalanced quotes": [b'SET k "a\r\n'],
    "unbalanced single quotes": [b"SET k 'a\\'\r\n"],
    "text after a quote": [b'SET k "a"b\r\n'],
}

PYTHON_CASES = {
    "set options": [
        resp("SET", "k", "v"),
        resp("SET", "k", "w", "NX"),
        resp("SET", "new", "w", "XX"),
        resp("SET", "new", "w", "nx", "ex", "100"),
        resp("SET", "k", "w", "PX", "100000", "XX"),
        resp("GET", "k"),
        resp("TTL", "k"),
        resp("SET", "k", "w"),
        resp("TTL", "k"),
        resp("TTL", "none"),
        resp("SET", "k", "w", "EX", "5", "EX", "6"),
        resp("MSET", "k", "x"),
        resp("TTL", "k"),
        resp("INCR", "new"),
    ],
    "set refused": [
        resp("SET", "k"),
        resp("SET", "k", "v", "NX", "XX"),
        resp("SET", "k", "v", "EX"),
        resp("SET", "k", "v", "EX", ""),
        resp("SET", "k", "v", "EX", "0"),
        resp("SET", "k", "v", "PX", "-1"),
        resp("SET", "k", "v", "EX", "ten"),
        resp("SET", "k", "v", "EX", "9223372036854775807"),
        resp("SET", "k", "v", "PX", "9223372036854775807"),
        resp("SET", "k", "v", "PX", "1", "EX", "1"),
        resp("SET", "k", "v", "SOON"),
        resp("GET", "k"),
    ],
    "databases": [
        resp("SET", "k", "zero"),
        resp("SELECT", "15"),
        resp("GET", "k"),
        resp("SET", "k", "fifteen"),
        resp("SELECT", "16"),
        resp("SELECT", "-1"),
        resp("SELECT", "x"),
        resp("FLUSHDB"),
        resp("SELECT", "0"),
        resp("GET", "k"),
        resp("FLUSHALL", "ASYNC"),
        resp("FLUSHALL", "sync", "async"),
        resp("FLUSHALL", "now"),
        resp("DBSIZE"),
    ],
}


@pytest.mark.parametrize("name", CASES)
def test_replies_are_those_of_a_real_server(server, real_server, name):
    case = [resp("FLUSHALL"), *CASES[name]]
    assert replies_to(server, case) == replies_to(real_server, case)


@pytest.mark.parametrize("name", PYTHON_CASES)
def test_replies_of_the_python_server_are_those_of_a_real_server(python_server, real_server, name):
    case = [resp("FLUSHALL"), *PYTHON_CASES[name]]
    assert replies_to(python_server, case) == replies_to(real_server, case)


@pytest.mark.parametrize("start", [b"", b"*", b"*1\r\n$"])
def test_a_line_that_does_not_end_is_refused_as_by_a_real_server(server, real_server, start):
    endless = [start + b"1" * 70_000]
    assert replies_to(server, endless, sentinel=False) == replies_to(real_server, endless, sentinel=False)


@pytest.mark.parametrize("seed", range(3))
def test_replies_do_not_depend_on_how_requests_are_cut(server, real_server, seed):
    names = ("ping", "echo", "set", "numbers", "several", "unknown", "connection", "inline")
    stream = resp("FLUSHALL") + b"".join(part for name in names for part in CASES[name])
    cut = random.Random(seed)
    pieces, rest = [], stream
    while rest:
        size = 1 if seed == 0 else cut.choice((1, 2, 3, 7, 40))
        pieces.append(rest[:size])
        rest = rest[size:]
    whole = replies_to(real_server, [stream])
    assert replies_to(server, [stream]) == whole
    assert replies_to(server, pieces) == whole


# --- what is not compared --------------------------------------------------------------------------


def test_a_key_expires(python_server):
    set_then_get = [resp("SET", "brief", "v", "PX", "1")]
    assert replies_to(python_server, set_then_get) == b"+OK\r\n"
    wait_for(lambda: replies_to(python_server, [resp("GET", "brief")]) == b"$-1\r\n", "the key to expire")
    assert replies_to(python_server, [resp("PTTL", "brief"), resp("EXISTS", "brief")]) == b":-2\r\n:0\r\n"


def test_hello_tells_the_protocol_and_resp3_is_refused(server):
    assert b"$5\r\nproto\r\n:2\r\n" in replies_to(server, [resp("HELLO", "2")])
    assert replies_to(server, [resp("HELLO", "3")]) == b"-NOPROTO unsupported protocol version\r\n"


def test_command_lists_what_there_is(server):
    listed = replies_to(server, [resp("COMMAND"), resp("COMMAND", "COUNT")])
    count = int(re.match(rb"\*(\d+)\r\n", listed)[1])
    assert listed.endswith(b":%d\r\n" % count)
    assert b"$4\r\nmget\r\n:-2\r\n" in listed


def test_large_values_arrive_whole(server):
    value = random.Random(4).randbytes(16 * MEGABYTE)
    expected = b"+OK\r\n$%d\r\n%b\r\n" % (len(value), value)
    assert replies_to(server, [resp("SET", "large", value), resp("GET", "large")]) == expected
    replies_to(server, [resp("DEL", "large")])


def test_a_client_that_does_not_read_its_replies_costs_no_memory_and_loses_none(server):
    value = random.Random(5).randbytes(MEGABYTE)
    assert replies_to(server, [resp("SET", "m", value)]) == b"+OK\r\n"
    before = peak_memory(server)
    reply = b"$%d\r\n%b\r\n" % (len(value), value)
    with connected(server) as sock, sock.makefile("rb") as replies:
        sock.sendall(resp("GET", "m") * 100 + resp("PING"))
        wait_for(lambda: unread_bytes(sock), "the first reply")
        assert replies_to(server, [resp("PING")]) == b"+PONG\r\n"  # others are served meanwhile
        for _ in range(100):
            assert replies.read(len(reply)) == reply
        assert replies.readline() == b"+PONG\r\n"
    assert peak_memory(server) - before < 8 * MEGABYTE


def test_a_client_that_only_sends_is_not_read_from(server):
    before = peak_memory(server)
    request = resp("ECHO", b"x" * 65536)
    with connected(server) as sock:
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):  # nobody takes the bytes any more
            sock.sendall(request * 1024)
    assert peak_memory(server) - before < 8 * MEGABYTE


def test_replies_not_yet_taken_come_before_the_end(server):
    value = random.Random(6).randbytes(MEGABYTE)
    replies_to(server, [resp("SET", "m", value)])
    with connected(server) as sock, sock.makefile("rb") as replies:
        sock.sendall(resp("GET", "m") * 20 + b"*x\r\n")
        wait_for(lambda: unread_bytes(sock), "the first reply")
        answered = replies.read()
    assert answered.endswith(b"-ERR Protocol error: invalid multibulk length\r\n")
    assert answered.count(value) == 20
