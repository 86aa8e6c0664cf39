"""A user's own: the bytes behind every socket, and the pointer of the table."""

from __future__ import annotations

import itertools

import pytest
from support import Recorder, accepted, connected, sides
from support.slots import Slots

import pybuntcp

MEGABYTE = 1 << 20
SIZES = (1, 15, 16, 17, 4096, MEGABYTE)


def open_many(loop, transport, slots, count):
    """A listener with so many open sockets."""
    listener = transport.listen(slots)
    for _ in range(count):
        transport.peer(listener)
    loop.run_until(lambda: len(slots.sockets) == count)
    return listener


def close_all(loop, listener):
    listener.stop(True)
    loop.run()


# ---------------------------------------------------------------- ext


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [accepted, connected])
def test_ext_is_there_zeroed_and_aligned_when_open_is_called(loop, transport, side, size):
    slots = Slots(ext_size=size, open=lambda handle: told.append((handle.ext % 16, handle.ext_read(size))))
    told = []
    handle, _peer = side(loop, transport, slots)
    assert told == [(0, bytes(size))]
    handle.close()
    loop.run()


@pytest.mark.parametrize("size", SIZES)
def test_ext_is_zeroed_again_for_the_next_socket(loop, transport, size):
    """Its memory may be that of one that has gone."""
    slots = Slots(ext_size=size, open=lambda handle: told.append(handle.ext_read(size)))
    told = []
    for _ in range(5):
        listener = transport.listen(slots)
        peer = transport.peer(listener)
        loop.run_until(lambda: len(told) > slots.count("close"))
        slots.sockets[-1].ext_write(b"\xff" * size)
        listener.stop()
        peer.close()
        loop.run()
    assert told == [bytes(size)] * 5


@pytest.mark.parametrize("size", SIZES)
def test_every_socket_has_bytes_of_its_own(loop, transport, size):
    slots = Slots(ext_size=size)
    listener = open_many(loop, transport, slots, 8)
    for number, handle in enumerate(slots.sockets):
        handle.ext_write(bytes([number + 1]) * size)
    assert [handle.ext_read(size) for handle in slots.sockets] == [bytes([number + 1]) * size for number in range(8)]
    where = sorted(handle.ext for handle in slots.sockets)
    assert all(after - before >= size for before, after in itertools.pairwise(where))
    close_all(loop, listener)


@sides
def test_what_is_written_there_survives_every_event_until_close_has_returned(loop, transport, side):
    def note(handle, *_):
        seen.append((handle.ext_read(6), handle.ext))

    seen = []
    slots = Slots(ext_size=6, open=lambda handle: handle.ext_write(b"mine!!"), data=note, end=note, close=note)
    handle, peer = side(loop, transport, slots)
    where = handle.ext
    peer.send(b"x")
    peer.close()
    loop.run()
    assert slots.names() == ["open", "data", "end", "close"]
    assert seen == [(b"mine!!", where)] * 3


def test_ext_is_apart_from_the_socket_s_own_state(loop, transport):
    """Writing all of it changes nothing of the connection."""

    def scribble(handle, *_):
        handle.ext_write(b"\xff" * 100)

    slots = Slots(ext_size=100, open=scribble, data=lambda handle, chunk: [scribble(handle), handle.write(chunk)])
    handle, peer = accepted(loop, transport, slots)
    peer.send(b"echo")
    assert loop.wait(peer.recv_exactly(4)) == b"echo"
    assert (handle.state, handle.bytes_read, handle.bytes_written) == (pybuntcp.ReadyState.ESTABLISHED, 4, 4)
    handle.close()
    loop.run()
    assert slots.args("close") == [(0,)]


@sides
def test_without_ext_size_there_is_none(loop, transport, side):
    slots = Slots(close=lambda handle, error: told.append(handle.ext))
    told = []
    handle, peer = side(loop, transport, slots)
    assert handle.ext == 0
    peer.close()
    loop.run()
    assert told == [0]


@pytest.mark.parametrize("size", [(1 << 30) + 1, 1 << 40, (1 << 64) - 1, (1 << 64) - 100])
def test_an_ext_size_past_a_gigabyte_is_a_value_error_naming_it(outside, size):
    with pytest.raises(ValueError, match=rf"ext_size.*{size}"):
        outside.tables.bind(ext_size=size)


def test_an_ext_size_of_a_gigabyte_is_bound(outside):
    assert "data" in repr(outside.tables.bind(ext_size=1 << 30))


def test_a_socket_of_python_handlers_has_none(loop, transport):
    """A slots table of no ext_size comes to it by reload, and finds nothing behind it."""
    slots = Slots(without=("open",))
    socket, peer = accepted(loop, transport, Recorder())
    socket.reload(slots.handlers)
    peer.send(b"x")
    loop.run_until(slots.received)
    assert slots.events[0][1].ext == 0
    socket.close()
    loop.run()


# ---------------------------------------------------------------- ext and reload


def refused(reload, slots):
    with pytest.raises(ValueError, match="ext_size") as caught:
        reload(slots.handlers)
    return str(caught.value)


@pytest.mark.parametrize("how", ["listener", "socket"])
@pytest.mark.parametrize("size", [0, 16])
def test_a_reload_that_needs_more_ext_bytes_is_a_value_error_and_changes_nothing(loop, transport, how, size):
    first, second = Slots(ext_size=size, label="first"), Slots(ext_size=size + 1, label="second")
    listener = open_many(loop, transport, first, 1)
    peer = transport.peer(listener)
    loop.run_until(lambda: len(first.sockets) == 2)
    handle = first.sockets[1]
    before = (handle.ext, handle.user)
    message = refused((listener if how == "listener" else handle.object()).reload, second)
    assert str(size) in message
    assert str(size + 1) in message
    peer.send(b"to the first")
    loop.run_until(first.received)
    assert (handle.ext, handle.user) == before
    close_all(loop, listener)
    assert second.names() == []


@sides
def test_a_refused_reload_inside_a_slot_changes_nothing(loop, transport, side):
    big = Slots(ext_size=100)
    slots = Slots(ext_size=4, data=lambda handle, chunk: told.append(refused(handle.object().reload, big)))
    told = []
    _, peer = side(loop, transport, slots)
    peer.send(b"x")
    peer.close()
    loop.run()
    assert len(told) == 1
    assert slots.order() == ["open", "data", "end", "close"]
    assert big.names() == []


@pytest.mark.parametrize("how", ["listener", "socket"])
@pytest.mark.parametrize("size", [16, 8, 0])
def test_a_reload_that_needs_no_more_finds_the_same_bytes(loop, transport, how, size):
    first, second = Slots(ext_size=16, label="first"), Slots(ext_size=size, label="second")
    listener = open_many(loop, transport, first, 1)
    (handle,) = first.sockets
    handle.ext_write(b"sixteen bytes...")
    before = handle.ext
    (listener if how == "listener" else handle.object()).reload(second.handlers)
    assert (handle.ext, handle.ext_read(16)) == (before, b"sixteen bytes...")
    close_all(loop, listener)
    assert (first.names(), second.names()) == (["open"], ["close"])


def test_after_a_reload_to_less_the_listener_s_sockets_still_have_what_it_began_with(loop, transport):
    slots = Slots(ext_size=64)
    listener = transport.listen(slots)
    listener.reload(Slots(ext_size=0, label="less").handlers)
    listener.reload(slots.handlers)
    told = []
    slots._functions["open"] = lambda handle: told.append(handle.ext_read(64))
    transport.peer(listener)
    loop.run_until(lambda: told)
    assert told == [bytes(64)]
    close_all(loop, listener)


def test_a_reload_from_python_handlers_to_ext_bytes_is_refused(loop, transport):
    recorder, slots = Recorder(), Slots(ext_size=1)
    socket, peer = accepted(loop, transport, recorder)
    assert "ext_size" in refused(socket.reload, slots)
    peer.send(b"x")
    loop.run_until(recorder.received)
    socket.close()
    loop.run()
    assert slots.names() == []


# ---------------------------------------------------------------- user


def test_all_sockets_of_a_table_have_its_pointer(loop, transport, outside):
    slots = Slots()
    listener = open_many(loop, transport, slots, 3)
    mine = outside.recording.address_of(slots)
    assert [handle.user for handle in slots.sockets] == [mine] * 3
    close_all(loop, listener)


def test_another_table_has_another_pointer(loop, transport, outside):
    one, other = Slots(label="one"), Slots(label="other")
    listeners = [open_many(loop, transport, slots, 1) for slots in (one, other)]
    assert one.socket.user == outside.recording.address_of(one)
    assert other.socket.user == outside.recording.address_of(other)
    listeners[0].stop(True)
    close_all(loop, listeners[1])


@pytest.mark.parametrize("how", ["listener", "socket"])
def test_after_a_reload_the_pointer_is_the_new_table_s(loop, transport, outside, how):
    one, other = Slots(label="one"), Slots(label="other")
    listener = open_many(loop, transport, one, 2)
    first, second = one.sockets
    (listener if how == "listener" else second.object()).reload(other.handlers)
    old, new = outside.recording.address_of(one), outside.recording.address_of(other)
    assert second.user == new
    assert first.user == (new if how == "listener" else old)
    close_all(loop, listener)
