"""Python handlers and slots in one table: each event has its own, of whichever kind."""

from __future__ import annotations

import gc
import weakref

import pytest
from support import Recorder, accepted, unraisable
from support.addresses import bound_not_listening
from support.slots import Slots

import pybuntcp

NAMES = ("open", "data", "drain", "end", "close", "timeout", "connect_error")


class Refused(Exception):
    """What a Python handler of these tests raises."""


def mixed(*names, slots=None, **functions):
    """Slots for all events but `names`, which a Recorder has; and that Recorder."""
    python = Recorder(label="python", **functions)
    handlers = {name: python.handlers[name] for name in names}
    return Slots(without=names, python=handlers, **(slots or {})), python


def one_connection(loop, transport, table, *, until):
    """A connection that says "hello" and goes."""
    listener = transport.listen(table)
    peer = transport.peer(listener)
    peer.send(b"hello")
    loop.run_until(until)
    listener.stop()
    peer.close()
    loop.run()
    return listener, peer


# ---------------------------------------------------------------- who is told what


@pytest.mark.parametrize("name", ["open", "data", "end", "close"])
def test_each_event_goes_to_its_own_kind_in_the_order_of_events(loop, transport, name):
    order = []
    functions = {event: lambda *_, event=event: order.append(event) for event in ("open", "data", "end", "close")}
    slots, python = mixed(name, slots=functions, **{name: functions[name]})
    one_connection(loop, transport, slots, until=lambda: "data" in order)
    assert order == ["open", "data", "end", "close"]
    assert python.names() == [name]
    assert slots.names() == [event for event in order if event != name]


def test_open_in_python_and_data_in_cython_know_the_same_socket(loop, transport):
    def opened(socket):
        socket.data = "noted in open"

    slots, python = mixed("open", slots={"data": lambda handle, chunk: objects.append(handle.object())}, open=opened)
    objects = []
    one_connection(loop, transport, slots, until=lambda: objects)
    assert objects == [python.sockets[0]]
    assert objects[0].data == "noted in open"


@pytest.mark.parametrize(
    ("binary_type", "kind"), [("bytes", bytes), ("bytearray", bytearray), ("memoryview", memoryview)]
)
def test_open_in_cython_and_data_in_python_with_each_binary_type(loop, transport, binary_type, kind):
    python = Recorder()
    handlers = {"data": python.handlers["data"], "binary_type": binary_type}
    slots = Slots(without=("data",), python=handlers)
    one_connection(loop, transport, slots, until=python.received)
    assert type(python.args("data")[0][0]) is kind
    assert python.received() == b"hello"
    assert slots.names() == ["open", "end", "close"]


def test_binary_type_alone_changes_nothing_for_a_slot(loop, transport):
    slots = Slots(python={"binary_type": "memoryview"})
    one_connection(loop, transport, slots, until=slots.received)
    assert slots.received() == b"hello"


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_python_close_gets_the_error_and_the_addresses_of_a_socket_that_slots_served(loop, tcp, ending):
    """Nobody had asked for a Python object before."""

    def closed(socket, error):
        told.append((error, socket.remote_address, socket.remote_port, socket.local_port, socket.bytes_read))

    slots, _ = mixed("close", close=closed)
    told = []
    _, peer = accepted(loop, tcp, slots)
    name, port = peer.sock.getsockname(), peer.sock.getpeername()[1]
    peer.send(b"hello")
    loop.run_until(slots.received)
    getattr(peer, ending)()
    loop.run()
    ((error, address, remote, local, count),) = told
    assert (address, remote, local, count) == (*name, port, 5)
    assert isinstance(error, ConnectionResetError) if ending == "reset" else error is None


def test_a_python_drain_goes_on_where_a_slot_wrote_short(loop, transport):
    size = 8 << 20

    def drained(socket):
        assert socket.pending == 0
        socket.end(b"the end")

    slots, python = mixed("drain", drain=drained)
    handle, peer = accepted(loop, transport, slots)
    taken = handle.write(bytes(size))
    assert 0 < taken < size
    assert loop.wait(peer.recv_until_eof()) == bytes(taken) + b"the end"
    peer.close()
    loop.run()
    assert python.names() == ["drain"]


def test_a_python_timeout_keeps_a_socket_of_slots(loop, transport):
    slots, python = mixed("timeout", timeout=lambda socket: socket.timeout(0))
    handle, peer = accepted(loop, transport, slots)
    handle.timeout(0.001)
    loop.run_until(lambda: python.count("timeout"))
    assert handle.state == pybuntcp.ReadyState.ESTABLISHED
    peer.close()
    loop.run()
    assert slots.args("close") == [(0,)]


def test_a_python_connect_error_beside_slots(loop):
    slots, python = mixed("connect_error")
    with bound_not_listening() as port:
        connecting = pybuntcp.connect(hostname="127.0.0.1", port=port, socket=slots.handlers)
        loop.run()
    ((error,),) = python.args("connect_error")
    assert isinstance(error, ConnectionRefusedError)
    assert connecting.exception() is error
    assert slots.names() == []


def test_all_handlers_in_python_but_one(loop, transport):
    slots, python = mixed(
        "open", "drain", "end", "close", "timeout", slots={"data": lambda handle, chunk: handle.write(chunk)}
    )
    listener = transport.listen(slots)
    peer = transport.peer(listener)
    peer.send(b"echo")
    assert loop.wait(peer.recv_exactly(4)) == b"echo"
    listener.stop()
    peer.close()
    loop.run()
    assert (slots.names(), python.names()) == (["data"], ["open", "end", "close"])


# ---------------------------------------------------------------- sources of handlers


def test_a_class_is_taken_as_listen_takes_it(loop, transport):
    seen = []

    class Handlers:
        def open(socket):
            seen.append("open")

        def close(socket, error):
            seen.append("close")

    slots = Slots(without=("open", "close"), python=Handlers)
    one_connection(loop, transport, slots, until=slots.received)
    assert seen == ["open", "close"]


def test_an_instance_is_taken_as_listen_takes_it(loop, transport):
    class Handlers:
        def __init__(self):
            self.seen = []

        def open(self, socket):
            self.seen.append("open")

    instance = Handlers()
    slots = Slots(without=("open",), python=instance)
    one_connection(loop, transport, slots, until=slots.received)
    assert instance.seen == ["open"]


def test_none_is_absent_and_leaves_the_event_to_the_slot(loop, transport):
    slots = Slots(python={"open": None, "data": None})
    one_connection(loop, transport, slots, until=slots.received)
    assert slots.order() == ["open", "data", "end", "close"]


def test_handlers_are_read_once(loop, transport):
    seen = []
    python = {"open": lambda socket: seen.append("as given")}
    slots = Slots(without=("open",), python=python)
    handlers = slots.handlers
    python["open"] = lambda socket: seen.append("changed")
    one_connection(loop, transport, handlers, until=lambda: seen and slots.received())
    assert seen == ["as given"]


# ---------------------------------------------------------------- exceptions


@pytest.mark.parametrize("event", ["open", "data", "end", "close"])
def test_the_error_handler_gets_what_a_python_handler_beside_slots_raises(loop, transport, event):
    def refuse(socket, *_):
        raise Refused(event)

    slots, python = mixed(event, "error", **{event: refuse, "error": lambda socket, error: None})
    listener = transport.listen(slots)
    peer = transport.peer(listener)
    peer.send(b"hello").ignore()  # `open` may have closed it
    peer.shutdown().ignore()
    loop.run_until(lambda: python.count("error"))
    listener.stop(True)
    loop.run()
    ((error,),) = python.args("error")
    assert (type(error), str(error)) == (Refused, event)


def test_a_python_open_that_raises_closes_the_socket(loop, transport):
    def refuse(socket):
        raise Refused("open")

    slots, _python = mixed("open", "error", open=refuse, error=lambda socket, error: None)
    peer = transport.peer(listener := transport.listen(slots))
    assert loop.wait(peer.recv_until_eof()) == b""
    listener.stop()
    loop.run()
    assert slots.names() == ["close"]


def test_the_error_handler_is_not_given_what_a_slot_raises(loop, transport):
    """That is reported as unraisable: a slot is C."""

    def refuse(handle, chunk):
        raise Refused("slot")

    slots, python = mixed("error", slots={"data": refuse}, error=lambda socket, error: None)
    with unraisable() as told:
        one_connection(loop, transport, slots, until=slots.received)
    assert [str(error) for error in told] == ["slot"]
    assert python.names() == []


def test_without_an_error_handler_a_python_handler_s_exception_is_reported(loop, transport):
    def refuse(socket, *_):
        raise Refused("python")

    slots, _python = mixed("end", end=refuse)
    with unraisable() as told:
        one_connection(loop, transport, slots, until=slots.received)
    assert [str(error) for error in told] == ["python"]
    assert slots.names() == ["open", "data", "close"]


# ---------------------------------------------------------------- what cannot be mixed


@pytest.mark.parametrize("name", [*NAMES, "handshake"])
def test_the_same_event_twice_is_a_value_error_naming_it(name):
    with pytest.raises(ValueError, match=f"'{name}' is given twice"):
        _ = Slots(python={name: print}).handlers


def test_an_unknown_key_is_a_type_error_that_suggests_the_name():
    with pytest.raises(TypeError, match=r"connectError.*connect_error"):
        _ = Slots(python={"connectError": print}).handlers


def test_what_is_not_callable_is_a_type_error():
    with pytest.raises(TypeError, match="'error'"):
        _ = Slots(python={"error": 1}).handlers


def test_an_unknown_binary_type_is_a_value_error():
    with pytest.raises(ValueError, match="binary_type"):
        _ = Slots(python={"binary_type": "buffer"}).handlers


@pytest.mark.parametrize("thing", ["open", 1, [print], pybuntcp.Handlers(data=print)])
def test_what_are_no_handlers_is_a_type_error(thing):
    with pytest.raises(TypeError, match="socket"):
        _ = Slots(python=thing).handlers


class Callable:
    """A handler whose end can be seen."""

    def __call__(self, *args):
        pass


def test_a_refused_table_lets_its_callables_go(outside):
    def refuse():
        handlers = {name: Callable() for name in ("error", "open")}
        kept.extend(map(weakref.ref, handlers.values()))
        with pytest.raises(ValueError, match="twice"):
            outside.recording.table(None, ["open", "data"], handlers=handlers)

    kept = []
    refuse()
    gc.collect()
    assert [each() for each in kept] == [None, None]


def test_callables_live_for_as_long_as_something_can_call_them(loop, transport, outside):
    def listening():
        handler = Callable()
        kept.append(weakref.ref(handler))
        slots = Slots()
        kept.append(slots)
        return transport.listen(outside.recording.table(slots, ["open", "data", "close"], handlers={"end": handler}))

    kept = []
    listener = listening()
    peer = transport.peer(listener)
    alive, slots = kept
    loop.run_until(lambda: slots.sockets)
    listener.stop()
    gc.collect()
    assert alive() is not None
    peer.close()
    loop.run()
    gc.collect()
    assert slots.names() == ["open", "close"]
    assert alive() is None
