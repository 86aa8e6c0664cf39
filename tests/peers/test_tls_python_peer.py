"""The standard library's `ssl` in a thread of its own, and asyncio's streams, on the other side of us."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from support import TIMEOUT, Peer, Recorder, pattern
from support.programs import HOST
from support.tls import CA, CLIENT, CLIENT_TLS, SERVER, SERVER_TLS
from support.tls_socket import tell_truncations

VERSIONS = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
BLOB = pattern(1_000_000)
ROOM = 4 * len(BLOB)


@pytest.fixture
def server_context(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tell_truncations(context)
    context.load_cert_chain(*files.server)
    return context


@pytest.fixture
def client_context(files):
    context = ssl.create_default_context(cafile=files.ca)
    tell_truncations(context)
    context.load_cert_chain(*files.client)
    return context


def only(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    return context


class SSLPeer(Peer):
    """A raw peer whose socket is an `ssl.SSLSocket`."""

    def _open(self) -> None:
        super()._open()
        self._sock.suppress_ragged_eofs = False

    def unwrap(self):
        """Say close_notify and wait for theirs; the plain socket is closed."""
        return self.call(lambda: self.sock.unwrap().close())

    def truncate(self, data: bytes = b""):
        """FIN after `data`, with no word about it."""
        return self.call(self._truncate, data)

    def _truncate(self, data: bytes) -> None:
        if data:
            self.sock.sendall(data)
        socket.socket.shutdown(self.sock, socket.SHUT_WR)


@pytest.fixture
def dial(tcp, client_context):
    """A client with ssl to a listener of ours."""
    peers = []

    def begin(listener, version="TLSv1.3"):
        context = only(client_context, version)

        def opener():
            return context.wrap_socket(tcp.dial(listener), server_hostname="localhost")

        peers.append(SSLPeer(opener))
        return peers[-1]

    yield begin
    for peer in peers:
        peer.stop()


@pytest.fixture
def served(tcp, server_context):
    """A server with ssl: (where it listens, the peer that it makes of who comes first)."""
    made = []

    def begin(version="TLSv1.3"):
        context = only(server_context, version)
        server = tcp.raw_server()
        made.append(SSLPeer(lambda: context.wrap_socket(server.sock.accept()[0], server_side=True)))
        return server, made[-1]

    yield begin
    for peer in made:
        peer.stop()


@pytest.fixture(params=["they connect", "they listen"])
def joined(request, loop, tcp, dial, served):
    """A connection with a peer: our socket's recorder, and the peer. Who connects is the parameter."""

    def begin(version="TLSv1.3", recorder=None, **options):
        recorder = Recorder() if recorder is None else recorder
        if request.param == "they connect":
            listener = tcp.listen(recorder, tls=SERVER_TLS, **options)
            peer = dial(listener, version)
        else:
            server, peer = served(version)
            tcp.connect(recorder, server, tls=CLIENT_TLS, **options)
        loop.run_until(lambda: recorder.sockets)
        loop.wait(peer.connected)
        if request.param == "they connect":
            listener.stop()
        return recorder, peer

    return begin


# ---------------------------------------------------------------------------- what is agreed


@VERSIONS
def test_a_megabyte_goes_each_way_at_once(loop, joined, version):
    recorder, peer = joined(version, high_water_mark=ROOM)
    assert recorder.socket.write(BLOB) == len(BLOB)
    peer.send(BLOB)
    received = loop.wait(peer.recv_exactly(len(BLOB)))
    loop.run_until(lambda: recorder.socket.bytes_read == len(BLOB))
    assert hashlib.sha256(received).digest() == hashlib.sha256(BLOB).digest()
    assert hashlib.sha256(recorder.received()).digest() == hashlib.sha256(BLOB).digest()
    recorder.socket.end()
    loop.wait(peer.unwrap())
    loop.run()
    assert recorder.close_error is None


@VERSIONS
def test_both_sides_say_the_same_of_the_connection(loop, joined, version):
    recorder, peer = joined(version)
    ours, theirs = recorder.socket, peer.sock
    assert ours.get_tls_version() == theirs.version() == version
    assert ours.get_cipher()["name"] == theirs.cipher()[0]
    assert ours.is_session_reused() == theirs.session_reused
    if ours.listener is None:
        assert ours.get_peer_certificate()["raw"] == SERVER.der
    else:
        assert theirs.getpeercert(True) == SERVER.der
    ours.terminate()


@VERSIONS
def test_we_end_and_the_peer_answers_before_it_ends(loop, joined, version):
    """Neither side waits for the other's close_notify to go on."""
    recorder, peer = joined(version)
    recorder.socket.end(b"question")
    assert loop.wait(peer.recv_exactly(8)) == b"question"
    peer.send(b"answer")
    loop.run_until(lambda: recorder.received() == b"answer")
    loop.wait(peer.unwrap())
    loop.run()
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


@VERSIONS
def test_the_peers_close_notify_is_answered(loop, joined, version):
    recorder, peer = joined(version)
    peer.send(b"last words")
    loop.wait(peer.unwrap())  # returns when ours has come
    loop.run()
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


@VERSIONS
def test_an_end_that_was_not_announced_is_a_truncation(loop, joined, version):
    recorder, peer = joined(version)
    loop.wait(peer.truncate(b"what came whole"))
    loop.run()
    assert recorder.received() == b"what came whole"
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError


@VERSIONS
def test_a_truncation_is_reported_after_our_own_end_too(loop, joined, version):
    recorder, peer = joined(version)
    recorder.socket.end(b"x")
    loop.wait(peer.recv_exactly(1))
    loop.wait(peer.truncate())
    loop.run()
    assert recorder.order() == ["open", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError


@VERSIONS
def test_a_reset_is_a_reset(loop, joined, version):
    recorder, peer = joined(version)
    loop.wait(peer.reset())
    loop.run()
    assert recorder.order() == ["open", "close"]
    assert isinstance(recorder.close_error, ConnectionResetError)


def test_a_peer_that_does_not_read_holds_back_no_more_than_the_mark(loop, joined):
    recorder, peer = joined(high_water_mark=65536)
    written = 0
    while (count := recorder.socket.write(BLOB)) == len(BLOB):
        written += count
    written += count
    assert recorder.socket.pending <= 65536 + 32768
    received = loop.wait(peer.recv_exactly(written))
    expected = (BLOB * (written // len(BLOB) + 1))[:written]
    assert hashlib.sha256(received).digest() == hashlib.sha256(expected).digest()
    recorder.socket.end()
    loop.wait(peer.unwrap())
    loop.run()
    assert recorder.order() == ["open", "drain", "end", "close"]


# ---------------------------------------------------------------------------- asyncio streams


class Asyncio(Peer):
    """A coroutine in an asyncio loop of a thread of its own; `outcome` is its result."""

    def __init__(self, main: Any) -> None:
        super().__init__(socket.socket)  # which is not used
        self.outcome = self.call(lambda: asyncio.run(asyncio.wait_for(main, TIMEOUT)))


@pytest.fixture
def in_asyncio():
    started = []

    def begin(main):
        started.append(Asyncio(main))
        return started[-1].outcome

    yield begin
    for each in started:
        each.stop()


@VERSIONS
def test_asyncio_streams_connect_to_us(loop, tcp, in_asyncio, client_context, version):
    async def main(port):
        context = only(client_context, version)
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname="localhost")
        writer.write(BLOB)
        received = await reader.readexactly(len(BLOB))
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()
        return received

    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "request_cert": True, "ca": CA.pem}, high_water_mark=ROOM)
    received = loop.wait(in_asyncio(main(listener.port)))
    listener.stop()
    loop.run()
    assert hashlib.sha256(received).digest() == hashlib.sha256(BLOB).digest()
    assert recorder.socket.get_peer_certificate()["raw"] == CLIENT.der
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


@VERSIONS
def test_we_connect_to_asyncio_streams(loop, tcp, in_asyncio, server_context, version):
    port: Future[int] = Future()

    async def main():
        done = asyncio.Event()

        async def serve(reader, writer):
            writer.write(await reader.readexactly(len(BLOB)))
            await writer.drain()
            writer.close()
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await writer.wait_closed()
            done.set()

        server = await asyncio.start_server(serve, HOST, 0, ssl=only(server_context, version))
        port.set_result(server.sockets[0].getsockname()[1])
        await done.wait()
        server.close()

    served = in_asyncio(main())
    recorder = Recorder(open=lambda socket: socket.write(BLOB))
    tcp.connect(recorder, SimpleNamespace(port=port.result(TIMEOUT)), tls=CLIENT_TLS, high_water_mark=ROOM)
    loop.run()
    served.result()
    assert hashlib.sha256(recorder.received()).digest() == hashlib.sha256(BLOB).digest()
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None
