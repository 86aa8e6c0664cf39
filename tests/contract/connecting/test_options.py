"""Contract, Connecting (C3): every option of `listen` and `connect`, and how a wrong one is refused."""

from __future__ import annotations

import pytest
from support import GAUGES, Recorder, accepted, descriptors
from support.handlers import QUIET

import pybuntcp

TCP = {"hostname": "127.0.0.1", "port": 0}
NAN = float("nan")

WRONG_SECONDS = (-1, -0.001, NAN, "1", b"1", [], True, False)
WRONG_FLAGS = ("no", b"", 2.5, [], {})

WRONG_COMMON = {
    "hostname": (5, b"127.0.0.1", "", "127.0.0.1\0", True),
    "port": (-1, 65536, 2**70, "80", b"80", 1.0, 1.5, NAN, {}, None, True),
    "allow_half_open": WRONG_FLAGS,
    "no_delay": WRONG_FLAGS,
    "keep_alive": WRONG_SECONDS,
    "high_water_mark": (-1, 1.5, "65536", NAN, None, True),
    "idle_timeout": WRONG_SECONDS,
    "read_timeout": (0, *WRONG_SECONDS),
    "linger_timeout": WRONG_SECONDS,
    "handshake_timeout": WRONG_SECONDS,
}
WRONG_LISTEN = {
    **WRONG_COMMON,
    "exclusive": WRONG_FLAGS,
    "reuse_port": WRONG_FLAGS,
    "ipv6_only": WRONG_FLAGS,
    "pause_on_connect": WRONG_FLAGS,
    "backlog": (-1, 1.5, "512", None, True),
    "max_connections": (0, -1, 1.5, "5", True),
    "unlink": WRONG_FLAGS,
}
WRONG_CONNECT = {
    **WRONG_COMMON,
    "hostname": (*WRONG_COMMON["hostname"], ["127.0.0.1"]),
    "timeout": WRONG_SECONDS,
    "local_address": (5, b"127.0.0.1", "not an address", "127.0.0.1\0"),
    "local_port": (-1, 65536, "80", 1.5, None, True),
}


def cases(table):
    return [pytest.param(name, value, id=f"{name}={value!r}") for name, values in table.items() for value in values]


def refused(call, name, options):
    """It raises at once, names the option, and leaves nothing open."""
    before, gauges = descriptors(), pybuntcp.stats()
    with pytest.raises((TypeError, ValueError)) as caught:
        call(**{"socket": QUIET, **options})
    assert name in str(caught.value)
    assert descriptors() == before
    assert {gauge: pybuntcp.stats()[gauge] for gauge in GAUGES} == {gauge: gauges[gauge] for gauge in GAUGES}
    return caught.value


@pytest.mark.parametrize(("name", "value"), cases(WRONG_LISTEN))
def test_listen_refuses_a_wrong_option_by_name(name, value):
    refused(pybuntcp.listen, name, {**TCP, name: value})


@pytest.mark.parametrize(("name", "value"), cases(WRONG_CONNECT))
def test_connect_refuses_a_wrong_option_by_name(name, value):
    refused(pybuntcp.connect, name, {**TCP, "port": 80, name: value})


@pytest.mark.parametrize("value", [5, "", ["x"]])
@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_a_wrong_unix_path_is_refused_by_name(call, value):
    refused(call, "unix", {"unix": value})


@pytest.mark.parametrize("value", ["5", 1.5, b"5", 2**40, True])
@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_a_wrong_descriptor_number_is_refused_by_name(call, value):
    refused(call, "fd", {"fd": value})


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_no_address_at_all_is_a_type_error(call):
    error = refused(call, "hostname", {})
    assert isinstance(error, TypeError)
    assert "unix" in str(error)
    assert "fd" in str(error)


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({**TCP, "unix": "/tmp/x"}, ("hostname", "unix")),
        ({**TCP, "fd": 0}, ("hostname", "fd")),
        ({"unix": "/tmp/x", "fd": 0}, ("unix", "fd")),
        ({**TCP, "unix": "/tmp/x", "fd": 0}, ("hostname", "unix", "fd")),
    ],
)
def test_more_than_one_address_is_a_type_error_that_names_them(call, options, names):
    error = refused(call, names[0], options)
    assert isinstance(error, TypeError)
    assert all(name in str(error) for name in names)


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_a_port_without_a_hostname_and_the_other_way_round_is_a_type_error(call):
    assert isinstance(refused(call, "hostname", {"port": 80}), TypeError)
    assert isinstance(refused(call, "port", {"hostname": "127.0.0.1"}), TypeError)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (pybuntcp.listen, "hostnam"),
        (pybuntcp.listen, "timeout"),
        (pybuntcp.listen, "allowHalfOpen"),
        (pybuntcp.connect, "backlog"),
        (pybuntcp.connect, "max_connections"),
        (pybuntcp.connect, "reusePort"),
    ],
)
def test_an_unknown_option_is_a_type_error_that_names_it(call, name):
    assert isinstance(refused(call, name, {**TCP, name: 5}), TypeError)


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_the_options_are_keyword_only(call):
    with pytest.raises(TypeError):
        call(QUIET, "127.0.0.1", 0)


def test_listen_without_handlers_is_a_type_error():
    with pytest.raises(TypeError, match="socket"):
        pybuntcp.listen(**TCP)


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect, pybuntcp.listen_threads])
def test_socket_and_handlers_are_one_option_and_both_are_a_type_error(call):
    error = refused(call, "handlers", {**TCP, "handlers": QUIET})
    assert isinstance(error, TypeError)
    assert "socket" in str(error)


VERBS = {
    "offset": lambda socket: socket.write(b"xy", offset=False),
    "length": lambda socket: socket.end(b"xy", length=True),
    "seconds": lambda socket: socket.timeout(True),
    "initial_delay": lambda socket: socket.set_keep_alive(True, True),
    "limit": lambda socket: socket.reader(limit=True),
    "high_water_mark": lambda socket: socket.sink(high_water_mark=True),
    "limit of a sink": lambda socket: socket.sink(limit=True),
    "n": lambda socket: socket.reader().read(True).send(None),
    "n of readexactly": lambda socket: socket.reader().readexactly(True).send(None),
    "high_water_mark of a buffer": lambda socket: pybuntcp.ArrayBufferSink().start(high_water_mark=True),
    "timeout": lambda socket: socket.listener.wait_closed(True).send(None),
    "count": lambda socket: pybuntcp.listen_threads(True, socket=QUIET, **TCP),
}


@pytest.mark.parametrize("what", VERBS)
def test_a_bool_is_neither_a_number_nor_seconds_and_is_refused_by_name(loop, tcp, what):
    socket, _peer = accepted(loop, tcp, Recorder())
    with pytest.raises(TypeError, match=rf"\b{what.split()[0]}\b.*'bool'"):
        VERBS[what](socket)


def test_integers_are_whatever_has_index(loop):
    class Number:
        def __init__(self, value):
            self.value = value

        def __index__(self):
            return self.value

    options = {"port": Number(0), "backlog": Number(16), "high_water_mark": Number(1024), "max_connections": Number(3)}
    with pybuntcp.listen(socket=QUIET, **{**TCP, **options}) as listener:
        assert listener.port > 0
    loop.run()


@pytest.mark.parametrize(
    "options",
    [
        {"keep_alive": 30},
        {"idle_timeout": 0.5},
        {"idle_timeout": 60},
        {"linger_timeout": None},
        {"linger_timeout": 0.1},
        {"high_water_mark": 0},
        {"high_water_mark": 1 << 30},
        {"backlog": 1},
        {"max_connections": 1},
        {"no_delay": False},
        {"exclusive": True},
        {"handshake_timeout": None},
    ],
)
def test_listen_serves_with_every_value_that_has_a_meaning(loop, transport, options):
    listener = transport.listen({"data": lambda socket, chunk: socket.write(chunk)}, **options)
    peer = transport.peer(listener)
    peer.send(b"x")
    assert loop.wait(peer.recv_exactly(1)) == b"x"
