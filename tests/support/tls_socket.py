"""A raw peer's end of TLS: the standard library's, over a plain `socket.socket`, with that one's verbs.

`ssl.SSLSocket` cannot half close, so an `ssl.SSLObject` is driven here, TLS 1.3 alone. Owns the
raw socket and what was taken from it and not asked for yet: less than one record, so that what
the kernel shows of a peer means what it means without TLS; only lengths differ (`wire_size`).

Promises: `shutdown(SHUT_WR)` is close_notify, then FIN; `recv` gives b"" after close_notify and
raises SSLEOFError at a FIN without one; `close` is both, or RST if data was left unread. After the
handshake nothing is unread that the test did not send. Does not know pybuntcp.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .kernel import TIMEOUT

RECORD = 16384  # bytes of data in one record, at most
OVERHEAD = 22  # of a record of TLS 1.3: its header, the type inside, the tag
HEADER = 5
TICKETS = 1  # that a server of ours sends behind its handshake

Made = TypeVar("Made")


class Material(NamedTuple):
    """A certificate for 127.0.0.1 and what it leads to, as PEM."""

    key: bytes
    cert: bytes
    ca: bytes


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """As `functools.cache`, but that threads which ask together get the same."""
    cached, lock = functools.cache(make), threading.Lock()

    def get() -> Made:
        with lock:
            return cached()

    return get


@once
def material() -> Material:
    """Made once."""
    import trustme

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return Material(issued.private_key_pem.bytes(), chain, authority.cert_pem.bytes())


def tell_truncations(context: ssl.SSLContext) -> None:
    """As CPython 3.10.12 and 3.11.4 do by default: before, a connection that was cut off looked like one that had ended."""
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


@once
def _client_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=material().ca.decode())
    tell_truncations(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@once
def _server_context() -> ssl.SSLContext:
    """Without session tickets: a client of ours finds nothing unread after the handshake."""
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tell_truncations(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    with trustme.Blob(material().key + material().cert).tempfile() as path:
        context.load_cert_chain(path)
    return context


class TlsSocket:
    """The verbs of a connected `socket.socket` that a Peer uses, through TLS. What it does not define is the raw socket's.

    One thread may send while another receives.
    """

    def __init__(self, raw: socket.socket, server_hostname: str | None = None, tickets: int = TICKETS) -> None:
        """A client of this name, whose server sends so many tickets, or a server. `handshake` comes next."""
        self.raw = raw
        self._server = server_hostname is None
        self._tickets = tickets
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _server_context() if self._server else _client_context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, self._server, server_hostname)
        self._using = threading.Lock()  # the object, which does not wait
        self._sending = threading.RLock()  # what was sealed goes out in its order
        self._secured = False
        self._record = b""  # as much as came of the next one
        self._opened = b""
        self._unsent = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def handshake(self) -> None:
        while not self._step(self._tls.do_handshake):
            self._take_record()
        self._secured = True
        if not self._server:
            self._take_tickets()

    def sendall(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        with self._sending:
            self._push()
            for at in range(0, len(view), RECORD):
                self._use(self._tls.write, view[at : at + RECORD])
                self._push()

    def send(self, data: Any) -> int:
        """At most one record. A non-blocking socket keeps what the kernel refuses of it, for the next verb."""
        with self._sending:
            self._push()
            count = self._use(self._tls.write, memoryview(data)[:RECORD])
            with contextlib.suppress(BlockingIOError):
                self._push()
            return count

    def recv(self, size: int = 65536) -> bytes:
        while not self._opened:
            try:
                return self._use(self._tls.read, size)
            except ssl.SSLWantReadError:
                self._answer()
                self._take_record()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                if (
                    error.reason == "UNEXPECTED_EOF_WHILE_READING"
                ):  # CPython before 3.10.12 and 3.11.4 has no class for it
                    raise ssl.SSLEOFError(*error.args) from error
                raise
        data, self._opened = self._opened[:size], self._opened[size:]
        return data

    def shutdown(self, how: int) -> None:
        """SHUT_WR: close_notify and FIN. Others are the raw socket's alone, and may be called from another thread."""
        if how == socket.SHUT_WR:
            self._notify()
        self.raw.shutdown(how)

    def close(self) -> None:
        """As close(2): an orderly end, or RST if data was left unread."""
        with contextlib.suppress(OSError):
            if self._secured and self._has_unread_data():
                self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self._secured:
                self._notify()
        self.raw.close()

    def _step(self, verb: Any) -> bool:
        """Whether it is done; else it wants the next record. What it has to say is sent."""
        try:
            self._use(verb)
        except ssl.SSLWantReadError:
            self._push()
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._push()  # an alert
            raise
        self._push()
        return True

    def _notify(self) -> None:
        """close_notify. OpenSSL drops what it has opened then, and it is still to be read here."""
        while self._tls.pending():
            self._opened += self._use(self._tls.read, RECORD)
        with self._sending, contextlib.suppress(ssl.SSLZeroReturnError):
            self._step(self._tls.unwrap)

    def _answer(self) -> None:
        """A key update wants one. Where another thread is sending, it goes along."""
        if self._outgoing.pending and self._sending.acquire(blocking=False):
            try:
                self._push()
            finally:
                self._sending.release()

    def _use(self, verb: Callable[..., Any], *args: Any) -> Any:
        with self._using:
            return verb(*args)

    def _push(self) -> None:
        with self._sending:
            self._unsent += self._use(self._outgoing.read)
            while self._unsent:
                self._unsent = self._unsent[self.raw.send(self._unsent) :]

    def _take_record(self) -> None:
        """The next record from the kernel, or its end of file."""
        while missing := self._missing():
            chunk = self.raw.recv(missing)
            if not chunk:
                self._incoming.write_eof()
                return
            self._record += chunk
        self._use(self._incoming.write, self._record)
        self._record = b""

    def _missing(self) -> int:
        if len(self._record) < HEADER:
            return HEADER - len(self._record)
        return HEADER + int.from_bytes(self._record[3:HEADER], "big") - len(self._record)

    def _take_tickets(self) -> None:
        """They come at once behind the handshake, and would be unread bytes to `close`."""
        for _ in range(self._tickets):
            self._take_record()
            with contextlib.suppress(ssl.SSLWantReadError):
                self._opened += self._use(self._tls.read, RECORD)

    def _has_unread_data(self) -> bool:
        self.raw.setblocking(False)
        try:
            while not (self._opened or self._tls.pending()):
                self._opened = self.recv(1)
                if not self._opened:
                    return False
        except BlockingIOError:
            return bool(self._record)
        finally:
            self.raw.settimeout(TIMEOUT)
        return True


def wire_size(sock: Any, size: int) -> int:
    """What `size` bytes, written at once, are on the wire of this peer's socket."""
    return size + OVERHEAD * -(-size // RECORD) if isinstance(sock, TlsSocket) else size
