"""CONTRACT.md, "Writing": W2, what is gathered, when it leaves, and that it leaves in order.

System calls are counted by `stats()["writes"]`, segments by the kernel at the other end.
"""

from __future__ import annotations

import contextlib

import pytest
from support import (
    Feed,
    accepted,
    data_segments_received,
    linux_only,
    pattern,
    sides,
    unread_bytes,
    wait_for,
    wire_size,
)

import pybuntcp

BIG = 8 << 20  # more than any kernel buffer of a loopback connection holds


def writes() -> int:
    return pybuntcp.stats()["writes"]


def _write_100(socket):
    for number in range(100):
        assert socket.write(bytes([number])) == 1


def _peer_of(loop, transport, recorder, **options):
    socket, peer = accepted(loop, transport, recorder, **options)
    return socket, peer, writes()


@linux_only
def test_w2_a_hundred_one_byte_writes_in_a_handler_are_one_segment(loop, over_tcp, handlers):
    recorder = handlers(data=lambda socket, chunk: _write_100(socket))
    _socket, peer, before = _peer_of(loop, over_tcp, recorder)
    segments = data_segments_received(peer.sock)
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(100)) == bytes(range(100))
    assert data_segments_received(peer.sock) == segments + 1
    assert writes() - before == 1


def test_w2_writes_of_an_open_handler_leave_in_one_system_call(loop, transport, handlers):
    before = []

    def opened(socket):
        before.append(writes())
        _write_100(socket)

    _socket, peer = accepted(loop, transport, handlers(open=opened))
    assert loop.wait(peer.recv_exactly(100)) == bytes(range(100))
    assert writes() - before[0] == 1


def test_w2_writes_of_an_end_handler_leave_in_one_system_call(loop, transport, handlers):
    _socket, peer, before = _peer_of(loop, transport, handlers(end=_write_100))
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == bytes(range(100))
    assert writes() - before == 1 + transport.has_tls  # its close_notify


def test_w2_writes_of_a_timeout_handler_leave_in_one_system_call(loop, transport, handlers):
    socket, peer, before = _peer_of(loop, transport, handlers(timeout=_write_100))
    socket.timeout(0.01)
    assert loop.wait(peer.recv_until_eof()) == bytes(range(100))
    assert writes() - before == 1 + transport.has_tls  # its close_notify


def test_w2_writes_of_a_drain_handler_leave_in_one_system_call(loop, transport, handlers):
    counts = []

    def drain(socket):
        if not counts:
            counts.append(writes())
            _write_100(socket)

    recorder = handlers(drain=drain)
    socket, peer = accepted(loop, transport, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    got = loop.wait(peer.recv_exactly(feed.at + 100))
    assert got == feed.accepted + bytes(range(100))
    assert writes() - counts[0] == 1


def test_w2_writes_to_a_sibling_are_gathered_too(loop, transport, handlers):
    siblings = handlers(label="siblings")

    def data(socket, chunk):
        for _ in range(50):
            for sibling in siblings.sockets:
                assert sibling.write(b"ab") == 2
            assert socket.write(b"cd") == 2

    _sibling, sibling_peer = accepted(loop, transport, siblings)
    _socket, peer, before = _peer_of(loop, transport, handlers(data=data))
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(100)) == b"cd" * 50
    assert loop.wait(sibling_peer.recv_exactly(100)) == b"ab" * 50
    assert writes() - before == 2


def test_w2_what_is_gathered_is_pending_and_not_sent(loop, transport, handlers):
    seen = []

    def data(socket, chunk):
        before = writes()
        assert socket.write(b"a" * 10) == 10
        seen.append((socket.pending, socket.bytes_written, writes() - before, unread_bytes(peer.sock)))

    recorder = handlers(data=data)
    socket, peer = accepted(loop, transport, recorder)
    peer.send(b"go")
    loop.run_until(lambda: seen)
    assert seen == [(10, 0, 0, 0)]
    assert loop.wait(peer.recv_exactly(10)) == b"a" * 10
    assert (socket.pending, socket.bytes_written) == (0, 10)


def test_w2_a_write_too_large_to_gather_goes_out_at_once_after_what_was_gathered(loop, transport, handlers):
    large = pattern(150_000)
    written = []

    def data(socket, chunk):
        assert socket.write(b"before") == 6
        assert socket.write(large) == len(large)
        wait_for(
            lambda: unread_bytes(peer.sock) > wire_size(peer.sock, 6), "bytes on the wire before the handler returns"
        )
        assert socket.write(b"after") == 5
        written.append(socket.bytes_written)

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder, high_water_mark=1 << 20)
    peer.send(b"go")
    loop.run_until(lambda: written)  # the peer does not read before
    assert written[0] > 6
    assert loop.wait(peer.recv_exactly(len(large) + 11)) == b"before" + large + b"after"


@pytest.mark.parametrize(
    "sizes",
    [
        [1000] * 40,
        [16384, 1],
        [1, 16384],
        [16383, 1, 1],
        [1, 16383, 1],
        [5, 20_000, 5, 20_000, 5],
        [65536, 1, 65536],
        [1, 200_000, 1],
    ],
)
def test_w2_small_and_large_writes_of_a_handler_keep_their_order(loop, transport, sizes, handlers):
    feed = Feed(sum(sizes))

    def data(socket, chunk):
        for size in sizes:
            assert feed.write(socket, size) == size

    _socket, peer, before = _peer_of(loop, transport, handlers(data=data), high_water_mark=1 << 20)
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(len(feed.data))) == feed.data
    at_once = 65536 if transport.has_tls else sum(sizes)  # that one system call takes
    assert writes() - before <= max(len(sizes), 4) + sum(sizes) // at_once


def test_w2_forty_small_writes_are_not_forty_system_calls(loop, transport, handlers):
    def data(socket, chunk):
        for _ in range(40):
            assert socket.write(bytes(1000)) == 1000

    _socket, peer, before = _peer_of(loop, transport, handlers(data=data))
    peer.send(b"go")
    loop.wait(peer.recv_exactly(40_000))
    assert writes() - before <= 8


@sides
def test_w2_flush_sends_now(loop, transport, side, handlers):
    seen = []

    def data(socket, chunk):
        assert socket.write(b"first") == 5
        socket.flush()
        wait_for(lambda: unread_bytes(peer.sock) == wire_size(peer.sock, 5), "the flushed bytes")
        seen.append((socket.pending, socket.bytes_written))
        assert socket.write(b"second") == 6

    recorder = handlers(data=data)
    _socket, peer = side(loop, transport, recorder)
    peer.send(b"go")
    loop.run_until(lambda: seen)  # the peer does not read before
    assert seen == [(0, 5)]
    assert loop.wait(peer.recv_exactly(11)) == b"firstsecond"


def test_w2_flush_with_nothing_gathered_does_nothing(loop, transport, handlers):
    socket, peer, before = _peer_of(loop, transport, handlers())
    socket.flush()
    assert writes() == before
    assert socket.write(b"ok") == 2
    assert peer.recv_exactly(2).result() == b"ok"


@sides
def test_w2_outside_handlers_write_sends_at_once(loop, transport, side, handlers):
    socket, peer = side(loop, transport, handlers())
    before = writes()
    assert socket.write(b"one") == 3
    assert (socket.pending, socket.bytes_written, writes() - before) == (0, 3, 1)
    assert peer.recv_exactly(3).result() == b"one"
    assert socket.write(b"two") == 3
    assert writes() - before == 2


@sides
def test_w2_cork_gathers_outside_handlers(loop, transport, side, handlers):
    socket, peer = side(loop, transport, handlers())
    before = writes()
    with socket.cork():
        _write_100(socket)
        assert (socket.pending, writes() - before) == (100, 0)
    assert (socket.pending, writes() - before) == (0, 1)
    assert peer.recv_exactly(100).result() == bytes(range(100))


def test_w2_cork_nests_and_the_outermost_sends(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers())
    before = writes()
    with socket.cork():
        assert socket.write(b"a") == 1
        with socket.cork():
            assert socket.write(b"b") == 1
        assert (socket.pending, writes() - before) == (2, 0)
        assert socket.write(b"c") == 1
    assert writes() - before == 1
    assert peer.recv_exactly(3).result() == b"abc"


def test_w2_cork_sends_when_left_by_an_exception(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers())
    with contextlib.suppress(KeyError), socket.cork():
        assert socket.write(b"accepted") == 8
        raise KeyError
    assert peer.recv_exactly(8).result() == b"accepted"


def test_w2_corks_of_two_sockets_do_not_mix(loop, transport, handlers):
    one, other = handlers(label="one"), handlers(label="other")
    first, first_peer = accepted(loop, transport, one)
    second, second_peer = accepted(loop, transport, other)
    with first.cork():
        assert first.write(b"1" * 10) == 10
        with second.cork():
            assert second.write(b"2" * 10) == 10
            assert first.write(b"1" * 10) == 10
        assert second_peer.recv_exactly(10).result() == b"2" * 10
        assert first.pending == 20
    assert first_peer.recv_exactly(20).result() == b"1" * 20


def test_w2_a_cork_in_a_handler_loses_and_reorders_nothing(loop, transport, handlers):
    def data(socket, chunk):
        assert socket.write(b"a") == 1
        with socket.cork():
            assert socket.write(b"b" * 50_000) == 50_000
            assert socket.write(b"c") == 1
        assert socket.write(b"d") == 1

    _socket, peer = accepted(loop, transport, handlers(data=data), high_water_mark=1 << 20)
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(50_003)) == b"a" + b"b" * 50_000 + b"cd"


def test_w2_flush_inside_a_cork_sends_and_keeps_the_cork(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers())
    with socket.cork():
        assert socket.write(b"first") == 5
        socket.flush()
        assert peer.recv_exactly(5).result() == b"first"
        assert socket.write(b"second") == 6
        assert socket.pending == 6
    assert peer.recv_exactly(6).result() == b"second"
