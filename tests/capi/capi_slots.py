"""Slots that remember: a `Recorder` whose handlers are C functions of the package `outside`.

Owns `Slots`, which goes wherever a Recorder does (`transport.listen`, `accepted`, ...): its sockets are `Handle`s, every
verb of which is one call of the C API. And waits for what C code counts, of which no loop hears.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import Recorder, wait_for

SLOTS = ("open", "data", "drain", "end", "close", "timeout", "handshake", "connect_error")


class Slots(Recorder):
    """Slots that log every call as `(event, handle, args)` and then run `functions[event](handle, *args)`.

    `without`: slots that stay NULL. `python`: Python handlers to go into the same table. `owner`: the table's, which is
    else the recorder itself. What a function raises leaves the slot, and is reported as unraisable.
    """

    def __init__(self, *, ext_size: int = 0, python: Any = None, owner: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.ext_size = ext_size
        self.python = python
        self.owner = owner
        self._names = [name for name in SLOTS if name not in options.get("without", ())]

    @property
    def handlers(self) -> Any:
        """A Handlers, compiled anew each time."""
        from outside import recording

        return recording.table(self, self._names, self.ext_size, self.python, self.owner)

    def told(self, name: str, handle: Any, *args: Any) -> None:
        """A slot was called."""
        self._handler(name)(handle, *args)


def settle_until(loop: Any, condition: Callable[[], Any], what: str) -> None:
    """Turn until C code has counted what it should."""

    def settled() -> Any:
        loop.settle()
        return condition()

    wait_for(settled, what)
