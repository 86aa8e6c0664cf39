"""Contract, `ref` and `unref`: only what is referenced keeps `run()` going, whatever it still has to send.

The peers read nothing, so that a tail waits for them.
"""

from __future__ import annotations

import pytest
from support import Feed, accepted, calls_run, sides, unreferenced

import pybuntcp

SIZE = 8 << 20
ENDINGS = {
    "nothing": lambda socket: None,
    "end": lambda socket: socket.end(),
    "close": lambda socket: socket.close(),
    "shutdown": lambda socket: socket.shutdown(),
}
ending = pytest.mark.parametrize("verb", ENDINGS)


def with_a_tail(loop, transport, side, recorder, verb):
    socket, peer = side(loop, transport, recorder, linger_timeout=None)
    feed = Feed(SIZE)
    feed.fill(socket)
    ENDINGS[verb](socket)
    return socket, peer, feed.data[: feed.at]


@ending
@sides
@calls_run
def test_l2_unsent_bytes_of_an_unreferenced_socket_do_not_keep_run_going(loop, transport, side, verb, handlers):
    recorder = handlers(data=lambda socket, chunk: None)
    socket, _peer, _sent = with_a_tail(loop, transport, side, recorder, verb)
    socket.unref()
    loop.run()
    assert pybuntcp.stats()["pending_bytes"] > 0
    assert recorder.count("close") == 0
    socket.terminate()


@ending
@unreferenced
def test_l2_unsent_bytes_of_an_unreferenced_socket_follow_while_another_keeps_run_going(
    loop, transport, verb, handlers
):
    recorder = handlers(data=lambda socket, chunk: None)
    socket, peer, sent = with_a_tail(loop, transport, accepted, recorder, verb)
    socket.unref()
    keeper = transport.listen(handlers())
    assert loop.wait(peer.recv_exactly(len(sent))) == sent
    keeper.stop()
    socket.terminate()


@calls_run
def test_l2_run_goes_on_with_an_unreferenced_socket_that_is_referenced_again(loop, transport, handlers):
    recorder = handlers(data=lambda socket, chunk: None)
    socket, peer, sent = with_a_tail(loop, transport, accepted, recorder, "end")
    socket.unref()
    loop.run()
    received = peer.recv_until_eof()
    peer.shutdown()
    if recorder.count("close") == 0:
        socket.ref()
    loop.run()
    assert received.result() == sent
    assert recorder.close_error is None
