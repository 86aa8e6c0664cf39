"""`connect` with a table of slots: its `Connecting` still gives the `Socket`, to who asks."""

from __future__ import annotations

import gc

import pytest
from support.slots import Slots

import pybuntcp


def objects_made():
    return sum(type(each) is pybuntcp.Socket for each in gc.get_objects())


def connecting(transport, slots):
    """The Connecting, and the peer that it will meet."""
    server = transport.raw_server()
    peer = server.accept()
    return pybuntcp.connect(socket=slots.handlers, **transport.connect_options(server)), peer


@pytest.mark.parametrize("kept", [True, False])
def test_an_object_is_made_for_a_connecting_that_is_kept_and_for_no_other(loop, transport, kept):
    seen, holder = [], []
    slots = Slots(close=lambda handle, error: seen.append(objects_made() - before))
    loop.settle()  # it has a socket of its own
    gc.collect()
    before = objects_made()
    outcome, peer = connecting(transport, slots)
    if kept:
        holder.append(outcome)
    del outcome
    loop.run_until(lambda: slots.sockets)
    peer.close()
    loop.run()
    assert seen == [int(kept)]


def test_the_result_is_the_object_that_the_socket_has(loop, transport):
    slots = Slots()
    outcome, peer = connecting(transport, slots)
    loop.run_until(lambda: slots.sockets)
    loop.settle()
    assert outcome.done()
    assert outcome.result() is slots.socket.object()
    assert outcome.result().write(b"through the sock") == 16
    assert loop.wait(peer.recv_exactly(16)) == b"through the sock"
    slots.socket.close()
    loop.run()


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_the_result_of_one_closed_in_its_open_slot_is_a_closed_object(loop, transport, verb):
    slots = Slots(open=lambda handle: getattr(handle, verb)())
    outcome, _peer = connecting(transport, slots)
    loop.run()
    assert slots.names() == ["open", "close"]
    sock = outcome.result()
    assert (type(sock), sock.ready_state) == (pybuntcp.Socket, pybuntcp.ReadyState.CLOSED)
    assert sock.write(b"x") == -1


def test_the_result_is_there_after_the_connection_has_gone(loop, transport):
    slots = Slots(data=lambda handle, chunk: handle.end())
    outcome, peer = connecting(transport, slots)
    peer.send(b"12345")
    peer.close()
    loop.run()
    assert (outcome.result().bytes_read, outcome.exception()) == (5, None)
