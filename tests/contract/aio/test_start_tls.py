"""[A10] `start_tls`, of asyncio's TLS and of ours: both sides, in the middle of a connection, over each family."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import address_of, collected
from support.tls_peer import client_context, server_context
from support.tls_sides import both_upgraded, upgrade


@on_ours_and_asyncio
async def test_both_sides_of_a_connection_go_over_to_tls(streams):
    async with streams.pair(Plain(), Plain()) as (accepted, connected):
        plain = connected.transport
        plain.write(b"in plain")
        await accepted.received(b"in plain")
        accepted.data.clear()
        ours, theirs = await both_upgraded(accepted, connected)
        ours.write(b"from the server" * 10_000)
        theirs.write(b"from the client" * 10_000)
        await accepted.received(b"from the client" * 10_000)
        await connected.received(b"from the server" * 10_000)
        assert isinstance(theirs.get_extra_info("ssl_object"), ssl.SSLObject)
        assert theirs.get_extra_info("peername") == plain.get_extra_info("peername")
        theirs.close()
        await connected.called("connection_lost")
        await accepted.called("connection_lost")
        ours.close()  # before Python 3.11 that is not done for it


@on_ours_and_asyncio
async def test_streams_go_over_to_tls(streams):
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.drain()
        writer.transport.pause_reading()
        transport = await upgrade(writer.transport.get_protocol(), True, writer.transport)
        reader._transport = writer._transport = transport
        writer.write((await reader.readline()).upper())
        writer.close()

    streamed = asyncio.StreamReader()
    served = asyncio.StreamReader()
    tasks = []

    def start(reader, writer):
        tasks.append(asyncio.ensure_future(serve(reader, writer)))

    async with streams.served(lambda: asyncio.StreamReaderProtocol(served, start)) as server:
        client = asyncio.StreamReaderProtocol(streamed)
        transport, _ = await streams.connect(lambda: client, address_of(server))
        transport.write(b"STARTTLS\n")
        assert await streamed.readline() == b"go ahead\n"
        over_tls = await upgrade(client, False, transport)
        streamed._transport = over_tls
        over_tls.write(b"hello\n")
        assert await streamed.readline() == b"HELLO\n"
        assert await streamed.read() == b""
        over_tls.close()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("steps", range(8))
@on_ours
async def test_one_that_is_cancelled_at_any_step_leaves_nothing(streams, steps):
    with collected():
        async with streams.pair(Plain(), Plain()) as (accepted, connected):
            await cancelled(asyncio.ensure_future(both_upgraded(accepted, connected)), steps)
            for transport in transports_of(accepted, connected):
                transport.abort()
            while not all(transport.get_protocol() is None for transport in transports_of(accepted, connected)):
                await asyncio.sleep(0)
            for protocol in (accepted, connected):
                protocol.log.append("connection_lost")  # which TLS was told in its place, if it had got so far


async def cancelled(attempts, steps):
    for _ in range(steps):
        await asyncio.sleep(0)
    attempts.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        for transport in await attempts:
            transport.abort()


def transports_of(*protocols):
    return [protocol.transport for protocol in protocols]


@on_ours_and_asyncio
async def test_a_server_with_ssl_serves_clients_with_ssl(streams):
    protocol, client = Plain(), Plain()
    async with streams.served(lambda: protocol, ssl=server_context()) as server:
        transport, _ = await streams.connect(
            lambda: client, address_of(server), ssl=client_context(), server_hostname="localhost"
        )
        transport.write(b"hello")
        await protocol.received(b"hello")
        protocol.transport.write(b"answer")
        await client.received(b"answer")
        transport.close()
        await client.called("connection_lost")
        await protocol.called("connection_lost")
        protocol.transport.close()
