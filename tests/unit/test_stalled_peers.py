"""Peers that stop reading: when `idle_timeout` ends them, and what a `timeout` handler can still save."""

from __future__ import annotations

import pytest
from support import Feed, Recorder, accepted, pattern, shrink_send_buffer, sides

BIG = 8 << 20  # more than any kernel buffer of a loopback connection holds
IDLE = 0.3


@pytest.mark.parametrize("verb", ["write", "gathered"])
@sides
def test_a_peer_that_takes_nothing_is_ended_after_one_idle_timeout(loop, transport, side, verb):
    """Well before another clock, started at the same moment, has run for nearly two."""
    order = []
    recorder = Recorder(timeout=lambda socket: order.append("idle"))
    witness = Recorder(label="witness", timeout=lambda socket: order.append("witness"))
    clock, _ = accepted(loop, transport, witness)
    # Small buffers: once they are full, nothing moves any more.
    options = {"idle_timeout": IDLE, "high_water_mark": BIG, "rcvbuf": 4096}

    def stall(socket):
        shrink_send_buffer(socket)
        clock.timeout(1.75 * IDLE)
        if verb == "gathered":
            for _ in range(BIG >> 13):
                socket.write(bytes(8192))
        else:
            assert socket.write(bytes(BIG)) == BIG

    if verb == "gathered":
        recorder._functions["open"] = stall
        socket, _peer = side(loop, transport, recorder, **options)
    else:
        socket, _peer = side(loop, transport, recorder, **options)
        stall(socket)
    loop.run()
    assert order == ["idle", "witness"]
    assert socket.bytes_written < BIG
    assert isinstance(recorder.close_error, TimeoutError)


def test_a_peer_that_stops_reading_is_ended_after_one_idle_timeout_from_then(loop, unix):
    """What was pending before and has left is no progress of what is pending now."""
    order = []
    recorder = Recorder(timeout=lambda socket: order.append("idle"))
    witness = Recorder(label="witness", timeout=lambda socket: order.append("witness"))
    clock, _ = accepted(loop, unix, witness)
    socket, peer = accepted(loop, unix, recorder, idle_timeout=IDLE)
    feed = Feed(2 * BIG)
    feed.fill(socket)
    peer.recv_exactly(feed.at)
    loop.run_until(lambda: recorder.count("drain"))
    clock.timeout(1.75 * IDLE)
    feed.fill(socket)
    loop.run()
    assert order == ["idle", "witness"]
    assert isinstance(recorder.close_error, TimeoutError)


@pytest.mark.parametrize("before", ["end", "shutdown"])
@pytest.mark.parametrize("clock", ["timeout", "idle_timeout"])
def test_a_close_in_a_timeout_handler_saves_what_is_pending_though_we_had_ended(loop, transport, clock, before):
    recorder = Recorder(timeout=lambda socket: socket.close())
    options = {"idle_timeout": IDLE} if clock == "idle_timeout" else {}
    socket, peer = accepted(loop, transport, recorder, high_water_mark=BIG, **options)
    assert socket.write(pattern(BIG)) == BIG
    assert getattr(socket, before)() in (0, None)
    if clock == "timeout":
        socket.timeout(0.02)
    loop.run_until(lambda: recorder.count("timeout"))
    assert socket.pending > 0
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG)
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert isinstance(recorder.close_error, TimeoutError)
