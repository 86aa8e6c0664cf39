"""[A9] `pause_reading`, `resume_reading`, and another protocol in the middle of the bytes."""

from __future__ import annotations

import asyncio
import sys

import pytest
from support.coroutines import read_exactly, turns
from support.protocols import Buffered, Plain, on_ours, on_ours_and_asyncio
from support.streams import arrives, ends, send

# before Python 3.11 asyncio forgets that reading was paused in connection_made
on_ours_and_later_asyncio = on_ours_and_asyncio if sys.version_info >= (3, 11) else on_ours

KINDS = pytest.mark.parametrize("kind", [Plain, Buffered])


def pause(protocol, transport):
    transport.pause_reading()


@KINDS
@on_ours_and_asyncio
async def test_pausing_and_resuming_are_idempotent(streams, kind):
    async with streams.accepted(kind()) as (accepted, peer):
        transport = accepted.transport
        for _ in range(3):
            transport.pause_reading()
            assert not transport.is_reading()
        await send(peer, b"while paused")
        await turns()
        assert accepted.data == b""
        for _ in range(3):
            transport.resume_reading()
            assert transport.is_reading()
        await accepted.received(b"while paused")


@KINDS
@on_ours_and_asyncio
async def test_resuming_what_was_not_paused_is_nothing(streams, kind):
    async with streams.accepted(kind()) as (accepted, peer):
        accepted.transport.resume_reading()
        await arrives(peer, accepted)


@KINDS
@on_ours_and_later_asyncio
async def test_pausing_in_connection_made_of_a_server_loses_nothing(streams, kind):
    async with streams.accepted(kind(connection_made=pause)) as (accepted, peer):
        assert not accepted.transport.is_reading()
        await send(peer, b"all of it")
        await turns()
        assert accepted.data == b""
        accepted.transport.resume_reading()
        await accepted.received(b"all of it")


@KINDS
@on_ours_and_later_asyncio
async def test_pausing_in_connection_made_of_a_client_loses_nothing(streams, kind):
    greet = {"connection_made": lambda protocol, transport: transport.write(b"all of it")}
    async with streams.pair(Plain(**greet), kind(connection_made=pause)) as (_, connected):
        await turns()
        assert connected.data == b""
        assert not connected.transport.is_reading()
        connected.transport.resume_reading()
        await connected.received(b"all of it")


@KINDS
@on_ours_and_asyncio
async def test_pausing_for_each_chunk_loses_nothing(streams, kind):
    def paused(protocol, *args):
        protocol.transport.pause_reading()
        asyncio.get_running_loop().call_soon(protocol.transport.resume_reading)

    sent = bytes(range(256)) * 4096
    async with streams.accepted(kind(data_received=paused, buffer_updated=paused)) as (accepted, peer):
        sending = asyncio.ensure_future(send(peer, sent))
        await accepted.received(sent)
        await sending


@KINDS
@on_ours_and_asyncio
async def test_a_peers_end_while_reading_is_paused_comes_after_the_bytes(streams, kind):
    async with streams.accepted(kind()) as (accepted, peer):
        accepted.transport.pause_reading()
        await send(peer, b"last")
        peer.shutdown(1)
        await turns()
        assert accepted.log == ["connection_made"]
        accepted.transport.resume_reading()
        await accepted.called("connection_lost")
        assert accepted.data == b"last"
        received = "data_received" if kind is Plain else "buffer_updated"
        assert [name for name in accepted.log if name != "get_buffer"][1:] == [
            received,
            "eof_received",
            "connection_lost",
        ]


@on_ours_and_asyncio
async def test_a_closed_transport_is_neither_read_nor_paused(streams):
    async with streams.accepted(Plain()) as (accepted, peer):
        accepted.transport.close()
        assert not accepted.transport.is_reading()
        accepted.transport.pause_reading()
        accepted.transport.resume_reading()
        assert not accepted.transport.is_reading()
        await accepted.called("connection_lost")
        accepted.transport.pause_reading()
        accepted.transport.resume_reading()
        assert not accepted.transport.is_reading()
        assert await ends(peer) == b""


@on_ours_and_asyncio
async def test_a_paused_connection_can_be_written_to_and_closed(streams):
    async with streams.accepted(Plain(connection_made=pause)) as (accepted, peer):
        accepted.transport.write(b"hello")
        assert await read_exactly(peer, 5) == b"hello"
        accepted.transport.close()
        await accepted.called("connection_lost")
        assert accepted.error is None
        assert await ends(peer) == b""


# ---------------------------------------------------------------- another protocol


def kinds_in_turn(first, second):
    return pytest.mark.parametrize(
        ("first", "second"), [(first, second), (second, first), (first, first), (second, second)]
    )


@kinds_in_turn(Plain, Buffered)
@on_ours_and_asyncio
async def test_a_protocol_that_is_set_gets_what_comes_from_then_on(streams, first, second):
    async with streams.accepted(first()) as (accepted, peer):
        transport = accepted.transport
        await send(peer, b"one")
        await accepted.received(b"one")
        other = second()
        other.transport = transport
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        await send(peer, b"two")
        await other.received(b"two")
        assert accepted.data == b"one"
        transport.abort()
        await other.called("connection_lost")
        accepted.log.append("connection_lost")  # for the end of the connection, which this one does not learn


@kinds_in_turn(Plain, Buffered)
@on_ours_and_asyncio
async def test_a_protocol_that_is_set_inside_a_call_gets_the_rest(streams, first, second):
    """Within a stream of bytes: nothing is lost, nothing comes twice."""

    def switch(protocol, *args):
        if protocol.transport.get_protocol() is protocol:
            protocol.transport.set_protocol(other)

    sent = bytes(range(256)) * 1024
    other = second()
    async with streams.accepted(first(data_received=switch, buffer_updated=switch)) as (accepted, peer):
        other.transport = accepted.transport
        sending = asyncio.ensure_future(send(peer, sent))
        await other.until(lambda: len(accepted.data) + len(other.data) == len(sent))
        await sending
        assert bytes(accepted.data + other.data) == sent
        assert accepted.data
        accepted.transport.abort()
        await other.called("connection_lost")
        accepted.log.append("connection_lost")


@on_ours_and_asyncio
async def test_protocols_may_change_with_each_chunk(streams):
    protocols = [Plain(), Buffered()] * 2

    def switch(protocol, *args):
        protocol.transport.set_protocol(protocols[(protocols.index(protocol) + 1) % len(protocols)])

    sent = [bytes([number]) * 100 for number in range(40)]
    async with streams.accepted(protocols[0]) as (accepted, peer):
        for protocol in protocols:
            protocol.transport = accepted.transport
            protocol.answers = {"data_received": switch, "buffer_updated": switch}
        for chunk in sent:
            current = accepted.transport.get_protocol()
            await send(peer, chunk)
            await current.until(lambda current=current, chunk=chunk: current.data.endswith(chunk))
        assert sum(len(protocol.data) for protocol in {id(each): each for each in protocols}.values()) == 4000
        last = accepted.transport.get_protocol()
        accepted.transport.abort()
        await last.called("connection_lost")
        accepted.log.append("connection_lost")


@on_ours_and_asyncio
async def test_a_protocol_that_was_set_gets_the_end_of_the_connection(streams):
    async with streams.pair(Plain(), Plain()) as (_, connected):
        other = Plain()
        connected.transport.set_protocol(other)
        connected.transport.close()
        await other.called("connection_lost")
        assert connected.log == ["connection_made"]
        assert other.log == ["connection_lost"]
        connected.log.append("connection_lost")
