"""Corks and properties used from a thread that is not the socket's, and threads that end with an outcome untold."""

from __future__ import annotations

import gc
import socket as stdlib
import threading
import weakref

import pytest
from support import TIMEOUT, Recorder, accepted
from support.handlers import PROPERTIES
from support.threads import in_thread

import pybuntcp

# ---------------------------------------------------------------- corks


def test_a_cork_entered_in_another_thread_is_a_runtime_error_and_holds_nothing(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    cork = socket.cork()
    assert isinstance(in_thread(cork.__enter__), RuntimeError)
    assert socket.write(b"free") == 4
    assert socket.pending == 0
    assert peer.recv_exactly(4).result() == b"free"


def test_a_cork_left_in_another_thread_is_a_runtime_error_and_sends_nothing(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    with socket.cork() as same:
        assert same is socket
        socket.write(b"held")
        cork = socket.cork()
        cork.__enter__()
        assert isinstance(in_thread(lambda: cork.__exit__(None, None, None)), RuntimeError)
        assert socket.pending == 4
        cork.__exit__(None, None, None)
        assert socket.pending == 4
    assert socket.pending == 0
    assert peer.recv_exactly(4).result() == b"held"


# ---------------------------------------------------------------- properties


@pytest.mark.parametrize("name", [*PROPERTIES, "fileno"])
def test_what_a_socket_knows_is_not_told_to_another_thread(loop, transport, name):
    def look():
        value = getattr(socket, name)
        return value() if name == "fileno" else value

    socket, _peer = accepted(loop, transport, Recorder())
    before = look()
    error = in_thread(look)
    assert isinstance(error, RuntimeError)
    assert "another" in str(error)
    assert threading.current_thread().name in str(error)
    assert look() == before


@pytest.mark.parametrize("name", PROPERTIES)
def test_what_a_closed_socket_knew_is_reported_to_every_thread(loop, transport, name):
    socket, _peer = accepted(loop, transport, Recorder())
    socket.terminate()
    loop.run()
    assert in_thread(lambda: getattr(socket, name)) == getattr(socket, name)


# ---------------------------------------------------------------- outcomes that nobody is told


class Handlers:
    """Handlers whose end can be seen."""

    def data(self, socket, chunk):
        """Nothing comes."""


@pytest.mark.parametrize("outcome", ["failed", "connected", "cancelled"])
def test_a_thread_that_ends_before_an_outcome_is_reported_gives_the_handlers_back(outcome):
    gone = []

    def start():
        handlers, data = Handlers(), Handlers()
        gone.extend((weakref.ref(handlers), weakref.ref(data)))
        fd = -1 if outcome == "failed" else ours.detach()
        connecting = pybuntcp.connect(fd=fd, socket=handlers, data=data)
        if outcome == "cancelled":
            connecting.cancel()

    ours, theirs = stdlib.socketpair()
    with ours, theirs:
        assert in_thread(start) is None
        gc.collect()
        assert [ref() for ref in gone] == [None, None]
        if outcome != "failed":
            theirs.settimeout(TIMEOUT)
            assert theirs.recv(1) == b""  # the adopted descriptor is closed too
