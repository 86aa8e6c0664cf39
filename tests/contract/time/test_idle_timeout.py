"""CONTRACT.md, "Time": T1, `idle_timeout`: the clock that every byte in or out restarts."""

from __future__ import annotations

import time

import pytest
from support import LATE, Feed, Stopwatch, accepted, metronome, shrink_send_buffer, sides

from pybuntcp import ReadyState


@sides
def test_t1_idle_timeout_closes_an_idle_socket_and_not_early(loop, transport, side):
    opened = []
    recorder = Stopwatch(open=lambda socket: opened.append(time.monotonic()))
    started = time.monotonic()
    side(loop, transport, recorder, idle_timeout=0.1)
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError
    assert recorder.fired[0] - started >= 0.1
    assert recorder.fired[0] - opened[0] < 0.1 + LATE


@pytest.mark.parametrize("direction", ["in", "out"])
@sides
def test_t1_idle_timeout_is_restarted_by_every_byte(loop, transport, side, direction):
    def tick():
        if not recorder.fired:  # on a machine that stood still for as long, it was idle
            before.append(time.monotonic())
            socket.write(b"x") if direction == "out" else peer.send(b"x").ignore()

    recorder = Stopwatch()
    before = [time.monotonic()]  # an instant before the connection, one before each byte
    socket, peer = side(loop, transport, recorder, idle_timeout=0.25)
    with metronome(loop, transport, 0.04, 10, tick) as over:
        loop.run_until(over)  # 0.4 s: well past the idle time
    loop.run_until(lambda: recorder.count("close"))
    last = before[socket.bytes_read + socket.bytes_written]
    assert 0.25 <= recorder.fired[0] - last < 0.25 + LATE
    assert type(recorder.close_error) is TimeoutError


def test_t1_idle_timeout_runs_on_while_paused(loop, transport, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    _socket, peer = accepted(loop, transport, recorder, idle_timeout=0.05)
    peer.send(b"unread").ignore()
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError


def test_t1_idle_timeout_ends_a_stalled_peer_while_bytes_are_pending(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder, idle_timeout=0.5)
    feed = Feed(8 << 20)
    feed.fill(socket)
    assert socket.pending > 0
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError
    assert len(peer.recv_until_reset().result()) < feed.at


def test_t1_a_refused_write_does_not_restart_idle_timeout(loop, transport):
    recorder = Stopwatch()
    socket, _peer = accepted(loop, transport, recorder, idle_timeout=0.2)
    Feed(8 << 20).fill(socket)

    def tick():
        socket.write(bytes(100_000))  # nothing of it leaves: the peer does not read

    with metronome(loop, transport, 0.03, 20, tick) as over:
        loop.run_until(lambda: recorder.fired or over())
    assert recorder.count("timeout") == 1  # not put off by 0.6 s of attempts
    loop.run()
    assert recorder.count("close") == 1


def test_t1_idle_timeout_counts_bytes_that_leave_the_tail(loop, transport):
    recorder = Stopwatch()
    socket, peer = accepted(loop, transport, recorder, idle_timeout=1.0, high_water_mark=8 << 20)
    shrink_send_buffer(socket, 65536)
    assert socket.write(bytes(4 << 20)) == 4 << 20
    sip = 65536

    def tick():
        assert recorder.fired == []
        peer.recv_exactly(sip)

    with metronome(loop, transport, 0.1, 12, tick) as over:
        loop.run_until(over)
    assert recorder.names() == ["open"]
    assert socket.pending > 0


@pytest.mark.parametrize("answer", [0, 30])
def test_t1_idle_timeout_renewed_in_the_handler_lives_on(loop, transport, answer, handlers):
    recorder = handlers(timeout=lambda socket: socket.timeout(answer))
    socket, _peer = accepted(loop, transport, recorder, idle_timeout=0.05)
    loop.run_until(lambda: recorder.count("timeout"))
    loop.settle()
    assert recorder.count("close") == 0
    assert socket.ready_state == ReadyState.ESTABLISHED


def test_t1_idle_timeout_is_independent_of_timeout(loop, transport):
    recorder = Stopwatch()
    socket, _peer = accepted(loop, transport, recorder, idle_timeout=0.5)
    socket.timeout(30)
    socket.timeout(0)  # clears the other clock only
    assert loop.gauges()["armed_timers"] == 1
    socket.timeout(3600)  # puts off the other clock only
    started = time.monotonic()
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert recorder.fired[0] - started < 0.5 + LATE


def test_t1_timeout_is_independent_of_idle_timeout(loop, transport):
    recorder = Stopwatch()
    socket, peer = accepted(loop, transport, recorder, idle_timeout=30)
    called = time.monotonic()
    socket.timeout(0.5)
    peer.send(b"bytes restart the idle clock only")
    loop.run_until(recorder.received)
    loop.run()
    assert 0.5 <= recorder.fired[0] - called < 0.5 + LATE


def test_t1_idle_timeout_of_a_listener_is_each_sockets_own(loop, transport, handlers):
    recorder = handlers()
    listener = transport.listen(recorder, idle_timeout=1.0)
    quiet, chatty = transport.peer(listener), transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 2)
    listener.stop()

    with metronome(loop, transport, 0.12, 10, lambda: chatty.send(b"x")) as over:
        loop.run_until(over)
    assert recorder.count("close") == 1
    (dead,) = (who for name, who, _ in recorder.events if name == "close")
    assert dead.bytes_read == 0
    assert quiet.recv_until_eof().result() == b""
