"""runner: `asyncio.run` on our own event loop, on every supported Python.

Owns nothing; asyncio is imported when it is first used.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Any

from . import _core


def run_coroutine(main: Coroutine[Any, Any, Any], debug: bool | None, limit: float | None) -> Any:
    """Run `main` to its end on a new native loop, which is closed afterwards. Returns its result. limit: in seconds."""
    import asyncio

    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("run() cannot be called while an asyncio loop runs in this thread")
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    if limit is not None:
        main = run_bounded(main, limit)
    _core.note_asyncio()
    if sys.version_info >= (3, 11):
        from .aio import EventLoop

        with asyncio.Runner(debug=debug, loop_factory=EventLoop) as runner:
            try:
                return runner.run(main)
            finally:
                runner.run(_core.end_handlers())
    return run_without_runner(main, debug)


def run_without_runner(main: Coroutine[Any, Any, Any], debug: bool | None) -> Any:
    """As `asyncio.run` of Python 3.10, which cannot be given a loop."""
    import asyncio

    from .aio import EventLoop

    loop = EventLoop()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_core.end_handlers())
            cancel_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def run_bounded(main: Coroutine[Any, Any, Any], timeout: float) -> Any:
    """Await `main` for at most `timeout` seconds. TimeoutError: it took longer, and was cancelled."""
    import asyncio

    try:
        return await asyncio.wait_for(main, timeout)
    except asyncio.TimeoutError as error:  # before Python 3.11 another class than the built-in one
        if isinstance(error, TimeoutError):
            raise
        raise TimeoutError(*error.args) from error


def cancel_tasks(loop: Any) -> None:
    """Cancel the tasks that still run and wait for them. Their exceptions go to the loop's exception handler."""
    import asyncio

    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {"message": "Unhandled exception while run() ended", "exception": task.exception(), "task": task}
            )
