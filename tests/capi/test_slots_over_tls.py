"""Slots of secured connections: verbs without the GIL, in a turn of the loop and outside, on an engine that may need it.

The fallback engine works on Python objects, and takes the GIL for it wherever the verb was called from.
"""

from __future__ import annotations

import errno
import importlib

import pytest
from support import pattern
from support.slots import Slots
from support.tls import SERVER_TLS
from support.tls_peer import client_context, dialling, tls_accepted
from support.tls_records import HANDSHAKE, KEY_UPDATE_REQUESTED, Sealer, keylog

PLACES = ["its own slot", "another's slot", "outside run()"]


@pytest.fixture
def released(outside):
    return importlib.import_module("outside.released")


@pytest.mark.parametrize("verb", ["close", "terminate"])
@pytest.mark.parametrize("place", PLACES)
def test_a_secured_socket_may_be_closed_with_the_gil_released(loop, tcp, released, place, verb):
    def act(*_):
        handle.cork()
        handle.write(b"last words")
        given.append(released.without_the_gil(handle, verb))

    given = []
    slots = Slots(label="slots", **({"data": act} if place == "its own slot" else {}))
    handle, peer = tls_accepted(loop, tcp, slots, linger_timeout=1)
    if place == "outside run()":
        act()
    elif place == "its own slot":
        peer.write(b"x")
    else:
        other, another = tls_accepted(loop, tcp, Slots(label="other", data=act))
        another.write(b"x")
        loop.run_until(lambda: given)
        other.close()
    heard = loop.wait(peer.read_to_end())
    peer.close()
    loop.run()
    assert given == [0]
    assert slots.names()[-1] == "close"
    if verb == "terminate":
        assert heard[0] == b""
    else:
        assert heard == (b"last words", "close_notify")


def test_slots_that_take_no_gil_serve_a_secured_connection(loop, tcp, outside):
    echo = outside.silent.Echo(last=1)
    listener = tcp.listen(echo.handlers(), tls=SERVER_TLS)
    echo.on_last = listener.stop
    peer = dialling(tcp, listener, client_context())
    for size in (1, 20_000, 200_000):
        peer.write(pattern(size))
        assert loop.wait(peer.read(size)) == pattern(size)
    peer.notify()
    peer.shutdown()
    loop.run()
    assert echo.counts["received"] == 220_001
    assert (echo.counts["opens"], echo.counts["ends"], echo.counts["closes"]) == (1, 1, 1)
    assert echo.counts["errors"] == 0


def test_a_close_with_the_gil_released_waits_for_the_rest_of_the_peers_message(loop, tcp, released):
    """Also where the rest comes in a turn of the loop that holds no GIL."""
    slots, context = Slots(label="slots"), client_context()
    with keylog(context) as keys:
        handle, peer = tls_accepted(loop, tcp, slots, context)
        sealer = Sealer(peer, keys)
    peer.send(sealer.seal(b"x") + sealer.seal(KEY_UPDATE_REQUESTED[:4], HANDSHAKE))
    loop.run_until(lambda: slots.count("data"))
    handle.write(b"last words")
    assert released.without_the_gil(handle, "close") == 0
    loop.settle()
    assert slots.names() == ["open", "handshake", "data"]
    peer.send(sealer.seal(KEY_UPDATE_REQUESTED[4:], HANDSHAKE))
    sealer.update_keys()
    assert loop.wait(peer.read_to_end()) == (b"last words", "close_notify")
    loop.run()
    assert slots.names() == ["open", "handshake", "data", "close"]
    assert slots.args("close") == [(0,)]


def test_a_reset_in_the_handshake_goes_to_the_handshake_slot_and_then_to_close(loop, tcp):
    slots = Slots(label="slots")
    listener = tcp.listen(slots, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    loop.run_until(lambda: slots.count("open"))
    peer.reset()
    loop.run_until(lambda: slots.count("close"))
    listener.stop()
    assert slots.names() == ["open", "handshake", "close"]
    assert slots.args("handshake") == [(0, 0)]
    assert slots.args("close") == [(errno.ECONNRESET,)]
