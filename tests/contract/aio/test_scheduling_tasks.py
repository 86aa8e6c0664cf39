"""[A15] Tasks, debug mode, and what a loop lets go of: callbacks, arguments and itself, as in asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import warnings
import weakref

import pytest
from support.asyncio_loops import open_host, run_turns
from support.protocols import host_is_ours_or_asyncio

place = contextvars.ContextVar("place", default="nowhere")


# ---------------------------------------------------------------- tasks


@host_is_ours_or_asyncio
def test_a_task_has_the_name_and_the_context_that_it_is_given(loop):
    async def who():
        return asyncio.current_task().get_name(), place.get()

    assert loop.run_until_complete(loop.create_task(who(), name="a name")) == ("a name", "nowhere")
    assert isinstance(loop.create_future(), asyncio.Future)
    assert loop.create_future().get_loop() is loop


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
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


# ---------------------------------------------------------------- debug mode


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
def test_debug_mode_knows_where_a_callback_was_scheduled(loop):
    loop.set_debug(True)
    for handle in (loop.call_soon(int), loop.call_soon_threadsafe(int), loop.call_later(1, int), loop.call_at(1, int)):
        assert handle._source_traceback[-1].name == "test_debug_mode_knows_where_a_callback_was_scheduled"
        assert f"created at {__file__}" in repr(handle)
        handle.cancel()
        assert "cancelled int()" in repr(handle).replace(f"when={getattr(handle, '_when', '')} ", "")
    loop.set_debug(False)
    assert loop.call_soon(int)._source_traceback is None


@host_is_ours_or_asyncio
def test_debug_mode_logs_a_slow_callback(loop, caplog):
    caplog.set_level(logging.WARNING, logger="asyncio")
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    seen = []
    loop.call_soon(lambda: seen.append(loop._current_handle))
    run_turns(loop)
    assert any(
        record.getMessage().startswith(f"Executing {seen[0]!r} took 0.") and record.getMessage().endswith(" seconds")
        for record in caplog.records
    )
    assert loop._current_handle is None


# ---------------------------------------------------------------- memory


@host_is_ours_or_asyncio
def test_a_callback_is_let_go_of_when_it_was_called(loop):
    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    loop.call_soon(id, argument)
    del argument
    run_turns(loop)
    assert gone() is None


@host_is_ours_or_asyncio
def test_an_argument_may_schedule_when_it_is_let_go_of(loop):
    log = []

    class Argument:
        def __del__(self):
            loop.call_soon(log.append, "from __del__")

    for _ in range(10):
        loop.call_soon(id, Argument())
    run_turns(loop, 2)
    assert log == ["from __del__"] * 10


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
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
