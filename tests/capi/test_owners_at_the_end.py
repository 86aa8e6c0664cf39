"""The owner of a table: let go with its thread's loop, and kept where Python or another connection replaces the table."""

from __future__ import annotations

import gc
import weakref

import pytest
from support import Peer, Recorder
from support.addresses import dialled
from support.slots import Slots
from support.threads import in_thread

import pybuntcp


class Owner:
    """What `user` might point into."""


def owned(**options):
    """Slots, their `Handlers`, and a weak reference to what these alone hold."""
    owner = Owner()
    slots = Slots(owner=owner, **options)
    handlers = slots.handlers
    slots.owner = None
    return slots, handlers, weakref.ref(owner)


def collected(owner):
    gc.collect()
    return owner() is None


@pytest.mark.parametrize("pending", [0, 8 << 20])
def test_the_owner_is_let_go_when_the_thread_ends_with_its_connections_open(pending):
    def leave(socket, chunk):
        raise SystemExit("out of run()")

    def opened(handle):
        assert handle.write(bytes(pending)) == pending

    def serve():
        _slots, handlers, owner = owned(open=opened, without=("data",), python={"data": leave})
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=handlers, high_water_mark=8 << 20)
        owners.append(owner)
        peers.append(Peer(lambda: dialled(listener.port)))
        peers[0].send(b"x")
        del handlers
        with pytest.raises(SystemExit):
            pybuntcp.run()
        assert not collected(owner)  # the connection is open

    owners, peers = [], []
    assert in_thread(serve) is None
    peers[0].stop()
    assert collected(owners[0])


def test_the_owner_is_let_go_when_the_thread_ends_while_it_connects():
    def dial():
        _slots, handlers, owner = owned()
        owners.append(owner)
        pybuntcp.connect(hostname="127.0.0.1", port=1, socket=handlers)

    owners = []
    assert in_thread(dial) is None
    assert collected(owners[0])


def test_an_owner_that_holds_its_listener_is_let_go_after_stop(loop, transport):
    _slots, handlers, owner = owned()
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    owner().listener = listener
    del handlers
    listener.stop()
    del listener
    loop.run()
    assert collected(owner)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_table_replaced_again_and_again_in_its_slot_keeps_its_owner_until_that_returns(loop, transport, times):
    """And every table between goes with it."""

    def swap(handle, chunk):
        for _ in range(times):
            _other, handlers, between = owned(label="other")
            owners.append(between)
            listener.reload(handlers)
        del handlers
        told.append(collected(owners[0]))

    slots, handlers, owner = owned(data=swap)
    owners, told = [owner], []
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    del handlers
    peer = transport.peer(listener)
    peer.send(b"x")
    loop.run_until(lambda: told)
    loop.settle()
    assert told == [False]
    assert [collected(each) for each in owners] == [True] * times + [False]
    listener.stop(True)
    loop.run()
    assert collected(owners[-1])
    assert slots.names() == ["open", "data"]


@pytest.mark.parametrize("how", ["listener", "socket"])
def test_a_table_replaced_by_python_lets_its_owner_go_when_the_handler_has_returned(loop, transport, how):
    def reload(socket, chunk):
        (listener if how == "listener" else slots.socket.object()).reload(Slots(label="other").handlers)

    slots, handlers, owner = owned()
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    del handlers
    transport.peer(listener)
    loop.run_until(lambda: slots.sockets)
    python = Recorder(data=reload)
    others = transport.listen(python)
    transport.peer(others).send(b"x")
    loop.run_until(python.received)
    loop.settle()
    assert collected(owner) is (how == "listener")  # else the listener's own table has it still
    for each in (listener, others):
        each.stop(True)
    loop.run()
    assert collected(owner)
