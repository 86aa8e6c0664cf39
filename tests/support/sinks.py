"""What the tests of `SocketSink` share: a socket whose kernel takes no more, a drain driven by hand, callbacks that remember."""

from __future__ import annotations

import weakref
from typing import Any

import pybuntcp

from .kernel import pattern
from .pairs import accepted
from .recorder import Recorder

BIG = 8 << 20  # more than the kernel holds of a connection whose receive buffer is SMALL
SMALL = 65536  # given to `rcvbuf`; left alone, the kernel lets it grow to 32 MiB under a peer that reads


def writes() -> int:
    """System calls that wrote, so far."""
    return pybuntcp.stats()["writes"]


def stuffed(loop: Any, transport: Any, recorder: Recorder, side: Any = accepted, **options: Any) -> tuple[Any, Any]:
    """A socket that was given `pattern(BIG)` by a sink, with a peer that has not read: some is pending."""
    socket, peer = side(loop, transport, recorder, rcvbuf=SMALL, **options)
    assert socket.sink(high_water_mark=0).write(pattern(BIG)) == BIG
    assert socket.pending > 0
    return socket, peer


_waits_for: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def ended(drain: Any) -> bool:
    """One step of a coroutine driven by hand: has it returned? What it raises comes out.

    In an asyncio loop it waits for a future; until that is done there is no step to take, as for a task.
    """
    future = _waits_for.get(drain)
    if future is not None and not future.done():
        return False
    try:
        _waits_for[drain] = drain.send(None)
    except StopIteration:
        return True
    return False


class DrainCallback:
    """A drain callback that notes each error it is given, and in `log`, which others may share, that it was called."""

    def __init__(self, log: list[str] | None = None, name: str = "drain") -> None:
        self.errors: list[BaseException | None] = []
        self.log = log if log is not None else []
        self.name = name

    def __call__(self, error: BaseException | None) -> None:
        self.errors.append(error)
        self.log.append(self.name)
        if Recorder.after_event is not None:
            Recorder.after_event()

    @property
    def error(self) -> BaseException | None:
        """The error of its only call."""
        (error,) = self.errors
        return error
