"""What turns our sockets: a loop, bounded, and stoppable when a condition holds.

Owns: the main thread's loop during a test. A loop that hangs is interrupted the way a user would
do it (SIGINT) and fails the test with what was recorded. Tests are written against `run`,
`run_until`, `wait`, `call`, `settle`, `gauges` and `reports` of `Loop`; here is the one of
`pybuntcp.run()`, those that live in an asyncio loop are in `hosted_loops`, their table is in `axis`.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pybuntcp

from .kernel import TIMEOUT
from .peers import Job
from .recorder import Recorder
from .watchdog import watchdog

GAUGES = ("open_sockets", "open_listeners", "connecting", "armed_timers", "pipes", "pending_bytes")


class LoopHung(AssertionError):
    """The loop was still turning when its time was over."""


class _StopLoop(SystemExit):
    """Raised by the control socket's handler: contract H1 says that it comes out of `run()`."""


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """SIGINT to the main thread when the time is over, and what comes of it is LoopHung."""
    assert threading.current_thread() is threading.main_thread(), "a loop is interrupted with SIGINT: main thread only"
    guard = watchdog()
    guard.watch(seconds)
    try:
        yield
    except KeyboardInterrupt:
        if not guard.fired:
            raise
        raise hung(seconds) from None
    finally:
        guard.leave()


def run_loop(timeout: float = TIMEOUT) -> None:
    """`pybuntcp.run()` in the main thread, failing with LoopHung after `timeout` seconds."""
    with interrupted_after(timeout):
        pybuntcp.run()


def hung(seconds: float) -> LoopHung:
    """The failure, with what was open and recorded."""
    return LoopHung(f"the loop still turned after {seconds} s; {_state()}")


def _state() -> str:
    stats = {name: pybuntcp.stats()[name] for name in GAUGES}
    last = [f"{r.label}: {' '.join(r.names()[-12:])}" for r in Recorder.alive]
    return f"gauges {stats}; recorded {last}"


@contextlib.contextmanager
def unraisable() -> Iterator[list[BaseException]]:
    """The exceptions that `sys.unraisablehook` is given meanwhile."""
    reported: list[BaseException] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda report: reported.append(report.exc_value)
    try:
        yield reported
    finally:
        sys.unraisablehook = before


class Loop:
    """What all loops have in common: a condition to stop for, and a control socket.

    `call(fn)` runs `fn` in the loop's thread, inside the handler of the control socket, a
    connection of the harness's own that is made when first needed.
    """

    name = ""
    waits = True  # itself, and lets the GIL go meanwhile; or its host does

    def __init__(self) -> None:
        self._condition: Callable[[], Any] | None = None
        self._control: Any = None
        self._poker: socket.socket | None = None
        self._calls: queue.SimpleQueue[tuple[Job, Callable[[], Any]]] = queue.SimpleQueue()

    @classmethod
    def missing(cls) -> str:
        """Why there is no such loop here; empty if there is."""
        return ""

    # What a subclass says.

    def run(self, timeout: float = TIMEOUT) -> None:
        """Turn until nothing is left that keeps the loop turning."""
        raise NotImplementedError

    def reports(self) -> contextlib.AbstractContextManager[list[BaseException]]:
        """The exceptions that went to no handler of the test, meanwhile (H1)."""
        raise NotImplementedError

    def check(self) -> None:
        """Look at the condition of `run_until` again; from any thread."""
        raise NotImplementedError

    def _turn(self, timeout: float) -> None:
        """Turn until the condition holds or nothing is left."""
        raise NotImplementedError

    # What tests call.

    def run_until(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> None:
        """Turn until `condition()` holds; it is asked after each recorded event and finished job."""
        self._turn_until(condition, timeout)
        assert condition(), f"the loop finished before the condition held; {_state()}"

    def wait(self, job: Future, timeout: float = TIMEOUT) -> Any:
        """Turn until a peer's job is done; its result. The peer may outlast the loop: what was
        written is in the kernel, to be read when all sockets of ours are closed."""
        job.add_done_callback(lambda _: self.check())
        self._turn_until(job.done, timeout)
        return job.result(timeout)

    def call(self, function: Callable[..., Any], *args: Any) -> Job:
        """From any thread: run `function` in the loop's thread, inside a handler."""
        job = Job()
        self._open_control()
        self._calls.put((job, lambda: function(*args)))
        self._poke()
        return job

    def settle(self) -> None:
        """A few turns: what was ready in the kernel before has been looked at after."""
        for _ in range(3):
            self.wait(self.call(lambda: None))

    def gauges(self) -> dict[str, int]:
        """The gauges of `stats()`, the harness's own control socket left out."""
        stats = pybuntcp.stats()
        gauges = {name: stats[name] for name in GAUGES}
        if self._control is not None:
            gauges["open_sockets"] -= 1
        return gauges

    def close(self) -> None:
        """Give back what the harness has opened."""
        self._close_control()

    # The rest is the harness's own.

    def _turn_until(self, condition: Callable[[], Any], timeout: float) -> None:
        self._condition = condition  # first: what happens from here on is looked at
        Recorder.after_event = self.check
        try:
            if not condition():
                self._turn(timeout)
        finally:
            self._condition = Recorder.after_event = None

    def _open_control(self) -> None:
        if self._poker is not None:
            return
        ours, self._poker = socket.socketpair()
        self._poker.setblocking(False)
        handlers = {"open": self._on_open, "data": self._on_data, "close": self._on_close}
        pybuntcp.connect(fd=ours.detach(), socket=handlers)

    def _close_control(self) -> None:
        if self._poker is None:
            return
        self._poker.close()
        self._poker = None
        if self._control is not None:
            self._control.terminate()
            self._control = None

    def _on_open(self, control: Any) -> None:
        self._control = control

    def _on_close(self, control: Any, error: BaseException | None) -> None:
        if control is self._control:  # swept away after a failed test
            self._control = None

    def _on_data(self, control: Any, chunk: bytes) -> None:
        while not self._calls.empty():
            job, function = self._calls.get()
            job.perform(function)

    def _poke(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self._poker.send(b"!")


class StandaloneLoop(Loop):
    """pybuntcp's own loop, turned by `pybuntcp.run()`.

    `run_until` and `wait` stop a running loop through the control socket: it is unreferenced (so
    that it never keeps `run()` alive), and its handler raises SystemExit.
    """

    name = "standalone"

    def run(self, timeout: float = TIMEOUT) -> None:
        """Turn until nothing referenced is left."""
        run_loop(timeout)

    def reports(self) -> contextlib.AbstractContextManager[list[BaseException]]:
        return unraisable()

    def check(self) -> None:
        condition = self._condition
        if condition is not None and condition():
            self._poke()

    def settle(self) -> None:
        for _ in range(3):
            job = self.call(lambda: None)
            if self._control is not None:
                self._control.ref()  # turns even if nothing else is left to turn for
            self.wait(job)
            self._control.unref()

    def _turn_until(self, condition: Callable[[], Any], timeout: float) -> None:
        self._open_control()
        super()._turn_until(condition, timeout)

    def _turn(self, timeout: float) -> None:
        with contextlib.suppress(_StopLoop):
            run_loop(timeout)

    def _on_open(self, control: Any) -> None:
        super()._on_open(control)
        control.unref()

    def _on_data(self, control: Any, chunk: bytes) -> None:
        super()._on_data(control, chunk)
        if self._condition is not None and self._condition():
            raise _StopLoop
