"""[A4] From `connection_made` to `connection_lost`: the order of calls, the peer's end, and what `close` and `abort` do with what is pending."""

from __future__ import annotations

import asyncio

import pytest
from support.asyncio_loops import on_loop
from support.coroutines import done, turns
from support.kernel import pattern
from support.protocols import Made, Plain, on_ours, on_ours_and_asyncio
from support.streams import (
    BIG,
    ENDINGS,
    accepted,
    connect,
    connected,
    dialled,
    either_side,
    no_tls_yet,
    paused,
    serve,
    slow,
)

pytestmark = [no_tls_yet, pytest.mark.loops_that_stay]

HUGE = 64 << 20


# ---------------------------------------------------------------- the beginning


@on_ours_and_asyncio
async def test_connection_made_comes_before_data_that_had_arrived_and_before_the_waiter(transport):
    order = []
    server = transport.raw_server()
    peer = server.accept()
    peer.send(b"early")
    peer.shutdown()
    protocol = Plain(
        connection_made=lambda protocol, transport: order.append("made"),
        data_received=lambda protocol, data: order.append("data"),
        eof_received=lambda protocol: order.append("eof"),
    )
    await connect(transport, lambda: protocol, server)
    order.append("awaited")
    await protocol.called("connection_lost")
    assert order[0] == "made"
    assert order.index("made") < order.index("awaited")
    assert order.index("data") < order.index("eof")
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


@on_ours_and_asyncio
async def test_connection_made_comes_once_and_first_for_each_that_is_accepted(transport):
    made = Made()
    server = await serve(transport, made)
    peers = [dialled(transport, server) for _ in range(20)]
    for peer in peers:
        await done(peer.send(b"hello"))
    await made.until(lambda: len(made.all) == 20 and all(len(each.data) == 5 for each in made.all))
    for peer in peers:
        peer.close()
    for protocol in made.all:
        await protocol.called("connection_lost")
        assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert len(made.all) == 20
    server.close()


@on_ours_and_asyncio
@either_side
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_protocol_that_ends_its_connection_in_connection_made_gets_no_data(transport, side, ending):
    protocol, peer = await side(transport, Plain(connection_made=ENDINGS[ending]))
    peer.send(b"for nobody").ignore()
    await protocol.called("connection_lost")
    await turns(5)
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert protocol.error is None


@on_ours_and_asyncio
async def test_what_is_written_in_connection_made_is_sent_before_it_closes_there(transport):
    def made(protocol, transport):
        protocol.transport.write(b"greeting")
        protocol.transport.close()

    protocol, peer = await accepted(transport, Plain(connection_made=made))
    assert await done(peer.recv_until_eof()) == b"greeting"
    await protocol.called("connection_lost")


# ---------------------------------------------------------------- the peer's end


@on_ours_and_asyncio
@either_side
@pytest.mark.parametrize("answer", [None, False, 0, ""])
async def test_the_peers_end_closes_unless_eof_received_says_otherwise(transport, side, answer):
    protocol, peer = await side(transport, Plain(eof_received=lambda protocol: answer))
    peer.send(b"last words")
    peer.shutdown()
    await protocol.called("connection_lost")
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.error is None
    assert await done(peer.recv_until_eof()) == b""


@on_ours_and_asyncio
@either_side
@pytest.mark.parametrize("answer", [True, 1])
async def test_a_connection_that_eof_received_keeps_open_can_be_written_to(transport, side, answer):
    protocol, peer = await side(transport, Plain(eof_received=lambda protocol: answer))
    peer.shutdown()
    await protocol.called("eof_received")
    await turns()
    assert not protocol.transport.is_closing()
    for _ in range(3):
        protocol.transport.write(b"answer ")
        await turns(2)
    assert await done(peer.recv_exactly(21)) == 3 * b"answer "
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == b""
    await protocol.called("connection_lost")
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


@on_ours_and_asyncio
async def test_what_is_written_in_eof_received_is_sent(transport):
    protocol, peer = await slow(transport, Plain(eof_received=lambda protocol: protocol.transport.write(pattern(BIG))))
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.called("connection_lost")


@on_ours_and_asyncio
@pytest.mark.parametrize("keep", [False, True])
async def test_a_peer_that_ends_while_bytes_are_pending_gets_them(transport, keep):
    protocol, peer = await paused(transport, Plain(eof_received=lambda protocol: keep))
    peer.shutdown()
    await protocol.called("eof_received")
    assert protocol.transport.is_closing() is not keep
    if keep:
        protocol.transport.write(b"more")
        protocol.transport.close()
    assert await done(peer.recv_until_eof()) == pattern(BIG) + (b"more" if keep else b"")
    await protocol.called("connection_lost")
    assert protocol.error is None


@on_ours_and_asyncio
async def test_write_eof_ends_our_side_and_reading_goes_on(transport):
    protocol, peer = await connected(transport)
    assert protocol.transport.can_write_eof() is True
    protocol.transport.write(b"request")
    protocol.transport.write_eof()
    protocol.transport.write_eof()
    assert await done(peer.recv_until_eof()) == b"request"
    peer.send(b"response")
    await protocol.received(b"response")
    assert not protocol.transport.is_closing()
    peer.shutdown()
    await protocol.called("connection_lost")
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


@on_ours_and_asyncio
async def test_write_eof_comes_after_what_is_pending(transport):
    protocol, peer = await paused(transport)
    protocol.transport.write_eof()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    peer.send(b"got it")
    await protocol.received(b"got it")
    protocol.transport.close()
    await protocol.called("connection_lost")


@on_ours_and_asyncio
async def test_both_sides_may_end_their_half_and_the_connection_is_open_until_it_is_closed(transport):
    protocol, peer = await connected(transport, Plain(eof_received=lambda protocol: True))
    protocol.transport.write_eof()
    peer.shutdown()
    await protocol.called("eof_received")
    await turns()
    assert "connection_lost" not in protocol.calls
    protocol.transport.close()
    await protocol.called("connection_lost")
    assert protocol.error is None


# ---------------------------------------------------------------- close and abort


@on_loop("native", timeout=40)  # asyncio moves its whole buffer for each piece that it sends, before Python 3.12
async def test_close_sends_64_mib_to_a_reader_that_is_slow(transport):
    protocol, peer = await connected(transport)
    protocol.transport.write(pattern(HUGE))
    protocol.transport.close()
    protocol.transport.close()
    received = bytearray()
    while len(received) < HUGE:
        received += await done(peer.recv(1 << 20))
        await asyncio.sleep(0)
    assert received == pattern(HUGE)
    assert await done(peer.recv_until_eof()) == b""
    await protocol.called("connection_lost")
    assert protocol.error is None
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_close_sends_what_is_pending_and_then_ends(transport):
    protocol, peer = await paused(transport)
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.called("connection_lost")
    assert protocol.error is None
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_abort_drops_what_is_pending(transport):
    protocol, peer = await paused(transport)
    protocol.transport.abort()
    received = await done(peer.recv_until_eof())
    assert len(received) < BIG
    assert received == pattern(BIG)[: len(received)]
    await protocol.called("connection_lost")
    assert protocol.error is None
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_abort_cuts_a_close_short_that_waits(transport):
    protocol, peer = await paused(transport)
    protocol.transport.close()
    await turns(5)
    protocol.transport.abort()
    await protocol.called("connection_lost")
    assert len(await done(peer.recv_until_eof())) < BIG


@on_ours_and_asyncio
@either_side
@pytest.mark.parametrize("ending", ENDINGS)
async def test_connection_lost_is_called_by_the_loop_once_and_last(transport, side, ending):
    protocol, peer = await side(transport)
    peer.send(b"on its way").ignore()
    called_before = len(protocol.calls)
    ENDINGS[ending](protocol)
    assert len(protocol.calls) == called_before
    for again in (*ENDINGS.values(), *ENDINGS.values()):
        again(protocol)
    await protocol.called("connection_lost")
    await turns()
    assert protocol.calls.count("connection_lost") == 1
    assert protocol.calls[-1] == "connection_lost"
    assert "eof_received" not in protocol.calls
    assert protocol.error is None


@on_ours_and_asyncio
@pytest.mark.parametrize("ending", ENDINGS)
async def test_connection_lost_comes_before_what_is_scheduled_after_the_call(transport, ending):
    order = []
    protocol, _ = await connected(transport, Plain(connection_lost=lambda protocol, error: order.append("lost")))
    loop = asyncio.get_running_loop()
    loop.call_soon(order.append, "before")
    ENDINGS[ending](protocol)
    loop.call_soon(order.append, "after")
    await protocol.called("connection_lost")
    await turns(2)
    assert order == ["before", "lost", "after"]


@on_ours_and_asyncio
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_protocol_that_ends_its_connection_in_data_received_gets_no_more(transport, ending):
    protocol, peer = await connected(transport, Plain(data_received=ENDINGS[ending]))
    peer.send(pattern(1 << 20)).ignore()
    await protocol.called("connection_lost")
    first = len(protocol.data)
    await turns(5)
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
    assert len(protocol.data) == first


@on_ours
async def test_a_deadline_that_passes_under_a_protocol_that_writes_in_each_turn_loses_the_connection_once(transport):
    def write_on(protocol, *_):
        protocol.transport.write(b"x")
        if not protocol.transport.is_closing():
            asyncio.get_running_loop().call_soon(write_on, protocol)

    protocol = Plain(connection_made=write_on)
    server = await serve(transport, lambda: protocol, read_timeout=0.05)
    peer = dialled(transport, server)
    await done(peer.connected)
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, TimeoutError)
    assert protocol.transport.get_extra_info("socket").fileno() == -1
    await turns()
    assert protocol.calls == ["connection_made", "connection_lost"]
    server.close()
