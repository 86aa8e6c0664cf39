"""[A1] What a transport is, and what it says of itself."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from asyncio.trsock import TransportSocket
from unittest import mock

import pytest
from support.asyncio_loops import open_host
from support.coroutines import done, turns
from support.kernel import TIMEOUT
from support.protocols import Plain, host_is_ours_or_asyncio, on_ours, on_ours_and_asyncio
from support.streams import ENDINGS, either_side, no_tls_yet, serve, slow

from pybuntcp import _aio

pytestmark = no_tls_yet


@on_ours_and_asyncio
@either_side
async def test_a_transport_is_one_of_asyncios_transports(transport, side):
    protocol, _ = await side(transport)
    assert isinstance(protocol.transport, asyncio.Transport)


@on_ours_and_asyncio
async def test_a_server_is_one_of_asyncios_servers(transport):
    server = await serve(transport, Plain)
    assert isinstance(server, asyncio.AbstractServer)
    assert isinstance(server, asyncio.Server)


@on_ours
@either_side
async def test_a_connection_of_our_loop_is_one_of_our_sockets(transport, side):
    protocol, _ = await side(transport)
    assert type(protocol.transport) is _aio.SocketTransport


@host_is_ours_or_asyncio
def test_a_transport_belongs_to_its_loop_though_that_does_not_run_yet(no_leaks, host):
    """asyncio's own classes, and tests of programs, make them so."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with open_host(host) as loop:
        protocol = Plain()
        transport = loop._make_socket_transport(ours, protocol)
        theirs.sendall(b"early")
        theirs.close()
        loop.run_until_complete(asyncio.wait_for(protocol.called("connection_lost"), TIMEOUT))
        assert protocol.data == b"early"
        assert transport.is_closing()


# ---------------------------------------------------------------- get_extra_info


@on_ours_and_asyncio
@either_side
async def test_the_extra_info_socket_is_a_transport_socket_of_the_real_descriptor(transport, side):
    protocol, peer = await side(transport)
    found = protocol.transport.get_extra_info("socket")
    assert type(found) is TransportSocket
    assert found.family == peer.sock.family
    assert found.type == socket.SOCK_STREAM
    assert found.getsockname() == peer.sock.getpeername()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with socket.socket(fileno=socket.dup(found.fileno())) as same:
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert protocol.transport.get_extra_info("socket") is found


@on_ours_and_asyncio
@either_side
async def test_a_duplicate_of_the_extra_info_socket_leaves_the_connection_without_waiting(transport, side):
    protocol, _ = await side(transport)
    found = protocol.transport.get_extra_info("socket")
    with found.dup() as same:
        assert same.gettimeout() == 0
        assert not os.get_blocking(found.fileno())  # the two share that


@on_ours_and_asyncio
@either_side
async def test_the_extra_info_has_the_addresses_of_both_ends(transport, side):
    protocol, peer = await side(transport)
    assert protocol.transport.get_extra_info("sockname") == peer.sock.getpeername()
    assert protocol.transport.get_extra_info("peername") == peer.sock.getsockname()


@on_ours_and_asyncio
async def test_an_address_of_ipv6_has_its_four_parts(tcp):
    protocol = Plain()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Plain, "::1", 0)
    made, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname()[:2])
    assert made.get_extra_info("peername") == server.sockets[0].getsockname()
    assert made.get_extra_info("sockname") == made.get_extra_info("socket").getsockname()
    made.abort()
    server.close()


@on_ours_and_asyncio
@either_side
async def test_what_the_extra_info_does_not_know_is_the_default(transport, side):
    protocol, _ = await side(transport)
    unknown = object()
    assert protocol.transport.get_extra_info("unknown") is None
    assert protocol.transport.get_extra_info("unknown", unknown) is unknown
    assert protocol.transport.get_extra_info("sslcontext") is None
    assert protocol.transport.get_extra_info("ssl_object", unknown) is unknown


@on_ours_and_asyncio
@either_side
async def test_the_extra_info_is_there_in_connection_made(transport, side):
    seen = []

    def made(protocol, transport):
        found = protocol.transport.get_extra_info("socket")
        seen.append((found.fileno() >= 0, protocol.transport.get_extra_info("peername")))

    _, peer = await side(transport, Plain(connection_made=made))
    assert seen == [(True, peer.sock.getsockname())]


ENDINGS_BY_EITHER = {**ENDINGS, "end": lambda protocol, peer: peer.close()}


@on_ours_and_asyncio
@pytest.mark.parametrize("ending", ENDINGS_BY_EITHER)
async def test_the_extra_info_outlives_the_connection(transport, ending):
    protocol, peer = await slow(transport)
    names = [peer.sock.getpeername(), peer.sock.getsockname()]
    ENDINGS_BY_EITHER[ending](protocol, peer)
    await protocol.called("connection_lost")
    await turns()
    assert [protocol.transport.get_extra_info(name) for name in ("sockname", "peername")] == names
    assert protocol.transport.get_extra_info("socket").fileno() == -1


@on_ours_and_asyncio
@either_side
async def test_the_extra_info_outlives_a_reset(tcp, side):
    protocol, peer = await side(tcp)
    names = [peer.sock.getpeername(), peer.sock.getsockname()]
    peer.reset()
    await protocol.called("connection_lost")
    await turns()
    assert isinstance(protocol.error, ConnectionResetError)
    assert [protocol.transport.get_extra_info(name) for name in ("sockname", "peername")] == names
    assert protocol.transport.get_extra_info("socket").fileno() == -1


@on_ours_and_asyncio
@pytest.mark.parametrize("ending", ENDINGS_BY_EITHER)
async def test_the_socket_is_open_until_connection_lost_has_returned(transport, ending):
    open_there = []
    protocol, peer = await slow(
        transport,
        Plain(
            connection_lost=lambda self, error: open_there.append(self.transport.get_extra_info("socket").getsockname())
        ),
    )
    name = peer.sock.getpeername()
    ENDINGS_BY_EITHER[ending](protocol, peer)
    await protocol.called("connection_lost")
    assert open_there == [name]


@on_ours_and_asyncio
@either_side
async def test_the_socket_is_open_until_connection_lost_has_returned_after_a_reset(tcp, side):
    open_there = []
    protocol, peer = await side(
        tcp,
        Plain(
            connection_lost=lambda self, error: open_there.append(self.transport.get_extra_info("socket").getsockname())
        ),
    )
    name = peer.sock.getpeername()
    peer.reset()
    await protocol.called("connection_lost")
    assert open_there == [name]


@on_ours_and_asyncio
async def test_tcp_sends_without_delay(tcp):
    protocol, _ = await slow(tcp)
    found = protocol.transport.get_extra_info("socket")
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# ---------------------------------------------------------------- what it says of itself


def said(transport):
    """Its repr, without the class and the number of the descriptor."""
    return re.sub(r"^<\w+ |(?<=fd=)\d+", "", repr(transport))


@on_ours_and_asyncio
async def test_the_repr_says_the_state_as_asyncio_says_it(transport):
    protocol, peer = await slow(transport)
    it = protocol.transport
    seen = [said(it)]
    it.pause_reading()
    seen.append(said(it))
    it.resume_reading()
    it.write(bytes(1 << 20))
    seen.append(re.sub(r"bufsize=[1-9]\d*", "bufsize=N", said(it)))
    it.close()
    seen.append(re.sub(r"bufsize=[1-9]\d*", "bufsize=N", said(it)))
    await done(peer.recv_exactly(1 << 20))
    await protocol.called("connection_lost")
    await turns(2)
    seen.append(said(it))
    assert seen == [
        "fd= read=polling write=<idle, bufsize=0>>",
        "fd= read=idle write=<idle, bufsize=0>>",
        "fd= read=polling write=<polling, bufsize=N>>",
        "closing fd= read=idle write=<polling, bufsize=N>>",
        "closed fd=>",
    ]


@on_ours_and_asyncio
@either_side
async def test_is_closing_and_is_reading_tell_what_was_asked_for(transport, side):
    protocol, _ = await side(transport)
    it = protocol.transport
    assert (it.is_closing(), it._closing, it.is_reading()) == (False, False, True)
    it.pause_reading()
    assert (it.is_closing(), it.is_reading()) == (False, False)
    it.resume_reading()
    it.close()
    assert (it.is_closing(), it._closing, it.is_reading()) == (True, True, False)
    await protocol.called("connection_lost")
    assert (it.is_closing(), it._closing, it.is_reading()) == (True, True, False)


# ---------------------------------------------------------------- which sockets are ours


@on_ours
async def test_what_stands_in_for_a_socket_gets_asyncios_own_transport(no_leaks):
    loop = asyncio.get_running_loop()
    stand_in = mock.MagicMock(socket.socket)
    stand_in.family, stand_in.type, stand_in.proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    stand_in.fileno.return_value = 1 << 20
    with mock.patch.object(loop, "_add_reader"), mock.patch.object(loop, "_remove_reader"):
        made = loop._make_socket_transport(stand_in, asyncio.Protocol())
        assert isinstance(made, asyncio.Transport)
        assert not isinstance(made, _aio.SocketTransport)
        await turns(2)
        made.abort()
        await turns(2)
    stand_in.close.assert_called_once_with()


async def on_a_pair(factory, kind=socket.socket):
    """A connection on one of two raw sockets: its transport, its protocol, and the other socket."""
    one, two = socket.socketpair()
    mine = kind(fileno=one.detach())
    mine.setblocking(False)
    return *await asyncio.get_running_loop().create_connection(factory, sock=mine), two


class NamedSocket(socket.socket):
    """A program's own kind of socket."""


@on_ours
async def test_a_socket_of_a_programs_own_class_becomes_ours(no_leaks):
    made, protocol, two = await on_a_pair(Plain, NamedSocket)
    with two:
        assert type(made) is _aio.SocketTransport
        two.send(b"to mine")
        await protocol.received(b"to mine")
        made.abort()
        await protocol.called("connection_lost")


class WithBuffers(asyncio.BaseProtocol):
    """It gives its memory, as a BufferedProtocol does, and is none."""

    def __init__(self):
        self.memory, self.got, self.lost = bytearray(64), asyncio.Event(), asyncio.Event()

    def get_buffer(self, size):
        return self.memory

    def buffer_updated(self, size):
        self.got.set()

    def eof_received(self):
        pass

    def connection_lost(self, error):
        self.lost.set()


@on_ours
async def test_a_protocol_that_has_get_buffer_and_no_data_received_is_a_buffered_one(no_leaks):
    made, protocol, two = await on_a_pair(WithBuffers)
    with two:
        two.send(b"in place")
        await protocol.got.wait()
        assert protocol.memory[:8] == b"in place"
        made.abort()
        await protocol.lost.wait()


class Both(Plain):
    """A Protocol whose author has called a method of his own `get_buffer`."""

    def get_buffer(self, size):
        raise AssertionError("not called")


@on_ours_and_asyncio
async def test_a_protocol_that_has_data_received_is_no_buffered_one(no_leaks):
    made, protocol, two = await on_a_pair(Both)
    with two:
        two.send(b"as bytes")
        await protocol.received(b"as bytes")
        made.abort()
        await protocol.called("connection_lost")


def test_a_transport_cannot_be_made_by_hand():
    with pytest.raises(TypeError, match="made by an event loop"):
        _aio.SocketTransport.__new__(_aio.SocketTransport).write(b"")
    with open_host("native"), pytest.raises(TypeError, match="SocketTransport is wanted"):
        _aio.SocketTransport.write(asyncio.Transport(), b"")
