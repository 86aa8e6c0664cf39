"""[A2] [A4] A peer that resets: what the protocol is told, and what a write does that cannot be sent any more."""

from __future__ import annotations

import errno
import itertools
import os

import pytest
from support.coroutines import done, seen, turns
from support.kernel import pattern, was_reset
from support.protocols import Plain, on_ours_and_asyncio
from support.streams import BIG, ENDINGS, connected, either_side, no_tls_yet, open_writer, paused, reset_unseen, slow

pytestmark = no_tls_yet


# ---------------------------------------------------------------- what the protocol is told


@on_ours_and_asyncio
@either_side
async def test_a_reset_is_told_with_its_error_and_without_eof_received(tcp, side):
    protocol, peer = await side(tcp)
    peer.send(b"before")
    await protocol.received(b"before")
    peer.reset()
    await protocol.called("connection_lost")
    await turns()
    assert isinstance(protocol.error, ConnectionResetError)
    assert protocol.error.args == (errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


@on_ours_and_asyncio
async def test_a_reset_ends_a_connection_whose_bytes_are_pending(tcp):
    protocol, peer = await paused(tcp)
    peer.reset()
    await protocol.called("connection_lost")
    await turns()
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]
    assert protocol.transport.get_write_buffer_size() == 0


@on_ours_and_asyncio
async def test_a_reset_ends_a_connection_that_is_paused_and_has_bytes_pending(tcp):
    protocol, peer = await slow(tcp)
    protocol.transport.pause_reading()
    protocol.transport.write(pattern(BIG))
    peer.reset()
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_a_reset_ends_a_close_that_waits_for_pending_bytes(tcp):
    protocol, peer = await paused(tcp)
    protocol.transport.close()
    peer.reset()
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_a_reset_of_a_half_closed_connection_is_found_by_the_next_write(tcp):
    protocol, peer = await connected(tcp, Plain(eof_received=lambda protocol: True))
    found = protocol.transport.get_extra_info("socket")
    peer.shutdown()
    await protocol.called("eof_received")
    peer.reset()
    await seen(lambda: was_reset(found), "the reset")
    protocol.transport.write(b"into the void")
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


# ---------------------------------------------------------------- writes that fail


async def deserted(transport):
    """A protocol whose peer has gone; its connection is not read."""
    protocol, peer = await connected(transport)
    if transport.can_reset:
        await reset_unseen(protocol, peer)
    else:
        protocol.transport.pause_reading()
        await done(peer.close())
    return protocol


@on_ours_and_asyncio
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_write_that_fails_is_what_the_connection_is_lost_by_also_if_it_is_ended_at_once(transport, ending):
    protocol = await deserted(transport)
    protocol.transport.write(b"for nobody")
    ENDINGS[ending](protocol)
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))


@on_ours_and_asyncio
async def test_after_a_write_that_has_failed_write_eof_does_nothing(transport):
    protocol = await deserted(transport)
    protocol.transport.write(b"for nobody")
    protocol.transport.write_eof()
    protocol.transport.write(b"dropped")
    assert protocol.transport.is_closing()
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))


@on_ours_and_asyncio
@pytest.mark.parametrize("size", [1, 100_000])
async def test_writes_to_a_peer_that_has_reset_never_raise(tcp, size, caplog):
    protocol, peer = await connected(tcp)
    await reset_unseen(protocol, peer)
    for _ in itertools.repeat(None, 100):
        protocol.transport.write(bytes(size))
    await protocol.called("connection_lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls[-1] == "connection_lost"


@on_ours_and_asyncio
async def test_a_writer_that_never_yields_learns_of_the_reset_in_write(tcp):
    protocol, peer = await connected(tcp)
    await reset_unseen(protocol, peer)
    for _ in range(1000):
        protocol.transport.write(bytes(1000))
        if protocol.transport.is_closing():
            break
    assert protocol.transport.is_closing()
    assert "connection_lost" not in protocol.calls
    await protocol.called("connection_lost")
    await turns()
    assert protocol.calls.count("connection_lost") == 1


@on_ours_and_asyncio
async def test_a_stream_whose_peer_has_reset_raises_in_drain_though_it_never_yields(tcp):
    writer, peer = await open_writer(tcp)
    await reset_unseen(writer, peer)

    async def write_on():
        for _ in range(1000):
            writer.write(bytes(1000))
            await writer.drain()

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await write_on()
    writer.close()


@on_ours_and_asyncio
async def test_a_write_that_fails_does_not_pause(tcp):
    protocol, peer = await slow(tcp)
    await reset_unseen(protocol, peer)
    protocol.transport.write(bytes(BIG))
    protocol.transport.write(bytes(BIG))
    await protocol.called("connection_lost")
    assert protocol.calls == ["connection_made", "connection_lost"]
