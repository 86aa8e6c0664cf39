"""Loops that live in an asyncio loop: the stock one, uvloop, and the native one.

Owns: the asyncio loop of a test. Tests are plain functions that call `listen` and `connect` in
their own body, so the host counts as the running loop of the thread there, and what is opened
attaches itself to it; while the host really turns it says so itself.

The host ends a turn of `run_until` when the condition holds, asked after each recorded event and
finished job. Nobody tells when nothing is left that could still happen: for that, and for nothing
else, it is looked at now and then (`_beat`): soon and then ever less often in `run`, which waits
for nothing else, seldom in the others. On the native loop each look is a turn of ours as well, so a
wake-up that gets lost there shows as a delay, not as a hang; tests of wake-ups drive a loop of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
from collections.abc import Iterator
from typing import Any

from .asyncio_loops import new_host
from .kernel import TIMEOUT
from .loops import Loop, hung, interrupted_after

INSIDE_A_TURN = 3.0  # seconds more until a host that does not even call its timers is interrupted
FIRST_BEAT, LAST_BEAT = 0.001, 0.05  # seconds between two looks in `run`, each twice the one before
SELDOM = 0.25  # seconds between two looks in `run_until` and `wait`
ROUNDS = 3  # of the host, after which a handle that was closing is closed
MUST_BE_ZERO = ("open_sockets", "open_listeners", "connecting", "armed_timers")


def _never() -> bool:
    return False


class HostedLoop(Loop):
    """An asyncio loop as the host of ours, the running one of the thread from making to `close`."""

    waits = False

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self._unexpected: list[BaseException] = []
        self._reported = self._unexpected
        self._late = False
        self._quiet = 0
        self._heart: asyncio.TimerHandle | None = None
        self.host = new_host(self.name)
        self.host.set_exception_handler(self._on_report)
        asyncio._set_running_loop(self.host)

    def run(self, timeout: float = TIMEOUT) -> None:
        """Turn until nothing is open, referenced or not: an asyncio loop does not end by itself."""
        self._turn_until(_never, timeout)

    @contextlib.contextmanager
    def reports(self) -> Iterator[list[BaseException]]:
        """The exceptions that the host's exception handler is given; elsewhere each fails the test."""
        self._reported = reported = []
        try:
            yield reported
        finally:
            self._reported = self._unexpected

    def check(self) -> None:
        condition = self._condition
        if condition is None or not condition():
            return
        if threading.get_ident() == self._thread:
            self.host.call_soon(self._look)
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                self.host.call_soon_threadsafe(self._look)

    def close(self, timeout: float = TIMEOUT) -> None:
        """Turn until nothing is left, then close the host: it takes its descriptors with it."""
        try:
            self.run(timeout)
            self._close_control()
            self.run(timeout)
            left = {name: count for name, count in self.gauges().items() if count}
            assert not left, f"gauges not back at zero: {left}"
        finally:
            self._close_control()
            asyncio._set_running_loop(None)
            self.host.close()
        for error in self._unexpected:
            raise error

    def _turn(self, timeout: float) -> None:
        self._late, self._quiet = False, 0
        end = self.host.call_later(timeout, self._on_late)
        self._beat(FIRST_BEAT if self._condition is _never else SELDOM)
        self.host.call_soon(self._look)
        try:
            with interrupted_after(timeout + INSIDE_A_TURN):
                self._turn_host()
        finally:
            end.cancel()
            self._heart.cancel()
        if self._late:
            raise hung(timeout)

    def _turn_host(self) -> None:
        asyncio._set_running_loop(None)  # it says itself that it runs, and refuses where one does
        try:
            self.host.run_forever()
        finally:
            asyncio._set_running_loop(self.host)

    def _look(self) -> None:
        """After a turn: stop if the condition still holds, or if nothing is left that could bring it about."""
        if self._condition is None:
            return
        if self._condition():
            self._stop()
        elif self._anything_left():
            self._quiet = 0
        elif self._quiet == ROUNDS:
            self._stop()
        else:
            self._quiet += 1
            self.host.call_soon(self._look)

    def _anything_left(self) -> bool:
        gauges = self.gauges()
        return any(gauges[name] for name in MUST_BE_ZERO)

    def _beat(self, delay: float) -> None:
        self._heart = self.host.call_later(delay, self._on_beat, delay)

    def _on_beat(self, delay: float) -> None:
        self._beat(max(delay, min(2 * delay, LAST_BEAT)))
        self._look()

    def _on_late(self) -> None:
        self._late = True
        self._stop()

    def _stop(self) -> None:
        self._condition = None  # once: a second stop would end the next run
        self.host.stop()

    def _on_report(self, host: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._reported.append(context.get("exception") or AssertionError(context["message"]))


class AsyncioLoop(HostedLoop):
    """Embedded in the standard library's loop."""

    name = "asyncio"


class UvloopLoop(HostedLoop):
    """Embedded in uvloop."""

    name = "uvloop"

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("uvloop") else "uvloop is not installed"


class NativeLoop(HostedLoop):
    """The standard library's loop on ours, which is made with it: what that opens once is opened before the test."""

    name = "native"
    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.wait(self.call(lambda: None))
        self._close_control()
        self.run()
