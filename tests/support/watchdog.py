"""One thread that interrupts the main thread when something there takes too long.

Owns: the thread, which is started when it is first needed and serves the whole process; a thread for each turn of a loop costs
milliseconds on a busy machine where interpreters have no GIL. A forked child gets one of its own.
Promises that no signal comes after the block that was watched. Does not know what is watched.
"""

from __future__ import annotations

import signal
import threading
import time

NEVER, A_DAY = float("inf"), 86400.0


class Watchdog:
    """Sends SIGINT to the main thread when a block has not ended `seconds` after `watch`. Blocks may be nested: the first that is late ends all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: list[float] = []
        self._wakes = NEVER
        self.fired = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False in a forked child, which has inherited no other thread."""
        return self._thread.is_alive()

    def watch(self, seconds: float) -> None:
        with self._changed:
            self.fired = self.fired and bool(self._ends)
            end = time.monotonic() + seconds
            self._ends.append(end)
            if end < self._wakes:  # else it wakes in time: most blocks end long before, and wake nobody
                self._changed.notify()

    def leave(self) -> None:
        with self._changed:
            if self._ends:  # none is left when it has fired
                self._ends.pop()

    def _run(self) -> None:
        main = threading.main_thread()
        with self._changed:
            while True:
                left = min(self._ends, default=NEVER) - time.monotonic()
                if left > 0:
                    left = min(left, A_DAY)
                    self._wakes = time.monotonic() + left
                    self._changed.wait(left)
                    continue
                self._ends.clear()
                self.fired = True
                signal.pthread_kill(main.ident, signal.SIGINT)


_one: Watchdog | None = None


def watchdog() -> Watchdog:
    """That of this process."""
    global _one
    if _one is None or not _one.alive:
        _one = Watchdog()
    return _one
