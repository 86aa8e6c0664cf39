"""Slots that remember: Recorders whose handlers are C functions, of the package `outside` in tests/capi.

Owns `Slots`, which goes wherever a Recorder does (`transport.listen`, `accepted`, ...) and gives its functions what C code
is given: `Handle`s, every verb of which is one call of the C API, and error numbers. `SlotSockets` is the same with what
Python handlers are given, sockets with the names of `Socket` and exceptions: tests of the contract that take the fixture
`handlers` run on both (`HANDLERS`). Owns the building of the package, once a process, and `settle_until`, a wait for what
C code counts, of which no loop hears.
"""

from __future__ import annotations

import contextlib
import importlib
import socket as stdlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuntcp import ReadyState

from . import packages
from .kernel import wait_for
from .recorder import EVENTS, Recorder

SLOTS = ("open", "data", "drain", "end", "close", "timeout", "handshake", "connect_error")
PACKAGE = Path(__file__).resolve().parents[1] / "capi" / "outside"

# ---------------------------------------------------------------- the package


_built: list[tuple[Path, Path]] = []  # once a process, though two folders have the fixture


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(target, source): where `outside` is installed, and where it was built against the pybuntcp under test."""
    if not _built:
        target, scratch = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("outside-build")
        packages.install(PACKAGE, target, scratch)
        _built.append((target, scratch / "outside"))
    return _built[0]


@pytest.fixture(scope="session")
def outside(built: tuple[Path, Path]) -> Any:
    """The package, imported."""
    target, _ = built
    if "outside" not in sys.modules:
        sys.path.insert(0, str(target))
        for extension in (target / "outside").glob("*.so"):
            importlib.import_module(f"outside.{extension.name.partition('.')[0]}")
    return sys.modules["outside"]


def with_slots(config: pytest.Config, items: list[Any]) -> None:
    """Tests that run with slots have the package before all else: what is timed, and looked at, is the test."""
    seconds = float(config.getoption("timeout") or config.getini("timeout") or 0)
    for item in items:
        # a new list: pytest shares the old one among all parameters of a function
        item.fixturenames = ["outside", *item.fixturenames]
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))
        if config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group("capi"))


# ---------------------------------------------------------------- recorders


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

    def called(self, name: str, handle: Any, *args: Any) -> None:
        """A slot was called."""
        self._handler(name)(handle, *args)


class SlotSockets(Slots):
    """Slots that give their functions what Python handlers are given: a `SlotSocket`, and an exception or None."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._names = [name for name in self._names if name in EVENTS]
        self._sockets: dict[Any, SlotSocket] = {}

    def called(self, name: str, handle: Any, *args: Any) -> None:
        socket = self._sockets.setdefault(handle, SlotSocket(handle))
        if name in ("close", "connect_error"):
            socket.keep()
            args = (_exception(*args),)
        super().called(name, socket, *args)


class SlotSocket:
    """A connection by the names of `Socket`, each the function of the C API where there is one.

    All else, and every name once the connection is gone, is asked of its Socket.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._socket: Any = None

    def keep(self) -> None:
        """The last event: the Socket is what will be left."""
        self._socket = self._handle.object()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle.object() if self._socket is None else self._socket, name)

    @property
    def _verbs(self) -> Any:
        return self._socket if self._handle.gone else self._handle

    def write(self, data: Any, offset: int = 0, length: int | None = None) -> int:
        return self._verbs.write(data, offset, length)

    def end(self, data: bytes = b"") -> int:
        """C says 0 where Python says how many bytes it has taken."""
        given = self._verbs.end(data)
        return len(data) if given == 0 else given

    def flush(self) -> None:
        self._verbs.flush()

    @contextlib.contextmanager
    def cork(self) -> Iterator[None]:
        self._verbs.cork()
        try:
            yield
        finally:
            if not self._handle.gone:
                self._handle.uncork()

    def close(self) -> None:
        self._verbs.close()

    def terminate(self) -> None:
        self._verbs.terminate()

    def shutdown(self, half_close: bool = False) -> None:
        self._verbs.shutdown(half_close)

    def pause(self) -> None:
        self._verbs.pause()

    def resume(self) -> None:
        self._verbs.resume()

    def pipe(self, target: SlotSocket, *, end: bool = True) -> None:
        self._verbs.pipe(target._verbs, end)

    def unpipe(self) -> None:
        self._verbs.unpipe()

    def ref(self) -> None:
        self._verbs.ref()

    def unref(self) -> None:
        self._verbs.unref()

    def timeout(self, seconds: float) -> None:
        self._verbs.timeout(seconds)

    def fileno(self) -> int:
        return self._verbs.fileno()

    @property
    def pending(self) -> int:
        return self._verbs.pending

    @property
    def bytes_written(self) -> int:
        return self._verbs.bytes_written

    @property
    def bytes_read(self) -> int:
        return self._verbs.bytes_read

    @property
    def ready_state(self) -> ReadyState:
        return self._socket.ready_state if self._handle.gone else ReadyState(self._handle.state)


HANDLERS: dict[str, type[Recorder]] = {"python": Recorder, "slots": SlotSockets}


def _exception(error: int) -> Exception | None:
    """What Python handlers are given for the error number of a slot."""
    if error < 0:
        return stdlib.gaierror(error, "of a name")
    return OSError(error, "of a slot") if error else None


def settle_until(loop: Any, condition: Callable[[], Any], what: str) -> None:
    """Turn until C code has counted what it should."""

    def settled() -> Any:
        loop.settle()
        return condition()

    wait_for(settled, what)
