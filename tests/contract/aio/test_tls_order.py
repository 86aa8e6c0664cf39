"""The life of a connection with TLS: which of its calls come, in which order, and what comes with the last flight of the handshake."""

from __future__ import annotations

import asyncio

import pytest
from support.differential import as_on_asyncio
from support.kernel import pattern
from support.streams import address_of
from support.tls_end import TlsEnd, kept, quiet
from support.tls_peer import client_context, server_context, versions
from support.tls_records import Sealer, keylog
from support.tls_sides import OLD, SIDES, each_side


async def client_told_with_its_last_flight(notes, tls, protocol, version, after, then=lambda end: None):
    """A client of which a server sends its last flight and `after(what seals)` in one segment, and does `then(end)`.

    With TLS 1.3 that flight comes before the client's: what a server says at once after it, no library lets it say.
    """
    context = server_context(version)
    with keylog(context) as keys:
        async with tls.connecting_tls(protocol, client_context(version), context) as (connecting, end):
            connecting.add_done_callback(lambda task: notes("client", "waiter"))
            flight = await end.answer_held()
            end.went += flight
            if version is OLD:
                end.send(flight)
                flight = await end.answer_held()
            end.send(flight + after(Sealer(end, keys)))
            then(end)
            await notes.outcome("outcome", connecting)
            await quiet()
            notes("state", protocol.transport.is_closing())


# ---------------------------------------------------------------- the beginning


@versions
@as_on_asyncio
async def test_what_comes_with_the_last_flight_comes_after_connection_made(notes, tls, version):
    await client_told_with_its_last_flight(
        notes, tls, notes.plain("client"), version, lambda sealer: sealer.seal(b"early")
    )
    assert notes.names("client")[:2] == ["connection_made", "data_received"]


@versions
@as_on_asyncio
async def test_a_hundred_kilobytes_with_the_last_flight_are_all_received(notes, tls, version):
    protocol = notes.plain("client")
    await client_told_with_its_last_flight(
        notes,
        tls,
        protocol,
        version,
        lambda sealer: b"".join(sealer.seal(pattern(100_000)[at : at + 10_000]) for at in range(0, 100_000, 10_000)),
    )
    assert protocol.data == pattern(100_000)


@versions
@as_on_asyncio
async def test_an_end_with_the_last_flight_comes_after_connection_made(notes, tls, version):
    await client_told_with_its_last_flight(
        notes, tls, notes.plain("client"), version, lambda sealer: sealer.seal(b"all there is") + sealer.close_notify()
    )
    assert notes.names("client")[:2] == ["connection_made", "data_received"]


@versions
@as_on_asyncio
async def test_a_fin_with_the_last_flight_comes_after_connection_made(notes, tls, version):
    protocol = notes.plain("client")
    await client_told_with_its_last_flight(
        notes, tls, protocol, version, lambda sealer: sealer.seal(b"cut"), TlsEnd.finish
    )
    assert notes.names("client")[0] == "connection_made"


@as_on_asyncio
async def test_a_server_gets_what_its_client_says_behind_its_finished(notes, tls):
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=server_context()) as server:
        end = await tls.dial_tls(address_of(server))
        async with kept(end, protocol):
            end.send(await end.finished_held() + end.seal(b"first words") + end.seal(b", and more"))
            await protocol.received(b"first words, and more")
    assert notes.names("server")[:2] == ["connection_made", "data_received"]


@as_on_asyncio
async def test_a_server_whose_client_says_all_at_once_and_ends_hears_all(notes, tls):
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=server_context()) as server:
        end = await tls.dial_tls(address_of(server), polite=False)
        async with kept(end, protocol):
            end.send(await end.finished_held() + end.seal(b"hello") + end.goodbye_held())
            end.finish()
            await protocol.called("connection_lost")
            await end.is_over()
    notes("peer", *end.over)
    assert notes.names("server")[:2] == ["connection_made", "data_received"]
    assert notes.names("server")[-1] == "connection_lost"


@versions
@as_on_asyncio
async def test_connection_made_writes_before_it_returns(notes, tls, version):
    def write(protocol, transport):
        transport.write(b"welcome")
        transport.writelines([b", ", b"stranger"])

    ours, theirs = server_context(version), client_context(version)
    async with tls.accepted_tls(notes.plain("server", connection_made=write), ours, theirs) as (_, end):
        await end.received(b"welcome, stranger")


@pytest.mark.parametrize("verb", ["close", "abort"])
@each_side
@as_on_asyncio
async def test_a_connection_that_connection_made_ends_is_lost(notes, tls, side, verb):
    def made(protocol, transport):
        transport.write(b"last words")
        getattr(transport, verb)()

    async with SIDES[side](tls, notes.plain("us", connection_made=made)) as (protocol, end):
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over, bytes(end.data) if verb == "close" else None)
    assert notes.names("us")[0] == "connection_made"  # some versions of asyncio call eof_received after close
    assert notes.names("us")[-1] == "connection_lost"


@each_side
@as_on_asyncio
async def test_each_call_of_a_whole_life_comes_in_its_order(notes, tls, side):
    def data(protocol, data):
        protocol.transport.write(bytes(data).upper())

    async with SIDES[side](tls, notes.plain("us", data_received=data)) as (protocol, end):
        end.write(b"hello")
        await end.received(b"HELLO")
        end.say_goodbye()
        end.finish()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)
    assert notes.names("us")[:2] == ["connection_made", "data_received"]
    assert notes.names("us")[-1] == "connection_lost"


@as_on_asyncio
async def test_two_ends_of_one_loop_talk_and_part(notes, tls):
    """Both sides are transports of the loop."""

    def echo(protocol, data):
        protocol.transport.write(data)

    server, client = notes.plain("server", data_received=echo), notes.plain("client")
    async with tls.served(lambda: server, ssl=server_context()) as listening:
        transport, _ = await tls.connect_tls(client, address_of(listening))
        transport.write(pattern(300_000))
        await client.received(pattern(300_000))
        transport.close()
        await client.called("connection_lost")
        await server.called("connection_lost")
    assert notes.names("client")[-1] == "connection_lost"


@as_on_asyncio
async def test_many_connections_at_once_each_have_their_own(notes, tls):
    protocols = [notes.plain(f"server {number}") for number in range(20)]
    clients = [notes.plain(f"client {number}") for number in range(20)]
    waiting = list(protocols)
    async with tls.served(lambda: waiting.pop(0), ssl=server_context()) as listening:
        made = await asyncio.gather(*[tls.connect_tls(client, address_of(listening)) for client in clients])
        for number, (transport, _) in enumerate(made):
            transport.write(b"%d" % number)
        for number, (transport, client) in enumerate(made):
            (server,) = [each for each in protocols if number_of(each, made[number][0])] or [None]
            await server.received(b"%d" % number)
            transport.close()
            await client.called("connection_lost")
            await server.called("connection_lost")
    notes.seen = {
        who: log for who, log in notes.seen.items() if who.startswith("client")
    }  # who is accepted first is luck


def number_of(server, transport):
    """Whether these two are one connection."""
    return server.transport is not None and (
        server.transport.get_extra_info("peername") == transport.get_extra_info("sockname")
    )
