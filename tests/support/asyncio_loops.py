"""Asyncio loops as hosts: made by the test itself, run within a bound, closed with nothing left open.

Owns: the kinds of loop (`HOSTS`, and `GUESTS`: those that are not ours, in which a loop of ours is a guest),
`host_run`, and the decorator `on_every_loop`, which runs an `async def` test on each kind, takes down in the running loop
what its transport made, and fails it if a gauge of that loop is not back at zero, if it took too long, or if the loop's
exception handler was called with something that nobody expected. `host_run` ends with a look at the gauges of the loop
it ran: the leak check after each test sees the thread's own loop alone. Does not know what the tests are about.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import pybuntcp

from .coroutines import gauges, nothing_open, seen
from .kernel import TIMEOUT
from .leaks import end_everything
from .loops import LoopHung
from .marks import needs_uvloop
from .recorder import Recorder
from .transports import Transport

_uvloop = pytest.param("uvloop", marks=needs_uvloop)
GUESTS = pytest.mark.parametrize("host", ["asyncio", _uvloop])
HOSTS = pytest.mark.parametrize("host", ["asyncio", _uvloop, "native"])


def new_host(kind: str) -> asyncio.AbstractEventLoop:
    """A new loop of this kind, not the thread's current one."""
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


def host_run(kind: str, function: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """The result of a coroutine function in a new loop, which is closed; everything it opened must be closed by then."""
    with host_loop(kind) as loop:
        return run_in(loop, lambda: _and_empty(function), timeout)


@contextlib.contextmanager
def host_loop(kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed at the end."""
    loop = new_host(kind)
    try:
        yield loop
    finally:
        close_host(loop)


def run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """One `run_until_complete`, bounded."""

    async def bounded() -> Any:
        return await asyncio.wait_for(function(), timeout)

    return loop.run_until_complete(bounded())


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


async def _and_empty(function: Callable[[], Awaitable[Any]]) -> Any:
    result = await function()
    await seen(lambda: not gauges(), "gauges at zero")
    return result


# ---------------------------------------------------------------- a test on each kind


KINDS = {name: functools.partial(new_host, name) for name in ("asyncio", "uvloop", "native")}
_marks = {"uvloop": [needs_uvloop]}
each_kind = pytest.mark.parametrize(
    "new_loop", [pytest.param(make, id=name, marks=_marks.get(name, [])) for name, make in KINDS.items()]
)


def on_every_loop(test: Any = None, *, timeout: float = TIMEOUT) -> Any:
    """An `async def` test, run on each kind of loop; its fixtures are made before and outlive the loop."""
    if test is None:
        return functools.partial(on_every_loop, timeout=timeout)

    @functools.wraps(test)
    def run(new_loop: Any, **fixtures: Any) -> None:
        async def main() -> None:
            try:
                await test(**fixtures)
            finally:
                for fixture in fixtures.values():
                    if isinstance(fixture, Transport):
                        fixture.close()
            await nothing_open()

        run_on(new_loop, main, timeout)

    signature = inspect.signature(test)
    first = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])  # type: ignore[attr-defined]
    return each_kind(run)


def run_on(new_loop: Any, main: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """What `main()` returned, on a new loop, which is closed afterwards and was told of no exception."""
    loop, told = new_loop(), []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    try:
        result = loop.run_until_complete(_bounded(main, timeout))
    except BaseException:
        loop.run_until_complete(_sweep())
        raise
    finally:
        close_host(loop)
    assert told == [], f"the loop's exception handler was called: {told}"
    return result


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


def warm_up() -> None:
    """What a kind of loop opens once for the process and keeps is no leak of the first test that uses it."""
    for name, make in KINDS.items():
        if name == "uvloop" and importlib.util.find_spec(name) is None:
            continue
        loop = make()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


warm_up()
