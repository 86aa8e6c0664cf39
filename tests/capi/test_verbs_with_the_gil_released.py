"""Verbs of the C API in awkward places: `with nogil` inside Python, inside a garbage collection, with sizes that are none.

The sockets here have no Python object until a verb makes one, for a `close` handler that is Python's.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys

import pytest
from support import Recorder, accepted, run_loop
from support.slots import Slots

import pybuntcp

ETERNITY = 1000  # seconds


@pytest.fixture
def released(outside):
    return importlib.import_module("outside.released")


def with_python_close(**functions):
    """Slots whose `close` alone is a Python handler, and the Recorder that has it."""
    python = Recorder(label="python")
    return Slots(without=("close",), python={"close": python.handlers["close"]}, **functions), python


# ---------------------------------------------------------------- `with nogil`

FACELESS = ["its own slot", "another's Python handler", "another's slot", "outside run()"]


@pytest.mark.parametrize("verb", ["close", "terminate"])
@pytest.mark.parametrize("place", FACELESS)
def test_a_verb_with_the_gil_released_may_close_a_socket_without_a_python_object(loop, tcp, released, place, verb):
    def close(*_):
        (handle,) = slots.sockets
        given.append(released.without_the_gil(handle, verb))

    given = []
    slots, python = with_python_close(**({"data": close} if place == "its own slot" else {}))
    _, peer = accepted(loop, tcp, slots)
    if place == "outside run()":
        close()
    else:
        if place != "its own slot":
            other = (Recorder if "Python" in place else Slots)(label="other", data=close)
            _, peer = accepted(loop, tcp, other)
        peer.send(b"x")
    loop.run_until(lambda: python.count("close"))
    peer.close()
    loop.run()
    assert given == [0]
    ((name, socket, args),) = python.events
    assert (name, args) == ("close", (None,))
    assert (socket.remote_address, socket.remote_port > 0) == ("127.0.0.1", True)


def test_a_verb_with_the_gil_released_may_close_a_socket_that_had_ended(loop, tcp, released):
    slots, python = with_python_close()
    handle, peer = accepted(loop, tcp, slots)
    handle.shutdown()
    assert released.without_the_gil(handle, "shutdown(True)") == 0
    assert loop.wait(peer.recv_until_eof()) == b""
    loop.run()
    assert python.names() == ["close"]


# ---------------------------------------------------------------- in a garbage collection


def new_object():
    """A Socket of no connection."""
    return pybuntcp.Socket.__new__(pybuntcp.Socket)


class Cyclic:
    """Garbage that does something when the collector finds it."""

    def __init__(self, function):
        self.function, self.itself = function, self

    def __del__(self):
        self.function()


@contextlib.contextmanager
def collector_due(function):
    """The collector is off; where it is turned on, the first `Socket` made starts it, and it calls `function`."""
    before = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        gc.set_threshold(1)
        garbage = [Cyclic(function)]
        spare = [new_object() for _ in range(1000)]  # more than the threshold, and than are kept to be used again
        del garbage[:]
        yield spare
    finally:
        gc.set_threshold(*before)
        gc.enable()


collects_at_an_allocation = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="this interpreter collects between instructions, never inside a verb"
)

FINALIZERS = {
    "timeout": lambda handle, listener: handle.timeout(ETERNITY),
    "close": lambda handle, listener: handle.close(),
    "terminate": lambda handle, listener: handle.terminate(),
    "end": lambda handle, listener: handle.end(b"x"),
    "object": lambda handle, listener: handle.object(),
    "stop": lambda handle, listener: listener.stop(True),
}


def one_of_slots(loop, transport, slots, **options):
    listener = transport.listen(slots, **options)
    peer = transport.peer(listener)
    loop.run_until(lambda: slots.sockets)
    return listener, slots.sockets[-1], peer


@collects_at_an_allocation
@pytest.mark.parametrize("verb", ["close", "terminate"])
@pytest.mark.parametrize("act", FINALIZERS)
def test_a_finalizer_that_runs_inside_the_verb_that_closes_may_use_the_socket(loop, transport, released, act, verb):
    """It runs where the object is made: nothing of the socket is armed or told when the verb is through."""
    slots, python = with_python_close()
    listener, handle, _peer = one_of_slots(loop, transport, slots)
    inside, given = [], []
    with collector_due(lambda: inside.append(FINALIZERS[act](handle, listener))):
        given.append(released.collecting(handle, verb))
        ran = len(inside)
    assert (ran, given) == (1, [0])
    assert loop.gauges()["armed_timers"] == 0
    listener.stop(True)
    loop.run()
    assert python.names() == ["close"]
    assert python.args("close") == [(None,)]


@collects_at_an_allocation
def test_a_finalizer_that_closes_a_full_socket_inside_the_verb_leaves_no_clock(loop, transport, released):
    """A close with bytes pending would start the linger clock."""
    slots, python = with_python_close()
    listener, handle, _peer = one_of_slots(loop, transport, slots)
    while handle.write(bytes(1 << 20)) > 0:
        pass
    inside = []
    with collector_due(lambda: inside.append(handle.close())):
        assert released.collecting(handle, "terminate") == 0
        ran = len(inside)
    assert ran == 1
    assert loop.gauges()["armed_timers"] == 0
    listener.stop()
    run_loop()
    assert python.names() == ["close"]


@collects_at_an_allocation
def test_an_object_that_a_finalizer_makes_while_it_is_being_made_is_the_only_one(loop, transport, released):
    slots = Slots()
    listener, handle, _peer = one_of_slots(loop, transport, slots)
    objects = []
    with collector_due(lambda: objects.append(handle.object())):
        objects.append(released.collecting(handle, "object"))
    assert len(objects) == 2
    assert objects[0] is objects[1]
    listener.stop(True)
    loop.run()
    assert [sock.ready_state for sock in objects] == [pybuntcp.ReadyState.CLOSED] * 2
    assert objects[0].bytes_read == 0


# ---------------------------------------------------------------- sizes

LARGEST = 2 * sys.maxsize + 1  # of a size_t
SIZES = {"one too many": sys.maxsize + 1, "minus 50": LARGEST - 49, "minus 1": LARGEST}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("verb", ["write_sized", "end_sized"])
@pytest.mark.parametrize("gathered", [0, 100])
def test_a_size_beyond_ssize_t_gives_minus_1_and_changes_nothing(loop, transport, released, verb, size, gathered):
    def data(handle, chunk):
        handle.write(bytes(gathered))
        given.append(getattr(released, verb)(handle, SIZES[size]))
        given.append(handle.pending)
        handle.end(b"and on")

    given = []
    _, peer = accepted(loop, transport, Slots(data=data))
    peer.send(b"x")
    assert loop.wait(peer.recv_until_eof()) == bytes(gathered) + b"and on"
    assert given == [-1, gathered]
    peer.close()
    loop.run()


@pytest.mark.parametrize("verb", ["write_sized", "end_sized"])
def test_a_size_beyond_ssize_t_gives_minus_1_outside_a_slot(loop, transport, released, verb):
    handle, peer = accepted(loop, transport, Slots())
    assert getattr(released, verb)(handle, LARGEST) == -1
    assert handle.end(b"unharmed") == 0
    assert loop.wait(peer.recv_until_eof()) == b"unharmed"
    peer.close()
    loop.run()
