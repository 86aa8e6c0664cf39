"""[A11] `Server`, by version; what is accepted, and from which sockets."""

from __future__ import annotations

import asyncio
import os
import resource
import socket as stdlib
import struct
import sys

import pytest
from support import TIMEOUT
from support.addresses import has_ipv6
from support.coroutines import read_exactly, seen, turns
from support.marks import linux_only
from support.protocols import Made, Plain, on_ours, on_ours_and_asyncio
from support.streams import abort, address_of, arrives, ends

import pybuntcp

pytestmark = pytest.mark.loops_that_stay

waits_for_connections = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before Python 3.12 it does not wait for them"
)
ends_clients = pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients came with Python 3.13")


# ---------------------------------------------------------------- the server


@on_ours_and_asyncio
async def test_a_server_is_asyncios_and_tells_what_it_serves(streams):
    server = await streams.server(Plain)
    assert isinstance(server, asyncio.AbstractServer)
    assert isinstance(server, asyncio.base_events.Server)
    assert server.is_serving()
    assert server.get_loop() is asyncio.get_running_loop()
    (sock,) = server.sockets
    assert sock.family == streams.family
    assert sock.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ACCEPTCONN) == 1
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    server.close()
    await server.wait_closed()


@on_ours_and_asyncio
async def test_a_server_that_is_not_started_accepts_nobody_until_it_is(streams):
    made = Made()
    server = await streams.server(made, start_serving=False)
    assert not server.is_serving()
    address = address_of(server)
    with stdlib.socket(streams.family) as early, pytest.raises(ConnectionRefusedError):
        early.connect(address)
    for _ in range(2):
        await server.start_serving()
        assert server.is_serving()
    with await streams.dial(address) as client:
        (protocol,) = await made.count(1)
        await arrives(client, protocol)
        server.close()
        await abort(protocol)
    await server.wait_closed()


@on_ours_and_asyncio
async def test_a_closed_server_accepts_nobody_and_its_connections_go_on(streams):
    made = Made()
    server = await streams.server(made)
    address = address_of(server)
    with await streams.dial(address) as client:
        (protocol,) = await made.count(1)
        server.close()
        with stdlib.socket(streams.family) as late, pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            late.connect(address)
        await arrives(client, protocol)
        protocol.transport.write(b"answer")
        assert await read_exactly(client, 6) == b"answer"
        await abort(protocol)


@waits_for_connections
@on_ours_and_asyncio
async def test_wait_closed_waits_for_the_connections(streams):
    made = Made()
    server = await streams.server(made)
    with await streams.dial(address_of(server)):
        (protocol,) = await made.count(1)
        waiting = asyncio.ensure_future(server.wait_closed())
        await turns()
        assert not waiting.done()
        server.close()
        await turns()
        assert not waiting.done()
        protocol.transport.close()
        await waiting
        assert protocol.log[-1] == "connection_lost"


@on_ours_and_asyncio
async def test_serve_forever_serves_until_it_is_cancelled(streams):
    made = Made()
    server = await streams.server(made, start_serving=False)
    serving = asyncio.ensure_future(server.serve_forever())
    await turns(2)
    assert server.is_serving()
    with pytest.raises(RuntimeError, match="already being awaited"):
        await server.serve_forever()
    with await streams.dial(address_of(server)):
        (protocol,) = await made.count(1)
        await abort(protocol)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


@on_ours_and_asyncio
async def test_closing_a_server_ends_serve_forever(streams):
    server = await streams.server(Plain)
    serving = asyncio.ensure_future(server.serve_forever())
    await turns(2)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await serving


@on_ours_and_asyncio
async def test_a_server_left_by_async_with_is_closed(streams):
    async with await streams.server(Plain) as server:
        assert server.is_serving()
    assert not server.is_serving()


@ends_clients
@pytest.mark.parametrize("verb", ["close_clients", "abort_clients"])
@on_ours_and_asyncio
async def test_the_clients_of_a_server_are_closed_and_aborted(streams, verb):
    made = Made()
    server = await streams.server(made)
    clients = [await streams.dial(address_of(server)) for _ in range(3)]
    protocols = await made.count(3)
    server.close()
    getattr(server, verb)()
    await server.wait_closed()
    assert [protocol.error for protocol in protocols] == [None] * 3
    for client in clients:
        assert await ends(client) == b""
        client.close()


@on_ours
async def test_a_server_that_its_factory_closes_drops_that_connection(streams):
    """asyncio's own loop leaves the socket to the garbage collector, and says so in debug mode alone."""

    def factory():
        server.close()
        return protocol

    protocol = Plain()
    server = await streams.server(factory)
    with await streams.dial(address_of(server)) as client:
        assert await ends(client) == b""
    assert protocol.log == []


@on_ours_and_asyncio
async def test_a_server_that_connection_made_closes_keeps_that_connection(streams):
    def close_server(protocol, transport):
        server.close()

    protocol = Plain(connection_made=close_server)
    server = await streams.server(lambda: protocol)
    with await streams.dial(address_of(server)) as client:
        await arrives(client, protocol)
        await abort(protocol)
    await server.wait_closed()


# ---------------------------------------------------------------- what is accepted


@on_ours_and_asyncio
async def test_a_crowd_that_comes_at_once_is_accepted_to_the_last(streams):
    made = Made(connection_made=lambda protocol, transport: transport.close())
    async with streams.served(made, backlog=500) as server:
        clients = [await streams.dial(address_of(server)) for _ in range(300)]
        for client in clients:
            assert await ends(client) == b""
            client.close()
    assert len(made.all) == 300
    for protocol in made.all:
        await protocol.called("connection_lost")


@linux_only
@on_ours_and_asyncio
async def test_the_backlog_is_as_it_was_given():
    server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0, backlog=7)
    information = server.sockets[0].getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_INFO, 104)
    server.close()
    if len(information) < 32:
        pytest.skip("the system gives a part of TCP_INFO only")
    assert struct.unpack_from("I", information, 28) == (7,)  # tcpi_sacked: of a listening socket, what may wait


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@on_ours_and_asyncio
async def test_a_server_of_several_addresses_accepts_at_each():
    made = Made()
    server = await asyncio.get_running_loop().create_server(made, ["127.0.0.1", "::1"], 0)
    assert {sock.family for sock in server.sockets} == {stdlib.AF_INET, stdlib.AF_INET6}
    clients = []
    for sock in server.sockets:
        client = stdlib.socket(sock.family)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, sock.getsockname()[:2])
        clients.append(client)
    protocols = await made.count(2)
    families = {protocol.transport.get_extra_info("socket").family for protocol in protocols}
    assert families == {stdlib.AF_INET, stdlib.AF_INET6}
    server.close()
    await abort(*protocols)
    for client in clients:
        client.close()


@on_ours_and_asyncio
async def test_two_servers_share_a_port_with_reuse_port():
    loop, made = asyncio.get_running_loop(), Made()
    first = await loop.create_server(made, "127.0.0.1", 0, reuse_port=True)
    second = await loop.create_server(made, "127.0.0.1", first.sockets[0].getsockname()[1], reuse_port=True)
    assert first.sockets[0].getsockname() == second.sockets[0].getsockname()
    with stdlib.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, first.sockets[0].getsockname())
        (protocol,) = await made.count(1)
        await abort(protocol)
    first.close()
    second.close()


@on_ours
async def test_at_the_descriptor_limit_a_server_waits_and_then_goes_on(streams):
    """asyncio's own loop reports it, and pauses for a second. Here the listener counts it, and tries again soon."""
    made = Made()
    async with streams.served(made) as server:
        clients = [stdlib.socket(streams.family) for _ in range(2)]
        _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = pybuntcp.stats()["accept_errors"]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
        fillers = []
        try:
            try:
                while True:
                    fillers.append(os.dup(0))
            except OSError:
                pass
            for client in clients:
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, address_of(server))
            await seen(lambda: pybuntcp.stats()["accept_errors"] > before, "accept(2) to fail")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in fillers:
                os.close(fd)
        protocols = await asyncio.wait_for(made.count(2), TIMEOUT)
        await abort(*protocols)
        for client in clients:
            client.close()


@on_ours_and_asyncio
async def test_a_path_of_a_unix_server_can_be_served_again_after_close(tmp_path):
    path = str(tmp_path / "socket")
    for _ in range(3):
        server = await asyncio.get_running_loop().create_unix_server(Plain, path)
        server.close()
        await server.wait_closed()
