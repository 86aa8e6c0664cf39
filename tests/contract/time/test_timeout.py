"""CONTRACT.md, "Time": T1, `timeout()`: never early, and exactly once. Many of them: test_many_timeouts.py.

Early is measured strictly, from an instant before the call, with `time.monotonic`. Late is only
bounded generously: a busy machine is late, a wrong clock is early.
"""

from __future__ import annotations

import contextlib
import errno
import math
import sys
import time

import pytest
from support import LATE, Feed, Recorder, Stopwatch, accepted, metronome, sides, spin

from pybuntcp import ReadyState

# ---------------------------------------------------------------- not early, exactly once


@pytest.mark.parametrize("seconds", [0.001, 0.0105, 0.0333, 0.1, 1 / 7])
@sides
def test_t1_timeout_fires_exactly_once_and_not_early(loop, transport, side, seconds):
    recorder = Stopwatch()
    socket, _peer = side(loop, transport, recorder)
    called = time.monotonic()
    socket.timeout(seconds)
    loop.run()
    assert seconds <= recorder.fired[0] - called < seconds + LATE
    assert recorder.names() == ["open", "timeout", "close"]


def test_t1_many_timeouts_are_all_in_time(loop, transport, handlers):
    started, late, early = {}, [], []

    def timeout(socket):
        seconds, called = started.pop(socket)
        waited = time.monotonic() - called
        if waited < seconds:
            early.append((seconds, waited))
        if waited > seconds + LATE:
            late.append((seconds, waited))

    recorder = handlers(timeout=timeout)
    listener = transport.listen(recorder)
    for _ in range(150):
        transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 150)
    listener.stop()
    for number, socket in enumerate(recorder.sockets):  # fractions that no clock tick divides
        seconds = 0.0007 + number * 0.00137
        started[socket] = (seconds, time.monotonic())
        socket.timeout(seconds)
        spin(0.0002)
    loop.run()
    assert (early, late, started) == ([], [], {})
    assert recorder.count("timeout") == recorder.count("close") == 150


@pytest.mark.parametrize("place", ["in a handler", "outside"])
def test_t1_timeout_counts_from_the_call_though_the_loop_was_busy(loop, transport, place):
    called = []

    def arm(socket, *_):
        spin(0.05)
        called.append(time.monotonic())
        socket.timeout(0.06)

    recorder = Stopwatch(data=arm)
    socket, peer = accepted(loop, transport, recorder)
    if place == "outside":
        arm(socket)
    else:
        peer.send(b"x")
    loop.run()
    assert 0.06 <= recorder.fired[0] - called[0] < 0.06 + LATE


def test_t1_a_timeout_due_while_a_handler_is_busy_fires_once_after_it(loop, transport, handlers):
    def data(socket, chunk):
        socket.timeout(0.01)
        spin(0.05)
        assert recorder.count("timeout") == 0

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run()
    assert recorder.names() == ["open", "data", "timeout", "close"]


def test_t1_timeouts_fire_in_the_order_in_which_they_are_due(loop, transport, handlers):
    recorder = handlers()
    listener = transport.listen(recorder)
    for _ in range(5):
        transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 5)
    listener.stop()
    order = [3, 0, 4, 1, 2]
    for socket, place in zip(recorder.sockets, order, strict=True):
        socket.timeout(0.1 + place * 0.1)
    loop.run()
    fired = [who for name, who, _ in recorder.events if name == "timeout"]
    assert [recorder.sockets.index(who) for who in fired] == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("kind", [int, float])
def test_t1_seconds_may_be_int_or_float(loop, transport, kind):
    recorder = Recorder()
    socket, _peer = accepted(loop, transport, recorder)
    assert socket.timeout(kind(30)) is None
    assert loop.gauges()["armed_timers"] == 1
    socket.timeout(kind(0))
    assert loop.gauges()["armed_timers"] == 0


def test_t1_the_last_call_counts(loop, transport):
    recorder = Stopwatch()
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(0.02)
    called = time.monotonic()
    socket.timeout(0.15)
    assert loop.gauges()["armed_timers"] == 1
    loop.run()
    assert 0.15 <= recorder.fired[0] - called < 0.15 + LATE
    assert recorder.count("timeout") == 1


def test_t1_a_later_shorter_call_brings_it_forward(loop, transport):
    recorder = Stopwatch()
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(3600)
    called = time.monotonic()
    socket.timeout(0.02)
    loop.run()
    assert 0.02 <= recorder.fired[0] - called < 0.02 + LATE
    assert recorder.count("timeout") == 1


@pytest.mark.parametrize("seconds", [1e6, 1e9, 1e18, sys.float_info.max, math.inf])
def test_t1_a_very_long_timeout_does_not_fire_soon(loop, transport, seconds, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(seconds)
    with metronome(loop, transport, 0.02, 3, lambda: None) as over:
        loop.run_until(over)
    assert recorder.names() == ["open"]


# ---------------------------------------------------------------- cleared, wrong


def test_t1_zero_clears(loop, transport, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    assert loop.gauges()["armed_timers"] == 1
    socket.timeout(0)
    assert loop.gauges()["armed_timers"] == 0
    with metronome(loop, transport, 0.02, 3, lambda: None) as over:
        loop.run_until(over)
    assert recorder.names() == ["open"]
    socket.timeout(0)  # nothing armed: nothing happens
    assert socket.ready_state == ReadyState.ESTABLISHED


def test_t1_a_timeout_cleared_by_a_sibling_in_the_same_turn_does_not_fire(loop, transport, handlers):
    def timeout(socket):
        for sibling in recorder.sockets:
            sibling.timeout(0)

    recorder = handlers(timeout=timeout)
    listener = transport.listen(recorder)
    for _ in range(10):
        transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 10)
    for socket in recorder.sockets:
        socket.timeout(0.001)
    spin(0.02)  # all are due in one turn
    loop.run_until(lambda: recorder.count("timeout"))
    loop.settle()
    assert recorder.count("timeout") == 1
    assert recorder.count("close") == 0


@pytest.mark.parametrize("wrong", [-1, -0.001, -math.inf, math.nan])
def test_t1_negative_or_nan_is_a_value_error(loop, transport, wrong):
    recorder = Recorder()
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(60)
    with pytest.raises(ValueError, match=r"."):
        socket.timeout(wrong)
    assert loop.gauges()["armed_timers"] == 1  # a bad call changes nothing


@pytest.mark.parametrize("wrong", ["5", None, [1], 1j], ids=repr)
def test_t1_what_is_no_number_is_a_type_error(loop, transport, wrong):
    socket, _peer = accepted(loop, transport, Recorder())
    with pytest.raises(TypeError):
        socket.timeout(wrong)
    assert loop.gauges()["armed_timers"] == 0


# ---------------------------------------------------------------- timeout, then close


@sides
def test_t1_after_timeout_comes_close_with_timeout_error(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    socket.timeout(0.01)
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    error = recorder.close_error
    assert type(error) is TimeoutError
    assert error.errno == errno.ETIMEDOUT
    assert peer.recv_until_eof().result() == b""


def test_t1_without_a_timeout_handler_it_closes_too(loop, transport, handlers):
    recorder = handlers(without=("timeout",))
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert type(recorder.close_error) is TimeoutError


def test_t1_what_the_timeout_handler_writes_is_sent_before_the_close(loop, transport, handlers):
    recorder = handlers(timeout=lambda socket: socket.write(b"too slow"))
    socket, peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    loop.run()
    assert peer.recv_until_eof().result() == b"too slow"


@pytest.mark.parametrize("verb", ["end", "close", "terminate"])
def test_t1_a_verb_in_the_timeout_handler_is_honoured_and_close_tells_the_timeout(loop, transport, verb, handlers):
    recorder = handlers(timeout=lambda socket: getattr(socket, verb)())
    socket, peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    loop.run_until(lambda: recorder.count("timeout"))
    peer.close()
    loop.run()
    assert recorder.names(without=("end",)) == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError


def test_t1_end_with_data_in_the_timeout_handler_delivers_it(loop, transport, handlers):
    recorder = handlers(timeout=lambda socket: socket.end(b"you were too slow"))
    socket, peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    assert loop.wait(peer.recv_until_eof()) == b"you were too slow"
    peer.close()
    loop.run()
    assert recorder.count("close") == 1


@sides
def test_t1_renewed_in_the_handler_it_lives_on(loop, transport, side):
    recorder = Stopwatch(timeout=lambda socket: socket.timeout(0.03) if len(recorder.fired) < 4 else None)
    socket, _peer = side(loop, transport, recorder)
    called = time.monotonic()
    socket.timeout(0.03)
    loop.run()
    assert recorder.names() == ["open", *["timeout"] * 4, "close"]
    for before, after in zip([called, *recorder.fired], recorder.fired, strict=False):
        assert after - before >= 0.03


def test_t1_zero_in_the_handler_lives_on_without_a_timeout(loop, transport, handlers):
    recorder = handlers(timeout=lambda socket: socket.timeout(0))
    socket, peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    loop.run_until(lambda: recorder.count("timeout"))
    with metronome(loop, transport, 0.02, 3, lambda: None) as over:
        loop.run_until(over)
    assert recorder.names() == ["open", "timeout"]
    assert loop.gauges()["armed_timers"] == 0
    assert socket.write(b"alive") == 5
    assert peer.recv_exactly(5).result() == b"alive"


def test_t1_a_raising_timeout_handler_does_not_keep_the_socket_open(loop, transport):
    def timeout(socket):
        raise LookupError("in timeout")

    recorder = Recorder(timeout=timeout, error=lambda socket, error: None)
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    loop.run()
    assert recorder.names() == ["open", "timeout", "error", "close"]
    assert type(recorder.close_error) is TimeoutError


def test_t1_timeout_is_not_restarted_by_bytes(loop, transport):
    recorder = Stopwatch(data=lambda socket, chunk: socket.write(chunk))
    socket, peer = accepted(loop, transport, recorder)

    def chat():
        with contextlib.suppress(ConnectionError):
            while True:
                peer.sock.sendall(b"x")
                if not peer.sock.recv(1):
                    return

    called = time.monotonic()
    socket.timeout(0.5)
    peer.call(chat)
    loop.run()
    assert 0.5 <= recorder.fired[0] - called < 0.5 + LATE
    assert recorder.count("data") > 10


def test_t1_a_close_with_bytes_pending_clears_the_timeout_and_loses_nothing(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, idle_timeout=0.2)
    feed = Feed(8 << 20)
    feed.fill(socket)
    socket.timeout(0.05)
    socket.close()
    clock = handlers(label="clock")
    ticking, _ = accepted(loop, transport, clock)
    ticking.timeout(0.5)
    loop.run_until(lambda: clock.count("close"))
    assert recorder.names() == ["open"]
    received = peer.recv_until_eof()
    loop.run()
    assert received.result() == feed.accepted
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


def test_t1_closing_clears_the_timeout(loop, transport, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(0.001)
    socket.terminate()
    spin(0.01)
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


@pytest.mark.parametrize("armed", [True, False])
def test_t1_timeout_runs_on_after_end(loop, transport, armed, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder, linger_timeout=None)
    if armed:
        socket.timeout(0.05)
    socket.end()
    if not armed:
        socket.timeout(0.05)
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError


# ---------------------------------------------------------------- unsent bytes


def test_t1_a_timeout_with_unsent_bytes_resets(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder)
    feed = Feed(8 << 20)
    feed.fill(socket)
    socket.timeout(0.02)
    loop.run()
    assert type(recorder.close_error) is TimeoutError
    got = peer.recv_until_reset().result()
    assert feed.accepted.startswith(got)
    assert len(got) < feed.at


def test_t1_a_timeout_without_unsent_bytes_finishes(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder)
    assert socket.write(b"all sent") == 8
    socket.timeout(0.02)
    loop.run()
    assert peer.recv_until_eof().result() == b"all sent"
