"""Where the bytes travel: how to listen, connect and dial over tcp, unix, and TLS over tcp.

Owns: listeners, connections and raw peers that a test makes through it; takes them down in
`close`, last made first. A transport says where (`listen_options`, `connect_options`) and gives
the raw counterparts (`dial`, `raw_listener`); another one is a subclass and a line in `TRANSPORTS`.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import pybuntcp

from .kernel import TIMEOUT
from .peers import Peer, RawServer
from .recorder import Recorder
from .tls_socket import TlsSocket, material


class Transport:
    """How to listen, connect and dial; keeps what it made and takes it down in `close`."""

    name = ""
    can_reset = False
    has_tls = False
    read_over = 0  # bytes that a reader may hold past its limit
    write_over = 0  # bytes that `pending` may pass the mark by
    crowd = 1000  # connections, where a test makes many
    server_options: Mapping[str, Any] = {}  # without where: for `fd=`
    client_options: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self._made: list[Callable[[], None]] = []

    # What a subclass says: options for pybuntcp, and the raw counterparts.

    def listen_options(self) -> dict[str, Any]:
        """Where `pybuntcp.listen` shall listen; a fresh place each time."""
        raise NotImplementedError

    def connect_options(self, target: Any) -> dict[str, Any]:
        """Where `pybuntcp.connect` finds `target`, a Listener or a RawServer."""
        raise NotImplementedError

    def dial(self, target: Any, rcvbuf: int | None = None) -> socket.socket | TlsSocket:
        """A raw connected socket to `target`; one of TLS has its handshake before it."""
        raise NotImplementedError

    def raw_listener(self) -> socket.socket:
        """A raw bound socket."""
        raise NotImplementedError

    def wrapped(self, raw: socket.socket) -> socket.socket | TlsSocket:
        """A raw client, connected by the test, as a Peer of this transport takes it."""
        return raw

    # What tests call.

    def listen(self, handlers: Any, **options: Any) -> Any:
        """`pybuntcp.listen` here; stopped with its sockets at the end of the test."""
        listener = pybuntcp.listen(socket=_table(handlers), **{**self.listen_options(), **options})
        self._made.append(lambda: listener.stop(True))
        return listener

    def connect(self, handlers: Any, target: Any, **options: Any) -> Any:
        """`pybuntcp.connect` to `target`; its socket is closed at the end of the test."""
        options = {**self.connect_options(target), **options}
        connecting = pybuntcp.connect(socket=_table(handlers), **options)
        self._made.append(lambda: _close_connecting(connecting))
        return connecting

    def peer(self, target: Any, *, rcvbuf: int | None = None) -> Peer:
        """A raw peer that dials `target` from its own thread."""
        peer = Peer(lambda: self.dial(target, rcvbuf))
        self._made.append(peer.stop)
        return peer

    def raw_server(self, *, rcvbuf: int | None = None, accepting: int = 0) -> RawServer:
        """Its next `accepting` connections are accepted and left alone."""
        sock = self.raw_listener()
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        server = RawServer(sock, tls=self.has_tls)
        self._made.append(server.stop)
        for _ in range(accepting):
            server.accept().connected.ignore()
        return server

    def at_end(self, undo: Callable[[], None]) -> None:
        """Call this in `close`, before what was made earlier is taken down."""
        self._made.append(undo)

    def close(self) -> None:
        failures: list[BaseException] = []
        for undo in reversed(self._made):
            try:
                undo()
            except Exception as error:
                failures.append(error)
        self._made.clear()
        for error in failures:
            raise error


class TcpTransport(Transport):
    name = "tcp"
    can_reset = True
    host = "127.0.0.1"

    def listen_options(self) -> dict[str, Any]:
        return {"hostname": self.host, "port": 0}

    def connect_options(self, target: Any) -> dict[str, Any]:
        return {"hostname": self.host, "port": self._port(target)}

    def dial(self, target: Any, rcvbuf: int | None = None) -> socket.socket:
        return _dialled(socket.AF_INET, (self.host, self._port(target)), rcvbuf)

    def raw_listener(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind((self.host, 0))
        return sock

    @staticmethod
    def _port(target: Any) -> int:
        return target.sock.getsockname()[1] if isinstance(target, RawServer) else target.port


class UnixTransport(Transport):
    name = "unix"
    can_reset = False

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="pybuntcp-")
        self._count = 0

    def listen_options(self) -> dict[str, Any]:
        return {"unix": self._fresh_path()}

    def connect_options(self, target: Any) -> dict[str, Any]:
        return {"unix": self._path(target)}

    def dial(self, target: Any, rcvbuf: int | None = None) -> socket.socket:
        return _dialled(socket.AF_UNIX, self._path(target), rcvbuf)

    def raw_listener(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(self._fresh_path())
        return sock

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._folder.cleanup()

    def _fresh_path(self) -> str:
        self._count += 1
        return os.path.join(self._folder.name, f"s{self._count}")

    @staticmethod
    def _path(target: Any) -> str:
        return target.sock.getsockname() if isinstance(target, RawServer) else target.unix


class TlsTransport(TcpTransport):
    """Both ends verified: ours by the peer's certificate, or the peer's by ours."""

    name = "tls"
    has_tls = True
    read_over = 32768  # a record that was begun, and a whole one
    write_over = 32768
    crowd = 100  # a handshake costs as much as many connections

    @property
    def server_options(self) -> dict[str, Any]:
        return {"tls": {"key": material().key, "cert": material().cert}}

    @property
    def client_options(self) -> dict[str, Any]:
        return {"tls": {"ca": material().ca, "server_name": self.host}}

    def listen_options(self) -> dict[str, Any]:
        return {**super().listen_options(), **self.server_options}

    def connect_options(self, target: Any) -> dict[str, Any]:
        return {**super().connect_options(target), "tls": {"ca": material().ca}}

    def wrapped(self, raw: socket.socket) -> TlsSocket:
        return TlsSocket(raw, self.host)

    def dial(self, target: Any, rcvbuf: int | None = None) -> TlsSocket:
        raw = super().dial(target, rcvbuf)
        return TlsSocket(raw, self.host, tickets=0) if isinstance(target, RawServer) else self.wrapped(raw)


TRANSPORTS: dict[str, type[Transport]] = {each.name: each for each in (TcpTransport, UnixTransport, TlsTransport)}


def _table(handlers: Any) -> Any:
    return handlers.handlers if isinstance(handlers, Recorder) else handlers


def _dialled(family: int, address: Any, rcvbuf: int | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if rcvbuf is not None:  # before connect: the window scale is fixed by the handshake
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.settimeout(TIMEOUT)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_connecting(connecting: Any) -> None:
    if not connecting.done():
        connecting.cancel()
    elif not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
