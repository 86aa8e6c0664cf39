"""[A15] Callbacks: their order, what they raise, where they run, and who may schedule them, as in asyncio."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import threading
import weakref

import pytest
from support.asyncio_loops import run_turns
from support.kernel import TIMEOUT
from support.protocols import host_is_ours_or_asyncio

place = contextvars.ContextVar("place", default="nowhere")


# ---------------------------------------------------------------- order, and turns


@host_is_ours_or_asyncio
def test_callbacks_run_in_the_order_in_which_they_were_scheduled(loop):
    log = []
    for number in range(300):
        loop.call_soon(log.append, number)
    run_turns(loop)
    assert log == list(range(300))


@host_is_ours_or_asyncio
def test_what_a_callback_schedules_runs_in_the_next_turn(loop):
    log = []

    def first():
        log.append("first")
        loop.call_soon(log.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(log.append, "second")
    run_turns(loop)
    assert log == ["first", "second"]
    run_turns(loop)
    assert log == ["first", "second", "next turn"]


@host_is_ours_or_asyncio
def test_a_stop_takes_effect_at_the_end_of_the_turn(loop):
    log = []
    loop.call_soon(loop.stop)
    loop.call_soon(log.append, "the same turn")
    loop.run_forever()
    assert log == ["the same turn"]


@host_is_ours_or_asyncio
def test_a_callback_that_another_one_cancels_in_the_same_turn_does_not_run(loop):
    log = []
    cancelled = None
    loop.call_soon(lambda: cancelled.cancel())
    cancelled = loop.call_soon(log.append, "cancelled")
    run_turns(loop)
    assert log == []
    assert cancelled.cancelled()


@host_is_ours_or_asyncio
def test_a_handle_looks_like_asyncios(loop):
    handle = loop.call_soon(print, 1)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert repr(handle) == repr(asyncio.Handle(print, (1,), loop))  # without arguments since Python 3.13
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
    assert handle.cancelled()
    assert weakref.ref(handle)() is handle


@host_is_ours_or_asyncio
def test_a_handle_that_is_kept_is_not_used_for_another_callback(loop):
    kept = [loop.call_soon(int) for _ in range(3)]
    run_turns(loop)
    fresh = [loop.call_soon(int) for _ in range(300)]
    assert not {id(handle) for handle in kept} & {id(handle) for handle in fresh}
    assert [handle._callback for handle in kept] == [int] * 3


@host_is_ours_or_asyncio
def test_a_weak_reference_to_a_handle_ends_with_it(loop):
    watched = weakref.ref(loop.call_soon(int))
    run_turns(loop)
    loop.call_soon(int)
    assert watched() is None


# ---------------------------------------------------------------- the queue that others see


@host_is_ours_or_asyncio
def test_the_queue_is_a_deque_that_others_append_to(loop):
    log = []
    loop._ready.append(asyncio.Handle(log.append, ("theirs",), loop))
    loop.call_soon(log.append, "ours")
    loop._ready.appendleft(asyncio.Handle(log.append, ("before",), loop))
    assert isinstance(loop._ready, collections.deque)
    assert len(loop._ready) == 3
    run_turns(loop)
    assert log == ["before", "theirs", "ours"]


@host_is_ours_or_asyncio
def test_the_queue_may_be_replaced(loop):
    log = []

    class Noting(collections.deque):
        def append(self, handle):
            log.append("append")
            super().append(handle)

    loop._ready = Noting()
    loop.call_soon(log.append, "called")
    run_turns(loop)
    assert log == ["append", "append", "called"]
    loop._ready = collections.deque()
    loop.call_soon(log.append, "again")
    run_turns(loop)
    assert log[3:] == ["again"]


@host_is_ours_or_asyncio
def test_a_method_that_a_program_has_replaced_is_called(loop):
    log = []
    call_at = loop.call_at
    loop.call_at = lambda when, *args, **more: log.append("call_at") or call_at(when, *args, **more)
    loop.call_later(0, log.append, "later").cancel()
    del loop.call_at
    loop.call_later(0, log.append, "later").cancel()
    assert log == ["call_at"]


@host_is_ours_or_asyncio
def test_a_run_method_that_a_tool_has_replaced_is_called(loop, monkeypatch):
    log = []
    run = asyncio.Handle._run
    monkeypatch.setattr(asyncio.Handle, "_run", lambda handle: log.append(handle._callback) or run(handle))
    loop.call_soon(int)
    run_turns(loop)
    assert int in log


# ---------------------------------------------------------------- exceptions


@host_is_ours_or_asyncio
def test_an_exception_is_reported_and_the_rest_runs(loop):
    log, reports = [], []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def wrong():
        raise ValueError("no")

    handle = loop.call_soon(wrong)
    loop.call_soon(log.append, "after it")
    run_turns(loop)
    (report,) = reports
    assert sorted(report) == ["exception", "handle", "message"]
    assert report["message"].startswith("Exception in callback test_an_exception_is_reported")
    assert isinstance(report["exception"], ValueError)
    assert report["handle"] is handle
    assert log == ["after it"]


@host_is_ours_or_asyncio
@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_rest_ready(loop, ending):
    log = []

    def end():
        raise ending

    loop.call_soon(end)
    loop.call_soon(log.append, "later")
    with pytest.raises(ending):
        loop.run_forever()
    assert log == []
    run_turns(loop)
    assert log == ["later"]


@host_is_ours_or_asyncio
def test_a_context_that_is_entered_already_is_reported(loop, caplog):
    """Since Python 3.12 the exception handler runs in the same context, and fails, too."""
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(type(context["exception"])))
    context = contextvars.copy_context()

    def inside():
        loop.call_soon(int, context=context)
        loop.call_soon(loop.stop, context=contextvars.Context())
        loop.run_forever()

    context.run(inside)
    assert reports == [RuntimeError] or "Unhandled error in exception handler" in caplog.text


@host_is_ours_or_asyncio
def test_a_closed_loop_takes_no_callback(loop):
    loop.close()
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            schedule(int)
    for schedule in (loop.call_later, loop.call_at):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            schedule(1, int)


# ---------------------------------------------------------------- contexts


@host_is_ours_or_asyncio
def test_a_callback_runs_in_the_context_of_its_scheduling_or_in_the_one_given(loop):
    seen = []

    def note():
        seen.append(place.get())
        place.set("changed by a callback")

    given = contextvars.copy_context()
    given.run(place.set, "given")
    token = place.set("scheduled")
    loop.call_soon(note)
    loop.call_soon(note, context=given)
    loop.call_soon(note, context=given)
    loop.call_soon_threadsafe(note)
    loop.call_later(0, note)
    loop.call_at(0, note, context=given)
    place.reset(token)
    run_turns(loop, 3)
    assert sorted(seen[:4]) == ["changed by a callback", "given", "scheduled", "scheduled"]
    assert place.get() == "nowhere"


# ---------------------------------------------------------------- threads


@host_is_ours_or_asyncio
def test_many_threads_schedule_and_nothing_is_lost(loop):
    threads, each, seen = 8, 300, []

    def schedule(number):
        for count in range(each):
            loop.call_soon_threadsafe(seen.append, (number, count))

    async def main():
        await asyncio.gather(*[asyncio.to_thread(schedule, number) for number in range(threads)])
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert len(seen) == threads * each
    for number in range(threads):
        assert [count for thread, count in seen if thread == number] == list(range(each))


@host_is_ours_or_asyncio
def test_a_loop_that_waits_is_woken_by_another_thread(loop):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    late = loop.call_later(3 * TIMEOUT, pytest.fail, "it was not woken")
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    late.cancel()
