"""Contract, Reading (R4) and Time: what becomes of a paused socket whose write has failed.

Who writes, pauses and waits for the drain is not told of a reset by either: the drain never comes, and a reset that
comes while paused is told at resume. `linger_timeout` ends it.
"""

from __future__ import annotations

import pytest
from support import Feed, Recorder, accepted, linux_only, pattern, send_and_wait, wait_for, was_reset

BIG = 8 << 20  # more than any kernel buffer of a loopback connection holds


def stuffed_and_paused(loop, transport, linger_timeout):
    """It has been given more than goes, and waits for the drain; the peer has sent something, and is gone."""
    recorder = Recorder(open=lambda socket: socket.pause())
    socket, peer = accepted(loop, transport, recorder, linger_timeout=linger_timeout)
    feed = Feed(BIG)
    while feed.write(socket, 65536) == 65536:
        pass
    send_and_wait(socket, peer, pattern(1000))
    peer.close().result()
    wait_for(lambda: was_reset(socket), "the reset in our kernel")
    loop.settle()
    return recorder, socket


@linux_only
def test_r4_a_paused_socket_whose_write_has_failed_is_closed_after_linger_timeout(loop, transport):
    recorder, socket = stuffed_and_paused(loop, transport, 0.1)
    assert socket.write(b"x") == -1
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, (ConnectionResetError, BrokenPipeError))


@linux_only
@pytest.mark.parametrize("linger_timeout", [30.0, None])
def test_r4_resumed_before_it_tells_the_bytes_and_then_the_error(loop, transport, linger_timeout):
    recorder, socket = stuffed_and_paused(loop, transport, linger_timeout)
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.received() == pattern(1000)
    assert recorder.order() == ["open", "data", "close"]
    assert isinstance(recorder.close_error, (ConnectionResetError, BrokenPipeError))
