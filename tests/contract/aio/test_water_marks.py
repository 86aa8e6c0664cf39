"""[A5] When a protocol is told to write no more, and when to go on: the marks."""

from __future__ import annotations

import asyncio
import socket

import pytest
from support.asyncio_loops import new_host
from support.coroutines import done, turns
from support.kernel import pattern
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import BIG, abort, connected, either_side, no_tls_yet, paused, slow, small_buffer

pytestmark = [no_tls_yet, pytest.mark.loops_that_stay]


def noting_at_resume(left):
    """A protocol that notes what still waits when it is resumed."""
    return Plain(resume_writing=lambda protocol: left.append(protocol.transport.get_write_buffer_size()))


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


@on_ours_and_asyncio
@pytest.mark.parametrize("marks", MARKS)
async def test_the_marks_are_those_that_were_set_or_follow_from_them(transport, marks):
    given, expected = MARKS[marks]
    protocol, _ = await connected(transport)
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


@on_ours_and_asyncio
@pytest.mark.parametrize("marks", WRONG)
async def test_marks_of_a_wrong_order_are_a_value_error_and_change_nothing(transport, marks):
    protocol, _ = await connected(transport)
    protocol.transport.set_write_buffer_limits(high=100, low=50)
    with pytest.raises(ValueError, match=r"^high \(-?\d+\) must be >= low \(-?\d+\) must be >= 0$"):
        protocol.transport.set_write_buffer_limits(**WRONG[marks])
    assert protocol.transport.get_write_buffer_limits() == (50, 100)


@on_ours_and_asyncio
async def test_marks_that_are_no_numbers_are_a_type_error(transport):
    protocol, _ = await connected(transport)
    with pytest.raises(TypeError):
        protocol.transport.set_write_buffer_limits(high="1000")
    assert protocol.transport.get_write_buffer_limits() == (16384, 65536)


@on_ours_and_asyncio
async def test_marks_past_what_memory_has_are_never_reached(transport):
    protocol, peer = await slow(transport)
    protocol.transport.set_write_buffer_limits(high=1 << 80)
    protocol.transport.write(pattern(BIG))
    assert protocol.calls == ["connection_made"]
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


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


# ---------------------------------------------------------------- pause


@on_ours_and_asyncio
@either_side
async def test_a_write_past_the_high_mark_pauses_once_and_inside_that_write(transport, side):
    protocol, _ = await side(transport, rcvbuf=32768)
    small_buffer(protocol.transport)
    protocol.transport.write(bytes(BIG))
    assert protocol.calls == ["connection_made", "pause_writing"]
    for _ in range(5):
        protocol.transport.write(bytes(100_000))
        await turns(2)
    assert protocol.calls == ["connection_made", "pause_writing"]
    await abort(protocol)
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_as_many_bytes_as_the_high_mark_do_not_pause_and_one_more_does(transport):
    protocol, _ = await slow(transport)
    protocol.transport.set_write_buffer_limits(high=2 * BIG)
    protocol.transport.write(bytes(BIG))
    waits = protocol.transport.get_write_buffer_size()
    protocol.transport.set_write_buffer_limits(high=waits + 10)
    protocol.transport.write(bytes(10))
    assert protocol.calls == ["connection_made"]
    protocol.transport.write(b"1")
    assert protocol.calls == ["connection_made", "pause_writing"]
    await abort(protocol)


@on_ours_and_asyncio
async def test_marks_that_are_lowered_below_what_waits_pause_at_once(transport):
    protocol, _ = await slow(transport)
    protocol.transport.set_write_buffer_limits(high=2 * BIG)
    protocol.transport.write(bytes(BIG))
    assert protocol.calls == ["connection_made"]
    protocol.transport.set_write_buffer_limits(high=1000)
    protocol.transport.set_write_buffer_limits(high=100)
    assert protocol.calls == ["connection_made", "pause_writing"]
    await abort(protocol)


@on_ours_and_asyncio
@pytest.mark.parametrize("high", [0, 1, 100])
async def test_what_the_kernel_takes_never_pauses_however_low_the_mark(transport, high):
    protocol, peer = await connected(transport)
    protocol.transport.set_write_buffer_limits(high=high)
    for _ in range(10):
        protocol.transport.write(b"ten bytes.")
    protocol.transport.writelines([b"ten bytes."] * 10)
    await turns(3)
    assert await done(peer.recv_exactly(200)) == 20 * b"ten bytes."
    assert protocol.calls == ["connection_made"]


@on_ours_and_asyncio
async def test_with_a_high_mark_of_zero_whatever_waits_pauses_and_nothing_resumes(transport):
    left = []
    protocol, peer = await slow(transport, noting_at_resume(left))
    protocol.transport.set_write_buffer_limits(high=0)
    protocol.transport.write(pattern(BIG))
    assert protocol.calls == ["connection_made", "pause_writing"]
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await protocol.called("resume_writing")
    assert left == [0]


@on_ours_and_asyncio
async def test_pause_writing_comes_inside_the_write_of_another_callback_and_only_there(transport):
    order = []
    protocol, _ = await slow(transport, Plain(pause_writing=lambda protocol: order.append("paused")))

    def write():
        order.append("begins")
        protocol.transport.write(bytes(BIG))
        order.append("ends")

    asyncio.get_running_loop().call_soon(write)
    await turns(3)
    assert order == ["begins", "paused", "ends"]
    await abort(protocol)


@on_ours
async def test_what_is_gathered_pauses_only_after_the_kernel_has_had_its_chance(transport):
    protocol, peer = await connected(transport)
    protocol.transport.set_write_buffer_limits(high=1000)
    for _ in range(50):
        protocol.transport.write(bytes(100))
        assert protocol.transport.get_write_buffer_size() <= 1000
    assert protocol.calls == ["connection_made"]
    await done(peer.recv_exactly(5000))


# ---------------------------------------------------------------- resume


@on_ours_and_asyncio
@pytest.mark.parametrize("low", [0, 1, 1000, 16384, 65536])
async def test_it_resumes_once_at_or_below_the_low_mark(transport, low):
    left = []
    protocol, peer = await slow(transport, noting_at_resume(left))
    protocol.transport.set_write_buffer_limits(high=65536, low=low)
    protocol.transport.write(pattern(BIG))
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await protocol.called("resume_writing")
    await turns()
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
    assert left[0] <= low


@on_ours_and_asyncio
async def test_it_does_not_resume_while_more_than_the_low_mark_waits(transport):
    protocol, peer = await paused(transport)
    while protocol.transport.get_write_buffer_size() > 1 << 21:
        await done(peer.recv(1 << 16))
        await turns(2)
        assert protocol.calls == ["connection_made", "pause_writing"]
    await abort(protocol)
    assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@on_ours_and_asyncio
async def test_a_low_mark_that_is_raised_while_paused_counts(transport):
    left = []
    protocol, peer = await paused(transport, noting_at_resume(left))
    protocol.transport.set_write_buffer_limits(high=1 << 22, low=1 << 21)
    await done(peer.recv_exactly((1 << 22) - (1 << 19)))
    await protocol.called("resume_writing")
    assert left[0] > 65536
    await abort(protocol)


@on_ours_and_asyncio
async def test_a_low_mark_that_is_lowered_while_paused_counts(transport):
    left = []
    protocol, peer = await paused(transport, noting_at_resume(left))
    protocol.transport.set_write_buffer_limits(high=1000, low=10)
    await done(peer.recv_exactly(BIG))
    await protocol.called("resume_writing")
    assert left[0] <= 10
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


@on_ours_and_asyncio
async def test_it_pauses_and_resumes_as_often_as_it_is_filled_and_emptied(transport):
    protocol, peer = await slow(transport)
    for _ in range(5):
        seen_before = len(protocol.calls)
        protocol.transport.write(pattern(BIG))
        await done(peer.recv_exactly(BIG))
        await protocol.until(lambda seen_before=seen_before: "resume_writing" in protocol.calls[seen_before:])
    assert protocol.calls == ["connection_made", *5 * ["pause_writing", "resume_writing"]]


@on_ours_and_asyncio
@pytest.mark.parametrize("paused_reading", [False, True])
async def test_it_resumes_also_while_reading_is_paused(transport, paused_reading):
    protocol, peer = await paused(transport)
    if paused_reading:
        protocol.transport.pause_reading()
    await done(peer.recv_exactly(BIG))
    await protocol.called("resume_writing")


@on_ours_and_asyncio
async def test_it_resumes_while_a_close_waits_and_is_lost_afterwards(transport):
    left = []
    protocol, peer = await paused(transport, noting_at_resume(left))
    protocol.transport.set_write_buffer_limits(high=1 << 22, low=1 << 21)
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.called("connection_lost")
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]
    assert left[0] > 0
