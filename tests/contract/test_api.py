"""The public API by name: signatures, options and how wrong ones are refused, the forms of `Handlers`, the counters."""

from __future__ import annotations

import enum
import inspect
import re
import types

import pytest
from support import GAUGES, Recorder, accepted, descriptors
from support_more import QUIET, ignore

import pybuntcp

REQUIRED = inspect.Parameter.empty

COMMON = {"hostname": None, "port": None, "unix": None, "fd": None, "data": None, "allow_half_open": False,
          "no_delay": True, "keep_alive": None, "high_water_mark": 65536, "idle_timeout": None,
          "handshake_timeout": 10.0, "linger_timeout": 30.0}
LISTEN = {**COMMON, "socket": REQUIRED, "exclusive": False, "reuse_port": False, "ipv6_only": False,
          "pause_on_connect": False, "backlog": 512, "max_connections": None}
CONNECT = {**COMMON, "socket": None, "timeout": None, "local_address": None, "local_port": 0}


def signature(function):
    """Parameters but `self` and `tls`, name -> (kind, default)."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in parameters if p.name not in ("self", "tls")}


def keywords(defaults):
    return {name: (inspect.Parameter.KEYWORD_ONLY, default) for name, default in defaults.items()}


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["listen", "connect", "run", "stats", "Handlers", "Socket", "Listener", "Connecting",
                                  "ReadyState", "__version__", "libuv_version"])
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
    silent = [member for member in members
              if not (getattr(cls, member).__doc__ or "").strip() and f"`{member}`" not in (cls.__doc__ or "")]
    assert silent == []


def test_the_versions_are_dotted_numbers():
    for version in (pybuntcp.__version__, pybuntcp.libuv_version):
        assert re.match(r"\d+\.\d+", version)


def test_listen_takes_exactly_the_documented_options():
    assert signature(pybuntcp.listen) == keywords(LISTEN)


def test_connect_takes_exactly_the_documented_options():
    assert signature(pybuntcp.connect) == keywords(CONNECT)


@pytest.mark.parametrize(("method", "expected"), [
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
    ("reload", {"socket": REQUIRED}),
])
def test_the_verbs_of_a_socket_take_the_documented_arguments(method, expected):
    found = signature(getattr(pybuntcp.Socket, method))
    assert {name: default for name, (_, default) in found.items()} == expected


@pytest.mark.parametrize(("method", "expected"), [
    ("stop", {"close_active_connections": False}),
    ("ref", {}),
    ("unref", {}),
    ("reload", {"socket": None}),
    ("stats", {}),
    ("wait_closed", {"timeout": None}),
])
def test_the_verbs_of_a_listener_take_the_documented_arguments(method, expected):
    found = signature(getattr(pybuntcp.Listener, method))
    assert {name: default for name, (_, default) in found.items()} == expected


def test_the_properties_of_a_socket_exist_and_but_for_data_cannot_be_set(loop, transport):
    socket, _ = accepted(loop, transport, Recorder())
    for name in ("pending", "bytes_written", "bytes_read", "ready_state", "listener", "remote_address", "remote_port",
                 "remote_family", "local_address", "local_port", "local_family"):
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
    expected = "IPv4" if transport.name == "tcp" else "unix"
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


COUNTERS = ("accepted", "connected", "closed", "bytes_read", "bytes_written", "reads", "writes", "short_writes",
            "drains", "turns", "gil_takes", "accept_errors")


def test_stats_has_the_documented_gauges_and_counters():
    stats = pybuntcp.stats()
    assert set(GAUGES) | set(COUNTERS) <= set(stats) <= {*GAUGES, *COUNTERS, "handshakes", "handshake_failures"}
    assert all(type(value) is int for value in stats.values())


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
    assert 1 <= grown["gil_takes"] <= grown["turns"]
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


# ---------------------------------------------------------------- handlers and their forms


def log_of(entries, at_close):
    """Functions that log `(name, arguments)`."""
    def function(name):
        def handler(*args):
            entries.append((name, args))
            if name == "close":
                at_close()
        return handler
    return {name: function(name) for name in ("open", "data", "end", "close")}


def as_class(functions):
    def refuse(self):
        raise AssertionError("a class given as handlers is not instantiated")
    return type("Given", (), {**functions, "__init__": refuse, "helper": "not a handler"})


def as_instance(functions):
    def method(function):
        return lambda self, *args: function(*args)
    return type("Given", (), {name: method(function) for name, function in functions.items()})()


def as_module(functions):
    module = types.ModuleType("given")
    vars(module).update(functions, helper=ignore)
    return module


FORMS = {
    "mapping": dict,
    "mapping proxy": types.MappingProxyType,
    "class": as_class,
    "instance": as_instance,
    "module": as_module,
    "Handlers of keywords": lambda functions: pybuntcp.Handlers(**functions),
    "Handlers of a mapping": lambda functions: pybuntcp.Handlers(functions),
    "Handlers of a class": lambda functions: pybuntcp.Handlers(as_class(functions)),
    "Handlers of an instance": lambda functions: pybuntcp.Handlers(as_instance(functions)),
    "Handlers of a module": lambda functions: pybuntcp.Handlers(as_module(functions)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_handlers_in_every_form_are_called_as_name_of_socket_and_arguments(loop, transport, form):
    entries = []
    listener = transport.listen(form(log_of(entries, lambda: listener.stop())))
    peer = transport.peer(listener)
    peer.send(b"x")
    peer.shutdown()
    loop.run()
    (_, (socket,)), *_ = entries
    assert isinstance(socket, pybuntcp.Socket)
    assert entries == [("open", (socket,)), ("data", (socket, b"x")), ("end", (socket,)), ("close", (socket, None))]


def test_the_same_handlers_object_serves_several_listeners(loop, transport):
    recorder = Recorder()
    handlers = pybuntcp.Handlers(recorder.handlers)
    for listener in [transport.listen(handlers) for _ in range(3)]:
        transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 3)
    assert len({id(socket.listener) for socket in recorder.sockets}) == 3


def test_none_is_an_absent_handler(loop, transport):
    recorder = Recorder()
    listener = transport.listen({**recorder.handlers, "open": None, "drain": None})
    transport.peer(listener).send(b"x")
    loop.run_until(recorder.received)
    assert recorder.names() == ["data"]


@pytest.mark.parametrize("name", ["data", "drain"])
def test_data_or_drain_is_enough(transport, name):
    assert transport.listen({name: ignore}).connections == 0


NO_HANDLERS = {
    "nothing": {},
    "no data, no drain": {"open": ignore, "close": ignore, "end": ignore},
    "data is None": {"data": None},
    "an object without any": object(),
    "None": None,
    "a number": 5,
    "text": "data",
    "a function": ignore,
    "a list": ["data"],
}


@pytest.mark.parametrize("handlers", NO_HANDLERS.values(), ids=list(NO_HANDLERS))
def test_without_data_and_drain_listen_refuses(transport, handlers):
    with pytest.raises((TypeError, ValueError), match=r"socket|data"):
        transport.listen(handlers)


@pytest.mark.parametrize(("wrong", "right"), [
    ("connectError", "connect_error"), ("binaryType", "binary_type"), ("dta", "data"), ("on_data", "data"),
    ("onData", "data"), ("opened", "open"), ("Close", "close"), ("drian", "drain"), ("errors", "error"),
    ("time_out", "timeout"),
])
@pytest.mark.parametrize("call", ["listen", "Handlers"])
def test_an_unknown_handler_is_a_type_error_that_suggests_the_right_name(transport, wrong, right, call):
    table = {**QUIET, wrong: ignore}
    with pytest.raises(TypeError, match=rf"\b{wrong}\b.*\b{right}\b"):
        transport.listen(table) if call == "listen" else pybuntcp.Handlers(table)


def test_an_unknown_handler_like_no_other_is_a_type_error_that_names_it(transport):
    with pytest.raises(TypeError, match="xyzzy"):
        transport.listen({**QUIET, "xyzzy": ignore})


@pytest.mark.parametrize("key", [5, None, b"data"])
def test_a_handler_whose_name_is_no_text_is_a_type_error(transport, key):
    with pytest.raises(TypeError):
        transport.listen({**QUIET, key: ignore})


@pytest.mark.parametrize("name", ["open", "data", "drain", "end", "close", "error", "timeout", "connect_error"])
@pytest.mark.parametrize("value", [5, "print", b"", [], False])
def test_a_handler_that_cannot_be_called_is_a_type_error_that_names_it(transport, name, value):
    with pytest.raises(TypeError, match=name):
        transport.listen({**QUIET, name: value})


@pytest.mark.parametrize("form", ["class", "instance", "module"])
def test_an_attribute_that_cannot_be_called_is_a_type_error_that_names_it(transport, form):
    make = {"class": as_class, "instance": lambda table: types.SimpleNamespace(**table), "module": as_module}[form]
    with pytest.raises(TypeError, match="end"):
        transport.listen(make({**QUIET, "end": 5}))


@pytest.mark.parametrize("value", ["text", "Bytes", "buffer", "", 5, bytes, b"bytes"])
def test_a_wrong_binary_type_is_refused_by_name(transport, value):
    with pytest.raises((TypeError, ValueError), match="binary_type"):
        transport.listen({**QUIET, "binary_type": value})


@pytest.mark.parametrize(("name", "kind"), [("bytes", bytes), ("bytearray", bytearray), ("memoryview", memoryview)])
def test_data_is_given_in_the_chosen_type(loop, transport, name, kind):
    recorder = Recorder(binary_type=name)
    _, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(lambda: recorder.count("data"))
    assert type(recorder.args("data")[0][0]) is kind


def test_any_callable_is_a_handler(loop, transport):
    class Callable:
        def __call__(self, socket, chunk):
            seen.append(bytes(chunk))

    seen = []
    listener = transport.listen({"data": Callable(), "close": lambda socket, error: listener.stop()})
    peer = transport.peer(listener)
    peer.send(b"x")
    peer.close()
    loop.run()
    assert seen == [b"x"]


# ---------------------------------------------------------------- wrong options


TCP = {"hostname": "127.0.0.1", "port": 0}
NAN = float("nan")

WRONG_SECONDS = (-1, -0.001, NAN, "1", b"1", [])
WRONG_FLAGS = ("no", b"", 2.5, [], {})

WRONG_COMMON = {
    "hostname": (5, b"127.0.0.1", "", "127.0.0.1\0", ["127.0.0.1"]),
    "port": (-1, 65536, 2**70, "80", b"80", 1.5, NAN, {}, None),
    "allow_half_open": WRONG_FLAGS,
    "no_delay": WRONG_FLAGS,
    "keep_alive": WRONG_SECONDS,
    "high_water_mark": (-1, 1.5, "65536", NAN, None),
    "idle_timeout": WRONG_SECONDS,
    "linger_timeout": WRONG_SECONDS,
    "handshake_timeout": WRONG_SECONDS,
}
WRONG_LISTEN = {
    **WRONG_COMMON,
    "exclusive": WRONG_FLAGS,
    "reuse_port": WRONG_FLAGS,
    "ipv6_only": WRONG_FLAGS,
    "pause_on_connect": WRONG_FLAGS,
    "backlog": (-1, 1.5, "512", None),
    "max_connections": (0, -1, 1.5, "5"),
}
WRONG_CONNECT = {
    **WRONG_COMMON,
    "timeout": WRONG_SECONDS,
    "local_address": (5, b"127.0.0.1", "not an address", "127.0.0.1\0"),
    "local_port": (-1, 65536, "80", 1.5, None),
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


@pytest.mark.parametrize("value", ["5", 1.5, b"5", 2**40])
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
@pytest.mark.parametrize(("options", "names"), [
    ({**TCP, "unix": "/tmp/x"}, ("hostname", "unix")),
    ({**TCP, "fd": 0}, ("hostname", "fd")),
    ({"unix": "/tmp/x", "fd": 0}, ("unix", "fd")),
    ({**TCP, "unix": "/tmp/x", "fd": 0}, ("hostname", "unix", "fd")),
])
def test_more_than_one_address_is_a_type_error_that_names_them(call, options, names):
    error = refused(call, names[0], options)
    assert isinstance(error, TypeError)
    assert all(name in str(error) for name in names)


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_a_port_without_a_hostname_and_the_other_way_round_is_a_type_error(call):
    assert isinstance(refused(call, "hostname", {"port": 80}), TypeError)
    assert isinstance(refused(call, "port", {"hostname": "127.0.0.1"}), TypeError)


@pytest.mark.parametrize(("call", "name"), [
    (pybuntcp.listen, "hostnam"), (pybuntcp.listen, "timeout"), (pybuntcp.listen, "allowHalfOpen"),
    (pybuntcp.connect, "backlog"), (pybuntcp.connect, "max_connections"), (pybuntcp.connect, "reusePort"),
])
def test_an_unknown_option_is_a_type_error_that_names_it(call, name):
    assert isinstance(refused(call, name, {**TCP, name: 5}), TypeError)


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_the_options_are_keyword_only(call):
    with pytest.raises(TypeError):
        call(QUIET, "127.0.0.1", 0)


def test_listen_without_handlers_is_a_type_error():
    with pytest.raises(TypeError, match="socket"):
        pybuntcp.listen(**TCP)


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


@pytest.mark.parametrize("options", [
    {"keep_alive": 30}, {"idle_timeout": 0.5}, {"idle_timeout": 60}, {"linger_timeout": None}, {"linger_timeout": 0.1},
    {"high_water_mark": 0}, {"high_water_mark": 1 << 30}, {"backlog": 1}, {"max_connections": 1}, {"no_delay": False},
    {"exclusive": True}, {"handshake_timeout": None},
])
def test_listen_serves_with_every_value_that_has_a_meaning(loop, transport, options):
    listener = transport.listen({"data": lambda socket, chunk: socket.write(chunk)}, **options)
    peer = transport.peer(listener)
    peer.send(b"x")
    assert loop.wait(peer.recv_exactly(1)) == b"x"
