"""Reading over TLS: pauses before, in and after `connection_made`, and with data that lies decrypted or not in the TLS layer;
protocols with memory of their own; another protocol in the middle."""

from __future__ import annotations

import asyncio
import socket

import pytest
from support.differential import as_on_asyncio
from support.kernel import pattern, shrink_send_buffer
from support.streams import address_of
from support.tls_end import kept, quiet
from support.tls_peer import server_context
from support.tls_sides import SIDES, each_side

# ---------------------------------------------------------------- pauses


@each_side
@as_on_asyncio
async def test_a_pause_stops_and_a_resumption_goes_on(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        transport = protocol.transport
        notes("state", transport.is_reading())
        transport.pause_reading()
        notes("state", transport.is_reading())
        end.write(b"kept")
        await quiet()
        assert protocol.data == b""
        transport.resume_reading()
        notes("state", transport.is_reading())
        await protocol.received(b"kept")


@each_side
@as_on_asyncio
async def test_both_are_idempotent(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        for verb in ("pause_reading", "pause_reading", "resume_reading", "resume_reading", "resume_reading"):
            notes.raised("verbs", getattr(protocol.transport, verb))
        end.write(b"once")
        await protocol.received(b"once")
        for verb in ("pause_reading", "resume_reading", "pause_reading"):
            notes.raised("verbs", getattr(protocol.transport, verb))
        end.write(b", kept")
        await quiet()
        protocol.transport.resume_reading()
        await protocol.received(b"once, kept")


@as_on_asyncio
async def test_a_client_that_pauses_in_connection_made_loses_nothing(notes, tls):
    """asyncio's does not send the end of its handshake before it writes, or reads on."""
    protocol = notes.plain("us", connection_made=lambda protocol, transport: transport.pause_reading())
    async with tls.connecting_tls(protocol) as (connecting, end):
        end.listen()
        await connecting
        await quiet()
        protocol.transport.resume_reading()
        await end.is_secured()
        end.write(b"hello")
        await protocol.received(b"hello")


@as_on_asyncio
async def test_a_server_that_pauses_in_connection_made_loses_nothing(notes, tls):
    def pause(protocol, transport):
        transport.pause_reading()
        notes("state", transport.is_reading())

    async with tls.accepted_tls(notes.plain("us", connection_made=pause)) as (protocol, end):
        end.write(b"kept")
        await quiet()
        notes("us", "resumes")
        protocol.transport.resume_reading()
        await protocol.received(b"kept")
    assert notes.names("us")[:3] == ["connection_made", "resumes", "data_received"]


@as_on_asyncio
async def test_a_pause_in_connection_made_keeps_what_came_with_the_handshake(notes, tls):
    protocol = notes.plain("server", connection_made=lambda protocol, transport: transport.pause_reading())
    async with tls.served(lambda: protocol, ssl=server_context()) as server:
        end = await tls.dial_tls(address_of(server))
        async with kept(end, protocol):
            end.send(await end.finished_held() + end.seal(b"early"))
            await protocol.called("connection_made")
            await quiet()
            notes("server", "resumes")
            protocol.transport.resume_reading()
            await protocol.received(b"early")
    assert notes.names("server")[:3] == ["connection_made", "resumes", "data_received"]


@each_side
@as_on_asyncio
async def test_a_pause_in_data_received_keeps_what_lies_in_the_tls_layer(notes, tls, side):
    """Ten records in one segment; the first call pauses. asyncio reads all that lies there before it calls."""

    def pause(protocol, data):
        protocol.transport.pause_reading()

    async with SIDES[side](tls, notes.plain("us", data_received=pause)) as (protocol, end):
        end.send(b"".join(end.seal(b"record %d. " % number) for number in range(10)))
        await protocol.called("data_received")
        await quiet()
        calls = protocol.log.count("data_received")
        notes("state", protocol.transport.is_reading())
        end.send(end.seal(b"after"))
        await quiet()
        assert protocol.log.count("data_received") == calls
        everything = b"".join(b"record %d. " % number for number in range(10)) + b"after"
        while len(protocol.data) < len(everything):
            before = len(protocol.data)
            protocol.transport.resume_reading()
            await protocol.until(lambda before=before: len(protocol.data) > before)
        assert protocol.data == everything


@each_side
@as_on_asyncio
async def test_a_paused_connection_reads_a_bounded_amount(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        shrink_send_buffer(end.sock)
        protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        protocol.transport.pause_reading()
        end.write(pattern(2 << 20))
        await quiet(60)
        assert protocol.data == b""
        notes("all is taken", not end._unsent)
        protocol.transport.resume_reading()
        await protocol.received(pattern(2 << 20))
    assert notes.seen["all is taken"] == [[False]]


ENDS = {
    "close_notify": lambda end: end.say_goodbye(),
    "FIN": lambda end: end.finish(),
    "close_notify and FIN": lambda end: (end.say_goodbye(), end.finish()),
    "data, close_notify": lambda end: end.send(end.seal(b"last") + end.goodbye_held()),
    "data, FIN": lambda end: (end.write(b"last"), end.finish()),
    "data, close_notify and FIN": lambda end: (end.send(end.seal(b"last") + end.goodbye_held()), end.finish()),
}


@pytest.mark.parametrize("ending", ENDS)
@each_side
@as_on_asyncio
async def test_a_peer_that_ends_while_reading_is_paused(notes, tls, side, ending):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        protocol.transport.pause_reading()
        ENDS[ending](end)
        await quiet()
        notes("us", "resumes", protocol.transport.is_closing())
        if "connection_lost" not in protocol.log:
            protocol.transport.resume_reading()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)


@pytest.mark.parametrize("verb", ["close", "abort"])
@each_side
@as_on_asyncio
async def test_a_paused_connection_is_closed_and_aborted(notes, tls, side, verb):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        protocol.transport.pause_reading()
        end.write(b"never read")
        await quiet()
        getattr(protocol.transport, verb)()
        await protocol.called("connection_lost")
        await end.is_over()


@each_side
@as_on_asyncio
async def test_a_pause_and_resumption_in_one_step(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        end.write(b"all")
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        await protocol.received(b"all")


@each_side
@as_on_asyncio
async def test_a_resumption_and_a_pause_in_one_step(notes, tls, side):
    """asyncio looks at what lies there in a callback of its own, which finds reading paused again."""
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        protocol.transport.pause_reading()
        end.write(b"kept")
        await quiet()
        protocol.transport.resume_reading()
        protocol.transport.pause_reading()
        await quiet()
        notes("us", "resumes")
        protocol.transport.resume_reading()
        await protocol.received(b"kept")


@each_side
@as_on_asyncio
async def test_data_is_not_received_inside_resume_reading(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        protocol.transport.pause_reading()
        end.write(b"kept")
        await quiet()
        protocol.transport.resume_reading()
        assert protocol.data == b""
        await protocol.received(b"kept")


# ---------------------------------------------------------------- protocols with memory of their own


@each_side
@as_on_asyncio
async def test_a_buffered_protocol_is_read_into_its_memory(notes, tls, side):
    async with SIDES[side](tls, notes.buffered("us")) as (protocol, end):
        end.write(b"hello")
        await protocol.received(b"hello")
        end.write(pattern(100_000))
        await protocol.received(b"hello" + pattern(100_000))
        protocol.transport.write(b"answer")
        await end.received(b"answer")
        end.say_goodbye()
        end.finish()
        await protocol.called("connection_lost")


@pytest.mark.parametrize("size", [1, 7, 16384, 16385, 1 << 20])
@as_on_asyncio
async def test_memory_of_each_size_is_filled(notes, tls, size):
    def give(protocol, sizehint):
        protocol.memory = bytearray(size)
        return protocol.memory

    count = 300 if size == 1 else 60_000
    async with tls.accepted_tls(notes.buffered("us", get_buffer=give)) as (protocol, end):
        end.write(pattern(count))
        await protocol.received(pattern(count))


@as_on_asyncio
async def test_a_buffered_protocol_pauses_with_data_in_the_tls_layer(notes, tls):
    def pause(protocol, nbytes):
        protocol.transport.pause_reading()
        asyncio.get_running_loop().call_later(0.001, protocol.transport.resume_reading)

    async with tls.accepted_tls(notes.buffered("us", buffer_updated=pause)) as (protocol, end):
        end.write(pattern(60_000))
        await protocol.received(pattern(60_000))


@pytest.mark.parametrize("verb", ["close", "abort"])
@as_on_asyncio
async def test_a_buffered_protocol_that_ends_its_connection(notes, tls, verb):
    def leave(protocol, nbytes):
        getattr(protocol.transport, verb)()

    async with tls.accepted_tls(notes.buffered("us", buffer_updated=leave)) as (protocol, end):
        end.write(b"one")
        await protocol.called("connection_lost")
        await quiet()
    assert protocol.data == b"one"


# ---------------------------------------------------------------- another protocol


@pytest.mark.parametrize("kinds", ["plain plain", "plain buffered", "buffered plain", "buffered buffered"])
@each_side
@as_on_asyncio
async def test_set_protocol_changes_whom_the_next_call_reaches(notes, tls, side, kinds):
    first, second = (getattr(notes, kind)(name) for kind, name in zip(kinds.split(), ("first", "second"), strict=True))
    async with SIDES[side](tls, first) as (protocol, end):
        end.write(b"to the first")
        await first.received(b"to the first")
        second.transport = protocol.transport
        protocol.transport.set_protocol(second)
        end.write(b"to the second")
        await second.received(b"to the second")
        end.say_goodbye()
        end.finish()
        await second.called("connection_lost")
        first.log.append("connection_lost")  # it is not called: it is not the protocol any more
    assert "connection_lost" not in notes.names("first")
    assert notes.names("second")[-1] == "connection_lost"


@each_side
@as_on_asyncio
async def test_set_protocol_in_data_received_gives_the_rest_to_the_other(notes, tls, side):
    second = notes.plain("second")

    def change(protocol, data):
        second.transport = protocol.transport
        protocol.transport.set_protocol(second)

    async with SIDES[side](tls, notes.plain("first", data_received=change)) as (first, end):
        end.write(b"one")
        await first.called("data_received")
        end.write(b"two")
        await second.received(b"two")
        second.transport.abort()
        await second.called("connection_lost")
        first.log.append("connection_lost")
    assert bytes(first.data) == b"one"


@as_on_asyncio
async def test_set_protocol_while_reading_is_paused(notes, tls):
    """As of a server that hands its connections on."""
    second = notes.buffered("second")

    def pause(protocol, transport):
        transport.pause_reading()

    async with tls.accepted_tls(notes.plain("first", connection_made=pause)) as (first, end):
        end.write(b"for the second")
        await quiet()
        second.transport = first.transport
        first.transport.set_protocol(second)
        first.transport.resume_reading()
        await second.received(b"for the second")
        second.transport.abort()
        await second.called("connection_lost")
        first.log.append("connection_lost")
