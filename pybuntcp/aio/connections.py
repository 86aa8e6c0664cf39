"""connections: our event loop's methods for streams, which replace the standard library's.

The standard library's code resolves names, connects, binds and checks arguments, and calls a few methods where it would make a
transport, or begin to accept. `Connections` overrides these: a transport on a stream socket is ours, and a server's sockets are
accepted by a listener of ours. Whoever inherits it has a `_host` (`_aio.Host`).

Owns which sockets are ours, the listeners of servers with their limits, and how a file is sent. Does not know what runs the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import IO, Any

from pybuntcp import _aio

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


def is_context(sslcontext: Any) -> bool:
    """Whether it is an ssl.SSLContext. A program without TLS does not import `ssl` for the question."""
    ssl: Any = sys.modules.get("ssl")
    return ssl is not None and isinstance(sslcontext, ssl.SSLContext)


def _named(*options: Any) -> dict[str, Any]:
    """The options of TLS for asyncio's own code, which differs by version: those that are not the default."""
    names = ("server_side", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")
    return {
        name: option for name, option in zip(names, options, strict=True) if option is not None and option is not False
    }


class Connections(StockEventLoop):
    """The standard library's loop, as far as streams go, on our transports."""

    _host: _aio.Host
    _listeners: dict[int, Any]  # by descriptor of a listening socket
    _limits: weakref.WeakKeyDictionary[Any, dict[str, Any]]  # by server

    def _take_connections(self, host: _aio.Host) -> None:
        self._host, self._listeners, self._limits = host, {}, weakref.WeakKeyDictionary()

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
        """As asyncio's, with the options of `pybuntcp.listen` that the class names. Errors: those of `listen` for them."""
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

    async def _create_connection_transport(self, sock: Any, *args: Any, **options: Any) -> Any:
        """First of all, since newer Pythons close a socket that gets no transport: it may have one."""
        if is_ours(sock):
            self._ensure_fd_no_transport(sock)
        return await super()._create_connection_transport(sock, *args, **options)

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None, **more: Any
    ) -> asyncio.Transport:
        if not is_ours(sock):
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **more)
        with _as_current(self):
            return _aio.open_transport(self._host, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **more: Any,
    ) -> asyncio.Transport:
        options = (server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        if not is_ours(rawsock):
            return super()._make_ssl_transport(
                rawsock, protocol, sslcontext, waiter, extra=extra, server=server, **_named(*options), **more
            )
        secured = _aio.Secured(sslcontext, *options)
        with _as_current(self):
            return _aio.open_transport(self._host, rawsock, protocol, waiter, extra, server, secured)

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """As asyncio's. A transport of pybuntcp's gets pybuntcp's own TLS, any other one asyncio's."""
        options = (server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        if not isinstance(transport, _aio.SocketTransport) or not is_context(sslcontext):
            return await super().start_tls(transport, protocol, sslcontext, **_named(*options))
        return await _aio.start_tls(self._host, transport, protocol, _aio.Secured(sslcontext, *options))

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **more: Any,
    ) -> None:
        if not is_ours(sock):
            timeouts = _named(None, None, ssl_handshake_timeout, ssl_shutdown_timeout)
            super()._start_serving(protocol_factory, sock, sslcontext, server, backlog, **timeouts, **more)
            return
        socks = getattr(server, "_sockets", None) or [sock]
        if sock is not socks[-1]:
            return  # one listener for all of them is made when they all listen
        secured = None
        if sslcontext:
            secured = _aio.Secured(sslcontext, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        acceptor = _aio.Acceptor(self._host, protocol_factory, server, secured)
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
        """As the standard library's. What a transport on the same descriptor has written is sent first."""
        self._flush(sock)
        return await super().sock_recv(sock, n)

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        """As the standard library's. What a transport on the same descriptor has written is sent first."""
        self._flush(sock)
        return await super().sock_recv_into(sock, buf)

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        """As the standard library's. What a transport on the same descriptor has written is sent first."""
        self._flush(sock)
        return await super().sock_sendall(sock, data)

    async def sock_sendfile(
        self, sock: Any, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int:
        """As the standard library's. What a transport on the same descriptor has written is sent first."""
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
