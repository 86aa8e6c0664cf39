"""Contract, Handlers (H2-H5): async ones, reload, what is read when, `data`."""

from __future__ import annotations

import types

import pytest
from support import Recorder
from support.endpoints import local_pair
from support.handlers import QUIET, ignore

import pybuntcp


def accepted(loop, transport, recorder, **options):
    """A listener with these handlers and a raw peer, once its `open` has run: (listener, peer)."""
    listener = transport.listen(recorder, **options)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    return listener, peer


# ---------------------------------------------------------------- H2: without asyncio


@pytest.mark.parametrize("name", ["open", "data", "close"])
def test_h2_an_async_handler_without_a_running_asyncio_loop_is_refused_at_the_call(transport, name):
    async def handler(socket, *args):
        """Never runs."""

    with pytest.raises(TypeError, match=name):
        transport.listen({**QUIET, name: handler})


# ---------------------------------------------------------------- H3: reload


def test_h3_reload_of_the_listener_reaches_all_live_sockets_and_new_ones(loop, transport):
    old, new = Recorder(), Recorder()
    listener = transport.listen(old)
    peers = [transport.peer(listener) for _ in range(2)]
    loop.run_until(lambda: len(old.sockets) == 2)
    listener.reload(new.handlers)
    peers.append(transport.peer(listener))
    for peer in peers:
        peer.send(b"x")
    loop.run_until(lambda: len(new.received()) == 3)
    assert old.names() == ["open", "open"]
    assert sorted(new.names()) == ["data", "data", "data", "open"]


def test_h3_reload_swaps_between_two_events_and_not_in_the_middle_of_one(loop, transport):
    def data(socket, chunk):
        listener.reload(new.handlers)
        old_continues.append(chunk)

    old_continues = []
    old, new = Recorder(data=data), Recorder()
    listener = transport.listen(old)
    peers = [transport.peer(listener) for _ in range(4)]
    loop.run_until(lambda: len(old.sockets) == 4)
    for peer in peers:
        peer.send(b"x").result()  # all of it is in the kernel: one turn sees them all
    loop.run_until(lambda: len(new.received()) == 3)
    assert old_continues == [b"x"]
    assert old.received() == b"x"


def test_h3_reload_of_an_accepted_socket_is_its_own(loop, transport):
    old, new = Recorder(), Recorder()
    listener = transport.listen(old)
    peers = [transport.peer(listener) for _ in range(2)]
    loop.run_until(lambda: len(old.sockets) == 2)
    chosen, sibling = old.sockets
    chosen.reload(new.handlers)
    late = transport.peer(listener)
    for peer in [*peers, late]:
        peer.send(b"x")
    loop.run_until(lambda: new.received() and len(old.received()) == 2)
    assert [socket for _, socket, _ in new.events] == [chosen]
    assert old.received(sibling) == b"x"
    assert len(old.sockets) == 3


def test_h3_reload_of_a_client_socket(loop, transport):
    server, old, new = Recorder(), Recorder(), Recorder()
    _, accepted_socket, client = local_pair(loop, transport, server, old)
    client.reload(socket=new.handlers)
    accepted_socket.write(b"x")
    loop.run_until(new.received)
    assert old.names() == ["open"]


@pytest.mark.parametrize("target", ["socket", "listener"])
def test_h3_reload_changes_the_binary_type_too(loop, transport, target):
    old, new = Recorder(binary_type="bytes"), Recorder(binary_type="bytearray")
    listener, peer = accepted(loop, transport, old)
    peer.send(b"a")
    loop.run_until(old.received)
    (listener if target == "listener" else old.socket).reload(new.handlers)
    peer.send(b"b")
    loop.run_until(new.received)
    assert type(old.args("data")[0][0]) is bytes
    assert type(new.args("data")[0][0]) is bytearray


def test_h3_a_handler_that_reload_does_not_name_is_gone(loop, transport):
    old, new = Recorder(), Recorder(without=("end", "error"))
    listener, peer = accepted(loop, transport, old)
    listener.reload(new.handlers)
    peer.close()
    loop.run_until(lambda: new.count("close"))
    assert new.names() == ["close"]
    assert old.names() == ["open"]


def test_h3_another_listener_given_the_same_handlers_is_not_touched(loop, transport):
    shared, new = Recorder(), Recorder()
    handlers = pybuntcp.Handlers(shared.handlers)
    first, second = transport.listen(handlers), transport.listen(handlers)
    first.reload(new.handlers)
    third = transport.listen(handlers)
    for listener in (first, second, third):
        transport.peer(listener).send(b"x")
    loop.run_until(lambda: len(shared.received()) == 2 and new.received())
    assert {socket.listener for socket in shared.sockets} == {second, third}
    assert {socket.listener for socket in new.sockets} == {first}


BAD_TABLES = {
    "empty": {},
    "neither data nor drain": {"open": ignore},
    "unknown name": {**QUIET, "dta": ignore},
    "not callable": {"data": 5},
    "binary_type": {**QUIET, "binary_type": "text"},
    "a number": 5,
}


@pytest.mark.parametrize("target", ["socket", "listener"])
@pytest.mark.parametrize("bad", BAD_TABLES.values(), ids=list(BAD_TABLES))
def test_h3_a_bad_reload_raises_and_changes_nothing(loop, transport, bad, target):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk), binary_type="bytearray")
    listener, peer = accepted(loop, transport, recorder)
    with pytest.raises((TypeError, ValueError)):
        (listener if target == "listener" else recorder.socket).reload(bad)
    peer.send(b"same")
    assert loop.wait(peer.recv_exactly(4)) == b"same"
    assert type(recorder.args("data")[0][0]) is bytearray
    peer.shutdown()
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names()[-2:] == ["end", "close"]


def test_h3_a_reload_after_the_close_is_harmless(loop, transport):
    recorder, new = Recorder(), Recorder()
    listener, peer = accepted(loop, transport, recorder)
    peer.close()
    loop.run_until(lambda: recorder.count("close"))
    recorder.socket.reload(new.handlers)
    listener.stop()
    loop.run()
    assert new.names() == []


# ---------------------------------------------------------------- H4: read once


def test_h4_a_later_change_of_the_mapping_has_no_effect(loop, transport):
    recorder, other = Recorder(), Recorder()
    mapping = recorder.handlers
    listener = transport.listen(mapping)
    mapping["data"] = other.handlers["data"]
    del mapping["close"]
    transport.peer(listener).send(b"x")
    loop.run_until(recorder.received)
    listener.stop(True)
    loop.run_until(lambda: recorder.count("close"))
    assert other.names() == []


@pytest.mark.parametrize("form", ["class", "instance", "module"])
def test_h4_a_later_change_of_an_object_has_no_effect(loop, transport, form):
    recorder, other = Recorder(), Recorder()
    functions = {name: staticmethod(f) if form == "instance" else f for name, f in recorder.handlers.items()}
    made = type("Made", (), functions)
    target = {"class": made, "instance": made(), "module": types.ModuleType("made")}[form]
    if form == "module":
        vars(target).update(recorder.handlers)
    listener = transport.listen(target)
    target.data = other.handlers["data"]
    transport.peer(listener).send(b"x")
    loop.run_until(recorder.received)
    assert other.names() == []


# ---------------------------------------------------------------- H5: data


def test_h5_data_is_shared_by_reference_until_a_handler_assigns_it(loop, transport):
    shared, own = {"name": "shared"}, {"name": "own"}
    recorder = Recorder()
    listener = transport.listen(recorder, data=shared)
    for _ in range(3):
        transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 3)
    assert all(socket.data is shared for socket in recorder.sockets)
    recorder.sockets[1].data = own
    assert [socket.data for socket in recorder.sockets] == [shared, own, shared]
    assert listener.data is shared


def test_h5_data_assigned_to_the_listener_is_for_new_sockets(loop, transport):
    old, new = object(), object()
    recorder = Recorder()
    listener, _ = accepted(loop, transport, recorder, data=old)
    listener.data = new
    transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 2)
    assert [socket.data for socket in recorder.sockets] == [old, new]


def test_h5_a_client_has_the_data_of_its_connect(loop, transport):
    mine = object()
    server, client = Recorder(), Recorder()
    listener = transport.listen(server)
    transport.connect(client, listener, data=mine)
    loop.run_until(lambda: server.sockets and client.sockets)
    assert client.socket.data is mine
    assert server.socket.data is None


def test_h5_all_handlers_of_a_connection_are_given_the_same_socket(loop, transport):
    recorder = Recorder(open=lambda socket: socket.write(b"hello"))
    _, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(recorder.received)
    peer.shutdown()
    loop.run_until(lambda: recorder.count("close"))
    assert {id(socket) for _, socket, _ in recorder.events} == {id(recorder.socket)}
    assert recorder.order() == ["open", "data", "end", "close"]
