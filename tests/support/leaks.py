"""What a test left behind: the check after each test, the broom after a failed one, and what is freed without the collector.

Owns: what "nothing left" means: gauges of `pybuntcp.stats()` at zero, as many descriptors as
before, no exception lost in a recorder's handler.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import pybuntcp

from .kernel import descriptors
from .loops import GAUGES, Loop, LoopHung, StandaloneLoop, run_loop
from .recorder import Recorder


def check_nothing_left(before: dict[int, str]) -> None:
    """Fail for what is open now and was not when `descriptors()` gave `before`."""
    raised = [error for recorder in Recorder.alive for error in recorder.raised]
    stats = pybuntcp.stats()
    left = {name: stats[name] for name in GAUGES if stats[name]}
    before, after = without_spares(before), without_spares(descriptors())
    if len(after) > len(before):  # garbage may hold some; collecting after every test would take most of the time
        gc.collect()
        after = without_spares(descriptors())
    new = {fd: what for fd, what in after.items() if before.get(fd) != what}
    if left or len(after) > len(before):
        sweep()
    if raised:
        raise raised[0]
    assert not left, f"gauges not back at zero: {left}"
    assert len(after) == len(before), f"descriptors: {len(before)} before, {len(after)} after, new {new}"


def without_spares(found: dict[int, str]) -> dict[int, str]:
    """libuv opens a spare descriptor with a loop's first stream, and a loop that was made earlier may have its first now."""
    return {fd: what for fd, what in found.items() if what != "/dev/null"}


def sweep(loop: Loop | None = None) -> None:
    """After a failed test: end what it left behind, so that the next one starts clean; by this loop, or by `run()`."""
    end_everything()
    with contextlib.suppress(LoopHung):
        (loop.run if loop else run_loop)(2.0)


def end_everything() -> None:
    """Close all that is open in this thread."""
    for thing in gc.get_objects():
        with contextlib.suppress(RuntimeError, ReferenceError):  # another thread's; a weak reference to what is gone
            if isinstance(thing, pybuntcp.Listener):
                thing.stop(True)
            elif isinstance(thing, pybuntcp.Socket):
                thing.terminate()
            elif isinstance(thing, pybuntcp.Connecting):
                thing.cancel()


def warm(loop: type[Loop]) -> None:
    """What such a loop opens once and keeps (its backend, libuv's spare descriptor) is no leak of the next test."""
    for kind in (loop, StandaloneLoop):
        made = kind()
        made.settle()
        made.close()
        run_loop()


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Only what nothing refers to any more is freed meanwhile: what was garbage before is gone, and none is collected."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
