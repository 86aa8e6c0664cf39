"""Programs that must see the same on asyncio's own loop and on ours.

    @as_on_asyncio
    async def test_what_a_protocol_is_called(notes, streams):
        protocol = notes.plain("server")
        notes("main", "what it returned", ...)

runs the test on a stock loop, the control, then on ours, and compares in full what was noted: who it is of, and what, in
order. A protocol of `notes.plain` and `notes.buffered` notes each of its calls, with the arguments. What the loop's exception
handler was told and asyncio's warnings in the log are noted by themselves, as "reports" and "log"; both in order.

Owns: `Notes`, and what is the same of two things that are not equal (`same`): exceptions by type, text and fields, other
objects by type; chunks of data that follow each other are one; an address, a duration, a line of _ssl.c is none.
What asyncio does is that of the interpreter that runs: nothing here knows a version of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import ssl
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .asyncio_loops import _as_test, run_on
from .coroutines import loop_reports
from .kernel import TIMEOUT, descriptors
from .protocols import Buffered, Plain
from .transports import Transport

PLAINLY = (str, bytes, int, float, bool, type(None))
ERROR_FIELDS = ("errno", "strerror", "library", "reason", "verify_code", "verify_message")
DATA = ("data_received", "buffer_updated")
since_3_11 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="asyncio's TLS was another before Python 3.11, and ours is as it is since"
)


def same(thing: Any) -> Any:
    """What two loops have in common of it."""
    if isinstance(thing, BaseException):
        fields = {name: getattr(thing, name) for name in ERROR_FIELDS if hasattr(thing, name)}
        return type(thing).__name__, plain_text(str(thing)), {name: same(value) for name, value in fields.items()}
    if isinstance(thing, str):
        return plain_text(thing)
    if isinstance(thing, (bytearray, memoryview)):
        return bytes(thing)
    if isinstance(thing, PLAINLY):
        return thing
    if isinstance(thing, (list, tuple)):
        return [same(each) for each in thing]
    if isinstance(thing, dict):
        return {name: same(value) for name, value in thing.items()}
    if isinstance(thing, asyncio.BaseTransport):
        return "a transport"
    return f"of {type(thing).__name__}"


def plain_text(text: str) -> str:
    """Without what differs between two runs: places in memory and in _ssl.c, ports, durations, who it was that is printed."""
    text = re.sub(r" \(_ssl\.c:\d+\)", "", text)
    text = re.sub(r"<[^<>]*(?:<[^<>]*>[^<>]*)*>", "<...>", text)
    text = re.sub(r"\('127\.0\.0\.1', \d+\)", "('127.0.0.1', ...)", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:...", text)
    return re.sub(r"\b\d+\.\d+ ms", "... ms", re.sub(r"0x[0-9a-f]+", "0x...", text))


class Notes:
    """What a program saw, by whom it is of."""

    def __init__(self, *, ours: bool = False) -> None:
        self.ours = ours  # on our loop
        self.seen: dict[str, list[Any]] = {}
        self.reports: list[dict[str, Any]] = []  # as they were, so far
        self.left_out: tuple[str, ...] = ()

    def leave_out(self, *names: str) -> None:
        """Calls that ours makes and asyncio does not, on purpose: these, too."""
        self.left_out += names

    def leave_out_flow_control(self) -> None:
        """Over TLS, asyncio does not count what its transport below holds: one large write never pauses."""
        self.leave_out("pause_writing", "resume_writing")

    def __call__(self, who: str, *what: Any) -> None:
        self.seen.setdefault(who, []).append(same(what))

    def called(self, who: str, name: str, arguments: tuple[Any, ...]) -> None:
        """A method of a protocol. Chunks that follow each other are one."""
        if name in self.left_out:
            return
        if name not in DATA:
            self(who, name, *arguments)
            return
        log = self.seen.setdefault(who, [])
        (data,) = arguments
        if log and log[-1][0] == name:
            log[-1][1] += bytes(data)
        else:
            log.append([name, bytes(data)])

    def plain(self, who: str, **answers: Callable[..., Any]) -> Plain:
        """A protocol whose calls are noted."""
        return NotedPlain(self, who, **answers)

    def buffered(self, who: str, **answers: Callable[..., Any]) -> Buffered:
        return NotedBuffered(self, who, **answers)

    def raised(self, who: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call it, and note what it returned or raised."""
        try:
            result = function(*args, **options)
        except Exception as error:
            self(who, "raised", error)
            return None
        self(who, "returned", result)
        return result

    async def outcome(self, who: str, awaitable: Any) -> Any:
        """As `raised`, of what is awaited."""
        try:
            result = await asyncio.wait_for(asyncio.ensure_future(awaitable), TIMEOUT)
        except (Exception, asyncio.CancelledError) as error:
            self(who, "raised", error)
            return None
        self(who, "returned", result)
        return result

    def names(self, who: str) -> list[str]:
        """What was called, without arguments."""
        return [entry[0] for entry in self.seen.get(who, [])]


class NotedPlain(Plain):
    def __init__(self, notes: Notes, who: str, **answers: Callable[..., Any]) -> None:
        super().__init__(**answers)
        self.notes, self.who = notes, who

    def _called(self, name: str, *arguments: Any) -> Any:
        self.notes.called(self.who, name, arguments)
        return super()._called(name, *arguments)


class NotedBuffered(Buffered):
    """Gives a view of its memory: of a bytearray itself asyncio's TLS fills a copy, if it has several records for it."""

    def __init__(self, notes: Notes, who: str, **answers: Callable[..., Any]) -> None:
        super().__init__(**answers)
        self.notes, self.who = notes, who

    def get_buffer(self, sizehint: int) -> Any:
        return memoryview(super().get_buffer(sizehint))

    def _called(self, name: str, *arguments: Any) -> Any:
        if name == "buffer_updated":
            self.notes.called(self.who, name, (self.memory[: arguments[0]],))
        elif name != "get_buffer":  # how often it is asked is not said
            self.notes.called(self.who, name, arguments)
        return super()._called(name, *arguments)


# ---------------------------------------------------------------- what ours does better, on purpose


def as_discreet(ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Ours, without what it says to a "peer" before it ends, where asyncio ends without a word: an alert, or close_notify.

    An orderly end is also as good as a reset, and the cause of a failure as good as "record layer failure".
    """
    kept = {name: without_cause(entry, theirs.get(name)) for name, entry in ours.items()}
    if "peer" in kept and len(kept["peer"]) == len(theirs.get("peer", ())):
        kept["peer"] = [end_as_discreet(*pair) for pair in zip(kept["peer"], theirs["peer"], strict=True)]
    return kept


def without_cause(mine: Any, its: Any) -> Any:
    """OpenSSL 3.2 and later report RECORD_LAYER_FAILURE above what is wrong with a record, and ours reports what it is."""
    if not isinstance(mine, list | tuple) or not isinstance(its, list | tuple) or len(mine) != len(its):
        return mine
    if mine and mine[0] == its[0] == "SSLError" and "RECORD_LAYER_FAILURE" in its[1]:
        return its
    return type(mine)(without_cause(*pair) for pair in zip(mine, its, strict=True))


def end_as_discreet(mine: list[Any], its: list[Any]) -> list[Any]:
    if not its or its[-1] not in ("FIN", "reset") or not mine or mine[-1] != "FIN":
        return mine
    said = [word for word in mine[:-1] if word in its or not isinstance(word, str)]
    return [*said, its[-1]]


# ---------------------------------------------------------------- a test, twice


def as_on_asyncio(test: Any = None, *, debug: bool = False, timeout: float = TIMEOUT) -> Any:
    """An `async def` test of `notes`, run on a stock loop and on ours; `debug`: in debug mode, with all of the log."""

    def decorate(test: Any) -> Any:
        def run(**fixtures: Any) -> None:
            theirs, ours = (_seen(kind, test, fixtures, debug, timeout) for kind in ("asyncio", "native"))
            assert as_discreet(ours, theirs) == theirs  # the left one is ours

        made = _as_test(run, test)
        signature = made.__signature__
        kept = [parameter for name, parameter in signature.parameters.items() if name != "notes"]
        made.__signature__ = signature.replace(parameters=kept)
        return since_3_11(made)

    return decorate if test is None else decorate(test)


def _seen(kind: str, test: Any, fixtures: dict[str, Any], debug: bool, timeout: float) -> dict[str, list[Any]]:
    notes = Notes(ours=kind == "native")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        loop.slow_callback_duration = timeout
        try:
            with reports_noted(notes), log_noted(notes, logging.DEBUG if debug else logging.WARNING):
                await test(notes, **fixtures)
        finally:
            for fixture in fixtures.values():
                if isinstance(fixture, Transport):
                    fixture.close()

    print(f"--- on {kind}")
    before = len(descriptors())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio leaves some to the collector; `unclosed` looks
        run_on(kind, main, timeout)
        notes.reports.clear()  # their exceptions hold some of it
        if len(descriptors()) > before:
            gc.collect()
    print(notes.seen)
    return notes.seen


@contextlib.contextmanager
def reports_noted(notes: Notes) -> Iterator[None]:
    """What the exception handler is told: the message, what else is in it, the exception."""
    with loop_reports() as notes.reports:
        yield
    for report in notes.reports:
        keys = sorted(set(report) - {"source_traceback", "handle_traceback"})
        notes("reports", report["message"], keys, report.get("exception"))


@contextlib.contextmanager
def log_noted(notes: Notes, level: int) -> Iterator[None]:
    """What asyncio logs, from this level on."""
    logger, before = logging.getLogger("asyncio"), logging.getLogger("asyncio").level
    handler = _Noting(notes, level)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # others keep the records, and with them the sockets that they name
    try:
        yield
    finally:
        logger.propagate = True
        logger.setLevel(before)
        logger.removeHandler(handler)


class _Noting(logging.Handler):
    def __init__(self, notes: Notes, level: int) -> None:
        super().__init__(level)
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        text = plain_text(record.getMessage())
        if "Using selector" not in text:
            error = record.exc_info[1] if record.exc_info else None
            self.notes("log", record.levelname, text, error)


@contextlib.contextmanager
def unclosed(notes: Notes) -> Iterator[None]:
    """Note what ResourceWarnings name that come meanwhile, and when garbage is collected."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    for warning in caught:
        if issubclass(warning.category, ResourceWarning):
            notes("unclosed", plain_text(str(warning.message)))


def ssl_fields(tls: ssl.SSLObject) -> dict[str, Any]:
    """What an `SSLObject` says of a connection."""
    return {
        "version": tls.version(),
        "cipher": tls.cipher(),
        "compression": tls.compression(),
        "alpn": tls.selected_alpn_protocol(),
        "server_side": tls.server_side,
        "server_hostname": tls.server_hostname,
        "session_reused": tls.session_reused,
        "peercert": tls.getpeercert(),
        "der": tls.getpeercert(True),
        "pending": tls.pending(),
    }
