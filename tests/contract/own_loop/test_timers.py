"""CONTRACT.md, "One's own loop": X1, `call_later`, `every` and `call_soon`: when they call, in which order, and when not.

Early is measured strictly, on the clock of `time.monotonic`. Late is only bounded generously. What becomes of exceptions,
contexts and references is in test_timers_around.py.
"""

from __future__ import annotations

import random
import time

import pytest
from support import LATE, Recorder, accepted, spin, unreferenced
from support.kernel import SLOWER

import pybuntcp
from pybuntcp import call_later, call_soon, every

# ---------------------------------------------------------------- when


@pytest.mark.parametrize("seconds", [0.001, 0.0105, 1 / 30])
def test_x1_a_timer_is_called_once_and_not_early(loop, seconds):
    called = []
    start = time.monotonic()
    timer = call_later(seconds, lambda: called.append(time.monotonic()))
    assert start + seconds <= timer.when <= time.monotonic() + seconds
    assert timer.active
    loop.run()
    assert not timer.active
    assert len(called) == 1
    assert timer.when <= called[0] < timer.when + LATE


def test_x1_timers_are_called_in_the_order_of_their_time_to_the_nanosecond(loop):
    dice, timers, called = random.Random(1), [], []
    for number in range(3000):
        seconds = dice.choice([0.0, 0.0001, 0.02 * dice.random(), 0.07 * dice.random()])
        timers.append(call_later(seconds, lambda number=number: called.append((number, time.monotonic()))))
    loop.run()
    assert len(called) == 3000
    order = [timers[number].when for number, _ in called]
    assert order == sorted(order)
    assert [number for number, when in called if when < timers[number].when] == []


def test_x1_timers_of_the_same_millisecond_are_called_in_the_order_in_which_they_were_made(loop):
    called = []
    for number in range(200):
        call_later(0.005, called.append, number)
    loop.run()
    assert called == list(range(200))


def test_x1_a_call_soon_comes_behind_the_timers_that_were_due_before_it(loop):
    called = []
    call_later(0.002, called.append, "second")
    call_later(0.0013, called.append, "first")
    spin(0.0031)
    call_soon(called.append, "soon")
    call_later(0, called.append, "at once")
    loop.run()
    assert called == ["first", "second", "soon", "at once"]


def test_x1_a_call_soon_waits_for_no_millisecond(loop):
    ends = []

    def again(left):
        if left:
            call_soon(again, left - 1)
        else:
            ends.append(time.monotonic())

    start = time.monotonic()
    again(500)
    assert ends == []  # not before the call has returned
    loop.run()
    assert ends[0] - start < 0.4 * SLOWER  # a millisecond each would be 0.5 s


def test_x1_what_a_timer_arms_for_now_waits_for_the_next_turn_in_which_sockets_are_served(loop, transport):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    _socket, peer = accepted(loop, transport, recorder)
    timer = []

    def again():
        timer[:] = [call_soon(again)]

    again()
    peer.send(b"x" * 100)
    assert loop.wait(peer.recv_exactly(100)) == b"x" * 100
    timer[0].cancel()


# ---------------------------------------------------------------- cancelled


def test_x1_a_cancelled_timer_is_never_called(loop):
    called = []
    later, soon, often = (
        call_later(0.001, called.append, 1),
        call_soon(called.append, 2),
        every(0.001, called.append, 3),
    )
    spin(0.005)
    for timer in (later, soon, often):
        timer.cancel()
        timer.cancel()
        assert not timer.active
    loop.run()
    assert called == []


def test_x1_a_timer_cancelled_by_another_of_the_same_tick_is_not_called(loop):
    called = []

    def first(others):
        called.append("first")
        for other in others:
            other.cancel()

    others = []
    call_later(0.001, first, others)
    others += [call_later(0.001, called.append, number) for number in range(10)]
    spin(0.005)
    others += [call_soon(called.append, number) for number in range(10)]
    loop.run()
    assert called == ["first"]


@pytest.mark.standalone("one loop suffices: it is about the wheel")
def test_x1_a_hundred_thousand_timers_are_one_timer_of_the_kernel_and_no_turn(loop):
    timers = [call_later(100 + number % 977, print) for number in range(100_000)]
    assert loop.gauges()["armed_timers"] == 100_000
    turns = pybuntcp.stats()["turns"]
    loop.settle()
    assert pybuntcp.stats()["turns"] - turns < 50
    for timer in timers:
        timer.cancel()
    assert loop.gauges()["armed_timers"] == 0


def test_x1_cancelled_timers_cost_no_turns(loop):
    called = []
    for _ in range(5):
        call_later(0.005, print).cancel()
    call_later(0.05, called.append, 1)
    turns = pybuntcp.stats()["turns"]
    loop.run()
    assert called == [1]
    assert pybuntcp.stats()["turns"] - turns < 40


# ---------------------------------------------------------------- every


def test_x1_every_calls_at_multiples_of_its_time_without_drift(loop):
    called = []

    def tick():
        called.append(time.monotonic())
        spin(0.002)
        if len(called) == 6:
            timer.cancel()

    timer = every(0.01, tick)
    first = timer.when
    loop.run()
    multiples = [(when - first) / 0.01 for when in called]
    assert len(called) == 6
    assert all(number <= multiple for number, multiple in enumerate(multiples))
    assert abs((timer.when - first) / 0.01 - round((timer.when - first) / 0.01)) < 1e-3


def test_x1_every_makes_up_for_the_times_that_it_missed_by_one_call(loop):
    called = []

    def tick():
        called.append(timer.when)  # of the next call
        assert timer.active
        if len(called) == 1:
            spin(0.035)
        elif len(called) == 4:
            timer.cancel()

    timer = every(0.01, tick)
    first = timer.when
    loop.run()
    assert len(called) == 4
    assert called == sorted(set(called))
    assert called[1] - first >= 0.04  # 0.01, 0.02 and 0.03 had passed


def test_x1_every_ends_when_its_callback_cancels_it(loop):
    called = []
    timer = every(0.001, lambda: [called.append(1), timer.cancel()])
    loop.run()
    assert called == [1]


# ---------------------------------------------------------------- wrong


WRONG = [
    (-1, ValueError),
    (float("nan"), ValueError),
    (True, TypeError),
    ("1", TypeError),
    (None, TypeError),
    (1j, TypeError),
]


@pytest.mark.parametrize(("seconds", "error"), WRONG, ids=repr)
def test_x1_wrong_seconds_are_refused_at_the_call(seconds, error):
    for function in (call_later, every):
        with pytest.raises(error, match="seconds"):
            function(seconds, print)


def test_x1_every_zero_seconds_is_refused():
    with pytest.raises(ValueError, match="seconds"):
        every(0, print)


async def coroutine_function():
    """A callback that is refused."""


class AsyncCall:
    async def __call__(self):
        """A callback that is refused."""


@pytest.mark.parametrize("callback", [None, 5, coroutine_function, AsyncCall()], ids=["None", "5", "async", "object"])
def test_x1_a_wrong_callback_is_refused_at_the_call(callback):
    for call in (lambda: call_later(1, callback), lambda: every(1, callback), lambda: call_soon(callback)):
        with pytest.raises(TypeError, match="callback"):
            call()


def test_x1_a_time_beyond_thirty_years_is_never(loop):
    timers = [call_later(seconds, print) for seconds in (1e9, 1e300, float("inf"), 10**400)]
    loop.settle()
    assert all(timer.active for timer in timers)
    for timer in timers:
        timer.cancel()


# ---------------------------------------------------------------- references


@unreferenced
def test_x1_a_referenced_timer_keeps_run_going_and_an_unreferenced_one_does_not(loop):
    called = []
    other = call_later(60, called.append, "other")
    other.unref()
    other.unref()
    call_later(0.01, called.append, "referenced")
    loop.run()
    assert called == ["referenced"]
    assert other.active
    other.ref()
    other.cancel()
    loop.run()


@unreferenced
def test_x1_an_unreferenced_every_is_called_while_something_else_keeps_run_going(loop):
    called = []
    timer = every(0.001, called.append, "tick")
    timer.unref()
    call_later(0.02, called.append, "end")
    loop.run()
    assert called.count("tick") >= 1
    assert called[-1] == "end"
    timer.cancel()
