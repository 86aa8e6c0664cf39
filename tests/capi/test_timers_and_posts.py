"""Timers without a socket and posts from other threads, in C: what they call, and what becomes of them with their loop."""

from __future__ import annotations

import threading

import pytest
from support import every_loop, unreferenced
from support.asyncio_loops import each_host, new_host
from support.threads import in_thread

import pybuntcp


@pytest.fixture
def calls(outside):
    return outside.calls


@every_loop
def test_a_timer_calls_its_function_and_may_be_started_again_by_it(loop, calls):
    ticker = calls.Ticker(0.001, 5)
    assert ticker.start(0) == 0
    assert loop.gauges()["armed_timers"] == 1
    loop.run()
    assert ticker.count == 5
    ticker.free()


@every_loop
def test_a_timer_that_is_stopped_or_freed_is_not_called(loop, calls):
    stopped, freed = calls.Ticker(1, 1), calls.Ticker(1, 1)
    assert (stopped.start(0.001), freed.start(0.001)) == (0, 0)
    assert (stopped.stop(), stopped.stop()) == (0, -1)
    freed.free()
    loop.run()
    assert (stopped.count, freed.count) == (0, 0)
    stopped.free()


def test_a_timer_may_be_freed_by_its_own_function(loop, calls):
    ticker = calls.Ticker(0, 3, True)
    ticker.start(0)
    loop.run()
    assert ticker.count == 3


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_wrong_seconds_do_nothing(calls, seconds):
    ticker = calls.Ticker(1, 1)
    assert ticker.start(seconds) == -1
    ticker.free()


@unreferenced
def test_an_unreferenced_timer_does_not_keep_run_going(loop, calls):
    ticker = calls.Ticker(60, 1)
    ticker.start(60)
    ticker.unref()
    pybuntcp.run()
    ticker.ref()
    ticker.stop()
    pybuntcp.run()
    ticker.free()


@each_host
def test_a_timer_outlives_its_loop_uncalled(calls, host):
    async def main():
        ticker = calls.Ticker(60, 1)
        assert ticker.start(60) == 0
        return ticker

    loop = new_host(host)
    ticker = loop.run_until_complete(main())
    loop.close()
    assert ticker.start(0) == -1
    ticker.free()
    assert ticker.count == 0


def test_posts_of_a_thread_without_the_gil_are_carried_out_in_order(loop, calls):
    posts = calls.Posts()
    taken = []
    thread = threading.Thread(target=lambda: [taken.append(posts.post(10_000)), posts.free()])
    thread.start()
    pybuntcp.run()
    thread.join()
    assert taken == [10_000]
    assert posts.result == (10_000 * 10_001 // 2, 0)


@each_host
def test_a_post_after_the_end_of_the_loop_is_refused(calls, host):
    async def main():
        return calls.Posts()

    loop = new_host(host)
    posts = loop.run_until_complete(main())
    loop.close()
    assert in_thread(lambda: posts.post(3)) == 0
    posts.free()
