"""Coroutines inside asyncio: the one way in which tests run in a loop of asyncio's, of uvloop's, and in the native one.

    @on_every_loop
    async def test_what_is_awaited(transport): ...

runs the test once in each kind of loop; `on_foreign_loops` leaves out the native one, `on_loops` names several, `on_loop`
one. Fixtures are made before the loop and outlive it; what the test's transports made is taken down while it still runs.
The test fails if it takes longer than `timeout`, if a gauge of the loop is not back at zero in the end, or if the loop's
exception handler was called: `coroutines.loop_reports` is for a test that expects that. What such a test awaits is in
`coroutines`.

A test that looks at what a loop leaves behind, or needs several, is a plain function of a `host` (`each_host`, or a name):
`run_on(host, main)` runs a coroutine function in a new loop and has the same checks; `open_host`, `new_host`, `run_in`
and `close_host` are its parts.

Tests that run standalone as well use the `loop` fixture instead, whose hosts (`hosted_loops`) are made by `new_host` too.
Does not know what the tests are about.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import pybuntcp

from .coroutines import gauges, nothing_open
from .kernel import TIMEOUT
from .leaks import end_everything
from .loops import LoopHung
from .recorder import Recorder
from .transports import Transport

KINDS = ("asyncio", "uvloop", "native")
STAYING = {
    "asyncio-ours": "asyncio",
    "uvloop-ours": "uvloop",
}  # others' loops, whose connections `pybuntcp.aio.install` makes
FOREIGN = ("asyncio", "uvloop")  # a loop of ours is a guest in them


def hosts(*kinds: str) -> pytest.MarkDecorator:
    """The test is a function of `host`, each of these kinds that the run has (`axis`)."""
    return pytest.mark.hosts(*kinds)


def not_in(host: str, reason: str) -> pytest.MarkDecorator:
    """A test of several kinds of loops that does not run in this one."""
    return pytest.mark.not_in(host, reason)


each_host = hosts(*KINDS)
each_foreign_host = hosts(*FOREIGN)

# ---------------------------------------------------------------- tests that are coroutines


def on_loops(*kinds: str, timeout: float = TIMEOUT) -> Callable[[Any], Any]:
    """An `async def` test, run on each of these kinds of loop."""

    def decorate(test: Any) -> Any:
        def run(host: str, **fixtures: Any) -> None:
            _run_test(host, test, fixtures, timeout)

        return hosts(*kinds)(_as_test(run, test, "host"))

    return decorate


def on_loop(kind: str, *, timeout: float = TIMEOUT) -> Callable[[Any], Any]:
    """An `async def` test of this kind of loop alone, which its name does not say."""

    def decorate(test: Any) -> Any:
        def run(**fixtures: Any) -> None:
            _run_test(kind, test, fixtures, timeout)

        return _as_test(run, test)

    return decorate


def on_every_loop(test: Any = None, *, timeout: float = TIMEOUT) -> Any:
    """An `async def` test, run on each kind of loop."""
    decorate = on_loops(*KINDS, timeout=timeout)
    return decorate if test is None else decorate(test)


def on_foreign_loops(test: Any) -> Any:
    """An `async def` test, run on each kind of loop that is not ours."""
    return on_loops(*FOREIGN)(test)


def _as_test(run: Callable[..., None], test: Any, *first: str) -> Any:
    """`run` with the name, the marks and the fixtures of `test`, and these before them."""
    functools.update_wrapper(run, test)
    signature = inspect.signature(test)
    added = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in first]
    run.__signature__ = signature.replace(parameters=[*added, *signature.parameters.values()])  # type: ignore[attr-defined]
    return run


def _run_test(kind: str, test: Any, fixtures: dict[str, Any], timeout: float) -> None:
    if "uvloop" in (kind, STAYING.get(kind)):
        pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def main() -> None:
        try:
            await test(**fixtures)
        finally:
            for fixture in fixtures.values():
                if isinstance(fixture, Transport):
                    fixture.close()

    run_on(kind, main, timeout)


# ---------------------------------------------------------------- a loop, for a test that is not


def run_on(kind: str, main: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """What `main()` returned in a new loop, which is closed; all that was opened there must be closed by then."""

    async def to_the_end() -> Any:
        result = await main()
        await nothing_open()
        return result

    with open_host(kind) as loop:
        reports: list[Any] = []
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        try:
            result = loop.run_until_complete(_bounded(to_the_end, timeout))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            loop.run_until_complete(_sweep())
            raise
    assert reports == [], f"the loop's exception handler was called: {reports}"
    return result


@contextlib.contextmanager
def open_host(kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed at the end."""
    loop = new_host(kind)
    try:
        yield loop
    finally:
        close_host(loop)


def running_here() -> Callable[[], None]:
    """A function for a child that is forked here: it runs this loop and task again.

    CPython 3.14.1 and later forget both in a child, where the task then cannot end, nor the loop go on.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def run_again() -> None:
        if sys.version_info >= (3, 14, 1):
            asyncio._set_running_loop(loop)
            if task is not None:
                asyncio.tasks._enter_task(loop, task)

    return run_again


def new_host(kind: str) -> asyncio.AbstractEventLoop:
    """A new loop of this kind, not the thread's current one."""
    if kind in STAYING:
        loop = new_host(STAYING[kind])
        pybuntcp.aio.install(loop)
        return loop
    if kind == "native":
        return pybuntcp.new_event_loop()
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def run_of(kind: str) -> Callable[..., Any]:
    """What a program calls to run a coroutine on such a loop: `asyncio.run` and its like."""
    if kind == "native":
        return pybuntcp.run
    if kind == "uvloop":
        import uvloop

        return uvloop.run
    return asyncio.run


def run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """One `run_until_complete` of this coroutine function, bounded."""

    async def bounded() -> Any:
        return await asyncio.wait_for(function(), timeout)

    return loop.run_until_complete(bounded())


def run_turns(loop: asyncio.AbstractEventLoop, count: int = 1) -> None:
    """Turns of a loop that does not run. They do not wait."""
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


def close_host(loop: asyncio.AbstractEventLoop) -> None:
    """What `asyncio.run` does at its end: tasks cancelled, the executor ended, the loop closed."""
    if loop.is_closed():
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=TIMEOUT))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _bounded(main: Callable[[], Awaitable[Any]], timeout: float) -> Any:
    task = asyncio.ensure_future(main())
    await asyncio.wait({task}, timeout=timeout)
    if task.done():
        return task.result()
    stack = [f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in task.get_stack()]
    last = [f"{recorder.label}: {' '.join(recorder.names()[-12:])}" for recorder in Recorder.alive]
    raise LoopHung(f"still in {stack} after {timeout} s; gauges {gauges()}; recorded {last}")


async def _sweep() -> None:
    """After a failed test: end what it left in this loop, so that the next one starts clean."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    end_everything()
    with contextlib.suppress(AssertionError):
        await nothing_open(2.0)
