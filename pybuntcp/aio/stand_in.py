"""stand_in: what makes our connections on an event loop that is not ours: the standard library's, or uvloop's.

The problem: the standard library's code for streams (names, several addresses, binding, checks and the texts of errors) is
in methods of its own event loop. uvloop has other code, and other texts.
The rule: a `StandIn` inherits that code and the seams of `Connections`, and is never run. What the code asks of its event
loop, a `StandIn` asks of the loop that it stands for. There is one for each loop, as long as that lives.

Owns `StandIn` and the table of them. A `StandIn` does not keep its loop alive: it has a weak reference.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from asyncio import sslproto
from collections.abc import Callable
from typing import Any

from pybuntcp import _aio

from .connections import Connections, is_ours
from .seams import StockEventLoop

ASKED_OF_THE_LOOP = (
    *("call_soon", "call_soon_threadsafe", "call_later", "call_at", "time", "create_future", "create_task"),
    *("run_in_executor", "getaddrinfo", "getnameinfo", "get_debug", "is_running", "is_closed"),
    *("call_exception_handler", "default_exception_handler", "get_exception_handler"),
    *("add_reader", "remove_reader", "add_writer", "remove_writer"),
    *("sock_connect", "sock_accept", "sock_recv", "sock_recv_into", "sock_sendall"),
)


class Server(asyncio.Server):
    """A server whose loop is that which runs."""

    _loop: StandIn

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop.running()


class _Asking(StockEventLoop):
    """The standard library's event loop, whose work another one does."""

    _running: Callable[[], asyncio.AbstractEventLoop | None]
    installed: set[str]

    def running(self) -> asyncio.AbstractEventLoop:
        """The loop that this stands for. Errors: RuntimeError, if it is gone."""
        loop = self._running()
        if loop is None:
            raise RuntimeError("Event loop is closed")
        return loop

    def own(self, name: str) -> Any:
        """A method of that loop, as it was before `install`."""
        loop = self.running()
        if name not in self.installed:
            return getattr(loop, name)
        return loop.__dict__[REPLACED].get(name) or getattr(type(loop), name).__get__(loop)

    @property
    def _debug(self) -> bool:
        return self.running().get_debug()

    @property
    def _transports(self) -> Any:
        """What the standard library's loop looks at, before another transport gets a descriptor."""
        return getattr(self.running(), "_transports", {})

    def _add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self.own("add_reader")(fd, callback, *args)

    def _remove_reader(self, fd: int) -> Any:
        return not self.is_closed() and self.own("remove_reader")(fd)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self._running()!r}>"

    def __del__(self) -> None:
        """It was never open."""


def _asking(name: str) -> Callable[..., Any]:
    def ask(self: _Asking, *args: Any, **options: Any) -> Any:
        return self.own(name)(*args, **options)

    return ask


for _name in ASKED_OF_THE_LOOP:
    setattr(_Asking, _name, _asking(_name))


class StandIn(Connections, _Asking):
    """Our connections, made for an event loop that is not ours. See `stand_in`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # without StockEventLoop.__init__, which would open descriptors
        self._running = weakref.ref(loop)
        self._unix_server_sockets: dict[Any, int] = {}  # of Python 3.13 and later
        self.installed = set()
        self._take_connections(_aio.Host(loop, True))

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **options: Any) -> Any:
        if is_the_loops(sock):
            return await self.own("connect_accepted_socket")(protocol_factory, sock, **options)
        return await super().connect_accepted_socket(protocol_factory, sock, **options)

    async def _begin_serving(
        self, server: asyncio.Server, limits: dict[str, Any], start_serving: bool
    ) -> asyncio.Server:
        server.__class__ = Server
        return await super()._begin_serving(server, limits, start_serving)

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **options: Any) -> Any:
        if not is_on_ours(transport):
            return await self.own("start_tls")(transport, protocol, sslcontext, **options)
        return await super().start_tls(transport, protocol, sslcontext, **options)

    async def sendfile(
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        if not is_on_ours(transport):
            sent: int = await self.own("sendfile")(transport, file, offset, count, fallback=fallback)
            return sent
        return await super().sendfile(transport, file, offset, count, fallback=fallback)

    def stop(self) -> None:
        """What was written leaves before the loop stops."""
        self.own("stop")()
        self._host.begin_stopping()


def _making(name: str) -> Callable[..., Any]:
    async def make(self: StandIn, protocol_factory: Any, *place: Any, sock: Any = None, **options: Any) -> Any:
        if is_the_loops(sock):
            return await self.own(name)(protocol_factory, *place, sock=sock, **options)
        return await getattr(super(StandIn, self), name)(protocol_factory, *place, sock=sock, **options)

    return make


for _name in ("create_connection", "create_unix_connection", "create_server", "create_unix_server"):
    setattr(StandIn, _name, _making(_name))


def is_the_loops(sock: Any) -> bool:
    """A stream socket of which no transport of ours is made: one of another family, or what a test has in its place."""
    return sock is not None and sock.type == socket.SOCK_STREAM and sock.fileno() >= 0 and not is_ours(sock)


def is_on_ours(transport: Any) -> bool:
    """A transport of ours, or TLS of the standard library's on one."""
    while isinstance(secured := getattr(transport, "_ssl_protocol", None), sslproto.SSLProtocol):
        transport = secured._transport
    return isinstance(transport, _aio.StreamTransport)


REPLACED = "_replaced_by_pybuntcp"  # attribute of a loop: what `install` has found among its own attributes

_stand_ins: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, StandIn] = weakref.WeakKeyDictionary()


def stand_in_for(loop: asyncio.AbstractEventLoop) -> StandIn:
    """The one of this loop, made at the first call. Errors: TypeError, if the loop cannot be referred to weakly."""
    found = _stand_ins.get(loop)
    if found is None:
        found = _stand_ins[loop] = StandIn(loop)
    return found
