"""API.md, `SocketSink`: when writes leave, the mark, and order with everything else that writes.

Sinks coalesce until the loop's turn ends, not only the handler; nothing that was accepted is lost or moved.
"""

from __future__ import annotations

import itertools

import pytest
from support import Recorder, accepted, data_segments_received, linux_only, pattern, send_and_wait, sides, unreferenced
from support.sinks import BIG, DrainCallback, stuffed, writes

import pybuntcp

# ---------------------------------------------------------------- made by socket.sink()


def test_a_sink_is_made_by_the_socket_alone():
    with pytest.raises(TypeError, match="sink"):
        pybuntcp.SocketSink()
    unmade = pybuntcp.SocketSink.__new__(pybuntcp.SocketSink)
    with pytest.raises((TypeError, ValueError)):
        unmade.write(b"x")
    with pytest.raises((TypeError, ValueError)):
        unmade.add_drain_callback(print)


def test_a_sink_tells_its_socket_and_its_options(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    sink, other = socket.sink(), socket.sink(high_water_mark=10, limit=20)
    assert isinstance(sink, pybuntcp.SocketSink)
    assert (sink.socket, sink.high_water_mark, sink.limit, sink.pending) == (socket, 65536, None, 0)
    assert (other.socket, other.high_water_mark, other.limit) == (socket, 10, 20)


@pytest.mark.parametrize("name", ["high_water_mark", "limit"])
@pytest.mark.parametrize(
    ("value", "error"), [("1", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError), (2**80, ValueError)]
)
def test_a_wrong_option_is_an_error_by_name(loop, transport, name, value, error):
    socket, _peer = accepted(loop, transport, Recorder())
    with pytest.raises(error, match=name):
        socket.sink(**{name: value})


def test_no_mark_and_a_limit_of_nothing_are_refused(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    with pytest.raises(TypeError, match="high_water_mark"):
        socket.sink(high_water_mark=None)
    with pytest.raises(ValueError, match="limit"):
        socket.sink(limit=0)
    with pytest.raises(TypeError):
        socket.sink(65536)


# ---------------------------------------------------------------- the end of the turn


@sides
def test_the_writes_of_a_handler_leave_in_one_system_call(loop, transport, side):
    def data(socket, chunk):
        sink = socket.sink()
        for number in range(100):
            assert sink.write(bytes([number])) == 1
        seen.append((sink.pending, socket.bytes_written, writes() - before))

    seen = []
    _socket, peer = side(loop, transport, Recorder(data=data))
    before = writes()
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(100)) == bytes(range(100))
    assert seen == [(100, 0, 0)]
    assert writes() - before == 1


def handlers_of_one_turn(loop, transport, target, count=3):
    """`count` sockets whose next turn calls each one's `data`, which writes 2 bytes to a sink of `target`; what was pending after each."""
    pendings = []

    def data(socket, chunk):
        assert sink.write(chunk) == 2
        pendings.append(target.pending)

    sink = target.sink()
    pairs = [accepted(loop, transport, Recorder(data=data)) for _ in range(count)]
    for socket, peer in pairs:
        send_and_wait(socket, peer, b"ab")
    return pendings


@sides
def test_the_writes_of_several_handlers_of_one_turn_leave_in_one_system_call(loop, transport, side):
    target, peer = side(loop, transport, Recorder())
    pendings = handlers_of_one_turn(loop, transport, target)
    before = writes()
    assert loop.wait(peer.recv_exactly(6)) == b"ababab"
    assert pendings == [2, 4, 6]
    assert writes() - before == 1


@linux_only
def test_the_writes_of_several_handlers_of_one_turn_are_one_segment(loop, over_tcp):
    target, peer = accepted(loop, over_tcp, Recorder())
    segments = data_segments_received(peer.sock)
    handlers_of_one_turn(loop, over_tcp, target, 5)
    loop.wait(peer.recv_exactly(10))
    assert data_segments_received(peer.sock) == segments + 1


def test_two_sinks_of_one_socket_coalesce_together(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    one, two = socket.sink(), socket.sink()
    before = writes()
    for _ in range(10):
        one.write(b"a")
        two.write(b"b")
    assert one.pending == two.pending == 20
    assert loop.wait(peer.recv_exactly(20)) == b"ab" * 10
    assert writes() - before == 1


def test_a_broadcast_is_one_system_call_a_subscriber(loop, transport):
    pairs = [accepted(loop, transport, Recorder()) for _ in range(5)]
    sinks = [socket.sink() for socket, _ in pairs]
    before = writes()
    for _ in range(20):
        for sink in sinks:
            sink.write(b"news")
    for _, peer in pairs:
        assert loop.wait(peer.recv_exactly(80)) == b"news" * 20
    assert writes() - before == 5


@pytest.mark.parametrize("event", ["open", "data", "end", "close", "timeout", "drain"])
def test_a_write_in_any_handler_of_any_socket_leaves_when_that_turn_ends(loop, transport, event):
    target, target_peer = accepted(loop, transport, Recorder())
    sink = target.sink()
    recorder = Recorder(**{event: lambda socket, *args: sink.write(b"told")})
    socket, peer = accepted(loop, transport, recorder)
    if event == "data":
        peer.send(b"x")
    elif event == "drain":
        assert -1 < socket.write(bytes(BIG)) < BIG
        peer.recv_until_eof()
    elif event == "timeout":
        socket.timeout(0.01)
    elif event != "open":
        peer.shutdown()
    assert loop.wait(target_peer.recv_exactly(4)) == b"told"


def test_outside_handlers_writes_wait_for_the_next_turn(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    before = writes()
    sink = socket.sink()
    for piece in (b"one", b"two"):
        sink.write(piece)
    assert (sink.pending, socket.bytes_written, writes() - before) == (6, 0, 0)
    loop.settle()
    assert (sink.pending, socket.bytes_written, writes() - before) == (0, 6, 1)
    assert peer.recv_exactly(6).result() == b"onetwo"


@unreferenced
def test_run_sends_what_waits_even_if_nothing_keeps_it_turning(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    socket.unref()
    socket.sink().write(b"last words")
    loop.run()
    assert socket.pending == 0
    assert peer.recv_exactly(10).result() == b"last words"


def test_flush_sends_now(loop, transport):
    def data(socket, chunk):
        sink = socket.sink()
        sink.write(b"first")
        sink.flush()
        seen.append((sink.pending, socket.bytes_written))
        sink.write(b"second")
        seen.append((sink.pending, socket.bytes_written))

    seen = []
    _socket, peer = accepted(loop, transport, Recorder(data=data))
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(11)) == b"firstsecond"
    assert seen == [(0, 5), (6, 5)]


def test_flush_of_nothing_does_nothing(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    before = writes()
    assert socket.sink().flush() is None
    assert writes() == before


# ---------------------------------------------------------------- the mark


@pytest.mark.parametrize("mark", [1, 10, 16384, 65536, 200_000])
@sides
def test_what_came_together_leaves_at_the_mark_and_not_before(loop, transport, side, mark):
    def data(socket, chunk):
        sink = socket.sink(high_water_mark=mark)
        before = writes()
        if mark > 1:
            sink.write(pattern(mark - 1))
            seen.append((sink.full, sink.pending, writes() - before))
        sink.write(pattern(mark)[mark - 1 :])
        seen.append((sink.pending < mark, 0 < writes() - before <= most))

    seen = []
    most = 2 + mark // 65536 if transport.has_tls else 1  # it is sealed piece by piece
    _socket, peer = side(loop, transport, Recorder(data=data))
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(mark)) == pattern(mark)
    assert seen == [(False, mark - 1, 0), (True, True)][mark == 1 :]


def test_with_a_mark_of_zero_every_write_leaves_at_once(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink(high_water_mark=0)
    before = writes()
    for number in range(3):
        sink.write(b"x")
        assert (sink.pending, writes() - before) == (0, number + 1)
    assert peer.recv_exactly(3).result() == b"xxx"


def test_full_is_the_mark_against_what_is_unsent(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    pending = socket.pending
    assert [socket.sink(high_water_mark=mark).full for mark in (1, pending, pending + 1)] == [True, True, False]
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert [socket.sink(high_water_mark=mark).full for mark in (0, 1)] == [True, False]


@pytest.mark.parametrize("mark", [0, 1, 65536])
def test_the_sockets_own_mark_does_not_bound_a_sink(loop, transport, mark):
    socket, peer = accepted(loop, transport, Recorder(), high_water_mark=mark)
    assert socket.sink().write(pattern(BIG)) == BIG
    assert loop.wait(peer.recv_exactly(BIG)) == pattern(BIG)


def test_on_a_socket_that_gathers_nothing_a_sink_coalesces_all_the_same(loop, transport):
    def data(socket, chunk):
        sink = socket.sink()
        for _ in range(10):
            sink.write(b"ab")

    _socket, peer = accepted(loop, transport, Recorder(data=data), high_water_mark=0)
    before = writes()
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(20)) == b"ab" * 10
    assert writes() - before == 1


# ---------------------------------------------------------------- order, and the unsent tail


@sides
def test_the_unsent_tail_goes_on_by_itself_and_is_no_drain_event(loop, transport, side):
    recorder = Recorder()
    socket, peer = stuffed(loop, transport, recorder, side)
    assert loop.wait(peer.recv_exactly(BIG)) == pattern(BIG)
    loop.settle()
    assert (socket.pending, socket.bytes_written) == (0, BIG)
    assert recorder.names() == ["open"]


def test_new_data_goes_behind_the_unsent_tail(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    sink = socket.sink()
    for number in range(200):
        assert sink.write(bytes([number]) * 1000) == 1000
    expected = pattern(BIG) + b"".join(bytes([number]) * 1000 for number in range(200))
    assert loop.wait(peer.recv_exactly(len(expected))) == expected


class Mix:
    """Every way to write to one socket, and what was accepted by them, in this order."""

    def __init__(self, socket, sizes):
        self.socket, self.sizes = socket, itertools.cycle(sizes)
        self.sinks = [socket.sink(), socket.sink(high_water_mark=0), socket.sink(high_water_mark=5000)]
        self.source, self.at = memoryview(pattern(1 << 20)), 0
        self.accepted = bytearray()

    def put(self, write):
        size = next(self.sizes)
        if self.at + size > len(self.source):
            self.at = 1
        data = self.source[self.at : self.at + size]
        self.at += size
        self.accepted += data[: write(data)]

    def corked(self):
        with self.socket.cork():
            self.put(self.socket.write)
            self.put(self.sinks[0].write)
            self.put(self.socket.write)

    def orders(self):
        """Every order of all the ways, as functions that perform one."""
        first, at_once, marked = self.sinks
        steps = [
            lambda: self.put(self.socket.write),
            lambda: self.put(first.write),
            lambda: self.put(marked.write),
            lambda: self.put(at_once.write),
            self.corked,
            self.socket.flush,
        ]
        return itertools.permutations(steps)

    def perform(self, orders):
        for steps in orders:
            for step in steps:
                step()


def in_a_handler(loop, socket, mix, orders):
    loop.wait(loop.call(mix.perform, orders))


def outside(loop, socket, mix, orders):
    mix.perform(orders)
    loop.settle()


def in_a_cork(loop, socket, mix, orders):
    with socket.cork():
        mix.perform(orders)


@pytest.mark.parametrize("sizes", [[3], [1, 20_000, 7], [1000, 4, 70_000]], ids=str)
@pytest.mark.parametrize("place", [in_a_handler, outside, in_a_cork])
@pytest.mark.parametrize("before", [0, BIG], ids=["kernel empty", "kernel full"])
def test_order_is_kept_in_every_mix_of_sinks_writes_corks_and_flushes(loop, transport, before, place, sizes):
    socket, peer = accepted(loop, transport, Recorder(), high_water_mark=BIG + 100_000)
    socket.sink().write(pattern(before))
    mix = Mix(socket, sizes)
    orders = list(mix.orders())
    for first in range(0, len(orders), 180):
        place(loop, socket, mix, orders[first : first + 180 : 5])
    socket.close()
    assert loop.wait(peer.recv_until_eof()) == pattern(before) + mix.accepted


def test_a_short_write_behind_a_sinks_bytes_drains_once_when_all_are_out(loop, transport):
    recorder = Recorder()
    socket, peer = stuffed(loop, transport, recorder)
    assert socket.write(b"no room") == 0
    assert recorder.count("drain") == 0
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert recorder.names() == ["open", "drain"]


def test_a_sink_writes_while_the_socket_is_paused(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    socket.pause()
    peer.send(b"unread")
    told = DrainCallback()
    socket.sink().write(pattern(BIG))
    socket.sink().add_drain_callback(told)
    assert loop.wait(peer.recv_exactly(BIG)) == pattern(BIG)
    loop.settle()
    assert told.error is None
    assert recorder.names() == ["open"]
