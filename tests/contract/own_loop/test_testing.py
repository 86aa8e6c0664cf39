"""`pybuntcp.testing`: pairs, a loop that is turned until something holds, and the clock that a test turns.

That the clock moves every deadline of the package is what `tests/contract/time` relies on.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from support import Recorder
from support.asyncio_loops import on_every_loop
from support.handlers import QUIET

import pybuntcp
from pybuntcp import testing
from pybuntcp.testing import clock, open_pair, pair, run_until, run_until_idle

HOUR = 3600.0


class Echo:
    def data(socket, chunk):
        socket.write(chunk)


def close(*sockets):
    for socket in sockets:
        socket.terminate()
    pybuntcp.run()


def test_a_pair_is_connected_and_opened():
    recorder = Recorder()
    ours, theirs = pair(recorder.handlers)
    assert recorder.names() == ["open"]
    assert recorder.socket is ours
    theirs.write(b"hello")
    run_until(recorder.received)
    ours.write(b"answer")
    run_until(lambda: theirs.data == b"answer")
    close(ours, theirs)


def test_a_pair_takes_handlers_and_options_for_both_ends():
    ours, theirs = pair(
        Echo, {"data": lambda socket, chunk: socket.data.append(chunk)}, data=(received := []), high_water_mark=10
    )
    assert theirs.write(b"x" * 5) == 5
    run_until_idle()
    assert b"".join(received) == b"x" * 5
    assert ours.data is received
    close(ours, theirs)
    with pytest.raises(TypeError, match="tls"):
        pair(Echo, tls={})


def test_what_is_wrong_with_a_pair_leaks_nothing():
    with pytest.raises(TypeError):
        pair({"no such handler": print})


@on_every_loop
async def test_inside_asyncio_a_pair_is_awaited():
    with pytest.raises(RuntimeError, match="asyncio"):
        run_until_idle()
    ours, theirs = await open_pair(Echo)
    theirs.write(b"hello")
    while theirs.data != b"hello":
        await asyncio.sleep(0)
    ours.terminate()
    theirs.terminate()


def test_run_until_says_what_is_open_when_the_time_is_over():
    with (
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=QUIET),
        pytest.raises(AssertionError, match="open_listeners"),
    ):
        run_until(lambda: False, timeout=0.01)
    with pytest.raises(AssertionError, match="nothing is open"):
        run_until(lambda: False)


def test_a_loop_that_is_never_idle_is_an_assertion_error():
    timer = []

    def again():
        timer[:] = [pybuntcp.call_soon(again)]

    again()
    with pytest.raises(AssertionError, match="not idle"):
        run_until_idle(timeout=0.01)
    timer[0].cancel()


# ---------------------------------------------------------------- the clock


def test_the_turned_clock_calls_timers_in_order_without_waiting():
    called = []
    start = time.monotonic()
    late = pybuntcp.call_later(2 * HOUR, called.append, "late")
    pybuntcp.call_later(HOUR, called.append, "hour")
    pybuntcp.call_later(1, called.append, "second")
    assert late.when - start > HOUR
    clock.advance(HOUR - 1)
    run_until_idle()
    assert called == ["second"]
    clock.advance(2)
    run_until_idle()
    assert called == ["second", "hour"]
    assert late.when - time.monotonic() < HOUR
    late.cancel()
    assert time.monotonic() - start < 5


def test_the_turned_clock_ends_an_idle_connection():
    recorder = Recorder()
    ours, theirs = pair(recorder.handlers, idle_timeout=HOUR)
    clock.advance(HOUR / 2)
    run_until_idle()
    assert recorder.names() == ["open"]
    clock.advance(HOUR / 2 + 1)
    run_until(lambda: recorder.count("close"))
    assert type(recorder.close_error) is TimeoutError
    close(ours, theirs)


def test_each_call_of_every_is_seen_in_steps():
    called = []
    timer = pybuntcp.every(60, called.append, 1)
    for _ in range(5):
        clock.advance(60)
        run_until_idle()
    assert len(called) == 5
    clock.advance(300)
    run_until_idle()
    assert len(called) == 6
    timer.cancel()


def test_the_time_of_the_clock_is_ahead_by_what_was_advanced():
    before = clock.time() - time.monotonic()
    clock.advance(10)
    assert clock.time() - time.monotonic() - before == pytest.approx(10, abs=0.01)


@on_every_loop
async def test_the_turned_clock_wakes_an_asyncio_loop():
    called = asyncio.get_running_loop().create_future()
    pybuntcp.call_later(HOUR, called.set_result, None)
    await asyncio.sleep(0.001)
    clock.advance(HOUR)
    await asyncio.wait_for(called, 5)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None, True])
def test_a_clock_is_turned_ahead_by_a_number(seconds):
    with pytest.raises((TypeError, ValueError)):
        clock.advance(seconds)


def test_the_public_names_are_there():
    assert sorted(testing.__all__) == testing.__all__ or all(hasattr(testing, name) for name in testing.__all__)
