"""The public API: a class, an instance or a module with a handler that is misspelt, or that cannot be called, is refused."""

from __future__ import annotations

import functools
import types
import unittest.mock

import pytest
from support.handlers import ignore
from support.programs import run_program

import pybuntcp


def given_as(form, names, functions=None):
    """A source of that form with `data`, `drain` and functions of these names, which take what the form gives them."""
    if form == "instance":
        return type("Given", (), {name: lambda self, *args: None for name in (*names, "drain")})()
    functions = {name: lambda *args: None for name in (*names, "drain")}
    if form == "class":
        return type("Given", (), functions)
    module = types.ModuleType("given")
    for name, function in functions.items():
        setattr(module, name, function)
    return module


NEAR = {
    "on_data": "data",
    "onData": "data",
    "dara": "data",
    "adta": "data",
    "recv": "data",
    "data_received": "data",
    "opened": "open",
    "onOpen": "open",
    "onclose": "close",
    "connection_made": "open",
    "closed": "close",
    "on_close": "close",
    "connection_lost": "close",
    "ended": "end",
    "eof_received": "end",
    "timed_out": "timeout",
    "timout": "timeout",
    "eror": "error",
    "connectError": "connect_error",
    "connection_error": "connect_error",
}
HELPERS = [
    "send",
    "date",
    "errors",
    "ends",
    "opens",
    "closes",
    "train",
    "rend",
    "timeouts",
    "close_all",
    "_closed",
    "clone",
    "on_login",
    "on_message",
    "on_connect",
    "closing",
    "connect_failed",
    "read",
]


@pytest.mark.parametrize("form", ["class", "instance", "module"])
@pytest.mark.parametrize("name", list(NEAR))
def test_a_function_with_nearly_a_handlers_name_is_refused_with_that_name(form, name):
    with pytest.raises(TypeError, match=f"{name!r}; did you mean {NEAR[name]!r}"):
        pybuntcp.Handlers(given_as(form, [name]))


@pytest.mark.parametrize("form", ["class", "instance", "module"])
def test_helpers_with_other_names_are_left_alone(form):
    assert repr(pybuntcp.Handlers(given_as(form, HELPERS))) == "<pybuntcp.Handlers drain>"


@pytest.mark.parametrize("form", ["class", "instance", "module"])
def test_beside_the_handler_itself_any_name_is_a_helpers(form):
    both = {*NEAR, *NEAR.values()}
    assert "data" in repr(pybuntcp.Handlers(given_as(form, both)))


@pytest.mark.parametrize("value", [print, functools.lru_cache(ignore), unittest.mock.Mock(), functools.partial(ignore)])
def test_what_can_be_called_is_refused_as_a_function_is(value):
    with pytest.raises(TypeError, match="'on_close'; did you mean 'close'"):
        pybuntcp.Handlers(types.SimpleNamespace(data=ignore, on_close=value))
    with pytest.raises(TypeError, match="'on_close'; did you mean 'close'"):
        pybuntcp.Handlers(type("Given", (), {"data": staticmethod(ignore), "on_close": value}))


def test_what_an_instance_keeps_for_its_own_users_is_left_alone():
    class Given:
        def __init__(self, on_close):
            self.on_close = on_close

        def data(self, socket, chunk): ...

    assert repr(pybuntcp.Handlers(Given(ignore))) == "<pybuntcp.Handlers data>"


def test_what_is_no_function_or_takes_nothing_is_left_alone():
    class Given:
        closed = False
        opened = property(lambda self: 1 / 0)

        def __init__(self):
            self.timed_out = None

        def data(self, socket, chunk): ...

        def ended(self):
            return True

    assert repr(pybuntcp.Handlers(Given())) == "<pybuntcp.Handlers data>"


def test_an_async_open_that_reads_by_itself_may_have_helpers_that_receive():
    class Given:
        async def open(self, socket): ...

        async def receive(self, reader): ...

    assert repr(pybuntcp.Handlers(Given())) == "<pybuntcp.Handlers open>"


def test_a_misspelt_binary_type_is_refused():
    with pytest.raises(TypeError, match="'binaryType'; did you mean 'binary_type'"):
        pybuntcp.Handlers(type("Given", (), {"data": ignore, "binaryType": "memoryview"}))


def test_what_a_module_imports_from_the_standard_library_is_no_handler():
    module = types.ModuleType("given")
    source = "from os import open, close\nfrom socket import timeout, error\nfrom time import sleep as opened\n"
    exec(source + "def data(socket, chunk): pass\nend = print\n", vars(module))
    assert repr(pybuntcp.Handlers(module)) == "<pybuntcp.Handlers data end>"


# ---------------------------------------------------------------- what cannot be called


class WithSelf:
    def data(self, socket, chunk): ...

    async def close(self, socket, error): ...


class WithoutSelf:
    def data(socket, chunk): ...

    async def close(socket, error): ...


def test_a_class_of_methods_says_to_pass_an_instance():
    with pytest.raises(
        TypeError, match=r"'data'.* 3 parameters \(self, socket, chunk\).*instance: socket=WithSelf\(\)"
    ):
        pybuntcp.Handlers(WithSelf)
    assert pybuntcp.Handlers(WithSelf())


def test_an_instance_of_functions_without_self_says_to_pass_the_class():
    with pytest.raises(TypeError, match=r"'data'.* 2 parameters \(socket, chunk\).*class: socket=WithoutSelf"):
        pybuntcp.Handlers(WithoutSelf())
    assert pybuntcp.Handlers(WithoutSelf)


ARGUMENTS = {
    "open": 1,
    "data": 2,
    "drain": 1,
    "end": 1,
    "close": 2,
    "error": 2,
    "timeout": 1,
    "handshake": 3,
    "connect_error": 2,
}
TAKING = [lambda: 0, lambda a: 0, lambda a, b: 0, lambda a, b, c: 0, lambda a, b, c, d: 0]


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_a_handler_that_takes_too_few_or_too_many_is_refused(name):
    count = ARGUMENTS[name]
    for wrong in TAKING[count - 1], TAKING[count + 1]:
        with pytest.raises(TypeError, match=f"handler '{name}' is called with {count} argument"):
            pybuntcp.Handlers({"data": ignore, "drain": ignore, name: wrong})
    assert pybuntcp.Handlers({"data": ignore, "drain": ignore, name: TAKING[count]})


class Callable:
    def __call__(self, socket, chunk): ...


TAKEN = {
    "print": print,
    "defaults": lambda socket, chunk, more=1, *, other=2: None,
    "stars": lambda *args, **options: None,
    "partial": functools.partial(lambda first, socket, chunk: None, 1),
    "partial by name": functools.partial(lambda socket, chunk, last: None, last=1),
    "object": Callable(),
    "method": WithSelf().data,
    "class": type("Session", (), {}),
    "decorated": functools.wraps(WithSelf.data)(lambda *args: None),
}
REFUSED = {
    "required by name": lambda socket, chunk, *, other: None,
    "partial": functools.partial(lambda socket, chunk: None, 1),
    "partial by name": functools.partial(lambda chunk, last: None, last=1),
    "object": type("Given", (), {"__call__": lambda self, socket: None})(),
    "method": WithSelf.data,
}


@pytest.mark.parametrize("handler", list(TAKEN.values()), ids=list(TAKEN))
def test_whatever_can_be_called_or_cannot_be_told_is_taken(handler):
    assert pybuntcp.Handlers(data=handler)


@pytest.mark.parametrize("handler", list(REFUSED.values()), ids=list(REFUSED))
def test_whatever_cannot_be_called_is_refused(handler):
    with pytest.raises(TypeError, match="handler 'data' is called with 2 arguments"):
        pybuntcp.Handlers(data=handler)


def test_listen_connect_and_reload_refuse_it_at_the_call(loop, tcp):
    listener = tcp.listen({"data": ignore})
    with pytest.raises(TypeError, match="instance"):
        tcp.listen(WithSelf)
    with pytest.raises(TypeError, match="did you mean 'close'"):
        pybuntcp.connect(socket=given_as("class", ["closed"]), hostname=tcp.host, port=listener.port)
    with pytest.raises(TypeError, match="instance"):
        listener.reload(WithSelf)


def test_handlers_are_read_without_inspect_and_difflib():
    source = """
        del sys.modules["inspect"], sys.modules["difflib"]
        class Given:
            def open(self, socket): pass
            def data(self, socket, chunk): pass
            def helper(self): pass
        pybuntcp.Handlers(Given())
        pybuntcp.Handlers(data=print)
        say([name in sys.modules for name in ("inspect", "difflib")])
    """
    assert run_program(
        source.replace(
            'del sys.modules["inspect"], sys.modules["difflib"]',
            'for name in "inspect", "difflib": sys.modules.pop(name, None)',
        )
    ) == [[False, False]]
