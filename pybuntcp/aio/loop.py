"""The event loop: the standard library's, with our stream transports."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pybuntcp
from pybuntcp import _aio, _core

FAMILIES = {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)}


def is_ours(sock: Any) -> bool:
    """Whether it becomes a socket of pybuntcp's: a stream socket with a descriptor, and not what a test has in its place."""
    if not issubclass(type(sock), socket.socket) or sock.fileno() < 0:
        return False
    return sock.family in FAMILIES and sock.type == socket.SOCK_STREAM


class LimitedFactory:
    """A protocol factory with the options of ours that its listener gets."""

    __slots__ = ("factory", "options")

    def __init__(self, factory: Callable[[], Any], options: dict[str, Any]) -> None:
        self.factory = factory
        self.options = options

    def __call__(self) -> Any:
        return self.factory()


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop: the standard library's `SelectorEventLoop`, which waits in pybuntcp's loop.

    Its stream connections, on TCP and unix sockets, are made of pybuntcp's sockets. All else is the standard library's:
    scheduling, subprocesses, signals, pipes, datagrams, `add_reader`, `sock_*`.
    """

    def __init__(self) -> None:
        self._host = _aio.Host(self)
        self._listeners: dict[int, Any] = {}
        super().__init__(_core.native_selector())
        _core.native_attach(self)

    # ---------------------------------------------------------------- asyncio's seams

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, **more):
        if not is_ours(sock):
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **more)
        self._ensure_fd_no_transport(sock)
        return _aio.open_transport(self._host, sock, protocol, waiter, extra, server)

    def _start_serving(self, protocol_factory, sock, sslcontext=None, server=None, *args, **more):
        if sslcontext is not None or not is_ours(sock):
            super()._start_serving(protocol_factory, sock, sslcontext, server, *args, **more)
            return
        options = {}
        if isinstance(protocol_factory, LimitedFactory):
            options, protocol_factory = protocol_factory.options, protocol_factory.factory
        acceptor = _aio.Acceptor(self._host, protocol_factory, server)
        fd = os.dup(sock.fileno())
        try:
            listener = pybuntcp.listen(socket=acceptor.handlers(), fd=fd, **options)
        except BaseException:
            os.close(fd)
            raise
        self._listeners[sock.fileno()] = listener

    def _stop_serving(self, sock):
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.stop()
        super()._stop_serving(sock)

    # ---------------------------------------------------------------- a descriptor that a transport uses, too

    async def sock_recv(self, sock, n):
        self._flush(sock)
        return await super().sock_recv(sock, n)

    async def sock_recv_into(self, sock, buf):
        self._flush(sock)
        return await super().sock_recv_into(sock, buf)

    async def sock_sendall(self, sock, data):
        self._flush(sock)
        return await super().sock_sendall(sock, data)

    async def sock_sendfile(self, sock, file, offset=0, count=None, *, fallback=True):
        self._flush(sock)
        return await super().sock_sendfile(sock, file, offset, count, fallback=fallback)

    def _flush(self, sock):
        """What was written to a transport leaves before a program reads or writes its socket past it."""
        if isinstance(fd := sock.fileno(), int):
            self._host.flush(fd)

    async def _sendfile_native(self, transport, file, offset, count):
        if not isinstance(transport, _aio.SocketTransport):
            return await super()._sendfile_native(transport, file, offset, count)
        was_reading = transport.is_reading()
        transport.pause_reading()
        try:
            await transport._make_empty_waiter()
            transport._lend()
            return await self.sock_sendfile(transport._sock, file, offset, count, fallback=False)
        finally:
            transport._take_back()
            if was_reading:
                transport.resume_reading()

    def _ensure_fd_no_transport(self, fd):
        super()._ensure_fd_no_transport(fd)
        transport = self._host.transport_of(fd if isinstance(fd, int) else int(fd.fileno()))
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    def set_debug(self, enabled):
        super().set_debug(enabled)
        self._host.set_debug(enabled)

    def run_forever(self):
        try:
            super().run_forever()
        finally:
            if self._selector is not None:
                self._selector.flush()

    def close(self):
        if not self.is_closed() and not self.is_running():
            self._host.close()
        super().close()
