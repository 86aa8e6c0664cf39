"""Every slot is called, once for each event, with what the C API says: a socket, bytes, a positive errno."""

from __future__ import annotations

import errno
import socket as stdlib

import pytest
from capi_slots import Slots
from support import Feed, accepted, finish_and_wait, pattern, reset_and_wait, shrink_send_buffer, sides
from support.addresses import black_hole, bound_not_listening, port_of

import pybuntcp

MEGABYTE = 1 << 20

# ---------------------------------------------------------------- open, data, end, close


@sides
def test_a_connection_is_told_from_open_to_close(loop, transport, side):
    slots = Slots()
    _, peer = side(loop, transport, slots)
    peer.send(b"hello")
    peer.close()
    loop.run()
    assert slots.order() == ["open", "data", "end", "close"]
    assert slots.received() == b"hello"
    assert slots.args("open") == [()]
    assert slots.args("end") == [()]
    assert slots.args("close") == [(0,)]


@sides
def test_open_comes_when_bytes_can_be_written(loop, transport, side):
    slots = Slots(open=lambda handle: told.append((handle.state, handle.end(b"welcome"))))
    told = []
    _, peer = side(loop, transport, slots)
    assert loop.wait(peer.recv_until_eof()) == b"welcome"
    assert told == [(pybuntcp.ReadyState.ESTABLISHED, 0)]
    peer.close()
    loop.run()


@sides
def test_data_is_given_every_byte_of_a_megabyte_in_order(loop, transport, side):
    slots = Slots()
    handle, peer = side(loop, transport, slots)
    peer.send(pattern(MEGABYTE))
    peer.send(b"\0the end\0")
    peer.shutdown()
    loop.run_until(lambda: slots.count("end"))
    assert slots.received(handle) == pattern(MEGABYTE) + b"\0the end\0"
    assert all(chunk for (chunk,) in slots.args("data"))
    peer.close()
    loop.run()


@sides
def test_end_is_told_once_and_a_half_open_socket_can_still_be_written(loop, transport, side):
    slots = Slots(end=lambda handle: handle.write(b"after your end"))
    handle, peer = side(loop, transport, slots, allow_half_open=True)
    peer.shutdown()
    assert loop.wait(peer.recv_exactly(14)) == b"after your end"
    assert handle.end(b", mine") == 0
    assert loop.wait(peer.recv_until_eof()) == b", mine"
    loop.run()
    assert slots.names() == ["open", "end", "close"]


@pytest.mark.parametrize("verb", ["close", "terminate"])
@sides
def test_close_is_told_0_when_this_side_goes(loop, transport, side, verb):
    slots = Slots()
    handle, _peer = side(loop, transport, slots)
    assert getattr(handle, verb)() == 0
    assert slots.names() == ["open"]  # told from the loop, not from inside the verb
    loop.run()
    assert slots.names() == ["open", "close"]
    assert slots.args("close") == [(0,)]


@sides
def test_close_is_told_a_positive_econnreset(loop, transport, side):
    slots = Slots()
    handle, peer = side(loop, transport, slots)
    reset_and_wait(handle, peer)
    loop.run()
    assert slots.names() == ["open", "close"]
    assert slots.args("close") == [(errno.ECONNRESET,)]


def test_bytes_before_a_reset_are_told_before_the_close(loop, tcp):
    slots = Slots()
    _, peer = accepted(loop, tcp, slots)
    peer.send(b"last words").result()
    peer.reset().result()
    loop.run()
    assert slots.received() == b"last words"
    assert slots.order() == ["open", "data", "close"]
    assert slots.args("close") == [(errno.ECONNRESET,)]


def test_many_connections_are_told_apart(loop, transport):
    slots = Slots(data=lambda handle, chunk: handle.write(chunk))
    listener = transport.listen(slots)
    peers = [transport.peer(listener) for _ in range(30)]
    for number, peer in enumerate(peers):
        peer.send(b"%06d" % number)
    assert [loop.wait(peer.recv_exactly(6)) for peer in peers] == [b"%06d" % number for number in range(30)]
    assert {slots.received(handle) for handle in slots.sockets} == {b"%06d" % number for number in range(30)}
    listener.stop(True)
    loop.run()
    assert slots.count("close") == 30


# ---------------------------------------------------------------- drain


@sides
def test_drain_is_told_once_after_a_short_write(loop, transport, side):
    slots = Slots()
    feed = Feed(4 * MEGABYTE)
    handle, peer = side(loop, transport, slots)
    shrink_send_buffer(handle)
    assert 0 <= feed.fill(handle) < 65536
    loop.wait(peer.recv_exactly(feed.at))
    loop.run_until(lambda: slots.count("drain"))
    assert handle.pending == 0
    loop.settle()
    assert slots.names() == ["open", "drain"]
    handle.end()
    loop.wait(peer.recv_until_eof())
    peer.close()
    loop.run()
    assert slots.names() == ["open", "drain", "end", "close"]


def test_no_drain_is_told_when_every_write_was_whole(loop, transport):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots, high_water_mark=4 * MEGABYTE)
    assert handle.write(pattern(2 * MEGABYTE)) == 2 * MEGABYTE
    assert loop.wait(peer.recv_exactly(2 * MEGABYTE)) == pattern(2 * MEGABYTE)
    peer.close()
    loop.run()
    assert slots.names() == ["open", "end", "close"]


def test_a_stream_written_from_drain_to_drain_arrives_whole(loop, transport):
    feed = Feed(4 * MEGABYTE)

    def start(handle):
        shrink_send_buffer(handle)
        pump(handle)

    def pump(handle):
        while feed.at < len(feed.data):
            asked = min(65536, len(feed.data) - feed.at)
            if feed.write(handle, 65536) < asked:
                return
        handle.end()

    slots = Slots(open=start, drain=pump)
    _, peer = accepted(loop, transport, slots)
    assert loop.wait(peer.recv_until_eof()) == pattern(4 * MEGABYTE)
    peer.close()
    loop.run()
    assert slots.count("drain") >= 1


# ---------------------------------------------------------------- timeout


@sides
def test_timeout_is_told_then_close_with_a_positive_etimedout(loop, transport, side):
    slots = Slots()
    handle, _peer = side(loop, transport, slots)
    assert handle.timeout(0.01) == 0
    loop.run()
    assert slots.names() == ["open", "timeout", "close"]
    assert slots.args("close") == [(errno.ETIMEDOUT,)]


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_socket_lives_on_when_its_timeout_slot_asks_for_time_again(loop, transport, seconds):
    slots = Slots(timeout=lambda handle: handle.timeout(seconds))
    handle, peer = accepted(loop, transport, slots)
    handle.timeout(0.01)
    loop.run_until(lambda: slots.count("timeout"))
    peer.send(b"still there?")
    loop.run_until(slots.received)
    assert handle.state == pybuntcp.ReadyState.ESTABLISHED
    handle.close()
    loop.run()
    assert slots.names() == ["open", "timeout", "data", "close"]
    assert slots.args("close") == [(0,)]


def test_the_idle_timeout_of_the_listener_is_told_to_the_same_slot(loop, transport):
    slots = Slots()
    accepted(loop, transport, slots, idle_timeout=0.02)
    loop.run()
    assert slots.names() == ["open", "timeout", "close"]
    assert slots.args("close") == [(errno.ETIMEDOUT,)]


def test_a_timeout_without_a_slot_closes(loop, transport):
    slots = Slots(without=("timeout",))
    handle, _peer = accepted(loop, transport, slots)
    handle.timeout(0.01)
    loop.run()
    assert slots.names() == ["open", "close"]
    assert slots.args("close") == [(errno.ETIMEDOUT,)]


# ---------------------------------------------------------------- connect_error


def failed(loop, slots, **options):
    """The errno that `connect_error` alone was told, which is the awaitable's as well."""
    connecting = pybuntcp.connect(socket=slots.handlers, **options)
    assert slots.names() == []
    loop.run()
    assert slots.names() == ["connect_error"]
    ((error,),) = slots.args("connect_error")
    assert connecting.exception().errno == error
    return error


def test_connect_error_is_told_a_positive_econnrefused(loop):
    with bound_not_listening() as port:
        assert failed(loop, Slots(), hostname="127.0.0.1", port=port) == errno.ECONNREFUSED


def test_connect_error_is_told_that_a_unix_path_is_missing(loop, unix):
    assert failed(loop, Slots(), unix=unix.listen_options()["unix"]) == errno.ENOENT


def test_connect_error_is_told_a_positive_etimedout(loop):
    with black_hole() as listener:
        assert failed(loop, Slots(), hostname="127.0.0.1", port=port_of(listener), timeout=0.05) == errno.ETIMEDOUT


def test_connect_error_is_told_a_negative_eai_code_of_a_name(loop):
    codes = {value for name, value in vars(stdlib).items() if name.startswith("EAI_")}
    error = failed(loop, Slots(), hostname="name.invalid", port=1)
    assert error in codes
    assert error < 0


def test_connect_error_is_told_of_a_descriptor_that_will_not_do(loop):
    with stdlib.socket() as unconnected:
        assert failed(loop, Slots(), fd=unconnected.fileno()) == errno.ENOTCONN


def test_a_cancelled_connection_tells_no_slot(loop):
    with black_hole() as listener:
        slots = Slots()
        connecting = pybuntcp.connect(socket=slots.handlers, hostname="127.0.0.1", port=port_of(listener))
        assert connecting.cancel()
        loop.run()
    assert slots.names() == []


def test_a_failure_without_a_slot_is_the_awaitable_s_alone(loop):
    slots = Slots(without=("connect_error",))
    with bound_not_listening() as port:
        connecting = pybuntcp.connect(socket=slots.handlers, hostname="127.0.0.1", port=port)
        loop.run()
    assert isinstance(connecting.exception(), ConnectionRefusedError)
    assert slots.names() == []


# ---------------------------------------------------------------- slots that are not there


@pytest.mark.parametrize("slot", ["open", "data", "end", "close"])
def test_an_absent_slot_does_no_work_and_the_others_do_theirs(loop, transport, slot):
    slots = Slots(without=(slot,))
    listener = transport.listen(slots)
    peer = transport.peer(listener)
    peer.send(b"x")
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == b""
    listener.stop()
    loop.run()
    assert slots.names() == [name for name in ("open", "data", "end", "close") if name != slot]


def test_a_short_write_without_a_drain_slot_is_sent_all_the_same(loop, transport):
    slots = Slots(without=("drain",))
    feed = Feed(4 * MEGABYTE)
    handle, peer = accepted(loop, transport, slots)
    shrink_send_buffer(handle)
    feed.fill(handle)
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    peer.close()
    loop.run()
    assert slots.names() == ["open", "end", "close"]


def test_finished_peers_end_orderly_with_a_table_of_data_alone(loop, transport):
    slots = Slots(without=("open", "drain", "end", "close", "timeout", "connect_error"))
    listener = transport.listen(slots)
    peer = transport.peer(listener)
    peer.send(b"x")
    loop.run_until(slots.received)
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == b""
    listener.stop()
    loop.run()
    assert slots.order() == ["data"]


def test_a_fin_that_came_while_paused_is_told_at_resume(loop, transport):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots)
    assert handle.pause() == 0
    peer.send(b"before the end").result()
    finish_and_wait(handle, peer)
    loop.settle()
    assert slots.names() == ["open"]
    assert handle.resume() == 0
    loop.run()
    assert slots.order() == ["open", "data", "end", "close"]
    assert slots.received() == b"before the end"
