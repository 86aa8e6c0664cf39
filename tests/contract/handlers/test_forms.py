"""The public API: the forms in which handlers are given, and how wrong ones are refused."""

from __future__ import annotations

import types

import pytest
from support import Recorder, accepted
from support.handlers import QUIET, ignore

import pybuntcp


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


def test_handlers_is_another_name_of_socket_wherever_handlers_are_given(loop, tcp):
    first, second, client = Recorder(), Recorder(), Recorder()
    with pybuntcp.listen(handlers=first.handlers, hostname=tcp.host, port=0) as listener:
        listener.reload(handlers=second.handlers)
        connecting = pybuntcp.connect(handlers=QUIET, hostname=tcp.host, port=listener.port)
        loop.run_until(lambda: second.sockets)
        connecting.result().reload(handlers=client.handlers)
        second.socket.end(b"hello")
        loop.run_until(lambda: client.count("end"))
    assert (first.names(), client.received()) == ([], b"hello")


@pytest.mark.parametrize("wrong", [{"socket": QUIET, "handlers": QUIET}, {}])
def test_a_reload_takes_handlers_by_one_name(loop, transport, wrong):
    recorder = Recorder()
    listener = transport.listen(recorder)
    transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    for reload in (listener.reload, recorder.socket.reload):
        with pytest.raises(TypeError, match="socket"):
            reload(**wrong)


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


@pytest.mark.parametrize("given", NO_HANDLERS.values(), ids=list(NO_HANDLERS))
def test_without_data_and_drain_listen_refuses(transport, given):
    with pytest.raises((TypeError, ValueError), match=r"socket|data"):
        transport.listen(given)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("connectError", "connect_error"),
        ("binaryType", "binary_type"),
        ("dta", "data"),
        ("on_data", "data"),
        ("onData", "data"),
        ("opened", "open"),
        ("Close", "close"),
        ("drian", "drain"),
        ("errors", "error"),
        ("time_out", "timeout"),
    ],
)
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
