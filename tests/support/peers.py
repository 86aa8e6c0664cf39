"""Raw peers: a plain blocking `socket.socket`, or the standard library's TLS over one, in a thread of its own.

Owns: the other end of a connection, so that short writes, resets and slow readers are made by the
kernel and not by a mock. Promises that no verb waits without a bound, that verbs run in the order
asked for, and that `stop` ends the thread whatever it waits for. Does not know pybuntcp.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from .kernel import TIMEOUT
from .tls_socket import TlsSocket


class Job(Future):
    """A peer's work in progress; remembers whether its outcome was looked at."""

    looked_at = False

    def result(self, timeout: float | None = TIMEOUT) -> Any:
        self.looked_at = True
        return super().result(timeout)

    def exception(self, timeout: float | None = TIMEOUT) -> BaseException | None:
        self.looked_at = True
        return super().exception(timeout)

    def ignore(self) -> Job:
        """Its failure is no failure of the test: the connection may break under it."""
        self.looked_at = True
        return self

    def perform(self, function: Callable[[], Any]) -> None:
        try:
            self.set_result(function())
        except BaseException as error:
            self.set_exception(error)


class Peer:
    """A raw blocking socket served by a thread of its own.

    Every verb returns a `Job` (a Future) at once and runs in the order asked for. Use
    `job.result()` when the loop need not turn for it, `loop.wait(job)` when it must. A verb that
    failed and whose job nobody looked at fails `close`.
    """

    def __init__(self, opener: Callable[[], socket.socket | TlsSocket]) -> None:
        self._jobs: list[Job] = []
        self._queue: queue.SimpleQueue[tuple[Job, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._sock: socket.socket | TlsSocket | None = None
        self._closing = False
        self._opener = opener
        self._thread = threading.Thread(target=self._serve, name="peer", daemon=True)
        self._thread.start()
        self.dialled = self.call(self._open)  # needs no loop that turns
        self.connected = self.call(self._secure)

    def _open(self) -> None:
        self._sock = self._opener()
        self._sock.settimeout(TIMEOUT)

    def _secure(self) -> None:
        self.dialled.result()
        if isinstance(self._sock, TlsSocket):
            self._sock.handshake()

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            job, function = item
            job.perform(function)

    def call(self, function: Callable[..., Any], *args: Any) -> Job:
        """Run `function` in the peer's thread, after what was asked before."""
        job = Job()
        self._jobs.append(job)
        self._queue.put((job, lambda: function(*args)))
        return job

    @property
    def sock(self) -> socket.socket | TlsSocket:
        """The raw socket, once connected (and its handshake is done)."""
        self.connected.result()
        assert self._sock is not None
        return self._sock

    def send(self, data: Any) -> Job:
        """`sendall`."""
        return self.call(lambda: self.sock.sendall(data))

    def recv(self, size: int = 65536) -> Job:
        """One `recv`; b"" is end of file."""
        return self.call(lambda: self.sock.recv(size))

    def recv_exactly(self, size: int) -> Job:
        return self.call(self._recv_exactly, size)

    def recv_until_eof(self) -> Job:
        return self.call(lambda: b"".join(self._chunks()))

    def recv_until_reset(self) -> Job:
        """Read to ECONNRESET; the bytes before it. An orderly end is an AssertionError."""
        return self.call(self._recv_until_reset)

    def shutdown(self) -> Job:
        """FIN: no more bytes from here."""
        return self.call(lambda: self.sock.shutdown(socket.SHUT_WR))

    def close(self) -> Job:
        """`close(2)`: FIN, or RST if bytes were left unread."""
        return self.call(lambda: self.sock.close())

    def reset(self) -> Job:
        """`close(2)` with SO_LINGER 0: RST at once (TCP)."""
        return self.call(self._reset)

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self.sock.recv(65536):
            yield chunk

    def _recv_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise EOFError(f"end of file after {len(data)} of {size} bytes: {bytes(data[:64])!r}")
            data += chunk
        return bytes(data)

    def _recv_until_reset(self) -> bytes:
        data = bytearray()
        try:
            for chunk in self._chunks():
                data += chunk
        except ConnectionResetError:
            return bytes(data)
        raise AssertionError(f"an orderly end of file, not a reset, after {len(data)} bytes")

    def _reset(self) -> None:
        assert self.sock is not None
        self._reset_on_close().close()

    def _reset_on_close(self) -> socket.socket:
        """The raw socket, whose close(2) will be a reset (TCP)."""
        raw = self._sock.raw if isinstance(self._sock, TlsSocket) else self._sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return raw

    def stop(self) -> None:
        """Close whatever is open, end the thread; raises the first failure nobody looked at."""
        if self._closing:
            return
        self._closing = True
        gone = self._gone()
        failures = [job for job in self._jobs if job.done() and not job.looked_at and job.exception(0) is not None]
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._queue.put(None)
        self._thread.join(2 * TIMEOUT)
        assert not self._thread.is_alive(), "the peer's thread does not end"
        if self._sock is not None:
            # Verbs that waited have read, after the shutdown above, all that lay there. Then nothing tells our side
            # that nobody will read the rest, which it has: its kernel would ask for up to a minute.
            with contextlib.suppress(OSError):
                self._reset_on_close()
            self._sock.close()
        for job in failures:
            if job.exception(0) is not gone:
                raise job.exception(0)

    def _gone(self) -> BaseException | None:
        """The server may reset a connection before connect(2) has returned here, or leave it in its handshake."""
        error = self.connected.exception(0) if self.connected.done() else None
        return error if isinstance(error, (ConnectionResetError, ssl.SSLEOFError)) else None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class RawServer:
    """A listening `socket.socket`, for tests of `pybuntcp.connect`; `accept()` gives a Peer. `tls`: its peers speak TLS."""

    def __init__(self, sock: socket.socket, *, tls: bool = False) -> None:
        self.sock = sock
        self.tls = tls
        self.peers: list[Peer] = []
        sock.settimeout(TIMEOUT)
        sock.listen(128)

    def accept(self) -> Peer:
        peer = Peer(self._accepted)
        self.peers.append(peer)
        return peer

    def _accepted(self) -> socket.socket | TlsSocket:
        raw = self.sock.accept()[0]
        return TlsSocket(raw) if self.tls else raw

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes a peer that still accepts
        try:
            for peer in self.peers:
                peer.stop()
        finally:
            self.sock.close()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
