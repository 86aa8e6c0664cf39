"""CONTRACT.md, "Time": T1, `read_timeout`, what is not received for so long; and both times, set on an open socket."""

from __future__ import annotations

import asyncio
import time

import pytest
from support import LATE, Stopwatch, accepted, metronome, sides
from support.asyncio_loops import on_loop
from support.coroutines import async_accepted, done
from support.handlers import QUIET
from support.recorder import Recorder

import pybuntcp

BOTH = pytest.mark.parametrize("name", ["idle_timeout", "read_timeout"])
standalone = pytest.mark.standalone("the clock is the connection's, whatever turns it")


@sides
def test_t1_read_timeout_closes_a_socket_that_receives_nothing_and_not_early(loop, transport, side):
    recorder = Stopwatch()
    started = time.monotonic()
    side(loop, transport, recorder, read_timeout=0.1)
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError
    assert "read_timeout" in str(recorder.close_error)
    assert 0.1 <= recorder.fired[0] - started < 0.1 + LATE


@standalone
@pytest.mark.parametrize("direction", ["in", "out"])
def test_t1_read_timeout_is_restarted_by_what_is_received_and_by_nothing_else(loop, transport, direction):
    def tick():
        if not recorder.fired:
            before.append(time.monotonic())
            socket.write(b"x") if direction == "out" else peer.send(b"x").ignore()

    recorder = Stopwatch()
    before = [time.monotonic()]
    socket, peer = accepted(loop, transport, recorder, read_timeout=0.2)
    with metronome(loop, transport, 0.04, 8, tick) as over:
        loop.run_until(lambda: recorder.fired or over())
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.fired[0] - before[socket.bytes_read] >= 0.2
    assert direction == "in" or recorder.fired[0] - before[0] < 0.2 + LATE


@standalone
def test_t1_read_timeout_does_not_run_while_the_socket_is_paused_and_starts_anew_at_resume(loop, transport):
    recorder = Stopwatch()
    socket, _peer = accepted(loop, transport, recorder, read_timeout=0.1)
    socket.pause()
    with metronome(loop, transport, 0.05, 5, lambda: None) as over:
        loop.run_until(over)  # 0.25 s
    assert recorder.names() == ["open"]
    resumed = time.monotonic()
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert recorder.fired[0] - resumed >= 0.1


@standalone
def test_t1_read_timeout_ends_with_the_peers_end(loop, transport):
    """Half-open: nothing more can be received, and that is no silence."""
    recorder = Stopwatch()
    socket, peer = accepted(loop, transport, recorder, read_timeout=0.05, allow_half_open=True)
    peer.shutdown()
    loop.run_until(lambda: recorder.count("end"))
    with metronome(loop, transport, 0.05, 3, lambda: None) as over:
        loop.run_until(over)
    assert recorder.names() == ["open", "end"]
    socket.end()
    loop.run()


@on_loop("native")
async def test_t1_read_timeout_does_not_run_while_an_async_handler_of_the_socket_runs(transport):
    async def data(socket, chunk):
        await asyncio.sleep(0.2)
        returned.append(time.monotonic())

    returned, recorder = [], Stopwatch()
    _socket, peer = await async_accepted(transport, recorder, read_timeout=0.1)
    recorder.socket.reload({**recorder.handlers, "data": data})
    await done(peer.send(b"x"))
    while not recorder.fired:
        await asyncio.sleep(0.01)
    assert recorder.fired[0] - returned[0] >= 0.1


@standalone
def test_t1_a_source_of_a_pipe_is_timed_by_what_it_receives(loop, tcp):
    sources, targets = Stopwatch(), Recorder()
    source, peer = accepted(loop, tcp, sources, read_timeout=0.15)
    target, other = accepted(loop, tcp, targets)
    source.pipe(target, end=False)
    before = []

    def tick():
        before.append(time.monotonic())
        peer.send(b"x").ignore()

    with metronome(loop, tcp, 0.04, 6, tick) as over:
        loop.run_until(lambda: sources.fired or over())
    loop.run_until(lambda: sources.count("close"))
    assert sources.fired[0] - before[source.bytes_read - 1] >= 0.15
    assert "read_timeout" in str(sources.close_error)
    target.terminate()
    other.close()
    loop.run()


# ---------------------------------------------------------------- which one it was


@standalone
@pytest.mark.parametrize("which", ["idle_timeout", "read_timeout", "timeout()", "linger_timeout"])
def test_t1_the_error_names_the_time_that_was_over(loop, transport, which):
    recorder = Recorder(open=lambda socket: socket.timeout(0.05) if which == "timeout()" else None)
    options = {which: 0.05} if which != "timeout()" else {}
    socket, _peer = accepted(loop, transport, recorder, **options)
    if which == "linger_timeout":
        socket.end()
    loop.run()
    error = recorder.close_error
    assert type(error) is TimeoutError
    assert str(error).endswith(which)
    assert (error.code, error.syscall, error.address) == ("ETIMEDOUT", "read", socket.remote_address)


# ---------------------------------------------------------------- set on a socket


@BOTH
@standalone
def test_t1_both_are_read_as_they_were_given_and_are_none_after_close(loop, transport, name):
    socket, _peer = accepted(loop, transport, Recorder(), **{name: 20})
    other, _peer = accepted(loop, transport, Recorder())
    assert (getattr(socket, name), getattr(other, name)) == (20.0, None)
    for value, expected in ((0.5, 0.5), (7, 7.0), (None, None), (float("inf"), None)):
        setattr(socket, name, value)
        assert getattr(socket, name) == expected
    setattr(socket, name, 5)
    socket.terminate()
    setattr(socket, name, 0.01)
    loop.run_until(lambda: not pybuntcp.stats()["open_sockets"] or socket.ready_state == 0)
    other.terminate()
    loop.run()
    assert getattr(socket, name) is None
    setattr(socket, name, 0.01)
    assert getattr(socket, name) is None


@BOTH
@standalone
def test_t1_setting_it_starts_it_anew(loop, tcp, name):
    def tick():
        if not recorder.fired:
            before.append(time.monotonic())
            setattr(socket, name, 0.2)

    recorder, before = Stopwatch(), [time.monotonic()]
    socket, _peer = accepted(loop, tcp, recorder, **{name: 0.2})
    with metronome(loop, tcp, 0.05, 6, tick) as over:
        loop.run_until(lambda: recorder.fired or over())
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert recorder.fired[0] - before[-1] >= 0.2


@standalone
def test_t1_setting_one_does_not_start_the_other_anew(loop, transport):
    recorder = Stopwatch()
    socket, _peer = accepted(loop, transport, recorder, idle_timeout=0.1)
    since = time.monotonic()
    with metronome(loop, transport, 0.04, 10, lambda: setattr(socket, "read_timeout", 20)) as over:
        loop.run_until(lambda: recorder.fired or over())
    assert recorder.fired[0] - since < 0.1 + LATE
    assert "idle_timeout" in str(recorder.close_error)
    loop.run()


@BOTH
@standalone
def test_t1_none_ends_it_and_armed_timers_are_given_back(loop, transport, name):
    recorder = Recorder()
    socket, _peer = accepted(loop, transport, recorder, **{name: 0.05})
    assert loop.gauges()["armed_timers"] == 1
    setattr(socket, name, None)
    assert loop.gauges()["armed_timers"] == 0
    socket.terminate()
    loop.run()
    assert recorder.names() == ["open", "close"]


@BOTH
@standalone
def test_t1_a_timeout_handler_that_sets_it_lets_the_connection_live_on(loop, transport, name):
    def timeout(socket):
        if recorder.count("timeout") < 3:
            setattr(socket, name, 0.02)

    recorder = Recorder(timeout=timeout)
    accepted(loop, transport, recorder, **{name: 0.05})
    loop.run()
    assert recorder.names() == ["open", "timeout", "timeout", "timeout", "close"]


@BOTH
@standalone
def test_t1_an_upgrade_keeps_what_was_set(loop, tcp, name):
    socket, _peer = accepted(loop, tcp, Recorder())
    setattr(socket, name, 33)
    secured = socket.upgrade_tls(tls={"reject_unauthorized": False}, socket=QUIET)
    assert getattr(secured, name) == 33.0
    secured.terminate()
    loop.run()


@BOTH
@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "1", b"1", []])
@standalone
def test_t1_a_wrong_value_is_refused_by_name_and_changes_nothing(loop, tcp, name, value):
    socket, _peer = accepted(loop, tcp, Recorder(), **{name: 20})
    with pytest.raises((TypeError, ValueError), match=name):
        setattr(socket, name, value)
    assert getattr(socket, name) == 20.0
