"""`SocketHandler` at run time: a base that has no handler, whatever is put in its brackets."""

from __future__ import annotations

from typing import Generic, TypeVar

import pytest

from pybuntcp import Handlers, SocketHandler

State = TypeVar("State")
EVENTS = ["open", "data", "drain", "end", "close", "error", "timeout", "handshake", "connect_error", "binary_type"]


class Plain(SocketHandler[int]):
    def data(self, socket, chunk):
        pass


class Views(SocketHandler[int, memoryview]):
    binary_type = "memoryview"

    async def open(self, socket):
        pass

    def drain(self, socket):
        pass


class Middle(SocketHandler[State]):
    def close(self, socket, error):
        pass


class OfMiddle(Middle[int]):
    def data(self, socket, chunk):
        pass


class AlsoGeneric(SocketHandler[State], Generic[State]):
    def data(self, socket, chunk):
        pass


class Static(SocketHandler):
    @staticmethod
    def data(socket, chunk):
        pass


@pytest.mark.parametrize("name", EVENTS)
def test_the_base_has_no_handler(name):
    assert not hasattr(SocketHandler, name)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (Plain(), "data"),
        (Views(), "open drain"),
        (OfMiddle(), "data close"),
        (AlsoGeneric(), "data"),
        (Static, "data"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_class_has_the_handlers_that_it_defines_and_no_others(source, names):
    assert repr(Handlers(source)) == f"<pybuntcp.Handlers {names}>"


def test_a_class_without_a_data_handler_is_refused_as_without_the_base():
    with pytest.raises(TypeError, match="at least a 'data' or a 'drain'"):
        Handlers(Middle())


def test_handlers_of_the_base_serve(loop, tcp):
    class Echo(SocketHandler[bytes]):
        def data(self, socket, chunk):
            socket.end(chunk)

    peer = tcp.peer(tcp.listen(Echo()))
    peer.send(b"hello")
    assert loop.wait(peer.recv_until_eof()) == b"hello"
