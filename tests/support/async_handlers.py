"""Handlers that are `async def`: a recorder that notes when they begin and end, ones that wait, ones that raise later.

Owns: `Notes`, and the notation of its record: "data" where the handler `data` began, and, if it is `async def`, "/data"
where it has returned. What lies between the two came while it ran:

    ["open", "data", "/data", "end"]      `end` was called when `data` had returned
    ["open", "data", "end", "/data"]      `end` was called while `data` was waiting
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from .pairs import bring_about
from .peers import Peer
from .recorder import Recorder


class Notes(Recorder):
    """A Recorder whose functions may be `async def`: such a handler is one too, and "/data" is noted at its end."""

    def _handler(self, name: str) -> Callable[..., Any]:
        function = self._functions.get(name)
        if not inspect.iscoroutinefunction(function):
            return super()._handler(name)

        async def handler(socket: Any, *args: Any) -> None:
            self.note(name, socket, *args)
            try:
                await function(socket, *args)
            finally:
                self.note("/" + name, socket)

        handler.__name__ = name
        return handler

    def note(self, name: str, socket: Any, *args: Any) -> None:
        self.events.append((name, socket, args))
        if Recorder.after_event is not None:
            Recorder.after_event()


class Held(Notes):
    """Notes whose handlers of these names are async and wait for `gate`; `functions` are called before they wait."""

    def __init__(self, *names: str, without: tuple[str, ...] = (), **functions: Callable[..., Any]) -> None:
        self.gate = asyncio.Event()

        def holding(name: str) -> Callable[..., Awaitable[None]]:
            async def hold(socket: Any, *args: Any) -> None:
                if name in first:
                    first[name](socket, *args)
                await self.gate.wait()

            return hold

        first = {name: functions.pop(name) for name in names if name in functions}
        super().__init__(without=without, **functions, **{name: holding(name) for name in names})


async def pause(socket: Any, *args: Any) -> None:
    """An async handler that takes a turn."""
    await asyncio.sleep(0)


def raising_later(error: BaseException) -> Callable[..., Awaitable[None]]:
    """An async handler that raises this very object, after a turn."""

    async def handler(*args: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return handler


def provoke(event: str, socket: Any, peer: Peer) -> None:
    """Make this event happen to an open socket, which an async handler may keep busy."""
    if event == "data":
        peer.send(b"x").ignore()
    bring_about(event, socket, peer)
