"""The event loop: the standard library's, with our stream transports and our scheduling."""

from __future__ import annotations

from pybuntcp import _aio, _core

from .connections import Connections


class EventLoop(_aio.Scheduler, Connections):
    """An asyncio event loop: the standard library's `SelectorEventLoop`, which waits in pybuntcp's loop.

    Its stream connections, on TCP and unix sockets, run on pybuntcp's sockets, and its callbacks, timers and turns
    (iterations of the loop) are in C. Everything else is the standard library's: subprocesses, signals, pipes, datagrams,
    `add_reader`, `sock_*`.

    `create_server` and `create_unix_server`, and with them `asyncio.start_server` and `start_unix_server`, take some
    options of `pybuntcp.listen`: `max_connections`, `idle_timeout`, `read_timeout`, `linger_timeout`, `no_delay`.
    No other loop knows them.
    """

    def __init__(self) -> None:
        self._take_connections(_aio.Host(self))
        super().__init__(_core.native_selector())
        _core.native_attach(self)

    def set_debug(self, enabled: bool) -> None:
        """As the standard library's: asyncio's debug mode. pybuntcp's sockets in this loop follow it."""
        super().set_debug(enabled)
        self._host.set_debug(enabled)

    def run_forever(self) -> None:
        """As the standard library's: run until `stop()`. Errors: RuntimeError if the loop runs already."""
        if self.is_running():
            super().run_forever()  # RuntimeError
        self._host.enter()
        try:
            super().run_forever()
        finally:
            self._host.leave()
            if self._selector is not None:
                self._selector.flush()

    def close(self) -> None:
        """As the standard library's; it also stops the listeners opened in this loop. Errors: RuntimeError if the loop runs."""
        if not self.is_closed() and not self.is_running():
            self._host.close()
            for listener in self._listeners.values():
                listener.stop()
        super().close()
