"""[A5] What a protocol does in `pause_writing` and `resume_writing`, and what waits for them: `drain` of asyncio's streams."""

from __future__ import annotations

import asyncio

import pytest
from support.coroutines import done, loop_reports, turns
from support.handlers import Boom
from support.kernel import pattern
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import BIG, ENDINGS, abort, accepted, no_tls_yet, open_writer, paused, small_buffer

pytestmark = no_tls_yet


# ---------------------------------------------------------------- what a protocol does in them


@on_ours_and_asyncio
@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_write_in_pause_writing_does_not_call_it_again(transport, size):
    protocol, peer = await paused(
        transport, Plain(pause_writing=lambda protocol: protocol.transport.write(bytes(size)))
    )
    await done(peer.recv_exactly(BIG + size))
    await protocol.called("resume_writing")
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


@on_ours_and_asyncio
async def test_a_write_in_resume_writing_may_pause_again_and_does_not_recurse(transport):
    depth, deepest, left = 0, 0, 3

    def resume(protocol):
        nonlocal depth, deepest, left
        depth += 1
        deepest = max(depth, deepest)
        if left:
            left -= 1
            protocol.transport.write(pattern(BIG))
        depth -= 1

    protocol, peer = await paused(transport, Plain(resume_writing=resume))
    assert await done(peer.recv_exactly(4 * BIG)) == 4 * pattern(BIG)
    await protocol.until(lambda: protocol.calls.count("resume_writing") == 4)
    assert protocol.calls == ["connection_made", *4 * ["pause_writing", "resume_writing"]]
    assert deepest == 1


@on_ours_and_asyncio
async def test_a_protocol_that_closes_in_pause_writing_is_resumed_and_lost_and_its_bytes_arrive(transport):
    protocol, peer = await paused(transport, Plain(pause_writing=lambda protocol: protocol.transport.close()))
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.called("connection_lost")
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]
    assert protocol.error is None


@on_ours_and_asyncio
async def test_a_protocol_that_aborts_in_pause_writing_is_only_lost(transport):
    protocol, peer = await paused(transport, Plain(pause_writing=lambda protocol: protocol.transport.abort()))
    assert protocol.calls == ["connection_made", "pause_writing"]
    assert len(await done(peer.recv_until_eof())) < BIG
    await protocol.called("connection_lost")
    await turns()
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@on_ours  # asyncio calls `connection_lost` once, and then fails to call it again
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_protocol_that_ends_in_resume_writing_is_only_lost(transport, ending):
    protocol, peer = await paused(transport, Plain(resume_writing=ENDINGS[ending]))
    if ending == "close":
        assert await done(peer.recv_until_eof()) == pattern(BIG)
    else:
        await done(peer.recv_until_eof())
    await protocol.called("connection_lost")
    await turns()
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]
    assert protocol.error is None


@on_ours_and_asyncio
async def test_write_eof_in_resume_writing_comes_after_what_waits(transport):
    protocol, peer = await paused(transport, Plain(resume_writing=lambda protocol: protocol.transport.write_eof()))
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await abort(protocol)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


@on_ours_and_asyncio
@pytest.mark.parametrize("name", ["pause", "resume"])
async def test_an_exception_there_is_reported_and_the_connection_goes_on(transport, name):
    def fail(protocol):
        raise Boom(name)

    protocol = Plain(**{f"{name}_writing": fail})
    with loop_reports() as reports:
        _, peer = await paused(transport, protocol)
        assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
        await protocol.called("resume_writing")
        await turns()
    assert [report["message"] for report in reports] == [f"protocol.{name}_writing() failed"]
    assert isinstance(reports[0]["exception"], Boom)
    assert reports[0]["transport"] is protocol.transport
    assert reports[0]["protocol"] is protocol
    protocol.transport.write(b"goes on")
    assert await done(peer.recv_exactly(7)) == b"goes on"


@on_ours_and_asyncio
async def test_a_server_of_streams_echoes_a_peer_that_reads_late(transport):
    def echo(protocol, data):
        protocol.transport.write(bytes(protocol.data))
        protocol.data.clear()

    def pause(protocol):
        protocol.transport.pause_reading()

    def resume(protocol):
        protocol.transport.resume_reading()

    protocol, peer = await accepted(
        transport, Plain(data_received=echo, pause_writing=pause, resume_writing=resume), rcvbuf=32768
    )
    small_buffer(protocol.transport)
    sending = peer.sock.dup()

    def send():
        with sending:
            sending.sendall(pattern(BIG))

    sent = asyncio.get_running_loop().run_in_executor(None, send)
    await protocol.called("pause_writing")
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await sent
    peer.close()
    await protocol.called("connection_lost")
    assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing")


# ---------------------------------------------------------------- drain


async def slow_writer(transport):
    """A stream's writer, with small buffers in the kernel, and the peer."""
    writer, peer = await open_writer(transport, rcvbuf=32768)
    small_buffer(writer)
    return writer, peer


@on_ours_and_asyncio
async def test_drain_waits_until_the_low_mark_is_reached(transport):
    writer, peer = await slow_writer(transport)
    writer.write(pattern(BIG))
    draining = asyncio.ensure_future(writer.drain())
    await turns(5)
    assert not draining.done()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await draining
    assert writer.transport.get_write_buffer_size() <= 16384
    writer.close()
    await writer.wait_closed()


@on_ours_and_asyncio
async def test_several_tasks_may_wait_in_drain(transport):
    writer, peer = await slow_writer(transport)
    writer.write(pattern(BIG))
    waiting = [asyncio.ensure_future(writer.drain()) for _ in range(5)]
    await turns(5)
    await done(peer.recv_exactly(BIG))
    await asyncio.gather(*waiting)
    writer.close()
    await writer.wait_closed()


@on_ours_and_asyncio
async def test_drain_raises_what_ended_the_connection_while_it_waited(tcp):
    writer, peer = await slow_writer(tcp)
    writer.write(pattern(BIG))
    draining = asyncio.ensure_future(writer.drain())
    await turns(5)
    peer.reset()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await draining
    writer.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await writer.wait_closed()


@on_ours_and_asyncio
async def test_a_stream_copies_to_a_slow_reader_without_piling_up(transport):
    writer, peer = await slow_writer(transport)
    piece, most = pattern(50_000), 0

    async def feed():
        nonlocal most
        for _ in range(100):
            writer.write(piece)
            most = max(most, writer.transport.get_write_buffer_size())
            await writer.drain()

    feeding = asyncio.ensure_future(feed())
    assert await done(peer.recv_exactly(5_000_000)) == 100 * piece
    await feeding
    assert most <= 65536 + len(piece)
    writer.close()
    await writer.wait_closed()


@on_ours_and_asyncio
async def test_drain_of_a_stream_does_not_wait_for_what_is_only_gathered(tcp):
    writer, peer = await open_writer(tcp)
    for _ in range(100):
        writer.write(b"seven..")
        draining = writer.drain()
        with pytest.raises(StopIteration):
            draining.send(None)
    assert await done(peer.recv_exactly(700)) == 100 * b"seven.."
    writer.close()
    await writer.wait_closed()
