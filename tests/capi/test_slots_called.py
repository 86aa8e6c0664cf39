"""What slots are called with that Python handlers are not: error numbers. And slots that are not there.

When each is called is the contract's: tests/contract, with slots as its `handlers`.
"""

from __future__ import annotations

import errno
import socket as stdlib

import pytest
from support import Feed, accepted, shrink_send_buffer, sides
from support.addresses import black_hole, bound_not_listening, port_of
from support.slots import Slots

import pybuntcp

MEGABYTE = 1 << 20

# ---------------------------------------------------------------- open, data


@sides
def test_open_comes_when_bytes_can_be_written(loop, transport, side):
    slots = Slots(open=lambda handle: told.append((handle.state, handle.end(b"welcome"))))
    told = []
    _, peer = side(loop, transport, slots)
    assert loop.wait(peer.recv_until_eof()) == b"welcome"
    assert told == [(pybuntcp.ReadyState.ESTABLISHED, 0)]
    peer.close()
    loop.run()


def test_many_connections_are_distinguished(loop, transport):
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


def test_connect_error_is_given_a_positive_econnrefused(loop):
    with bound_not_listening() as port:
        assert failed(loop, Slots(), hostname="127.0.0.1", port=port) == errno.ECONNREFUSED


def test_connect_error_is_given_enoent_for_a_missing_unix_path(loop, unix):
    assert failed(loop, Slots(), unix=unix.listen_options()["unix"]) == errno.ENOENT


def test_connect_error_is_given_a_positive_etimedout(loop):
    with black_hole() as listener:
        assert failed(loop, Slots(), hostname="127.0.0.1", port=port_of(listener), timeout=0.05) == errno.ETIMEDOUT


def test_connect_error_is_given_a_negative_eai_code_of_a_name(loop):
    codes = {value for name, value in vars(stdlib).items() if name.startswith("EAI_")}
    error = failed(loop, Slots(), hostname="name.invalid", port=1)
    assert error in codes
    assert error < 0


def test_connect_error_is_called_for_a_descriptor_that_will_not_do(loop):
    with stdlib.socket() as unconnected:
        assert failed(loop, Slots(), fd=unconnected.fileno()) == errno.ENOTCONN


def test_a_cancelled_connection_tells_no_slot(loop):
    with black_hole() as listener:
        slots = Slots()
        connecting = pybuntcp.connect(socket=slots.handlers, hostname="127.0.0.1", port=port_of(listener))
        assert connecting.cancel()
        loop.run()
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
