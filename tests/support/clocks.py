"""Time in tests: a recorder that notes when `timeout` came, a beat from the loop, an old clock.

Early is measured strictly, from an instant before the call, with `time.monotonic`. Late is only
bounded generously (`LATE`): a busy machine is late, a wrong clock is early.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from .loops import Loop
from .pairs import accepted
from .recorder import Recorder
from .transports import Transport

LATE = 2.0  # seconds that a busy machine may add


def spin(seconds: float) -> None:
    """Keep the thread busy, so that what the loop knows of the time is old."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class Stopwatch(Recorder):
    """A recorder that also notes when `timeout` came."""

    def __init__(
        self,
        *,
        label: str = "stopwatch",
        timeout: Callable[[Any], Any] = lambda socket: None,
        **functions: Callable[..., Any],
    ) -> None:
        super().__init__(label=label, timeout=self._note, **functions)
        self.fired: list[float] = []
        self._then = timeout

    def _note(self, socket: Any) -> None:
        self.fired.append(time.monotonic())
        self._then(socket)


@contextlib.contextmanager
def metronome(
    loop: Loop, transport: Transport, period: float, times: int, tick: Callable[[], Any]
) -> Iterator[Callable[[], bool]]:
    """Calls `tick()` `times` times from the loop, one `period` apart, by a timeout of its own socket."""

    def beat(socket: Any) -> None:
        tick()
        socket.timeout(period if recorder.count("timeout") < times else 0)

    recorder = Recorder(label="metronome", timeout=beat)
    socket, _peer = accepted(loop, transport, recorder)
    socket.timeout(period)
    yield lambda: recorder.count("timeout") >= times
    socket.terminate()
