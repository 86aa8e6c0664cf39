"""Handlers that remember: what was called, on which socket, with what.

Owns: the log that contract tests compare with a sentence's order of events. Does not know loops
or transports; `Recorder.after_event` is how a loop hears that it may look at its condition again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

EVENTS = ("open", "data", "drain", "end", "close", "error", "timeout", "connect_error")


class Recorder:
    """Handlers for `socket=` that log every call as `(event, socket, args)`.

    `Recorder(data=f)` runs `f(socket, chunk)` after logging. `without=("end",)` leaves handlers
    undefined. An exception that a handler raises lands in `raised`, and the leak fixture fails the
    test for it unless an `error` function was given: an assertion inside a handler counts.
    """

    alive: ClassVar[list[Recorder]] = []
    after_event: ClassVar[Callable[[], None] | None] = None

    def __init__(
        self,
        *,
        label: str = "recorder",
        binary_type: str | None = None,
        without: tuple[str, ...] = (),
        **functions: Callable[..., Any],
    ) -> None:
        unknown = (set(functions) | set(without)) - set(EVENTS)
        assert not unknown, f"no such events: {unknown}"
        self.label = label
        self.events: list[tuple[str, Any, tuple[Any, ...]]] = []
        self.raised: list[BaseException] = []
        self._binary_type = binary_type
        self._names = [name for name in EVENTS if name not in without]
        self._functions = functions
        Recorder.alive.append(self)

    @property
    def handlers(self) -> dict[str, Any]:
        """The mapping to give as `socket=`."""
        table: dict[str, Any] = {name: self._handler(name) for name in self._names}
        if self._binary_type is not None:
            table["binary_type"] = self._binary_type
        return table

    def _handler(self, name: str) -> Callable[..., None]:
        def handler(socket: Any, *args: Any) -> None:
            self.events.append((name, socket, args))
            try:
                if name in self._functions:
                    self._functions[name](socket, *args)
                elif name == "error":
                    self.raised.append(args[0])
            finally:
                if Recorder.after_event is not None:
                    Recorder.after_event()

        handler.__name__ = name
        return handler

    def names(self, socket: Any = None, *, without: tuple[str, ...] = ()) -> list[str]:
        """Event names in order, of one socket or of all."""
        return [name for name, who, _ in self.events if (socket is None or who is socket) and name not in without]

    def order(self, socket: Any = None) -> list[str]:
        """`names()` with runs of the same event folded into one: chunking is the kernel's."""
        folded: list[str] = []
        for name in self.names(socket):
            if not folded or folded[-1] != name:
                folded.append(name)
        return folded

    def count(self, name: str, socket: Any = None) -> int:
        return self.names(socket).count(name)

    def args(self, name: str) -> list[tuple[Any, ...]]:
        return [args for event, _, args in self.events if event == name]

    def received(self, socket: Any = None) -> bytes:
        """All bytes that `data` was given."""
        return b"".join(
            bytes(args[0]) for name, who, args in self.events if name == "data" and (socket is None or who is socket)
        )

    @property
    def sockets(self) -> list[Any]:
        """Sockets in the order in which they were opened."""
        return [who for name, who, _ in self.events if name == "open"]

    @property
    def socket(self) -> Any:
        """The only socket that was opened."""
        (only,) = self.sockets
        return only

    @property
    def close_error(self) -> BaseException | None:
        """The error that the only `close` was given."""
        ((error,),) = self.args("close")
        return error
