"""What turns our sockets: `pybuntcp.run()`, bounded, and stoppable when a condition holds.

Owns: the main thread's loop during a test. A loop that hangs is interrupted the way a user would
do it (SIGINT) and fails the test with what was recorded. Tests are written against `run`,
`run_until`, `wait`, `call` and `settle`; another loop with these five is a line in `LOOPS`.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pybuntcp

from .kernel import TIMEOUT
from .peers import Job
from .recorder import Recorder

GAUGES = ("open_sockets", "open_listeners", "connecting", "armed_timers", "pending_bytes")


class LoopHung(AssertionError):
    """The loop was still turning when its time was over."""


class _StopLoop(SystemExit):
    """Raised by the control socket's handler: contract H1 says that it comes out of `run()`."""


def run_loop(timeout: float = TIMEOUT) -> None:
    """`pybuntcp.run()` in the main thread, failing with LoopHung after `timeout` seconds."""
    fired = threading.Event()
    main = threading.main_thread()
    assert threading.current_thread() is main, "run_loop() interrupts with SIGINT: main thread only"

    def interrupt() -> None:
        fired.set()
        signal.pthread_kill(main.ident, signal.SIGINT)

    watchdog = threading.Timer(timeout, interrupt)
    watchdog.daemon = True
    watchdog.start()
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        if not fired.is_set():
            raise
        raise LoopHung(f"the loop still turned after {timeout} s; {_state()}") from None
    finally:
        watchdog.cancel()
        watchdog.join()


def _state() -> str:
    stats = {name: pybuntcp.stats()[name] for name in GAUGES}
    last = [f"{r.label}: {' '.join(r.names()[-12:])}" for r in Recorder.alive]
    return f"gauges {stats}; recorded {last}"


class StandaloneLoop:
    """pybuntcp's own loop, turned by `pybuntcp.run()`.

    `run_until` and `wait` stop a running loop through a control socket: an unreferenced
    connection (so that it never keeps `run()` alive) whose handler raises SystemExit. It is made
    when first needed. `call(fn)` runs `fn` in the loop's thread, inside that socket's handler.
    """

    name = "standalone"

    def __init__(self) -> None:
        self._condition: Callable[[], Any] | None = None
        self._control: Any = None
        self._poker: socket.socket | None = None
        self._calls: queue.SimpleQueue[tuple[Job, Callable[[], Any]]] = queue.SimpleQueue()

    def run(self, timeout: float = TIMEOUT) -> None:
        """Turn until nothing referenced is left."""
        run_loop(timeout)

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

    def _turn_until(self, condition: Callable[[], Any], timeout: float) -> None:
        self._open_control()
        self._condition = condition  # first: what happens from here on pokes
        Recorder.after_event = self.check
        try:
            if not condition():
                run_loop(timeout)
        except _StopLoop:
            pass
        finally:
            self._condition = Recorder.after_event = None

    def call(self, function: Callable[..., Any], *args: Any) -> Job:
        """From any thread: run `function` in the loop's thread, inside a handler."""
        job = Job()
        self._open_control()
        self._calls.put((job, lambda: function(*args)))
        self._poke()
        return job

    def check(self) -> None:
        """Look at the condition of `run_until` again; from any thread."""
        condition = self._condition
        if condition is not None and condition():
            self._poke()

    def settle(self) -> None:
        """A few turns: what was ready in the kernel before has been looked at after."""
        for _ in range(3):
            job = self.call(lambda: None)
            if self._control is not None:
                self._control.ref()  # turns even if nothing else is left to turn for
            self.wait(job)
            self._control.unref()

    def gauges(self) -> dict[str, int]:
        """The gauges of `stats()`, the harness's own control socket left out."""
        stats = pybuntcp.stats()
        gauges = {name: stats[name] for name in GAUGES}
        if self._control is not None:
            gauges["open_sockets"] -= 1
        return gauges

    def close(self) -> None:
        if self._poker is None:
            return
        self._poker.close()
        self._poker = None
        if self._control is not None:
            self._control.terminate()
            self._control = None

    def _open_control(self) -> None:
        if self._poker is not None:
            return
        ours, self._poker = socket.socketpair()
        self._poker.setblocking(False)
        handlers = {"open": self._on_open, "data": self._on_data}
        pybuntcp.connect(fd=ours.detach(), socket=handlers)

    def _on_open(self, control: Any) -> None:
        self._control = control
        control.unref()

    def _on_data(self, control: Any, chunk: bytes) -> None:
        while not self._calls.empty():
            job, function = self._calls.get()
            job.perform(function)
        if self._condition is not None and self._condition():
            raise _StopLoop

    def _poke(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self._poker.send(b"!")


LOOPS: dict[str, type[StandaloneLoop]] = {"standalone": StandaloneLoop}
