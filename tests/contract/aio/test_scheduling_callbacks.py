"""[A15] Callbacks: their order, what they raise, where they run, and who may schedule them, as in asyncio."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import gc
import logging
import threading
import warnings
import weakref

import pytest
from support.asyncio_loops import hosts, open_host
from support.kernel import TIMEOUT

BOTH = ("asyncio", "native")
on_both = hosts(*BOTH)
place = contextvars.ContextVar("place", default="nowhere")


@pytest.fixture
def loop(host):
    with open_host(host) as loop:
        yield loop


def turns(loop, count=1):
    """Turns that do not wait."""
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


# ---------------------------------------------------------------- order, and turns


@on_both
def test_callbacks_run_in_the_order_in_which_they_were_scheduled(loop):
    log = []
    for number in range(300):
        loop.call_soon(log.append, number)
    turns(loop)
    assert log == list(range(300))


@on_both
def test_what_a_callback_schedules_runs_in_the_next_turn(loop):
    log = []

    def first():
        log.append("first")
        loop.call_soon(log.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(log.append, "second")
    turns(loop)
    assert log == ["first", "second"]
    turns(loop)
    assert log == ["first", "second", "next turn"]


@on_both
def test_a_stop_takes_effect_at_the_end_of_the_turn(loop):
    log = []
    loop.call_soon(loop.stop)
    loop.call_soon(log.append, "the same turn")
    loop.run_forever()
    assert log == ["the same turn"]


@on_both
def test_a_callback_that_another_one_cancels_in_the_same_turn_does_not_run(loop):
    log = []
    cancelled = None
    loop.call_soon(lambda: cancelled.cancel())
    cancelled = loop.call_soon(log.append, "cancelled")
    turns(loop)
    assert log == []
    assert cancelled.cancelled()


@on_both
def test_a_handle_looks_like_asyncios(loop):
    handle = loop.call_soon(print, 1)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert repr(handle) == repr(asyncio.Handle(print, (1,), loop))  # without arguments since Python 3.13
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
    assert handle.cancelled()
    assert weakref.ref(handle)() is handle


@on_both
def test_a_handle_that_is_kept_is_not_used_for_another_callback(loop):
    kept = [loop.call_soon(int) for _ in range(3)]
    turns(loop)
    fresh = [loop.call_soon(int) for _ in range(300)]
    assert not {id(handle) for handle in kept} & {id(handle) for handle in fresh}
    assert [handle._callback for handle in kept] == [int] * 3


@on_both
def test_a_weak_reference_to_a_handle_ends_with_it(loop):
    watched = weakref.ref(loop.call_soon(int))
    turns(loop)
    loop.call_soon(int)
    assert watched() is None


# ---------------------------------------------------------------- the queue that others see


@on_both
def test_the_queue_is_a_deque_that_others_append_to(loop):
    log = []
    loop._ready.append(asyncio.Handle(log.append, ("theirs",), loop))
    loop.call_soon(log.append, "ours")
    loop._ready.appendleft(asyncio.Handle(log.append, ("before",), loop))
    assert isinstance(loop._ready, collections.deque)
    assert len(loop._ready) == 3
    turns(loop)
    assert log == ["before", "theirs", "ours"]


@on_both
def test_the_queue_may_be_replaced(loop):
    log = []

    class Noting(collections.deque):
        def append(self, handle):
            log.append("append")
            super().append(handle)

    loop._ready = Noting()
    loop.call_soon(log.append, "called")
    turns(loop)
    assert log == ["append", "append", "called"]
    loop._ready = collections.deque()
    loop.call_soon(log.append, "again")
    turns(loop)
    assert log[3:] == ["again"]


@on_both
def test_a_method_that_a_program_has_replaced_is_called(loop):
    log = []
    call_at = loop.call_at
    loop.call_at = lambda when, *args, **more: log.append("call_at") or call_at(when, *args, **more)
    loop.call_later(0, log.append, "later").cancel()
    del loop.call_at
    loop.call_later(0, log.append, "later").cancel()
    assert log == ["call_at"]


@on_both
def test_a_run_method_that_a_tool_has_replaced_is_called(loop, monkeypatch):
    log = []
    run = asyncio.Handle._run
    monkeypatch.setattr(asyncio.Handle, "_run", lambda handle: log.append(handle._callback) or run(handle))
    loop.call_soon(int)
    turns(loop)
    assert int in log


# ---------------------------------------------------------------- exceptions


@on_both
def test_an_exception_is_reported_and_the_rest_runs(loop):
    log, reports = [], []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def wrong():
        raise ValueError("no")

    handle = loop.call_soon(wrong)
    loop.call_soon(log.append, "after it")
    turns(loop)
    (report,) = reports
    assert sorted(report) == ["exception", "handle", "message"]
    assert report["message"].startswith("Exception in callback test_an_exception_is_reported")
    assert isinstance(report["exception"], ValueError)
    assert report["handle"] is handle
    assert log == ["after it"]


@on_both
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
    turns(loop)
    assert log == ["later"]


@on_both
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


@on_both
def test_a_closed_loop_takes_no_callback(loop):
    loop.close()
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            schedule(int)
    for schedule in (loop.call_later, loop.call_at):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            schedule(1, int)


# ---------------------------------------------------------------- contexts


@on_both
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
    turns(loop, 3)
    assert sorted(seen[:4]) == ["changed by a callback", "given", "scheduled", "scheduled"]
    assert place.get() == "nowhere"


# ---------------------------------------------------------------- threads


@on_both
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


@on_both
def test_a_loop_that_waits_is_woken_by_another_thread(loop):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    late = loop.call_later(3 * TIMEOUT, pytest.fail, "it was not woken")
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    late.cancel()


# ---------------------------------------------------------------- debug mode


@on_both
def test_debug_mode_refuses_what_is_no_callback(loop):
    async def coroutine():
        raise AssertionError

    loop.set_debug(True)
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(TypeError, match=f"^coroutines cannot be used with {schedule.__name__}"):
            schedule(coroutine)
        with pytest.raises(TypeError, match=f"^a callable object was expected by {schedule.__name__}"):
            schedule(1)
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with call_at\(\)"):
        loop.call_later(1, coroutine)


@on_both
def test_debug_mode_knows_where_a_callback_was_scheduled(loop):
    loop.set_debug(True)
    for handle in (loop.call_soon(int), loop.call_soon_threadsafe(int), loop.call_later(1, int), loop.call_at(1, int)):
        assert handle._source_traceback[-1].name == "test_debug_mode_knows_where_a_callback_was_scheduled"
        assert f"created at {__file__}" in repr(handle)
        handle.cancel()
        assert "cancelled int()" in repr(handle).replace(f"when={getattr(handle, '_when', '')} ", "")
    loop.set_debug(False)
    assert loop.call_soon(int)._source_traceback is None


@on_both
def test_debug_mode_logs_a_slow_callback(loop, caplog):
    caplog.set_level(logging.WARNING, logger="asyncio")
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    seen = []
    loop.call_soon(lambda: seen.append(loop._current_handle))
    turns(loop)
    assert any(
        record.getMessage().startswith(f"Executing {seen[0]!r} took 0.") and record.getMessage().endswith(" seconds")
        for record in caplog.records
    )
    assert loop._current_handle is None


# ---------------------------------------------------------------- tasks


@on_both
def test_a_task_has_the_name_and_the_context_that_it_is_given(loop):
    async def who():
        return asyncio.current_task().get_name(), place.get()

    assert loop.run_until_complete(loop.create_task(who(), name="a name")) == ("a name", "nowhere")
    assert isinstance(loop.create_future(), asyncio.Future)
    assert loop.create_future().get_loop() is loop


@on_both
def test_a_task_factory_makes_the_tasks(loop):
    made = []

    def factory(loop, coroutine, **options):
        made.append(sorted(name for name, value in options.items() if value is not None))
        return asyncio.Task(coroutine, loop=loop)

    async def nothing():
        return 1

    loop.set_task_factory(factory)
    task = loop.create_task(nothing(), name="named")
    assert task.get_name() == "named" or made == [["name"]]
    assert loop.run_until_complete(task) == 1
    assert len(made) == 1
    loop.set_task_factory(None)
    assert type(loop.run_until_complete(asyncio.wait([loop.create_task(nothing())]))[0].pop()) is asyncio.Task


@on_both
def test_eager_tasks_run_at_once(loop):
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")
    log = []

    async def inner():
        log.append("inner")

    async def main():
        task = asyncio.create_task(inner())
        log.append("main")
        await task

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    assert log == ["inner", "main"]


@on_both
def test_an_asynchronous_generator_that_is_left_is_finalised_by_the_loop(loop):
    log = []

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("finalised")

    async def main():
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert log == ["finalised"]


# ---------------------------------------------------------------- memory


@on_both
def test_a_callback_is_let_go_of_when_it_was_called(loop):
    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    loop.call_soon(id, argument)
    del argument
    turns(loop)
    assert gone() is None


@on_both
def test_an_argument_may_schedule_when_it_is_let_go_of(loop):
    log = []

    class Argument:
        def __del__(self):
            loop.call_soon(log.append, "from __del__")

    for _ in range(10):
        loop.call_soon(id, Argument())
    turns(loop, 2)
    assert log == ["from __del__"] * 10


@on_both
def test_a_loop_that_was_dropped_with_callbacks_in_it_is_collected(host):
    loop = open_host(host)
    with loop as inner:
        gone = weakref.ref(inner)
        inner.call_soon(inner.stop)
        inner.call_later(100, inner.stop)
        inner.close()
    del inner, loop
    gc.collect()
    assert gone() is None


@on_both
def test_a_loop_that_nobody_closed_is_collected_with_its_callbacks(host):
    with warnings.catch_warnings(), open_host(host) as other:
        warnings.simplefilter("ignore", ResourceWarning)
        loop = type(other)()
        gone = weakref.ref(loop)
        loop.call_soon(loop.stop)
        loop.call_later(100, loop.stop)
        del loop
        gc.collect()
        assert gone() is None
