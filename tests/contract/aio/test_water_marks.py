"""[A5] When a protocol is told to write no more, and when to go on."""

from __future__ import annotations

import asyncio
import socket

import pytest
from support.asyncio_loops import new_host
from support.coroutines import done, loop_reports, seen, turns
from support.handlers import Boom
from support.kernel import pattern, was_reset
from support.protocols import (
    Recording,
    accepted,
    connected,
    either_side,
    end,
    no_tls_yet,
    on_both,
    on_ours,
    slow,
    small_buffer,
)

pytestmark = no_tls_yet

BIG = 1 << 22


async def paused(transport, protocol, size=BIG):
    """A connection whose protocol has been paused by `size` bytes; the peer reads nothing yet."""
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(size))
    assert protocol.calls == ["made", "pause"]
    return peer


async def lose(protocol):
    """Let go of a connection whose peer reads nothing."""
    protocol.transport.abort()
    await protocol.until("lost")


# ---------------------------------------------------------------- the marks

MARKS = {
    "neither": ({}, (16384, 65536)),
    "high": ({"high": 1000}, (250, 1000)),
    "low": ({"low": 1000}, (1000, 4000)),
    "both": ({"high": 1000, "low": 999}, (999, 1000)),
    "the same": ({"high": 1000, "low": 1000}, (1000, 1000)),
    "zero": ({"high": 0}, (0, 0)),
    "low is zero": ({"low": 0}, (0, 0)),
    "high, rounded down": ({"high": 7}, (1, 7)),
    "very high": ({"high": 1 << 40, "low": 1 << 39}, (1 << 39, 1 << 40)),
}


@on_both
@pytest.mark.parametrize("marks", MARKS)
async def test_the_marks_are_those_that_were_set_or_follow_from_them(transport, marks):
    given, expected = MARKS[marks]
    protocol = Recording()
    await connected(transport, protocol)
    assert protocol.transport.get_write_buffer_limits() == (16384, 65536)
    protocol.transport.set_write_buffer_limits(**given)
    assert protocol.transport.get_write_buffer_limits() == expected


WRONG = {
    "high below low": {"high": 1, "low": 2},
    "low above the default": {"high": 0, "low": 1},
    "high is negative": {"high": -1},
    "low is negative": {"high": 10, "low": -1},
    "both are negative": {"low": -4},
}


@on_both
@pytest.mark.parametrize("marks", WRONG)
async def test_marks_of_a_wrong_order_are_a_value_error_and_change_nothing(transport, marks):
    protocol = Recording()
    await connected(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=100, low=50)
    with pytest.raises(ValueError, match=r"^high \(-?\d+\) must be >= low \(-?\d+\) must be >= 0$"):
        protocol.transport.set_write_buffer_limits(**WRONG[marks])
    assert protocol.transport.get_write_buffer_limits() == (50, 100)


@on_both
async def test_marks_that_are_no_numbers_are_a_type_error(transport):
    protocol = Recording()
    await connected(transport, protocol)
    with pytest.raises(TypeError):
        protocol.transport.set_write_buffer_limits(high="1000")
    assert protocol.transport.get_write_buffer_limits() == (16384, 65536)


@on_both
async def test_marks_past_what_memory_has_are_never_reached(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=1 << 80)
    protocol.transport.write(pattern(BIG))
    assert protocol.calls == ["made"]
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


# ---------------------------------------------------------------- pause


@on_both
@either_side
async def test_a_write_past_the_high_mark_pauses_once_and_inside_that_write(transport, side):
    protocol = Recording()
    await side(transport, protocol, rcvbuf=32768)
    small_buffer(protocol.transport)
    protocol.transport.write(bytes(BIG))
    assert protocol.calls == ["made", "pause"]
    for _ in range(5):
        protocol.transport.write(bytes(100_000))
        await turns(2)
    assert protocol.calls == ["made", "pause"]
    await lose(protocol)
    assert protocol.calls == ["made", "pause", "lost"]


@on_both
async def test_as_many_bytes_as_the_high_mark_do_not_pause_and_one_more_does(transport):
    protocol = Recording()
    await slow(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=2 * BIG)
    protocol.transport.write(bytes(BIG))
    waits = protocol.transport.get_write_buffer_size()
    protocol.transport.set_write_buffer_limits(high=waits + 10)
    protocol.transport.write(bytes(10))
    assert protocol.calls == ["made"]
    protocol.transport.write(b"1")
    assert protocol.calls == ["made", "pause"]
    await lose(protocol)


@on_both
async def test_marks_that_are_lowered_below_what_waits_pause_at_once(transport):
    protocol = Recording()
    await slow(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=2 * BIG)
    protocol.transport.write(bytes(BIG))
    assert protocol.calls == ["made"]
    protocol.transport.set_write_buffer_limits(high=1000)
    protocol.transport.set_write_buffer_limits(high=100)
    assert protocol.calls == ["made", "pause"]
    await lose(protocol)


@on_both
@pytest.mark.parametrize("high", [0, 1, 100])
async def test_what_the_kernel_takes_never_pauses_however_low_the_mark(transport, high):
    protocol = Recording()
    peer = await connected(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=high)
    for _ in range(10):
        protocol.transport.write(b"ten bytes.")
    protocol.transport.writelines([b"ten bytes."] * 10)
    await turns(3)
    assert await done(peer.recv_exactly(200)) == 20 * b"ten bytes."
    assert protocol.calls == ["made"]


@on_both
async def test_with_a_high_mark_of_zero_whatever_waits_pauses_and_nothing_resumes(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=0)
    protocol.transport.write(pattern(BIG))
    assert protocol.calls == ["made", "pause"]
    left = []
    protocol._hooks["resume"] = lambda protocol: left.append(protocol.transport.get_write_buffer_size())
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await protocol.until("resume")
    assert left == [0]


@on_both
async def test_a_write_that_fails_does_not_pause(tcp):
    protocol = Recording()
    peer = await slow(tcp, protocol)
    protocol.transport.pause_reading()
    peer.reset()
    await seen(lambda: was_reset(protocol.transport.get_extra_info("socket")), "the reset")
    protocol.transport.write(bytes(BIG))
    protocol.transport.write(bytes(BIG))
    await protocol.until("lost")
    assert protocol.calls == ["made", "lost"]


# ---------------------------------------------------------------- resume


@on_both
@pytest.mark.parametrize("low", [0, 1, 1000, 16384, 65536])
async def test_it_resumes_once_at_or_below_the_low_mark(transport, low):
    left = []
    protocol = Recording(resume=lambda protocol: left.append(protocol.transport.get_write_buffer_size()))
    peer = await slow(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=65536, low=low)
    protocol.transport.write(pattern(BIG))
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await protocol.until("resume")
    await turns()
    assert protocol.calls == ["made", "pause", "resume"]
    assert left[0] <= low


@on_both
async def test_it_does_not_resume_while_more_than_the_low_mark_waits(transport):
    protocol = Recording()
    peer = await paused(transport, protocol)
    while protocol.transport.get_write_buffer_size() > 1 << 21:
        await done(peer.recv(1 << 16))
        await turns(2)
        assert protocol.calls == ["made", "pause"]
    await lose(protocol)
    assert protocol.calls == ["made", "pause", "lost"]


@on_both
async def test_a_low_mark_that_is_raised_while_paused_counts(transport):
    left = []
    protocol = Recording(resume=lambda protocol: left.append(protocol.transport.get_write_buffer_size()))
    peer = await paused(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=1 << 22, low=1 << 21)
    await done(peer.recv_exactly((1 << 22) - (1 << 19)))
    await protocol.until("resume")
    assert left[0] > 65536
    await lose(protocol)


@on_both
async def test_a_low_mark_that_is_lowered_while_paused_counts(transport):
    left = []
    protocol = Recording(resume=lambda protocol: left.append(protocol.transport.get_write_buffer_size()))
    peer = await paused(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=1000, low=10)
    await done(peer.recv_exactly(BIG))
    await protocol.until("resume")
    assert left[0] <= 10
    assert protocol.calls == ["made", "pause", "resume"]


@on_both
async def test_it_pauses_and_resumes_as_often_as_it_is_filled_and_emptied(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    for _ in range(5):
        seen_before = len(protocol.calls)
        protocol.transport.write(pattern(BIG))
        await done(peer.recv_exactly(BIG))
        await protocol.until(lambda seen_before=seen_before: "resume" in protocol.calls[seen_before:])
    assert protocol.calls == ["made", *5 * ["pause", "resume"]]


@on_both
@pytest.mark.parametrize("paused_reading", [False, True])
async def test_it_resumes_also_while_reading_is_paused(transport, paused_reading):
    protocol = Recording()
    peer = await paused(transport, protocol)
    if paused_reading:
        protocol.transport.pause_reading()
    await done(peer.recv_exactly(BIG))
    await protocol.until("resume")


@on_both
async def test_it_resumes_while_a_close_waits_and_is_lost_afterwards(transport):
    left = []
    protocol = Recording(resume=lambda protocol: left.append(protocol.transport.get_write_buffer_size()))
    peer = await paused(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=1 << 22, low=1 << 21)
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.until("lost")
    assert protocol.calls == ["made", "pause", "resume", "lost"]
    assert left[0] > 0


# ---------------------------------------------------------------- what a protocol does in them


@on_both
@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_write_in_pause_writing_does_not_call_it_again(transport, size):
    protocol = Recording(pause=lambda protocol: protocol.transport.write(bytes(size)))
    peer = await paused(transport, protocol)
    await done(peer.recv_exactly(BIG + size))
    await protocol.until("resume")
    assert protocol.calls == ["made", "pause", "resume"]


@on_both
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

    protocol = Recording(resume=resume)
    peer = await paused(transport, protocol)
    assert await done(peer.recv_exactly(4 * BIG)) == 4 * pattern(BIG)
    await protocol.until(lambda: protocol.calls.count("resume") == 4)
    assert protocol.calls == ["made", *4 * ["pause", "resume"]]
    assert deepest == 1


@on_both
async def test_a_protocol_that_closes_in_pause_writing_is_resumed_and_lost_and_its_bytes_arrive(transport):
    protocol = Recording(pause=lambda protocol: protocol.transport.close())
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.until("lost")
    assert protocol.calls == ["made", "pause", "resume", "lost"]
    assert protocol.error is None


@on_both
async def test_a_protocol_that_aborts_in_pause_writing_is_only_lost(transport):
    protocol = Recording(pause=lambda protocol: protocol.transport.abort())
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    assert protocol.calls == ["made", "pause"]
    assert len(await done(peer.recv_until_eof())) < BIG
    await protocol.until("lost")
    await turns()
    assert protocol.calls == ["made", "pause", "lost"]


@on_ours  # asyncio calls `connection_lost` once, and then fails to call it again
@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_a_protocol_that_ends_in_resume_writing_is_only_lost(transport, ending):
    protocol = Recording(resume=lambda protocol: getattr(protocol.transport, ending)())
    peer = await paused(transport, protocol)
    if ending == "close":
        assert await done(peer.recv_until_eof()) == pattern(BIG)
    else:
        await done(peer.recv_until_eof())
    await protocol.until("lost")
    await turns()
    assert protocol.calls == ["made", "pause", "resume", "lost"]
    assert protocol.error is None


@on_both
async def test_write_eof_in_resume_writing_comes_after_what_waits(transport):
    protocol = Recording(resume=lambda protocol: protocol.transport.write_eof())
    peer = await paused(transport, protocol)
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await lose(protocol)
    assert protocol.calls == ["made", "pause", "resume", "lost"]


@on_both
@pytest.mark.parametrize("name", ["pause", "resume"])
async def test_an_exception_there_is_reported_and_the_connection_goes_on(transport, name):
    def fail(protocol):
        raise Boom(name)

    protocol = Recording(**{name: fail})
    with loop_reports() as reports:
        peer = await paused(transport, protocol)
        assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
        await protocol.until("resume")
        await turns()
    assert [report["message"] for report in reports] == [f"protocol.{name}_writing() failed"]
    assert isinstance(reports[0]["exception"], Boom)
    assert reports[0]["transport"] is protocol.transport
    assert reports[0]["protocol"] is protocol
    protocol.transport.write(b"goes on")
    assert await done(peer.recv_exactly(7)) == b"goes on"


@on_both
async def test_pause_writing_comes_inside_the_write_of_another_callback_and_only_there(transport):
    order = []
    protocol = Recording(pause=lambda protocol: order.append("paused"))
    await slow(transport, protocol)

    def write():
        order.append("begins")
        protocol.transport.write(bytes(BIG))
        order.append("ends")

    asyncio.get_running_loop().call_soon(write)
    await turns(3)
    assert order == ["begins", "paused", "ends"]
    await lose(protocol)


# ---------------------------------------------------------------- streams


async def stream(transport, **options):
    """(reader, writer, peer), with small buffers in the kernel."""
    server = transport.raw_server(rcvbuf=32768)
    peer = server.accept()
    where = transport.connect_options(server)
    if "unix" in where:
        reader, writer = await asyncio.open_unix_connection(where["unix"], **options)
    else:
        reader, writer = await asyncio.open_connection(where["hostname"], where["port"], **options)
    transport.at_end(lambda: end(writer.transport))
    await done(peer.connected)
    small_buffer(writer)
    return reader, writer, peer


@on_both
async def test_drain_waits_until_the_low_mark_is_reached(transport):
    _reader, writer, peer = await stream(transport)
    writer.write(pattern(BIG))
    draining = asyncio.ensure_future(writer.drain())
    await turns(5)
    assert not draining.done()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await draining
    assert writer.transport.get_write_buffer_size() <= 16384
    writer.close()
    await writer.wait_closed()


@on_both
async def test_several_tasks_may_wait_in_drain(transport):
    _reader, writer, peer = await stream(transport)
    writer.write(pattern(BIG))
    waiting = [asyncio.ensure_future(writer.drain()) for _ in range(5)]
    await turns(5)
    await done(peer.recv_exactly(BIG))
    await asyncio.gather(*waiting)
    writer.close()
    await writer.wait_closed()


@on_both
async def test_drain_raises_what_ended_the_connection_while_it_waited(tcp):
    _reader, writer, peer = await stream(tcp)
    writer.write(pattern(BIG))
    draining = asyncio.ensure_future(writer.drain())
    await turns(5)
    peer.reset()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await draining
    writer.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await writer.wait_closed()


@on_both
async def test_a_stream_copies_to_a_slow_reader_without_piling_up(transport):
    _reader, writer, peer = await stream(transport)
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


@on_both
async def test_a_server_of_streams_echoes_a_peer_that_reads_late(transport):
    def echo(protocol):
        protocol.transport.write(bytes(protocol.received))
        protocol.received.clear()

    def pause(protocol):
        protocol.transport.pause_reading()

    def resume(protocol):
        protocol.transport.resume_reading()

    protocol = Recording(data=echo, pause=pause, resume=resume)
    peer = await accepted(transport, protocol, rcvbuf=32768)
    small_buffer(protocol.transport)
    sending = peer.sock.dup()

    def send():
        with sending:
            sending.sendall(pattern(BIG))

    sent = asyncio.get_running_loop().run_in_executor(None, send)
    await protocol.until("pause")
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await sent
    peer.close()
    await protocol.until("lost")
    assert protocol.calls.count("pause") == protocol.calls.count("resume")


# ---------------------------------------------------------------- ours


@on_ours
async def test_what_is_gathered_pauses_only_after_the_kernel_has_had_its_chance(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    protocol.transport.set_write_buffer_limits(high=1000)
    for _ in range(50):
        protocol.transport.write(bytes(100))
        assert protocol.transport.get_write_buffer_size() <= 1000
    assert protocol.calls == ["made"]
    await done(peer.recv_exactly(5000))


def test_marks_are_those_of_a_connection(no_leaks):
    loop = new_host("native")

    async def main():
        first, second = socket.socketpair()
        one, _ = await loop.create_connection(asyncio.Protocol, sock=first)
        two, _ = await loop.create_connection(asyncio.Protocol, sock=second)
        one.set_write_buffer_limits(high=7)
        limits = one.get_write_buffer_limits(), two.get_write_buffer_limits()
        one.close()
        two.close()
        await turns()
        return limits

    try:
        assert loop.run_until_complete(main()) == ((1, 7), (16384, 65536))
    finally:
        loop.close()
