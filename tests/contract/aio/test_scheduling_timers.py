"""[A15] Timers: when they are called, in which order, and what is left of those that are cancelled, as in asyncio."""

from __future__ import annotations

import asyncio
import heapq
import threading
import weakref

import pytest
from support.asyncio_loops import hosts, open_host, run_turns
from support.kernel import TIMEOUT
from support.protocols import host_is_ours_or_asyncio, on_ours_and_asyncio

MANY = 100_000


class Clock:
    """A loop's clock that stands still until it is set."""

    def __init__(self, loop):
        self.now = 1000.0
        loop.time = lambda: self.now

    def turn(self, loop, after=0.0):
        self.now += after
        run_turns(loop)


@host_is_ours_or_asyncio
def test_a_timer_is_called_when_its_time_has_come_and_not_before(loop):
    clock, log = Clock(loop), []
    loop.call_later(5, log.append, "five")
    loop.call_at(1003, log.append, "three")
    clock.turn(loop, 2.9)
    assert log == []
    clock.turn(loop, 0.2)
    assert log == ["three"]
    clock.turn(loop, 1.9)
    assert log == ["three", "five"]
    assert loop._scheduled == []


@host_is_ours_or_asyncio
def test_timers_that_are_due_together_are_called_in_the_order_of_their_time(loop):
    clock, log = Clock(loop), []
    for seconds in (7, 3, 9, 1, 5, 2.5, True):
        loop.call_later(seconds, log.append, seconds)
    clock.turn(loop, 10)
    assert log == [1, True, 2.5, 3, 5, 7, 9]


def test_timers_of_the_same_time_are_called_in_the_order_in_which_asyncio_calls_them():
    def order(kind):
        with open_host(kind) as loop:
            clock, log = Clock(loop), []
            for number in range(60):
                handle = loop.call_later(number % 3, log.append, number)
                if number % 7 == 0:
                    handle.cancel()
            clock.turn(loop, 5)
            return log

    assert order("native") == order("asyncio")


@host_is_ours_or_asyncio
def test_timers_come_behind_what_is_ready_and_before_what_that_schedules(loop):
    clock, log = Clock(loop), []

    def ready():
        log.append("ready")
        loop.call_soon(log.append, "scheduled")

    loop.call_later(0, log.append, "timer")
    loop.call_soon(ready)
    clock.turn(loop)
    clock.turn(loop)
    assert log == ["ready", "timer", "scheduled"]


@host_is_ours_or_asyncio
def test_a_timer_is_due_within_the_clocks_resolution(loop):
    clock, log = Clock(loop), []
    loop._clock_resolution = 0.5
    loop.call_later(1, log.append, "timer")
    clock.turn(loop, 0.5)
    assert log == []
    clock.turn(loop, 0.25)
    assert log == ["timer"]


@host_is_ours_or_asyncio
def test_a_timer_handle_looks_like_asyncios(loop):
    handle = loop.call_at(5.5, print, 1)
    other = loop.call_at(6, print, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    assert repr(handle) == repr(asyncio.TimerHandle(5.5, print, (1,), loop))
    assert handle.when() == 5.5
    assert handle < other
    assert handle == asyncio.TimerHandle(5.5, print, (1,), loop)
    assert hash(handle) == hash(5.5)
    assert handle._scheduled
    handle.cancel()
    handle.cancel()
    assert repr(handle) == "<TimerHandle cancelled when=5.5>"
    assert loop._timer_cancelled_count == 1
    other.cancel()


@host_is_ours_or_asyncio
def test_the_heap_is_a_list_that_others_read_and_push_on(loop):
    clock, log = Clock(loop), []
    handle = loop.call_later(2, log.append, "ours")
    theirs = asyncio.TimerHandle(1001.0, log.append, ("theirs",), loop)
    heapq.heappush(loop._scheduled, theirs)
    theirs._scheduled = True
    assert isinstance(loop._scheduled, list)
    assert loop._scheduled[0] is theirs
    assert handle in loop._scheduled
    clock.turn(loop, 3)
    assert log == ["theirs", "ours"]


@host_is_ours_or_asyncio
def test_a_timer_cancels_another_one_that_is_due_with_it(loop):
    clock, log = Clock(loop), []
    second = None
    loop.call_later(1, lambda: second.cancel())
    second = loop.call_later(2, log.append, "second")
    clock.turn(loop, 3)
    assert log == []
    assert loop._scheduled == []
    assert loop._timer_cancelled_count in (0, 1)


@host_is_ours_or_asyncio
def test_an_error_for_what_is_no_time(loop):
    with pytest.raises(TypeError):
        loop.call_later(None, int)
    with pytest.raises((TypeError, AssertionError)):
        loop.call_at(None, int)
    with pytest.raises(TypeError):
        loop.call_later("soon", int)


@hosts("native")
def test_many_cancelled_timers_are_no_memory(loop):
    for _ in range(MANY):
        loop.call_later(3 * TIMEOUT, int).cancel()
    assert len(loop._scheduled) <= 101
    handles = [loop.call_later(3 * TIMEOUT, int) for _ in range(MANY)]
    assert MANY <= len(loop._scheduled) <= MANY + 101
    for handle in handles:
        handle.cancel()
    assert len(loop._scheduled) <= 101


@hosts("native")
def test_what_is_left_of_the_heap_is_in_order(loop):
    clock, log = Clock(loop), []
    handles = [loop.call_later((number * 7919) % 1000, log.append, (number * 7919) % 1000) for number in range(1000)]
    for number, handle in enumerate(handles):
        if number % 5:
            handle.cancel()
    assert len(loop._scheduled) < 500
    clock.turn(loop, 2000)
    assert len(log) == 200
    assert log == sorted(log)


@host_is_ours_or_asyncio
def test_timers_may_be_cancelled_while_they_are_looked_through(loop):
    for _ in range(1000):
        loop.call_later(3 * TIMEOUT, int)
    for handle in loop._scheduled:
        handle.cancel()
    assert all(handle.cancelled() for handle in loop._scheduled)


@host_is_ours_or_asyncio
def test_a_cancelled_timer_lets_go_of_its_callback(loop):
    class Argument:
        def __del__(self):
            loop.call_soon(int)

    argument = Argument()
    gone = weakref.ref(argument)
    handle = loop.call_later(3 * TIMEOUT, id, argument)
    del argument
    handle.cancel()
    assert gone() is None
    assert handle._args is None


@host_is_ours_or_asyncio
def test_debug_mode_may_come_and_go_while_timers_wait(loop):
    clock, log = Clock(loop), []
    loop.slow_callback_duration = TIMEOUT
    handles = []
    for number in range(400):
        loop.set_debug(number % 3 == 0)
        handles.append(loop.call_later(number % 20, log.append, number % 20))
    for number, handle in enumerate(handles):
        loop.set_debug(number % 2 == 0)
        if number % 4:
            handle.cancel()
    loop.set_debug(True)
    clock.turn(loop, 10)
    loop.set_debug(False)
    clock.turn(loop, 10)
    assert len(log) == 100
    assert log == sorted(log)


@on_ours_and_asyncio
async def test_a_sleep_is_not_shorter_than_it_says():
    loop = asyncio.get_running_loop()
    for seconds in (0, 0.001, 0.0123):
        began = loop.time()
        await asyncio.sleep(seconds)
        assert loop.time() - began >= seconds - loop._clock_resolution


@on_ours_and_asyncio
async def test_a_timeout_ends_what_takes_too_long():
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)


@on_ours_and_asyncio
async def test_a_timer_that_another_thread_asks_for_is_called():
    loop = asyncio.get_running_loop()
    called = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(loop.call_later, 0.01, called.set_result, 1)).start()
    assert await called == 1
