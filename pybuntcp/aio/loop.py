"""The event loop: the standard library's, with our stream transports."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from pybuntcp import _aio, _core

from .connections import Connections


class EventLoop(Connections):
    """An asyncio event loop: the standard library's `SelectorEventLoop`, which waits in pybuntcp's loop.

    Its stream connections, on TCP and unix sockets, are made of pybuntcp's sockets. All else is the standard library's:
    scheduling, subprocesses, signals, pipes, datagrams, `add_reader`, `sock_*`.

    `create_server` and `create_unix_server`, and with them `asyncio.start_server` and `start_unix_server`, take some
    options of `pybuntcp.listen`: `max_connections`, `idle_timeout`, `read_timeout`, `linger_timeout`, `no_delay`.
    No other loop knows them.
    """

    _turn_is_due = False  # in debug mode

    def __init__(self) -> None:
        self._take_connections(_aio.Host(self))
        super().__init__(_core.native_selector())
        _core.native_attach(self)

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled)
        self._host.set_debug(enabled)
        if self._turn_is_due:  # left by a callback that ended the program
            self._turn_is_due = False
            self._ready.append(self._selector)
        for name, apart in (("_run_once", _run_once_apart), ("_process_events", _process_events_apart)):
            self.__dict__.pop(name, None)
            if enabled:
                setattr(self, name, functools.partial(apart, weakref.ref(self)))

    def run_forever(self) -> None:
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
        if not self.is_closed() and not self.is_running():
            self._host.close()
            for listener in self._listeners.values():
                listener.stop()
        super().close()


# ---------------------------------------------------------------- debug mode
# asyncio would log a slow turn of ours as one callback, beside those that were slow in it. So the turn that the selector has
# queued as the last callback is made when the callbacks have run, and not as one of them.


_super: Any = super


def _process_events_apart(loop: Callable[[], Any], events: Any) -> None:
    self = loop()
    if self._ready and self._ready[-1] is self._selector:
        self._ready.pop()
        self._turn_is_due = True
    _super(EventLoop, self)._process_events(events)


def _run_once_apart(loop: Callable[[], Any]) -> None:
    self = loop()
    _super(EventLoop, self)._run_once()
    if self._turn_is_due:
        self._turn_is_due = False
        self._selector._run()
