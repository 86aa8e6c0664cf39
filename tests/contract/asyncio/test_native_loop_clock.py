"""The native asyncio loop: `call_later` and the loop's time, with sockets of ours open and without."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from support import LATE
from support.asyncio_loops import on_loop
from support.coroutines import LOCAL, async_answers
from support.handlers import QUIET, echo

import pybuntcp

OPEN = pytest.mark.parametrize("opened", [True, False], ids=["a listener open", "nothing open"])


@contextlib.contextmanager
def something(opened):
    """A listener of ours, or nothing: the loop selects in two ways."""
    with pybuntcp.listen(socket={"data": echo}, **LOCAL) if opened else contextlib.nullcontext() as listener:
        yield listener


@OPEN
@pytest.mark.parametrize("delay", [0.0, 0.0004, 0.001, 0.0105, 0.05])
@on_loop("native")
async def test_call_later_is_never_early_and_soon_after(opened, delay):
    loop = asyncio.get_running_loop()
    late = []
    with something(opened):
        for _ in range(5):
            fired = loop.create_future()
            due = loop.time() + delay
            loop.call_at(due, lambda fired=fired: fired.set_result(loop.time()))
            late.append(await fired - due)
    # asyncio itself calls what is due within the clock's resolution
    assert min(late) >= -time.get_clock_info("monotonic").resolution
    assert min(late) < 0.01


@OPEN
@on_loop("native")
async def test_waiting_for_a_timer_takes_few_turns(opened):
    """A wait that is rounded down turns the loop until the clock gets there."""
    with something(opened):
        await asyncio.sleep(0)
        before = pybuntcp.stats()["turns"], time.thread_time()
        await asyncio.sleep(0.1234)
        assert pybuntcp.stats()["turns"] - before[0] <= 3
        assert time.thread_time() - before[1] < 0.02


@OPEN
@on_loop("native")
async def test_many_timers_are_called_in_the_order_of_their_times(opened):
    loop = asyncio.get_running_loop()
    chance = random.Random(5)
    done = loop.create_future()
    called = []

    def call(due):
        called.append((due, loop.time()))
        if len(called) == 2000:
            done.set_result(None)

    with something(opened):
        start = loop.time()
        for _ in range(2000):
            due = start + chance.uniform(0, 0.2)
            loop.call_at(due, call, due)
        await done
    assert [due for due, _ in called] == sorted(due for due, _ in called)
    resolution = time.get_clock_info("monotonic").resolution
    assert all(due - resolution <= now < due + LATE for due, now in called)


@OPEN
@on_loop("native")
async def test_a_timer_far_away_does_not_keep_the_loop_from_what_is_near(opened):
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(seconds, print, "too early") for seconds in (3600, 86400, 1e7)]
    with something(opened) as listener:
        await asyncio.sleep(0.01)
        assert listener is None or await async_answers(listener.port)
    for handle in handles:
        handle.cancel()


@on_loop("native")
async def test_the_loops_time_does_not_go_back():
    loop = asyncio.get_running_loop()
    with pybuntcp.listen(socket=QUIET, **LOCAL):
        times = []
        for _ in range(200):
            times.append(loop.time())
            await asyncio.sleep(0)
        assert times == sorted(times)
