"""CONTRACT.md, "Writing": W3 `high_water_mark`, W4 `drain`.

Short writes are made by peers that do not read; "never fires" is asked after the peer has read
everything and the loop has turned since.
"""

from __future__ import annotations

import socket as stdlib_socket

import pytest
from support import Feed, accepted, shrink_send_buffer, sides

import pybuntcp

BIG = 8 << 20  # more than any kernel buffer of a loopback connection holds
MARKS = [1, 100, 4096, 65536, 1 << 20]


def writes() -> int:
    return pybuntcp.stats()["writes"]


# ---------------------------------------------------------------- W3: high_water_mark


@pytest.mark.parametrize(
    ("mark", "chunk"), [(mark, chunk) for mark in MARKS for chunk in (10, 1000, 100_000) if mark // chunk < 10_000]
)
def test_w3_unsent_bytes_never_exceed_the_mark(loop, transport, mark, chunk, handlers):
    socket, peer = accepted(loop, transport, handlers(), high_water_mark=mark)
    shrink_send_buffer(socket)
    feed = Feed(BIG)
    feed.write(socket, 300_000)  # past the kernel's buffer in one go, then bit by bit
    while (count := feed.write(socket, chunk)) == chunk:
        assert socket.pending <= mark + transport.write_over
    assert 0 <= count < chunk
    assert mark <= socket.pending <= mark + transport.write_over
    assert socket.pending + socket.bytes_written == feed.at
    assert socket.write(b"no") == 0
    got = peer.recv_until_eof()
    socket.close()
    assert loop.wait(got) == feed.accepted


@pytest.mark.parametrize("mark", [0, *MARKS])
def test_w3_unsent_bytes_never_exceed_the_mark_in_a_handler(loop, transport, mark, handlers):
    feed = Feed(BIG)
    pendings = []

    def data(socket, chunk):
        for size in (1, 3, 1000, 1, 300_000, 1, 1000, 1):
            feed.write(socket, size)
            pendings.append(socket.pending)

    recorder = handlers(data=data, open=shrink_send_buffer)
    socket, peer = accepted(loop, transport, recorder, high_water_mark=mark)
    peer.send(b"go")
    loop.run_until(lambda: pendings)
    assert max(pendings) <= max(mark, 1) + transport.write_over
    assert socket.pending <= max(mark, 1) + transport.write_over
    got = peer.recv_until_eof()
    socket.close()
    assert loop.wait(got) == feed.accepted
    assert feed.at > 0


@pytest.mark.parametrize("mark", [0, 1, 1000, 65536, 1 << 20])
@sides
def test_w3_a_short_count_continued_at_drain_loses_nothing(loop, transport, side, mark, handlers):
    feed = Feed(BIG)

    def go_on(socket):
        if feed.at < BIG:
            count = feed.write(socket, BIG)
            assert count >= 0
        if feed.at == BIG:
            socket.end()

    recorder = handlers(open=go_on, drain=go_on)
    _socket, peer = side(loop, transport, recorder, high_water_mark=mark)
    assert loop.wait(peer.recv_until_eof()) == feed.data
    assert recorder.count("drain") > 0


def test_w3_two_sockets_have_a_mark_each(loop, transport, handlers):
    one, _peer1 = accepted(loop, transport, handlers(label="one"), high_water_mark=1000)
    two, _peer2 = accepted(loop, transport, handlers(label="two"), high_water_mark=2000)
    Feed(BIG).fill(one)
    Feed(BIG).fill(two)
    assert 1000 <= one.pending <= 1000 + transport.write_over
    assert 2000 <= two.pending <= 2000 + transport.write_over
    assert loop.gauges()["pending_bytes"] == one.pending + two.pending


def test_w3_with_a_mark_of_zero_nothing_is_gathered(loop, transport, handlers):
    seen = []

    def data(socket, chunk):
        before = writes()
        for _ in range(5):
            assert socket.write(b"ab") == 2
            seen.append((socket.pending, writes() - before))

    _socket, peer = accepted(loop, transport, handlers(data=data), high_water_mark=0)
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(10)) == b"ab" * 5
    assert seen == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]


def test_w3_with_a_mark_of_zero_cork_gathers_nothing(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers(), high_water_mark=0)
    before = writes()
    with socket.cork():
        for number in range(3):
            assert socket.write(b"x") == 1
            assert (socket.pending, writes() - before) == (0, number + 1)
    assert peer.recv_exactly(3).result() == b"xxx"


def test_w3_with_a_mark_of_zero_each_write_is_one_attempt(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers(), high_water_mark=0)
    before = writes()
    feed = Feed(BIG)
    assert 0 < feed.write(socket, BIG) < BIG
    assert transport.has_tls or writes() - before == 1  # sealed piece by piece, until one is refused
    for _ in range(3):
        assert feed.write(socket, 1000) <= 1  # at most the one byte that is kept for the drain
    assert socket.pending <= 1 + transport.write_over
    got = peer.recv_until_eof()
    socket.close()
    assert loop.wait(got) == feed.accepted


# ---------------------------------------------------------------- W4: drain


@pytest.mark.parametrize("mark", [0, 1, 65536])
@sides
def test_w4_drain_fires_exactly_once_after_a_short_write(loop, transport, side, mark, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder, high_water_mark=mark)
    feed = Feed(BIG)
    feed.fill(socket)
    assert recorder.count("drain") == 0
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    loop.settle()
    assert recorder.names() == ["open", "drain"]


def test_w4_drain_comes_when_all_accepted_bytes_have_reached_the_kernel(loop, transport, handlers):
    seen = []
    recorder = handlers(drain=lambda socket: seen.append((socket.pending, socket.bytes_written)))
    socket, peer = accepted(loop, transport, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    assert socket.pending > 0
    peer.recv_until_eof()
    loop.run_until(lambda: seen)
    assert seen == [(0, feed.at)]


def test_w4_drain_does_not_fire_while_the_peer_does_not_read(loop, transport, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder)
    Feed(BIG).fill(socket)
    loop.settle()
    assert recorder.count("drain") == 0
    assert socket.pending > 0


def test_w4_several_short_writes_are_one_drain(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    for _ in range(5):
        assert feed.write(socket, 1000) == 0
    loop.wait(peer.recv_exactly(feed.at))
    loop.settle()
    assert recorder.count("drain") == 1


def test_w4_a_write_of_which_nothing_is_accepted_is_short(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, high_water_mark=BIG)
    assert socket.write(bytes(BIG)) == BIG
    room = BIG - socket.pending
    assert 0 < room < BIG
    assert socket.write(bytes(room)) == room  # whole: no reason for a drain
    assert socket.write(b"x") == 0
    loop.wait(peer.recv_exactly(BIG + room))
    loop.settle()
    assert recorder.names() == ["open", "drain"]


def test_w4_a_short_write_in_a_handler_drains_too(loop, transport, handlers):
    feed = Feed(BIG)
    recorder = handlers(data=lambda socket, chunk: feed.fill(socket, 1000))
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"go")
    loop.run_until(lambda: recorder.count("data"))
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    loop.settle()
    assert recorder.names() == ["open", "data", "drain"]


def test_w4_drain_fires_again_after_a_short_write_in_the_drain_handler(loop, transport, handlers):
    feed = Feed(4 * BIG)

    def drain(socket):
        if recorder.count("drain") < 3:
            feed.fill(socket)

    recorder = handlers(drain=drain)
    socket, peer = accepted(loop, transport, recorder)
    feed.fill(socket)
    got = b""
    while len(got) < feed.at:  # reads what was accepted and no more
        seen = recorder.count("drain")
        got += loop.wait(peer.recv_exactly(feed.at - len(got)))
        if seen < 3:
            loop.run_until(lambda seen=seen: recorder.count("drain") > seen)
    loop.settle()
    assert got == feed.accepted
    assert recorder.names() == ["open", "drain", "drain", "drain"]


def test_w4_drain_never_fires_after_a_write_that_was_accepted_whole(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, high_water_mark=BIG)
    assert socket.write(bytes(BIG)) == BIG
    assert socket.pending > 0
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert socket.pending == 0
    assert recorder.names() == ["open"]


def test_w4_a_drain_is_not_repeated_by_later_writes_that_are_accepted_whole(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, high_water_mark=BIG, rcvbuf=1 << 20)  # fixed: it would grow
    feed = Feed(4 * BIG)
    assert feed.write(socket, 3 * BIG) < 3 * BIG
    loop.wait(peer.recv_exactly(feed.at))
    loop.settle()
    assert recorder.names() == ["open", "drain"]
    assert socket.write(bytes(BIG)) == BIG
    assert socket.pending > 0
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert socket.pending == 0
    assert recorder.names() == ["open", "drain"]


def test_w4_drain_never_fires_after_small_writes(loop, transport, handlers):
    recorder = handlers(open=lambda socket: socket.write(b"handler"))
    socket, peer = accepted(loop, transport, recorder)
    socket.write(b"outside")
    with socket.cork():
        socket.write(b"corked")
    socket.flush()
    loop.wait(peer.recv_exactly(20))
    loop.settle()
    assert recorder.names() == ["open"]


def test_w4_drain_never_fires_after_pause_resume_or_fin(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, allow_half_open=True)
    for verb in (socket.pause, socket.resume, socket.pause, socket.resume):
        verb()
        loop.settle()
    peer.shutdown()
    loop.run_until(lambda: recorder.count("end"))
    loop.settle()
    socket.end()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]


def test_w4_drain_never_fires_after_connecting_an_adopted_descriptor(loop, handlers):
    ours, theirs = stdlib_socket.socketpair()
    recorder = handlers()
    with theirs:
        connecting = pybuntcp.connect(fd=ours.detach(), socket=recorder.handlers)
        loop.run_until(lambda: recorder.sockets)
        loop.settle()
        assert recorder.names() == ["open"]
        connecting.result().terminate()


def test_w4_drain_never_fires_after_our_end(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    assert socket.end(bytes(BIG)) == BIG
    loop.wait(peer.recv_until_eof())
    peer.close()
    loop.run()
    assert recorder.count("drain") == 0
    assert recorder.close_error is None


def test_w4_a_drain_that_was_due_is_not_called_after_terminate(loop, transport, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder)
    Feed(BIG).fill(socket)
    socket.terminate()
    loop.run()
    assert recorder.names() == ["open", "close"]
