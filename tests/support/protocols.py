"""Protocols of asyncio that remember: those of the tests in `contract/aio`, and the loops on which these run.

    protocol = Plain(data_received=lambda protocol, data: protocol.transport.write(data))

Owns: `Plain` and `Buffered`, which log every call and then run the function that the test gave under its name, whose answer
is theirs; `Made`, a factory that remembers its protocols. Where their connections come from is `streams`. Nothing here knows
whose the loop is: a sentence about asyncio runs on its own loop as well (`on_ours_and_asyncio`), as a control.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from .asyncio_loops import hosts, on_loops

on_ours_and_asyncio = on_loops("asyncio", "native")
on_ours = on_loops("native")  # what asyncio does otherwise, or not at all
host_is_ours_or_asyncio = hosts("asyncio", "native")  # as the first, of a test that is a function of `host`


class _Looked:
    """What has waits for a condition, which is looked at when something was called."""

    def __init__(self) -> None:
        self._looks: list[Callable[[], None]] = []

    def look(self) -> None:
        """Look at what is waited for."""
        for look in list(self._looks):
            look()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Until it holds; it is looked at after each call."""
        held = asyncio.get_running_loop().create_future()

        def look() -> None:
            if not held.done() and condition():
                held.set_result(None)

        self._looks.append(look)
        try:
            look()
            await held
        finally:
            self._looks.remove(look)


class _Remembers(_Looked):
    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__()
        self.transport: Any = None
        self.log: list[str] = []
        self.data = bytearray()
        self.error: Any = "not lost"
        self.answers = answers
        self.maker: _Looked | None = None

    def _called(self, name: str, *arguments: Any) -> Any:
        self.log.append(name)
        try:
            if name in self.answers:
                return self.answers[name](self, *arguments)
        finally:
            self.look()
            if self.maker is not None:
                self.maker.look()
        return None

    @property
    def calls(self) -> list[str]:
        """The log, in which chunks that follow each other are one."""
        return [
            name
            for before, name in itertools.pairwise(["", *self.log])
            if name != "data_received" or before != "data_received"
        ]

    async def called(self, name: str, times: int = 1) -> None:
        await self.until(lambda: self.log.count(name) >= times)

    async def received(self, data: bytes) -> None:
        """Until so many bytes were received: these."""
        await self.until(lambda: len(self.data) >= len(data))
        assert self.data == data

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._called("connection_made", transport)

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self._called("connection_lost", error)

    def eof_received(self) -> Any:
        return self._called("eof_received")

    def pause_writing(self) -> None:
        self._called("pause_writing")

    def resume_writing(self) -> None:
        self._called("resume_writing")


class Plain(_Remembers, asyncio.Protocol):
    """A Protocol that logs each call, and then runs `answers[name](protocol, *arguments)`."""

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._called("data_received", data)


class Buffered(_Remembers, asyncio.BufferedProtocol):
    """A BufferedProtocol of the same kind. Without an answer `get_buffer` gives `memory`."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__(**answers)
        self.memory = bytearray(4096)

    def get_buffer(self, sizehint: int) -> Any:
        return self._called("get_buffer", sizehint) if "get_buffer" in self.answers else self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.memory[:nbytes]
        self._called("buffer_updated", nbytes)


class Made(_Looked):
    """A factory that remembers the protocols it made; `until` looks after each call of any of them."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__()
        self.answers = answers
        self.all: list[Plain] = []
        self.most = 0  # that were open at a time

    def __call__(self) -> Plain:
        protocol = Plain(**self.answers)
        protocol.maker = self
        self.all.append(protocol)
        return protocol

    def look(self) -> None:
        self.most = max(self.most, len(self.open))
        super().look()

    @property
    def open(self) -> list[Plain]:
        """Those that have their connection, and have not lost it."""
        return [each for each in self.all if each.log and "connection_lost" not in each.log]

    async def count(self, count: int) -> list[Plain]:
        """Until so many have had their connection. All."""
        await self.until(lambda: sum("connection_made" in each.log for each in self.all) >= count)
        return self.all
