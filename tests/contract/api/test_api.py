"""The public API by name: signatures, properties, states, the counters."""

from __future__ import annotations

import enum
import inspect
import re

import pytest
from support import GAUGES, Recorder, accepted
from support.handlers import PROPERTIES, QUIET

import pybuntcp
from pybuntcp.options import ConnectOptions, ListenOptions

REQUIRED = inspect.Parameter.empty

COMMON = {
    "socket": None,
    "handlers": None,
    "hostname": None,
    "port": None,
    "unix": None,
    "fd": None,
    "data": None,
    "allow_half_open": False,
    "no_delay": True,
    "keep_alive": None,
    "high_water_mark": 65536,
    "idle_timeout": None,
    "read_timeout": None,
    "handshake_timeout": 10.0,
    "linger_timeout": 30.0,
    "slow_handler": None,
}
LISTEN = {
    **COMMON,
    "exclusive": False,
    "reuse_port": False,
    "ipv6_only": False,
    "pause_on_connect": False,
    "backlog": 512,
    "max_connections": None,
    "unlink": True,
    "mode": None,
    "owner": None,
}
CONNECT = {**COMMON, "timeout": None, "local_address": None, "local_port": 0}


def signature(function):
    """Parameters but `self` and `tls`, name -> (kind, default)."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in parameters if p.name not in ("self", "tls")}


def keywords(defaults):
    return {name: (inspect.Parameter.KEYWORD_ONLY, default) for name, default in defaults.items()}


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    [
        "listen",
        "connect",
        "run",
        "stats",
        "Handlers",
        "Socket",
        "Listener",
        "Connecting",
        "ReadyState",
        "__version__",
        "libuv_version",
    ],
)
def test_the_module_has(name):
    assert hasattr(pybuntcp, name)


def test_every_exported_name_exists_and_is_documented():
    assert {"listen", "connect", "run", "stats", "Handlers", "Socket", "Listener"} <= set(pybuntcp.__all__)
    for name in pybuntcp.__all__:
        thing = getattr(pybuntcp, name)
        if callable(thing):
            assert (thing.__doc__ or "").strip(), f"{name} has no docstring"


@pytest.mark.parametrize("name", ["Socket", "Listener", "Connecting", "Handlers"])
def test_every_public_member_is_documented_by_itself_or_in_its_class(name):
    cls = getattr(pybuntcp, name)
    members = [member for member in dir(cls) if not member.startswith("_")]
    silent = [
        member
        for member in members
        if not (getattr(cls, member).__doc__ or "").strip() and f"`{member}`" not in (cls.__doc__ or "")
    ]
    assert silent == []


def test_the_versions_are_dotted_numbers():
    for version in (pybuntcp.__version__, pybuntcp.libuv_version):
        assert re.match(r"\d+\.\d+", version)


def test_listen_takes_exactly_the_documented_options():
    assert signature(pybuntcp.listen) == keywords(LISTEN)


@pytest.mark.parametrize(("call", "options"), [("listen", ListenOptions), ("connect", ConnectOptions)])
def test_what_is_left_out_is_the_same_for_who_calls_and_for_who_makes_the_options(call, options):
    """A server of asyncio's is made of options, without a call of `listen`."""
    defaults = {**getattr(pybuntcp, call).__kwdefaults__}
    assert (defaults.pop("socket"), defaults.pop("handlers")) == (None, None)
    assert {name: getattr(options, name) for name in defaults} == defaults


def test_connect_takes_exactly_the_documented_options():
    assert signature(pybuntcp.connect) == keywords(CONNECT)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("write", {"data": REQUIRED, "offset": 0, "length": None}),
        ("end", {"data": None, "offset": 0, "length": None}),
        ("flush", {}),
        ("cork", {}),
        ("close", {}),
        ("terminate", {}),
        ("shutdown", {"half_close": False}),
        ("pause", {}),
        ("resume", {}),
        ("ref", {}),
        ("unref", {}),
        ("timeout", {"seconds": REQUIRED}),
        ("fileno", {}),
        ("set_no_delay", {"enable": True}),
        ("set_keep_alive", {"enable": False, "initial_delay": 0}),
        ("reload", {"socket": None, "handlers": None}),
    ],
)
def test_the_verbs_of_a_socket_take_the_documented_arguments(method, expected):
    found = signature(getattr(pybuntcp.Socket, method))
    assert {name: default for name, (_, default) in found.items()} == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("stop", {"close_active_connections": False}),
        ("ref", {}),
        ("unref", {}),
        ("reload", {"socket": None, "handlers": None}),
        ("stats", {}),
        ("wait_closed", {"timeout": None}),
    ],
)
def test_the_verbs_of_a_listener_take_the_documented_arguments(method, expected):
    found = signature(getattr(pybuntcp.Listener, method))
    assert {name: default for name, (_, default) in found.items()} == expected


def test_the_properties_of_a_socket_exist_and_but_for_data_cannot_be_set(loop, transport):
    socket, _ = accepted(loop, transport, Recorder())
    for name in PROPERTIES:
        value = getattr(socket, name)
        with pytest.raises(AttributeError):
            setattr(socket, name, value)
    socket.data = "settable"
    assert socket.data == "settable"


def test_the_properties_of_a_listener_exist_and_but_for_data_cannot_be_set(transport):
    listener = transport.listen(QUIET)
    for name in ("port", "hostname", "unix", "fd", "connections"):
        value = getattr(listener, name)
        with pytest.raises(AttributeError):
            setattr(listener, name, value)
    listener.data = "settable"
    assert listener.data == "settable"


def test_ready_state_is_an_int_enum_with_the_documented_numbers():
    assert issubclass(pybuntcp.ReadyState, enum.IntEnum)
    states = {state.name: int(state) for state in pybuntcp.ReadyState}
    assert states == {"SHUTDOWN": -2, "DETACHED": -1, "CLOSED": 0, "ESTABLISHED": 1, "OTHER": 2}


def test_ready_state_through_a_life(loop, transport):
    server, states = Recorder(), []

    def note(socket, *args):
        states.append(socket.ready_state)

    client = Recorder(open=note, close=note)
    listener = transport.listen(server)
    connecting = transport.connect(client, listener)
    loop.run_until(lambda: client.sockets and server.sockets)
    socket = connecting.result()
    socket.end()
    states.append(socket.ready_state)
    loop.run_until(lambda: client.count("close"))
    assert states == [pybuntcp.ReadyState.ESTABLISHED, pybuntcp.ReadyState.SHUTDOWN, pybuntcp.ReadyState.CLOSED]
    assert all(isinstance(state, pybuntcp.ReadyState) for state in states)


def test_socket_is_generic_in_its_data():
    assert pybuntcp.Socket[int] is not None
    assert pybuntcp.Socket[dict[str, int]] is not None


@pytest.mark.parametrize("cls", ["Socket", "Listener", "Connecting"])
def test_what_only_the_runtime_makes_cannot_be_made_by_hand(cls):
    with pytest.raises(TypeError):
        getattr(pybuntcp, cls)()


def test_the_families_are_buns_words(loop, transport):
    socket, _ = accepted(loop, transport, Recorder())
    expected = "unix" if transport.name == "unix" else "IPv4"
    assert (socket.local_family, socket.remote_family) == (expected, expected)


def test_the_addresses_of_a_tcp_socket_are_the_kernels(loop, tcp):
    recorder = Recorder()
    listener = tcp.listen(recorder)
    peer = tcp.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    socket = recorder.socket
    assert (socket.remote_address, socket.remote_port) == peer.sock.getsockname()
    assert (socket.local_address, socket.local_port) == peer.sock.getpeername()
    assert socket.listener is listener


def test_the_addresses_of_a_unix_socket_are_paths_without_ports(loop, unix):
    recorder = Recorder()
    listener = unix.listen(recorder)
    unix.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    socket = recorder.socket
    assert (socket.local_address, socket.local_port) == (listener.unix, None)
    assert (socket.remote_address, socket.remote_port) == ("", None)


# ---------------------------------------------------------------- stats


COUNTERS = (
    "accepted",
    "connected",
    "closed",
    "bytes_read",
    "bytes_written",
    "reads",
    "writes",
    "short_writes",
    "drains",
    "turns",
    "gil_takes",
    "accept_errors",
    "handshakes",
    "handshake_failures",
    "handler_errors",
)


def test_stats_has_the_documented_gauges_and_counters():
    stats = pybuntcp.stats()
    assert set(GAUGES) | set(COUNTERS) <= set(stats)
    assert all(type(value) is int for name, value in stats.items() if name != "longest_turn")
    assert type(stats["longest_turn"]) is float


def test_the_counters_count(loop, transport):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    before = pybuntcp.stats()
    socket, peer = accepted(loop, transport, recorder)
    peer.send(b"12345")
    assert loop.wait(peer.recv_exactly(5)) == b"12345"
    peer.close()
    loop.run_until(lambda: recorder.count("close"))
    after = pybuntcp.stats()
    grown = {name: after[name] - before[name] for name in COUNTERS}
    assert grown["accepted"] == 1
    assert grown["closed"] >= 1
    assert grown["bytes_read"] >= 5
    assert grown["bytes_written"] == 5
    assert grown["writes"] >= 1
    assert grown["turns"] >= 1
    assert loop.waits <= grown["gil_takes"] <= grown["turns"]
    assert (grown["short_writes"], grown["drains"], grown["accept_errors"]) == (0, 0, 0)
    assert (socket.bytes_read, socket.bytes_written) == (5, 5)


def test_the_stats_of_a_listener_count_its_own_connections(loop, transport):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    listener, other = transport.listen(recorder), transport.listen(QUIET)
    peer = transport.peer(listener)
    peer.send(b"12345")
    assert loop.wait(peer.recv_exactly(5)) == b"12345"
    assert listener.stats()["accepted"] == 1
    assert other.stats()["accepted"] == 0
    assert listener.connections == 1
    assert other.connections == 0
