"""Reload with tables of slots: between two events, of a listener's sockets or of one, to Python handlers and back."""

from __future__ import annotations

import pytest
from support import Recorder, accepted, connected
from support.slots import Slots


def say(text):
    """A `data` slot that answers with this."""
    return lambda handle, chunk: handle.write(text)


def answer(loop, peer, size):
    """What the peer gets for a question."""
    peer.send(b"?")
    return loop.wait(peer.recv_exactly(size))


def test_a_reload_of_the_listener_changes_open_sockets_and_new_ones(loop, transport):
    one, two = Slots(data=say(b"one")), Slots(data=say(b"two"))
    listener = transport.listen(one)
    peer = transport.peer(listener)
    assert answer(loop, peer, 3) == b"one"
    listener.reload(two.handlers)
    assert answer(loop, peer, 3) == b"two"
    assert answer(loop, transport.peer(listener), 3) == b"two"
    listener.stop(True)
    loop.run()
    assert one.names() == ["open", "data"]
    assert two.count("close") == 2


def test_a_reload_of_a_socket_changes_that_one_alone(loop, transport):
    one, two = Slots(data=say(b"one")), Slots(data=say(b"two"))
    listener = transport.listen(one)
    peers = [transport.peer(listener) for _ in range(2)]
    assert [answer(loop, peer, 3) for peer in peers] == [b"one", b"one"]
    first = one.sockets[0]
    first.object().reload(two.handlers)
    assert sorted(answer(loop, peer, 3) for peer in peers) == [b"one", b"two"]
    assert answer(loop, transport.peer(listener), 3) == b"one"
    listener.stop(True)
    loop.run()
    assert two.names() == ["data", "close"]


def test_a_reload_of_an_outgoing_socket_changes_it(loop, transport):
    one, two = Slots(data=say(b"one")), Slots(data=say(b"two"))
    handle, peer = connected(loop, transport, one)
    assert answer(loop, peer, 3) == b"one"
    handle.object().reload(two.handlers)
    assert answer(loop, peer, 3) == b"two"
    peer.close()
    loop.run()
    assert two.order() == ["data", "end", "close"]


@pytest.mark.parametrize("how", ["listener", "socket"])
def test_a_reload_inside_a_slot_counts_from_the_next_event(loop, transport, how):
    def swap(handle, chunk):
        (handle.object().listener if how == "listener" else handle.object()).reload(two.handlers)
        assert handle.write(b"last of one") == 11

    one, two = Slots(data=swap), Slots(data=say(b"two"))
    listener = transport.listen(one)
    peer = transport.peer(listener)
    assert answer(loop, peer, 11) == b"last of one"
    assert answer(loop, peer, 3) == b"two"
    listener.stop(True)
    loop.run()
    assert (one.names(), two.names()) == (["open", "data"], ["data", "close"])


@pytest.mark.parametrize("event", ["open", "data", "end", "close", "timeout"])
def test_a_table_may_be_replaced_in_each_of_its_slots(loop, transport, event):
    def swap(handle, *_):
        handle.object().listener.reload(two.handlers)
        if event == "timeout":
            handle.timeout(0)

    one, two = Slots(**{event: swap}), Slots()
    listener = transport.listen(one)
    peer = transport.peer(listener)
    loop.run_until(lambda: one.sockets)
    listener.stop()
    if event == "timeout":
        one.sockets[0].timeout(0.001)
        loop.run_until(lambda: one.count("timeout"))
    peer.send(b"x")
    peer.close()
    loop.run()
    told = one.names() + two.names()
    assert [name for name in told if name != "timeout"] == ["open", "data", "end", "close"]
    assert one.names()[-1] == event


@pytest.mark.parametrize("first", ["python", "slots"])
def test_a_live_listener_goes_from_python_to_slots_and_back_between_two_events(loop, transport, first):
    python = Recorder(label="python", data=lambda socket, chunk: socket.write(b"python"))
    slots = Slots(label="slots", data=say(b"slots!"))
    tables = [python, slots] if first == "python" else [slots, python]
    listener = transport.listen(tables[0])
    peer = transport.peer(listener)
    expected = {python: b"python", slots: b"slots!"}
    for table in tables * 3:
        listener.reload(table.handlers)
        assert answer(loop, peer, 6) == expected[table]
    peer.close()
    listener.stop()
    loop.run()
    last = tables[1]
    assert last.names()[-2:] == ["end", "close"]
    assert tables[0].names() == ["open", "data", "data", "data"]


def test_a_socket_goes_from_slots_to_python_and_its_object_stays_the_same(loop, transport):
    slots = Slots(open=lambda handle: objects.append(handle.object()))
    objects = []
    python = Recorder(data=lambda socket, chunk: objects.append(socket))
    handle, peer = accepted(loop, transport, slots)
    objects[0].data = "kept"
    objects[0].reload(python.handlers)
    peer.send(b"x")
    loop.run_until(lambda: len(objects) == 2)
    assert objects[0] is objects[1]
    assert objects[1].data == "kept"
    handle.close()
    loop.run()
    assert (slots.names(), python.names()) == (["open"], ["data", "close"])


def test_a_handler_of_python_may_reload_to_slots_while_it_runs(loop, transport):
    slots = Slots(label="slots", data=say(b"slots"))
    python = Recorder(data=lambda socket, chunk: [socket.write(b"swap!"), socket.listener.reload(slots.handlers)])
    listener = transport.listen(python)
    peer = transport.peer(listener)
    assert answer(loop, peer, 5) == b"swap!"
    assert answer(loop, peer, 5) == b"slots"
    listener.stop(True)
    loop.run()
    assert slots.names() == ["data", "close"]


def test_pending_bytes_of_the_old_table_drain_into_the_new_one(loop, transport):
    one, two = Slots(), Slots()
    handle, peer = accepted(loop, transport, one)
    size = 8 << 20
    taken = handle.write(bytes(size))
    assert taken < size
    handle.object().reload(two.handlers)
    loop.wait(peer.recv_exactly(taken))
    loop.run_until(lambda: two.count("drain"))
    handle.close()
    loop.run()
    assert (one.names(), two.names()) == (["open"], ["drain", "close"])


# ---------------------------------------------------------------- a table is a copy


@pytest.mark.parametrize("how", ["bound_then_changed", "bound_then_freed"])
def test_what_becomes_of_a_slots_t_after_it_was_bound_has_no_effect(loop, transport, outside, how):
    listener = transport.listen(getattr(outside.tables, how)())
    peer = transport.peer(listener)
    for question in (b"one", b"two"):
        peer.send(question)
        assert loop.wait(peer.recv_exactly(3)) == question
    listener.stop(True)
    loop.run()


def test_two_listeners_of_the_same_handlers_are_independent(loop, transport):
    one, two = Slots(data=say(b"one")), Slots(data=say(b"two"))
    handlers = one.handlers
    listeners = [transport.listen(handlers) for _ in range(2)]
    listeners[0].reload(two.handlers)
    assert [answer(loop, transport.peer(listener), 3) for listener in listeners] == [b"two", b"one"]
    for listener in listeners:
        listener.stop(True)
    loop.run()
