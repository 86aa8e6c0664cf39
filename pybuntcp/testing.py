"""testing: for tests of your own protocol: connected pairs, a loop that runs until a condition holds, a clock to set.

Owns `pair`, `open_pair`, `run_until`, `run_until_idle` and `clock`. Nothing here waits for time to pass: a test runs the loop
turn by turn (a turn is one iteration), and deadlines fire when it advances the clock. Sockets are real ones of the kernel, so
a test runs the same code as a program. The package itself does not import this module.
"""

from __future__ import annotations

import select
import socket as stdlib
import time
from collections.abc import Callable
from typing import Any

from . import _core
from .api import connect

__all__ = ["Clock", "clock", "open_pair", "pair", "run_until", "run_until_idle"]

PATIENCE = 5.0
LOOK_AGAIN = (
    0.05  # seconds after which a condition is looked at though nothing has happened: another thread may fulfil it
)


class _Collects:
    """The handlers of an end that only collects: `socket.data` is a bytearray of all that it has received."""

    @staticmethod
    def open(socket: Any) -> None:
        socket.data = bytearray()

    @staticmethod
    def data(socket: Any, chunk: bytes) -> None:
        socket.data += chunk


def pair(handlers: Any, other: Any = None, **options: Any) -> tuple[_core.Socket[Any], _core.Socket[Any]]:
    """Two sockets that are connected with each other, in this thread's loop; both are open when it returns.

    handlers: those of the first socket, as `connect` takes them. other: those of the second; None: it only collects, and its
    `data` is a bytearray of what it has received. options: of `connect`, for both, except where to connect to and `tls`.

    They are a pair of unix sockets. Their `open` handlers have been called. Errors: RuntimeError inside asyncio, where
    `open_pair` is to be awaited instead; TypeError for `tls`, which needs a listener.
    """
    ends = _start(handlers, other, options)
    run_until(lambda: all(end.done() for end in ends))
    return ends[0].result(), ends[1].result()


async def open_pair(handlers: Any, other: Any = None, **options: Any) -> tuple[_core.Socket[Any], _core.Socket[Any]]:
    """As `pair`, inside asyncio. The two sockets are open when it returns."""
    first, second = _start(handlers, other, options)
    return await first, await second


def _start(handlers: Any, other: Any, options: dict[str, Any]) -> list[_core.Connecting]:
    if "tls" in options:
        raise TypeError("pair() has no tls: both of its ends connect. Use listen() and connect()")
    ends = stdlib.socketpair()
    started: list[_core.Connecting] = []
    try:
        for end, of_it in zip(ends, (handlers, _Collects if other is None else other), strict=True):
            started.append(connect(fd=end.fileno(), socket=of_it, **options))
            end.detach()
    except BaseException:
        for each in started:
            each.cancel()
        raise
    finally:
        for end in ends:  # those that were not adopted
            end.close()
    return started


def run_until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Run this thread's loop until `condition()` is true; it is called before each turn (iteration) of the loop.

    timeout: seconds of real time. Errors: AssertionError when they are over, or when nothing is open that could still
    make the condition true; what a handler raises to stop the loop; RuntimeError inside asyncio.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"the condition does not hold after {timeout} s; open: {_open()}")
        was_open = _core.is_open()
        _core.turn(min(left, LOOK_AGAIN))  # also if nothing is open: the last `close` may still be to come
        if not was_open and not condition():
            raise AssertionError("the condition does not hold, and nothing is open any more")


def run_until_idle(timeout: float = PATIENCE) -> None:
    """Run this thread's loop until nothing is ready: no bytes, no connection, no timer that is due.

    Data under way from another thread or process may still arrive later. timeout: seconds of real time; AssertionError
    after that, for example because a callback calls `call_soon` for itself again and again.
    """
    deadline = time.monotonic() + timeout
    while _is_ready(_core.turn(0)):
        if time.monotonic() > deadline:
            raise AssertionError(f"the loop is not idle after {timeout} s; open: {_open()}")


def _is_ready(fd: int) -> bool:
    if fd < 0:
        return True
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _open() -> dict[str, float]:
    gauges = ("open_sockets", "open_listeners", "connecting", "armed_timers", "pending_bytes")
    stats = _core.stats()
    return {name: stats[name] for name in gauges if stats[name]}


class Clock:
    """The clock of all loops of this process, which a test can advance. There is one: `clock`.

    Timers, `timeout`, `idle_timeout`, `linger_timeout`, `handshake_timeout` and the `timeout` of `connect` use it.
    `time.monotonic()`, asyncio's own timers and the kernel do not. It cannot be set back, and need not be, because what a
    test sets afterwards counts from the advanced clock. `Timer.when` stays on the clock of `time.monotonic()`, so it
    becomes smaller when this clock is advanced.
    """

    def advance(self, seconds: float) -> None:
        """Advance the clock by this much time. What is due by then is called in the next turn of the loop, in order.

        seconds: as a float. Only the loops of this thread are woken for it. A timer of `every` is called once, however many
        of its times have passed; to see each call, advance in steps. Errors: TypeError, ValueError for what is no number,
        negative or NaN.
        """
        _core.turn_clock(seconds)

    def time(self) -> float:
        """`time.monotonic()`, plus all that was advanced."""
        return time.monotonic() + _core.turned()


clock = Clock()
"""The one clock of this process: see `Clock`."""
