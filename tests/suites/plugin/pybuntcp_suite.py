"""A pytest plugin for suites of other projects: gives them the loop that is wanted, and writes down what each test did.

Owns PYBUNTCP_SUITE_LOOP ("pybuntcp" or "asyncio"), PYBUNTCP_SUITE_RESULTS (a file: one JSON object a line),
PYBUNTCP_SUITE_LEFT_OUT (JSON: patterns of test ids) and PYBUNTCP_SUITE_PATCH ("1": asyncio's own names give the loop).
Runs in the process of the suite and imports nothing of the project but `pybuntcp`.
"""

from __future__ import annotations

import fnmatch
import json
import os
from pathlib import Path
from typing import Any

SIDE = os.environ.get("PYBUNTCP_SUITE_LOOP", "asyncio")
RESULTS = os.environ.get("PYBUNTCP_SUITE_RESULTS", "")


def patch() -> None:
    """Whatever is asked for a loop without saying which gives that which this run is about."""
    if SIDE == "asyncio":
        return
    import asyncio.unix_events

    from pybuntcp.aio import EventLoop

    policy: Any = asyncio.unix_events._UnixDefaultEventLoopPolicy
    policy._loop_factory = EventLoop
    asyncio.SelectorEventLoop = EventLoop  # type: ignore[misc]
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = EventLoop
        asyncio.unix_events.EventLoop = EventLoop


opened = {"made": 0, "accepted": 0}


def count_transports() -> None:
    """Note each connection that gets a transport of pybuntcp's: a suite that runs on none has tested nothing."""
    if SIDE == "asyncio":
        return
    from pybuntcp import _aio

    open_transport, acceptor = _aio.open_transport, _aio.Acceptor

    def counted(*arguments: Any) -> Any:
        opened["made"] += 1
        return open_transport(*arguments)

    def counting(host: Any, factory: Any, *more: Any) -> Any:
        def made() -> Any:
            opened["accepted"] += 1
            return factory()

        return acceptor(host, made, *more)

    _aio.open_transport, _aio.Acceptor = counted, counting


class Recorder:
    """Appends what each test did, in each of its phases and subtests, to a file. results.py reads it."""

    def __init__(self, path: str) -> None:
        self.file = Path(path)

    def write(self, **what: Any) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            print(json.dumps(what), file=file)

    def tell(self, test: str, outcome: str, text: str = "") -> None:
        self.write(test=test, outcome=outcome, text=text)

    def pytest_sessionfinish(self) -> None:
        """The last line."""
        self.write(end=True, transports=sum(opened.values()))

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.tell(report.nodeid, "failed", str(report.longrepr))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.tell(report.nodeid, "failed", report.longreprtext)
        elif report.skipped:
            self.tell(report.nodeid, "skipped", str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""))
        elif report.when == "call":
            self.tell(report.nodeid, "passed")


def pytest_configure(config: Any) -> None:
    if RESULTS and not hasattr(config, "workerinput"):  # of several processes one writes
        config.pluginmanager.register(Recorder(RESULTS), "pybuntcp-suite-recorder")


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    patterns = json.loads(os.environ.get("PYBUNTCP_SUITE_LEFT_OUT", "[]"))
    out = [item for item in items if any(fnmatch.fnmatchcase(item.nodeid, pattern) for pattern in patterns)]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


count_transports()
if os.environ.get("PYBUNTCP_SUITE_PATCH") == "1":
    patch()
