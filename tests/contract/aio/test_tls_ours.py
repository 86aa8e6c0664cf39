"""[A10] What is ours of a transport with TLS: the engine, the descriptor, the records, and who waits for whom."""

from __future__ import annotations

import asyncio

import pytest
from support.kernel import pattern
from support.protocols import Plain, on_ours
from support.streams import address_of
from support.tls_end import quiet
from support.tls_peer import server_context
from support.tls_records import records
from support.tls_sides import both_upgraded

import pybuntcp
from pybuntcp import _aio


def record_sizes(data):
    return [len(content) for _, content in records(bytes(data))]


@on_ours
async def test_a_connection_with_tls_is_one_socket_on_the_engine(tls):
    before = pybuntcp.stats()
    async with tls.accepted_tls(Plain()) as (protocol, _):
        transport = protocol.transport
        assert isinstance(transport, _aio.SSLTransport)
        assert isinstance(transport, asyncio.Transport)
        assert pybuntcp.stats()["open_sockets"] == before["open_sockets"] + 1
        assert pybuntcp.stats()["handshakes"] == before["handshakes"] + 1
        assert not hasattr(transport, "_ssl_protocol")


@pytest.mark.parametrize("lines", [False, True], ids=["write", "writelines"])
@on_ours
async def test_small_writes_of_one_callback_are_one_record(tls, lines):
    async with tls.accepted_tls(Plain()) as (protocol, end):
        await quiet()
        came = len(end.came)
        if lines:
            protocol.transport.writelines([b"%2d" % number for number in range(50)])
        else:
            for number in range(50):
                protocol.transport.write(b"%2d" % number)
        await end.until(lambda: len(end.data) == 100)
        assert len(record_sizes(end.came[came:])) == 1


@on_ours
async def test_a_large_write_is_sealed_in_full_records(tls):
    async with tls.accepted_tls(Plain()) as (protocol, end):
        await quiet()
        came = len(end.came)
        protocol.transport.write(bytes(1 << 20))
        await end.until(lambda: len(end.data) == 1 << 20)
        sizes = record_sizes(end.came[came:])
        assert len(sizes) == 64
        assert min(sizes) > 16384


@on_ours
async def test_a_pause_inside_data_received_holds_for_what_is_decrypted_and_for_the_end(tls):
    """asyncio's TLS calls for all of it, whatever the protocol says."""
    paused = Plain(data_received=lambda protocol, data: protocol.transport.pause_reading())
    async with tls.accepted_tls(paused) as (protocol, end):
        end.send(end.seal(pattern(100_000)) + end.goodbye_held())
        calls = 0
        while len(protocol.data) < 100_000:
            calls += 1
            await protocol.called("data_received", calls)
            await quiet()
            assert protocol.log.count("data_received") == calls
            assert "eof_received" not in protocol.log
            protocol.transport.resume_reading()
        assert calls > 1
        await protocol.called("connection_lost")
        assert protocol.data == pattern(100_000)


@on_ours
async def test_start_tls_keeps_the_descriptor_and_opens_none(streams):
    async with streams.pair(Plain(), Plain()) as (accepted, connected):
        before = [each.transport.get_extra_info("socket").fileno() for each in (accepted, connected)]
        opened = pybuntcp.stats()["open_sockets"]
        ours, theirs = await both_upgraded(accepted, connected)
        assert [each.get_extra_info("socket").fileno() for each in (ours, theirs)] == before
        assert pybuntcp.stats()["open_sockets"] == opened
        ours.abort()
        theirs.abort()
        await accepted.called("connection_lost")
        await connected.called("connection_lost")


@pytest.mark.parametrize("verb", ["close", "abort"])
@on_ours
async def test_the_old_transport_writes_nothing_and_can_still_end_the_connection(streams, verb):
    async with streams.pair(Plain(), Plain()) as (accepted, connected):
        old = connected.transport
        ours, _ = await both_upgraded(accepted, connected)
        old.write(b"dropped")
        old.pause_reading()
        ours.write(b"waits")
        await quiet()
        assert (connected.data, accepted.data) == (b"", b"")
        old.resume_reading()
        await connected.received(b"waits")
        getattr(old, verb)()
        await accepted.called("connection_lost")
        await connected.called("connection_lost")


@on_ours
async def test_an_open_connection_is_served_while_others_have_their_handshake(tls):
    """A handshake is a step of a turn, and bytes of an open connection come first: one echo waits for one step at most."""
    made = []

    def accept():
        made.append(Plain())
        return made[-1]

    async with tls.served(accept, ssl=server_context()) as server:
        first = (await tls.dial_tls(address_of(server))).handshake()
        await first.until(lambda: first.secured)
        await asyncio.wait_for(_made(made, 1), 10)
        begun, done = pybuntcp.stats()["handshakes"], []
        made[0].answers["data_received"] = lambda *_: done.append(pybuntcp.stats()["handshakes"])
        others = [(await tls.dial_tls(address_of(server))) for _ in range(20)]
        for other in others:
            other.handshake()
        first.write(b"ask")
        await made[0].received(b"ask")
        assert done[0] - begun < 20
        for other in others:
            await other.until(lambda end=other: end.secured)
        await asyncio.wait_for(_made(made, 21), 10)
        for protocol in made:
            await protocol.called("connection_made")
            protocol.transport.abort()
            await protocol.called("connection_lost")
        for end in (first, *others):
            end.sock.close()


async def _made(made, count):
    while len(made) < count:
        await asyncio.sleep(0)
