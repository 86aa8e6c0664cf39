"""Programs that hypothesis makes of what a protocol does with its transport, and a peer with the connection.

A program is some steps, and a step is what one callback does. Owns: the form of programs (`steps_of`); `Watched`, the protocol
that does what a program says, and in its calls what its hooks say; the run of a program on a new loop (`played`); and the
comparison of two runs, step by step. What a peer does, and what else must agree, is the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hypothesis import strategies as st

from .asyncio_loops import open_host
from .kernel import pattern

FULL = 1_000_000  # more than the kernel takes of a pair of unix sockets, by far more than the highest mark
VERBS = {"pause": "pause_reading", "resume": "resume_reading"}  # the others are called as they are written


def steps_of(ours: Any, peers: Any) -> Any:
    """Programs of what we do, several things in a step, and of what the peer does, each in a step of its own."""
    return st.lists(st.one_of(st.lists(ours, max_size=4), peers.map(lambda one: [one])), min_size=1, max_size=9)


class Watched(asyncio.Protocol):
    """Does in each call what its hooks say, the first two times. Chunks of data that follow each other are one call."""

    def __init__(self, hooks: dict[str, str | None]) -> None:
        self.hooks, self.done = hooks, dict.fromkeys(hooks, 0)
        self.calls: list[Any] = []
        self.received = bytearray()
        self.raised: list[tuple[Any, str]] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.calls[-1:] == ["data"]:
            self.calls.pop()
        self.note("data")

    def note(self, name: str) -> None:
        self.calls.append(name)
        what = self.hooks[name]
        if what not in (None, "keep") and self.done[name] < 2:
            self.done[name] += 1
            self.do(("write", 10) if what == "write" else (what,))

    def do(self, operation: tuple[Any, ...]) -> None:
        """With the transport; what that raises is remembered."""
        try:
            self.perform(*operation)
        except (RuntimeError, TypeError, ValueError) as error:
            self.raised.append((operation, type(error).__name__))

    def perform(self, name: str, what: Any = None) -> None:
        if name == "write":
            self.transport.write(pattern(FULL)[:what])
        elif name == "lines":
            self.write_lines([pattern(FULL)[:size] for size in what])
        elif name == "marks":
            self.transport.set_write_buffer_limits(*what)
        else:
            getattr(self.transport, VERBS.get(name, name))()

    def write_lines(self, lines: list[bytes]) -> None:
        self.transport.writelines(lines)


def played(host: str, play: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, list[str]]:
    """What `play()` returned on a new loop, and what was reported there."""
    reports: list[str] = []
    with open_host(host) as loop:
        loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
        return loop.run_until_complete(play()), reports


def same_steps(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """What was seen in each step agrees."""
    for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one == other, f"step {at}"
