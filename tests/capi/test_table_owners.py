"""The owner of a table: kept for as long as a listener or a socket may use the table, and no longer."""

from __future__ import annotations

import gc
import weakref

import pytest
from support.addresses import black_hole, bound_not_listening, port_of
from support.slots import Slots

import pybuntcp


class Owner:
    """What `user` might point into."""


def owned(**options):
    """Slots with an owner that nobody else holds, its `Handlers`, and whether the owner is there."""
    owner = Owner()
    slots = Slots(owner=owner, **options)
    handlers = slots.handlers
    slots.owner = None  # a recorder outlives its test's tables
    return slots, handlers, weakref.ref(owner)


def collected(owner):
    gc.collect()
    return owner() is None


def test_an_owner_lives_with_its_handlers():
    _slots, handlers, owner = owned()
    assert not collected(owner)
    del handlers
    assert collected(owner)


def test_an_owner_that_holds_its_handlers_is_garbage_with_them():
    _slots, handlers, owner = owned()
    owner().handlers = handlers
    del handlers
    assert collected(owner)


@pytest.mark.parametrize("options", [{"abi": 2}, {"size": 8}, {"data": False}, {"ext_size": 1 << 40}])
def test_the_owner_of_a_refused_table_is_let_go(outside, options):
    thing = Owner()
    owner = weakref.ref(thing)
    with pytest.raises(ValueError, match="slots_t"):
        outside.tables.bind(owner=thing, **options)
    del thing
    assert collected(owner)


def test_an_owner_lives_as_long_as_the_listener_listens(loop, transport):
    _slots, handlers, owner = owned()
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    del handlers
    assert not collected(owner)
    listener.stop()
    loop.run()
    assert collected(owner)


def test_an_owner_lives_as_long_as_a_socket_is_open(loop, transport):
    slots, handlers, owner = owned(close=lambda handle, error: told.append(collected(owner)))
    told = []
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    del handlers
    peer = transport.peer(listener)
    loop.run_until(lambda: slots.sockets)
    listener.stop()
    loop.settle()
    assert not collected(owner)
    peer.close()
    loop.run()
    assert told == [False]
    assert collected(owner)


def test_of_two_listeners_the_last_one_lets_the_owner_go(loop, transport):
    _slots, handlers, owner = owned()
    listeners = [pybuntcp.listen(socket=handlers, **transport.listen_options()) for _ in range(2)]
    del handlers
    for listener in listeners:
        assert not collected(owner)
        listener.stop()
        loop.settle()
    assert collected(owner)


def test_the_owner_of_an_outgoing_connection_lives_until_its_close_is_called(loop, transport):
    slots, handlers, owner = owned(close=lambda handle, error: told.append(collected(owner)))
    told = []
    server = transport.raw_server()
    peer = server.accept()
    pybuntcp.connect(socket=handlers, **transport.connect_options(server))
    del handlers
    loop.run_until(lambda: slots.sockets)
    assert not collected(owner)
    peer.close()
    loop.run()
    assert told == [False]
    assert collected(owner)


def test_the_owner_of_a_failed_connection_lives_until_that_is_reported(loop):
    _slots, handlers, owner = owned(connect_error=lambda handle, error: told.append(collected(owner)))
    told = []
    with bound_not_listening() as port:
        pybuntcp.connect(hostname="127.0.0.1", port=port, socket=handlers)
        del handlers
        assert not collected(owner)
        loop.run()
    assert told == [False]
    assert collected(owner)


def test_the_owner_of_a_cancelled_connection_is_let_go(loop):
    _slots, handlers, owner = owned()
    with black_hole() as listener:
        connecting = pybuntcp.connect(hostname="127.0.0.1", port=port_of(listener), socket=handlers)
        del handlers
        connecting.cancel()
        loop.run()
    assert collected(owner)


@pytest.mark.parametrize("how", ["listener", "socket"])
def test_a_reload_takes_the_new_owner_and_lets_the_old_one_go(loop, transport, how):
    one, handlers, first = owned()
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    peer = transport.peer(listener)
    loop.run_until(lambda: one.sockets)
    listener.stop()
    _two, handlers, second = owned()
    (listener if how == "listener" else one.sockets[0].object()).reload(handlers)
    del handlers
    loop.settle()
    assert not collected(second)
    assert collected(first) is (how == "listener")  # else the listener's own table has it still
    peer.close()
    loop.run()
    assert collected(first)
    assert collected(second)


@pytest.mark.parametrize("event", ["open", "data", "end", "close"])
def test_the_owner_of_a_table_replaced_in_one_of_its_slots_lives_until_that_returns(loop, transport, event):
    def swap(handle, *_):
        handle.object().listener.reload(Slots().handlers)
        told.append(collected(owner))

    slots, handlers, owner = owned(**{event: swap})
    told = []
    listener = pybuntcp.listen(socket=handlers, **transport.listen_options())
    del handlers
    peer = transport.peer(listener)
    peer.send(b"x")
    loop.run_until(lambda: slots.sockets)
    listener.stop()
    peer.close()
    loop.run()
    assert told == [False]
    assert collected(owner)


def test_an_outgoing_socket_s_table_replaced_in_its_slot_is_kept_until_that_returns(loop, transport):
    def swap(handle, chunk):
        handle.object().reload(Slots().handlers)
        told.append(collected(owner))

    slots, handlers, owner = owned(data=swap)
    told = []
    server = transport.raw_server()
    peer = server.accept()
    pybuntcp.connect(socket=handlers, **transport.connect_options(server))
    del handlers
    loop.run_until(lambda: slots.sockets)
    peer.send(b"x")
    peer.close()
    loop.run()
    assert told == [False]
    assert collected(owner)
