"""A TLS peer in the loop that runs: the standard library's object over two MemoryBIOs, on a raw socket that the loop watches.

    async with ends.accepted(protocol, ssl=server_context()) as (protocol, peer): ...

Owns: `TlsEnd`, the other end of a secured connection, woken by nothing but its socket, where the test decides which bytes
travel and when; `TlsStreams`, which brings a protocol and such a peer together. `tls_peer` has one in a thread, where the loop
must wait for it. Its `came` and `went` are all bytes that travelled, for `tls_records.Sealer`. Does not know whose the loop is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from .coroutines import turns
from .protocols import _Looked
from .streams import Streams, abort, address_of
from .tls_peer import client_context, over_memory, server_context


class TlsEnd(_Looked):
    """A client or a server by hand. It answers what comes by itself, until it is told to be `deaf`.

    `over` is how the other end finished, in order: "close_notify", then "FIN" or "reset"; or the reason of an SSLError.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server: bool = False,
        name: str | None = "localhost",
        session: ssl.SSLSession | None = None,
        polite: bool = True,
    ) -> None:
        super().__init__()
        self.sock, self.server, self.polite = sock, server, polite
        sock.setblocking(False)
        self.came, self.went, self.data = bytearray(), bytearray(), bytearray()
        self.over: list[str] = []
        self.secured = False
        self._unsent = bytearray()
        self._in, self._out, self.tls = over_memory(context, server=server, name=name, session=session)
        self._loop = asyncio.get_running_loop()

    # ---------------------------------------------------------------- what comes

    def listen(self) -> TlsEnd:
        """Take what comes from now on."""
        self._loop.add_reader(self.sock, self._readable)
        return self

    def deaf(self) -> None:
        """Read nothing more: the kernel keeps it."""
        self._loop.remove_reader(self.sock)

    def _readable(self) -> None:
        try:
            chunk = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            self._finished("reset")
            return
        if not chunk:
            self._finished("FIN")
            return
        self.came += chunk
        self._in.write(chunk)
        self.step()

    def _finished(self, how: str) -> None:
        self.over.append(how)
        self.deaf()
        self.look()

    def step(self) -> None:
        """As far as TLS gets with what came; what it has to say is sent."""
        try:
            if not self.secured:
                self.tls.do_handshake()
                self.secured = True
            while "close_notify" not in self.over:
                chunk = self.tls.read(1 << 18)
                if not chunk:
                    raise ssl.SSLZeroReturnError
                self.data += chunk
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.over.append("close_notify")
            if self.polite:
                self.say_goodbye()
        except ssl.SSLError as error:
            self.over.append(str(error.reason))
        self.push()
        self.look()

    # ---------------------------------------------------------------- what goes

    def hold(self) -> bytes:
        """What it has to say first: it is not sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    async def answer_held(self) -> bytes:
        """What it has to say next, to what comes: it is not sent, and nothing is read after it."""
        while not (flight := self.hold()):
            chunk = await self._loop.sock_recv(self.sock, 1 << 18)
            self.came += chunk
            self._in.write(chunk)
        return flight

    async def finished_held(self) -> bytes:
        """A client's last flight of TLS 1.3: it is not sent. What is sealed from now on goes behind it."""
        self.step()
        flight = await self.answer_held()
        self.secured = True
        self.listen()
        return flight

    def handshake(self) -> TlsEnd:
        """Begin it, as a client does, and go on with whatever comes."""
        self.step()
        return self.listen()

    def write(self, data: bytes) -> None:
        """As records of TLS."""
        self.send(self.seal(data))

    def seal(self, data: bytes) -> bytes:
        """The records that `write` would send."""
        self.push()
        self.tls.write(data)
        return self._out.read()

    def say_goodbye(self) -> None:
        """close_notify, alone."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.push()

    def goodbye_held(self) -> bytes:
        """The record of close_notify: it is not sent."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self._out.read()

    def push(self) -> None:
        """What TLS has to say."""
        self.send(self._out.read())

    def send(self, data: bytes) -> None:
        """Raw bytes, after those that the kernel has not taken yet."""
        self.went += data
        waits = bool(self._unsent)
        self._unsent += data
        if not waits:
            self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self.sock, self._send)
            return
        except OSError:
            self._unsent.clear()
        self._loop.remove_writer(self.sock)

    def finish(self) -> None:
        """FIN."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST, over TCP."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
            self._loop.remove_writer(self.sock)
        self.sock.close()

    # ---------------------------------------------------------------- waits

    async def is_secured(self) -> None:
        await self.until(lambda: self.secured or self.over)
        assert self.secured, self.over

    async def received(self, data: bytes) -> None:
        """Until so many bytes were received: these."""
        await self.until(lambda: len(self.data) >= len(data))
        assert self.data == data

    async def is_over(self) -> None:
        """Until the other end has closed, or reset."""
        await self.until(lambda: self.over and self.over[-1] in ("FIN", "reset"))


class TlsStreams(Streams):
    """`Streams` whose peers are ends of TLS by hand."""

    async def dial_tls(self, address: Any, context: ssl.SSLContext | None = None, **options: Any) -> TlsEnd:
        """A client of it that has not said anything yet."""
        return TlsEnd(await self.dial(address), context or client_context(), **options)

    @contextlib.asynccontextmanager
    async def accepted_tls(
        self,
        protocol: Any,
        context: ssl.SSLContext | None = None,
        peer_context: ssl.SSLContext | None = None,
        *,
        peer: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[Any, TlsEnd]]:
        """A protocol whose connection a server with `ssl` has accepted, and its peer, both secured."""
        async with self.served(lambda: protocol, ssl=context or server_context(), **options) as server:
            end = await self.dial_tls(address_of(server), peer_context, **(peer or {}))
            end.handshake()
            await protocol.called("connection_made")
            await end.is_secured()
        async with kept(end, protocol):
            yield protocol, end

    @contextlib.asynccontextmanager
    async def connected_tls(
        self,
        protocol: Any,
        context: ssl.SSLContext | None = None,
        peer_context: ssl.SSLContext | None = None,
        *,
        peer: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[Any, TlsEnd]]:
        """As `accepted_tls`, of a protocol that has connected itself."""
        async with self.connecting_tls(protocol, context, peer_context, peer=peer, **options) as (connecting, end):
            end.listen()
            await connecting
            await end.is_secured()
            yield protocol, end

    @contextlib.asynccontextmanager
    async def connecting_tls(
        self,
        protocol: Any,
        context: ssl.SSLContext | None = None,
        peer_context: ssl.SSLContext | None = None,
        *,
        peer: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[asyncio.Future[Any], TlsEnd]]:
        """What waits for a client with `ssl`, and its peer, which has accepted and neither read nor said anything yet."""
        async with self.listening() as (address, accept):
            connecting = asyncio.ensure_future(self.connect_tls(protocol, address, context, **options))
            end = TlsEnd(await accept(connecting), peer_context or server_context(), server=True, **(peer or {}))
        async with kept(end, protocol):
            yield connecting, end

    async def connect_tls(
        self, protocol: Any, address: Any, context: ssl.SSLContext | None = None, **options: Any
    ) -> tuple[Any, Any]:
        """As `connect`, with `ssl`."""
        options.setdefault("server_hostname", "localhost")
        return await self.connect(lambda: protocol, address, ssl=context or client_context(), **options)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[tuple[Any, Callable[[Any], Any]]]:
        """The address of a raw server, and its accept."""
        with self.bound() as sock:
            sock.listen()
            sock.setblocking(False)

            async def accept(connecting: asyncio.Future[Any]) -> socket.socket:
                """What connects, unless that has failed."""
                accepting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(sock))
                await asyncio.wait([accepting, connecting], return_when=asyncio.FIRST_COMPLETED)
                if not accepting.done():
                    accepting.cancel()
                    connecting.result()
                return (await accepting)[0]

            yield sock.getsockname(), accept


@contextlib.asynccontextmanager
async def kept(end: TlsEnd, *protocols: Any) -> AsyncIterator[None]:
    """The peer is closed at the end; the protocols' connections are aborted, if they have not ended."""
    try:
        yield
    finally:
        await abort(*[protocol for protocol in protocols if protocol.transport is not None])
        end.close()


async def quiet(count: int = 12) -> None:
    """Until nothing that lay in the kernel can still move. A loaded machine may carry a segment of TCP a moment later."""
    await turns(count)
    if count >= 12:
        await asyncio.sleep(0.001)
        await turns(count)
