"""Slots of secured connections: verbs without the GIL, in a turn of the loop and outside, on an engine that may need it.

The fallback engine works on Python objects, and takes the GIL for it wherever the verb was called from.
"""

from __future__ import annotations

import importlib

import pytest
from capi_slots import Slots
from support import pattern
from support_tls import SERVER_TLS
from support_tls_peer import client_context, dialling, tls_accepted

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
