"""pybuntcp: Bun's TCP API for Python, compiled, on libuv.

    from pybuntcp import Socket, SocketHandler, listen, run

    class Echo(SocketHandler[bytes]):
        def data(self, socket: Socket[bytes], chunk: bytes) -> None:
            taken = socket.write(chunk)
            if 0 <= taken < len(chunk):  # a slow client: keep the rest, read no more
                socket.data = chunk[taken:]
                socket.pause()

        def drain(self, socket: Socket[bytes]) -> None:
            socket.resume()  # it has caught up: send the rest, read on
            self.data(socket, socket.data)

    listen(socket=Echo(), hostname="127.0.0.1", port=7000)
    run()

This module lists the public names; each is documented where it is defined. `TLSOptions` and the modules `aio` and
`testing` are imported at first use, because most programs need none of what they import.
"""

from typing import TYPE_CHECKING, Any

from . import _core

if _core.__file__ is None:  # a folder of that name holds the source; the compiled module would be found before it
    raise ImportError(
        f"pybuntcp was imported from its source folder {__path__[0]!r}, which has no compiled modules: "
        "start Python in another folder, or build it in place with `pip install --editable .`"
    )

from ._core import (
    ArrayBufferSink,
    Connecting,
    Handlers,
    Listener,
    ReadyState,
    Socket,
    SocketReader,
    SocketSink,
    ThreadsafeCallback,
    Timer,
    call_later,
    call_soon,
    every,
    libuv_version,
    stats,
    threadsafe,
)
from .api import connect, listen, new_event_loop, run, tls_engine_info
from .short_writes import ShortWriteWarning
from .threads import ListenerThreads, listen_threads
from .typed import SocketHandler

if TYPE_CHECKING:
    from . import aio as aio
    from . import testing as testing
    from .tls.options import TLSOptions

__version__ = "0.1.0"
"""The version of this package."""

__all__ = [
    "ArrayBufferSink",
    "Connecting",
    "Handlers",
    "Listener",
    "ListenerThreads",
    "ReadyState",
    "ShortWriteWarning",
    "Socket",
    "SocketHandler",
    "SocketReader",
    "SocketSink",
    "TLSOptions",
    "ThreadsafeCallback",
    "Timer",
    "__version__",
    "call_later",
    "call_soon",
    "connect",
    "every",
    "libuv_version",
    "listen",
    "listen_threads",
    "new_event_loop",
    "run",
    "stats",
    "threadsafe",
    "tls_engine_info",
]


if not TYPE_CHECKING:  # a type checker would take every misspelt name for one

    def __getattr__(name: str) -> Any:
        if name in ("aio", "testing"):
            from importlib import import_module

            return import_module(f".{name}", __name__)
        if name != "TLSOptions":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .tls.options import TLSOptions

        globals()[name] = TLSOptions
        return TLSOptions


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
