"""A TLS peer driven by hand: the standard library's object over two MemoryBIOs, a raw socket in a thread of its own.

Owns: the other end of a secured connection where the test decides which bytes of it travel, when, and in what pieces:
records that are sealed and not sent, cut, changed, sent one byte at a time; `Sealer`, which makes records of the
connection's keys that no library lets anybody send; and `records`, which cuts a stream of bytes by record headers.
Everything is bounded as in `support`. Knows nothing of what the tests are about.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from pybuntcp.tls.memory_file import memory_path

from .kernel import TIMEOUT, raw, unread_bytes, unsent_bytes
from .loops import Loop
from .peers import Job, Peer
from .recorder import Recorder
from .tls import CA, CLIENT_TLS, SERVER, SERVER_TLS, Identity, established
from .tls_socket import tell_truncations
from .transports import Transport

# ---------------------------------------------------------------- the peer


class TlsPeer(Peer):
    """A Peer whose verbs `handshake`, `write`, `read`, `read_to_end`, `notify` speak TLS; the others are raw.

    `came` and `went` are all bytes that travelled. With `dribble`, what TLS has to send goes one byte at a time, each
    when the one before was read (unix sockets; on TCP each is only a segment of its own).
    """

    def __init__(
        self,
        opener: Callable[[], socket.socket],
        context: ssl.SSLContext,
        *,
        server: bool = False,
        name: str | None = "localhost",
        session: ssl.SSLSession | None = None,
        dribble: bool = False,
    ) -> None:
        self.came, self.went = bytearray(), bytearray()
        self.server, self.dribble = server, dribble
        self._in, self._out, self.tls = over_memory(context, server=server, name=name, session=session)
        super().__init__(opener)

    def handshake(self) -> Job:
        return self.call(self._drive, self.tls.do_handshake)

    def write(self, data: bytes) -> Job:
        """As records of TLS."""
        return self.call(self._drive, self._write, data)

    def seal(self, data: bytes) -> Job:
        """The records that `write` would send."""
        return self.call(self._seal, data)

    def read(self, size: int) -> Job:
        """Exactly so many bytes of plaintext."""
        return self.call(self._read, size)

    def read_to_end(self) -> Job:
        """(plaintext, how it ended): "close_notify", "cut off", "reset", or the reason of an SSLError."""
        return self.call(self._read_to_end)

    def step(self) -> Job:
        """One step of the handshake with what came, and the bytes that it wants to send: none is sent."""
        return self.call(self._step)

    def notify(self) -> Job:
        """close_notify, alone."""
        return self.call(self._notify)

    def sealed_notify(self) -> Job:
        """The record that `notify` would send."""
        return self.call(self._sealed_notify)

    def raw_to_end(self) -> Job:
        """Whatever bytes come until the end of file or the reset."""
        return self.call(self._raw_to_end)

    def _drive(self, step: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                result = step(*args)
                self._push()
                return result
            except ssl.SSLWantReadError:
                self._push()
                self._take_in()
            except ssl.SSLError:
                with contextlib.suppress(ConnectionError):
                    self._push()  # the alert
                raise

    def _step(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        data = self._out.read()
        self.went += data
        return data

    def take_in(self) -> Job:
        """One `recv`, for the next step."""
        return self.call(self._take_in)

    def _push(self) -> None:
        data = self._out.read()
        self.went += data
        if data and not self.dribble:
            self.sock.sendall(data)
            return
        for at in range(len(data)):
            self.sock.sendall(data[at : at + 1])
            self._wait_until_read()

    def _wait_until_read(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while self.sock.family == socket.AF_UNIX and unsent_bytes(self.sock):
            assert time.monotonic() < deadline, f"nobody read for {TIMEOUT} s"
            time.sleep(0)

    def _take_in(self) -> None:
        chunk = self.sock.recv(65536)
        if not chunk:
            raise CutOff("end of file without close_notify")
        self.came += chunk
        self._in.write(chunk)

    def _write(self, data: bytes) -> None:
        self.tls.write(data)

    def _seal(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._out.read()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._drive(self.tls.read, size - len(data))
            if not chunk:
                raise EOFError(f"close_notify after {len(data)} of {size} bytes")
            data += chunk
        return data

    def _read_to_end(self) -> tuple[bytes, str]:
        data = bytearray()
        try:
            while chunk := self._drive(self.tls.read, 65536):
                data += chunk
        except CutOff:
            return bytes(data), "cut off"
        except ConnectionResetError:
            return bytes(data), "reset"
        except ssl.SSLZeroReturnError:
            return bytes(data), "close_notify"
        except ssl.SSLError as error:
            return bytes(data), str(error.reason)
        return bytes(data), "close_notify"

    def _notify(self) -> None:
        self.sock.sendall(self._sealed_notify())

    def _sealed_notify(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()

    def _raw_to_end(self) -> bytes:
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            for chunk in self._chunks():
                data += chunk
        return bytes(data)


class CutOff(EOFError):
    """The other end's FIN came before its close_notify."""


def dialling(
    transport: Transport, listener: Any, context: ssl.SSLContext, *, rcvbuf: int | None = None, **options: Any
) -> TlsPeer:
    """A peer that dials this listener of ours; stopped at the end of the test."""
    return _kept(transport, TlsPeer(lambda: transport.dial(listener, rcvbuf), context, **options))


def accepting(transport: Transport, server: Any, context: ssl.SSLContext, **options: Any) -> TlsPeer:
    """A peer that accepts the next connection of a RawServer."""
    return _kept(transport, TlsPeer(lambda: server.sock.accept()[0], context, server=True, **options))


def _kept(transport: Transport, peer: TlsPeer) -> TlsPeer:
    transport._made.append(peer.stop)
    return peer


# ---------------------------------------------------------------- contexts of the peer, and pairs


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A peer's that dials: it trusts the authority of the tests."""
    context = ssl.create_default_context(cadata=CA.pem.decode())
    tell_truncations(context)
    return _of_version(context, version)


def server_context(version: ssl.TLSVersion | None = None, identity: Identity = SERVER) -> ssl.SSLContext:
    """A peer's that accepts, and sends no tickets unless the test sets `num_tickets`."""
    context = certified(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), identity)
    tell_truncations(context)
    context.num_tickets = 0
    return _of_version(context, version)


def over_memory(
    context: ssl.SSLContext,
    *,
    server: bool = False,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.MemoryBIO, ssl.MemoryBIO, ssl.SSLObject]:
    """What comes, what goes, and the object that speaks TLS over them; `name` and `session` are a client's."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = None if server else name
    tls = context.wrap_bio(incoming, outgoing, server_side=server, server_hostname=name, session=session)
    return incoming, outgoing, tls


def certified(context: ssl.SSLContext, identity: Identity = SERVER) -> ssl.SSLContext:
    """This context, which shows that certificate."""
    with memory_path(identity.cert) as cert, memory_path(identity.key) as key:
        context.load_cert_chain(cert, key)
    return context


def _of_version(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def tls_accepted(
    loop: Loop,
    transport: Transport,
    recorder: Recorder,
    context: ssl.SSLContext | None = None,
    *,
    rcvbuf: int | None = None,
    **options: Any,
) -> tuple[Any, TlsPeer]:
    """An accepted socket and the peer, both past the handshake; the listener has stopped."""
    options.setdefault("tls", SERVER_TLS)
    listener = transport.listen(recorder, **options)
    peer = dialling(transport, listener, context or client_context(), rcvbuf=rcvbuf)
    return _joined(loop, recorder, peer, listener)


def tls_connected(
    loop: Loop, transport: Transport, recorder: Recorder, context: ssl.SSLContext | None = None, **options: Any
) -> tuple[Any, TlsPeer]:
    """A connected socket and the peer, both past the handshake."""
    server = transport.raw_server()
    peer = accepting(transport, server, context or server_context())
    options.setdefault("tls", {**CLIENT_TLS, "server_name": "localhost"})
    transport.connect(recorder, server, **options)
    return _joined(loop, recorder, peer)


def finish_handshake(loop: Loop, recorder: Recorder, peer: TlsPeer, count: int = 1) -> None:
    """Turn until the peer's handshake is done, and so many of our connections have theirs."""
    job = peer.handshake()
    loop.run_until(lambda: established(recorder, count))
    loop.wait(job)


def _joined(loop: Loop, recorder: Recorder, peer: TlsPeer, listener: Any = None) -> tuple[Any, TlsPeer]:
    finish_handshake(loop, recorder, peer)
    if listener is not None:
        listener.stop()
    return recorder.socket, peer


def hello() -> bytes:
    """What a client says first."""
    _, outgoing, tls = over_memory(client_context())
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def unread_at(sock: Any) -> int:
    """Bytes in our kernel for a socket of ours."""
    with raw(sock) as duplicate:
        return unread_bytes(duplicate)


def unsecured(loop: Loop, transport: Transport, recorder: Recorder, kind: str, **options: Any) -> tuple[Any, TlsPeer]:
    """An "accepted" or "connected" socket of ours that is not secured, and a peer that can do TLS, later."""
    if kind == "accepted":
        listener = transport.listen(recorder, **options)
        peer = dialling(transport, listener, client_context())
    else:
        server = transport.raw_server()
        peer = accepting(transport, server, server_context())
        transport.connect(recorder, server, **options)
    loop.run_until(lambda: recorder.sockets)
    loop.wait(peer.connected)
    if kind == "accepted":
        listener.stop()
    return recorder.socket, peer


def upgraded(sock: Any, recorder: Recorder, kind: str, **options: Any) -> Any:
    """The TLS socket of a plain one."""
    server = kind == "accepted"
    options.setdefault("tls", SERVER_TLS if server else {**CLIENT_TLS, "server_name": "localhost"})
    return sock.upgrade_tls(socket=recorder.handlers, server=server, **options)


def context_of(side: Any, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """The peer's, of what `tls_accepted` and `tls_connected` are given."""
    return client_context(version) if side is tls_accepted else server_context(version)


each_side = pytest.mark.parametrize("kind", ["accepted", "connected"])
tls_sides = pytest.mark.parametrize("side", [tls_accepted, tls_connected])
versions = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLSv1.2", "TLSv1.3"]
)
