"""[A10] `start_tls` above and below something else: of asyncio's streams, and of a connection that is over TLS already."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from support.differential import as_on_asyncio, ssl_fields
from support.kernel import pattern
from support.marks import mended_in_3_11
from support.streams import address_of, collected
from support.tls_end import TlsEnd, quiet
from support.tls_peer import client_context, server_context
from support.tls_sides import both_upgraded, greeted, upgraded

# ---------------------------------------------------------------- TLS in TLS


@mended_in_3_11
@as_on_asyncio
async def test_tls_inside_tls_carries_bytes_both_ways(notes, tls):
    """As through a proxy that is reached over TLS. Both layers are the loop's at both ends."""
    server, client = notes.plain("server"), notes.plain("client")
    async with tls.served(lambda: server, ssl=server_context()) as listening:
        await tls.connect_tls(client, address_of(listening))
        await server.called("connection_made")
    outer = server.transport, client.transport
    server.transport, client.transport = await both_upgraded(server, client)
    for protocol in (server, client):
        notes("inner", ssl_fields(protocol.transport.get_extra_info("ssl_object"))["version"])
    client.transport.write(pattern(200_000))
    server.transport.write(b"answer")
    await server.received(pattern(200_000))
    await client.received(b"answer")
    client.transport.close()
    await client.called("connection_lost")
    await server.called("connection_lost")
    await quiet()
    for transport in (*outer, server.transport):
        transport.abort()
    await quiet()


@as_on_asyncio
async def test_tls_inside_tls_with_a_peer_by_hand_ends_in_order(notes, tls):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, outer):
        one, other = tls.sockets()
        inner = TlsEnd(one, client_context())
        with other:
            relay(outer, other)
            await upgraded(notes, protocol, True, inner)  # a hello that comes at once has asyncio wait for ever
            await greeted(protocol, inner)
            protocol.transport.close()
            await protocol.called("connection_lost")
            await inner.until(lambda: inner.over)
            await outer.is_over()
            asyncio.get_running_loop().remove_reader(other)
        inner.close()
    notes("inner", *inner.over)
    notes("outer", *outer.over)


def relay(outer, sock):
    """What the outer end receives goes to the socket, and back."""
    loop, given = asyncio.get_running_loop(), [0]

    def give():
        sock.sendall(outer.data[given[0] :])
        given[0] = len(outer.data)

    def take():
        if data := sock.recv(1 << 16):
            outer.write(data)

    outer._looks.append(give)
    loop.add_reader(sock, take)


# ---------------------------------------------------------------- streams


@as_on_asyncio
async def test_both_streams_of_a_connection_go_over_to_tls(notes, tls):
    async def serve(reader, writer):
        notes("server", await reader.readline())
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(server_context())
        notes("server", type(writer.transport.get_extra_info("ssl_object")).__name__)
        writer.write((await reader.readline()).upper())
        await writer.drain()
        notes("server", await reader.read())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*address_of(server))
    writer.write(b"STARTTLS\n")
    notes("client", await reader.readline())
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"hello\n")
    notes("client", await reader.readline())
    writer.close()
    await notes.outcome("client", writer.wait_closed())
    await quiet()
    server.close()
    assert notes.seen["client"][1] == [b"HELLO\n"]


@as_on_asyncio
async def test_a_stream_whose_upgrade_fails(notes, tls):
    served = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        notes("server", await reader.readline())
        writer.write(b"go ahead\n")
        with pytest.raises((ConnectionResetError, ssl.SSLError)):  # ours tells why, by an alert
            await writer.start_tls(server_context())
        writer.transport.abort()
        served.set_result(None)

    with collected():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*address_of(server))
        writer.write(b"STARTTLS\n")
        notes("answer", await reader.readline())
        await notes.outcome("client", writer.start_tls(client_context(), server_hostname="example.test"))
        writer.transport.abort()
        await served
        await quiet()
        server.close()
    assert notes.names("client") == ["raised"]
