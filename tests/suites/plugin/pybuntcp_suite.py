"""A pytest plugin for suites of other projects: gives them the loop that is wanted, and writes down what each test did.

Owns PYBUNTCP_SUITE_LOOP ("pybuntcp" or "asyncio"), PYBUNTCP_SUITE_RESULTS (a file: one JSON object a line),
PYBUNTCP_SUITE_ONLY and PYBUNTCP_SUITE_LEFT_OUT (JSON: patterns of test ids) and PYBUNTCP_SUITE_PATCH ("1": asyncio's own
names give the loop).
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


opened = {"transports": 0, "secured": 0, "by_asyncio": 0}


def secured(arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether these are arguments of a transport, or of what accepts some, with TLS of pybuntcp's."""
    return any(type(each).__name__ == "Secured" for each in (*arguments, *named.values()))


def count_transports() -> None:
    """Note each connection that gets a transport of pybuntcp's: a suite that runs on none has tested nothing."""
    if SIDE == "asyncio":
        return
    from pybuntcp import _aio

    open_transport, acceptor, start_tls = _aio.open_transport, _aio.Acceptor, _aio.start_tls

    def counted(*arguments: Any, **named: Any) -> Any:
        opened["transports"] += 1
        opened["secured"] += secured(arguments, named)
        return open_transport(*arguments, **named)

    def counting(host: Any, factory: Any, *more: Any, **named: Any) -> Any:
        def made() -> Any:
            opened["transports"] += 1
            opened["secured"] += secured(more, named)
            return factory()

        return acceptor(host, made, *more, **named)

    def upgraded(*arguments: Any, **named: Any) -> Any:
        opened["secured"] += secured(arguments, named)
        return start_tls(*arguments, **named)

    _aio.open_transport, _aio.Acceptor, _aio.start_tls = counted, counting, upgraded
    count_tls_of_asyncio()


def count_tls_of_asyncio() -> None:
    """Note each connection on which asyncio's own protocol does TLS."""
    from asyncio import sslproto

    begin = sslproto.SSLProtocol.connection_made

    def counted(self: Any, transport: Any) -> None:
        opened["by_asyncio"] += 1
        begin(self, transport)

    sslproto.SSLProtocol.connection_made = counted  # type: ignore[method-assign]


def engine() -> str:
    """Of TLS, that pybuntcp has."""
    import pybuntcp

    return str(pybuntcp.tls_engine_info()["engine"]) if SIDE != "asyncio" else ""


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
        self.write(end=True, engine=engine(), **opened)

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


def wanted(test: str) -> bool:
    """Whether a test is to run."""
    only, left_out = (json.loads(os.environ.get(f"PYBUNTCP_SUITE_{name}", "[]")) for name in ("ONLY", "LEFT_OUT"))
    return (not only or matches(test, only)) and not matches(test, left_out)


def matches(test: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)


def pytest_configure(config: Any) -> None:
    if RESULTS and not hasattr(config, "workerinput"):  # of several processes one writes
        config.pluginmanager.register(Recorder(RESULTS), "pybuntcp-suite-recorder")


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    out = [item for item in items if not wanted(item.nodeid)]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


count_transports()
if os.environ.get("PYBUNTCP_SUITE_PATCH") == "1":
    patch()
