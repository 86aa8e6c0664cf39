"""Connections with TLS of asyncio's protocols, from either side: what tests of `contract/aio` say of them in the same words.

    @each_side
    @as_on_asyncio
    async def test_what_a_protocol_is_called(notes, tls, side):
        async with SIDES[side](tls, notes.plain("us"), *contexts(side)) as (protocol, end): ...

Owns: the two sides, and their contexts; a greeting; the loop's `start_tls` of either side (`upgrade`); handshakes that fail, from
either side (`connects`, `serves`), whose outcome is noted (`differential.Notes`). Where a connection and its peer come from is
`tls_end`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .differential import Notes
from .streams import address_of
from .tls_end import TlsEnd, TlsStreams, kept, quiet
from .tls_peer import client_context, server_context

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SIDES = {"accepted": TlsStreams.accepted_tls, "connected": TlsStreams.connected_tls}
each_side = pytest.mark.parametrize("side", SIDES)


def contexts(side: str, version: ssl.TLSVersion = NEW) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(ours, the peer's)"""
    server, client = server_context(version), client_context(version)
    return (server, client) if side == "accepted" else (client, server)


async def greeted(protocol: Any, end: TlsEnd) -> None:
    """A word each way."""
    await end.is_secured()
    end.write(b"hello")
    await protocol.received(b"hello")
    protocol.transport.write(b"answer")
    await end.received(b"answer")


# ---------------------------------------------------------------- start_tls


def upgrade(
    protocol: Any, server: bool, transport: Any = None, context: ssl.SSLContext | None = None, **options: Any
) -> Awaitable[Any]:
    """The loop's `start_tls` for this protocol."""
    loop, transport = asyncio.get_running_loop(), transport or protocol.transport
    if server:
        return loop.start_tls(transport, protocol, context or server_context(), server_side=True, **options)
    options.setdefault("server_hostname", "localhost")
    return loop.start_tls(transport, protocol, context or client_context(), **options)


async def both_upgraded(server: Any, client: Any) -> list[Any]:
    """The transports of two protocols that have one connection, over TLS."""
    return await asyncio.gather(upgrade(server, True), upgrade(client, False))


async def upgraded(notes: Notes, protocol: Any, server: bool, end: TlsEnd | None = None, **options: Any) -> Any:
    """It is over TLS then; what was returned is noted, and is the protocol's transport. The peer begins when we have."""
    old = protocol.transport
    upgrading = asyncio.ensure_future(notes.outcome("start_tls", upgrade(protocol, server, **options)))
    await quiet(3)
    if end is not None:
        end.handshake()
    new = await upgrading
    if new is not None:
        protocol.transport = new
        assert new is not old
    return new


# ---------------------------------------------------------------- handshakes that fail


async def connects(
    notes: Notes,
    tls: TlsStreams,
    act: Callable[[TlsEnd], Any],
    context: ssl.SSLContext | None = None,
    peer_context: ssl.SSLContext | None = None,
    **options: Any,
) -> TlsEnd:
    """A client whose server is `act(end)`, an end of TLS that has only accepted so far. The end, whose peer is gone."""
    protocol = notes.plain("client")
    async with tls.connecting_tls(protocol, context, peer_context, **options) as (connecting, end):
        act(end)
        await notes.outcome("client", connecting)
        await quiet()
        assert connecting.exception() is not None
        if end.sock.fileno() >= 0:
            if not end.over:
                end.listen()
            await end.is_over()
    notes("peer", *end.over)
    return end


async def serves(
    notes: Notes,
    tls: TlsStreams,
    act: Callable[[TlsEnd], Any],
    context: ssl.SSLContext | None = None,
    peer_context: ssl.SSLContext | None = None,
    **options: Any,
) -> None:
    """A server of which a client is `act(end)`; the client is looked at until it is gone."""
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=context or server_context(), **options) as server:
        end = await tls.dial_tls(address_of(server), peer_context)
        async with kept(end, protocol):
            act(end)
            if end.sock.fileno() >= 0:
                end.listen()
                await end.is_over()
            await quiet()
            server.close()
    notes("peer", *end.over)
