"""The event loop: the standard library's, with our stream transports."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import IO, Any

from pybuntcp import _aio, _core

from .limits import listen_on_sockets, take_limits
from .seams import StockEventLoop

FAMILIES = {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)}


def is_ours(sock: Any) -> bool:
    """Whether it becomes a socket of pybuntcp's: a stream socket with a descriptor, and not what a test has in its place."""
    if not issubclass(type(sock), socket.socket) or sock.fileno() < 0:
        return False
    return sock.family in FAMILIES and sock.type == socket.SOCK_STREAM


@contextlib.contextmanager
def _current(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


_AS_IT_IS = contextlib.nullcontext()


def _as_current(loop: asyncio.AbstractEventLoop) -> contextlib.AbstractContextManager[None]:
    """What is opened belongs to this event loop, also if it does not run yet: asyncio's own code does not ask."""
    return _AS_IT_IS if loop.is_running() else _current(loop)


class EventLoop(StockEventLoop):
    """An asyncio event loop: the standard library's `SelectorEventLoop`, which waits in pybuntcp's loop.

    Its stream connections, on TCP and unix sockets, are made of pybuntcp's sockets. All else is the standard library's:
    scheduling, subprocesses, signals, pipes, datagrams, `add_reader`, `sock_*`.

    `create_server` and `create_unix_server`, and with them `asyncio.start_server` and `start_unix_server`, take some
    options of `pybuntcp.listen`: `max_connections`, `idle_timeout`, `read_timeout`, `linger_timeout`, `no_delay`.
    No other loop knows them.
    """

    _turn_is_due = False  # in debug mode

    def __init__(self) -> None:
        self._host = _aio.Host(self)
        self._listeners: dict[int, Any] = {}  # by descriptor of a listening socket
        self._limits: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()  # by server
        super().__init__(_core.native_selector())
        _core.native_attach(self)

    # ---------------------------------------------------------------- servers, with limits

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        start_serving: bool = True,
        **options: Any,
    ) -> asyncio.Server:
        """As asyncio's, with options of ours: see the class. Errors: those of `listen` for them; ValueError with `ssl`."""
        limits = take_limits(options)
        server = await super().create_server(protocol_factory, host, port, start_serving=False, **options)
        return await self._begin_serving(server, limits, start_serving)

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: Any = None,
        *,
        start_serving: bool = True,
        **options: Any,
    ) -> asyncio.Server:
        """As `create_server`."""
        limits = take_limits(options)
        server = await super().create_unix_server(protocol_factory, path, start_serving=False, **options)
        return await self._begin_serving(server, limits, start_serving)

    async def _begin_serving(
        self, server: asyncio.Server, limits: dict[str, Any], start_serving: bool
    ) -> asyncio.Server:
        """A server that does not get so far is closed: nobody else has it."""
        if limits:
            self._limits[server] = limits
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:
                server.close()
                raise
        return server

    # ---------------------------------------------------------------- asyncio's seams

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None, **more: Any
    ) -> asyncio.Transport:
        if not is_ours(sock):
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **more)
        self._ensure_fd_no_transport(sock)
        with _as_current(self):
            return _aio.open_transport(self._host, sock, protocol, waiter, extra, server)

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        *args: Any,
        **more: Any,
    ) -> None:
        if sslcontext is not None or not is_ours(sock):
            super()._start_serving(protocol_factory, sock, sslcontext, server, *args, **more)
            return
        socks = getattr(server, "_sockets", None) or [sock]
        if sock is not socks[-1]:
            return  # one listener for all of them is made when they all listen
        acceptor = _aio.Acceptor(self._host, protocol_factory, server)
        with _as_current(self):
            listener = listen_on_sockets(acceptor.handlers(), socks, self._limits.get(server, {}))
        self._listeners.update((each.fileno(), listener) for each in socks)

    def _stop_serving(self, sock: Any) -> None:
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.stop()
        super()._stop_serving(sock)

    # ---------------------------------------------------------------- a descriptor that a transport uses, too

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        self._flush(sock)
        return await super().sock_recv(sock, n)

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        self._flush(sock)
        return await super().sock_recv_into(sock, buf)

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        self._flush(sock)
        return await super().sock_sendall(sock, data)

    async def sock_sendfile(
        self, sock: Any, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int:
        self._flush(sock)
        return await super().sock_sendfile(sock, file, offset, count, fallback=fallback)

    def _flush(self, sock: Any) -> None:
        """What was written to a transport leaves before a program reads or writes its socket past it."""
        if isinstance(fd := sock.fileno(), int):
            self._host.flush(fd)

    async def _sendfile_native(self, transport: Any, file: IO[bytes], offset: int, count: int | None) -> int:
        if not isinstance(transport, _aio.SocketTransport):
            return await super()._sendfile_native(transport, file, offset, count)
        emptied = transport._make_empty_waiter()  # RuntimeError: another sendfile runs
        was_reading = transport.is_reading()
        transport.pause_reading()
        try:
            await emptied
            return await self._sendfile_to(transport, file, offset, count)
        finally:
            transport._take_back()
            if was_reading:
                transport.resume_reading()

    async def _sendfile_to(self, transport: Any, file: IO[bytes], offset: int, count: int | None) -> int:
        """Past the transport, which has nothing pending. Errors: ConnectionError if it is closed meanwhile."""
        transport._lend()
        task = self.create_task(self.sock_sendfile(transport._sock, file, offset, count, fallback=False))
        transport._lend(task)
        try:
            return await task
        except asyncio.CancelledError:
            if transport._sock is None:
                raise ConnectionError("Connection is closed") from None
            raise

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)
        transport = self._host.transport_of(fd if isinstance(fd, int) else int(fd.fileno()))
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

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
