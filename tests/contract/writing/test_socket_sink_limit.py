"""API.md, `SocketSink`: what `write` takes, and `limit`, past which it takes nothing."""

from __future__ import annotations

import array

import pytest
from support import Recorder, accepted, pattern
from support.sinks import BIG, stuffed, writes

# ---------------------------------------------------------------- what write takes


def without_address(value):
    """The same name in every process."""
    return repr(value).split(" at 0x")[0]


@pytest.mark.parametrize(
    "data",
    [b"", b"abc", "aä€😀", bytearray(b"abc"), memoryview(b"<abc>")[1:-1], array.array("H", b"abcd")],
    ids=without_address,
)
def test_write_takes_str_and_buffers_and_returns_the_whole_length(loop, transport, data):
    socket, peer = accepted(loop, transport, Recorder())
    expected = data.encode() if isinstance(data, str) else memoryview(data).tobytes()
    assert socket.sink().write(data) == len(expected)
    assert loop.wait(peer.recv_exactly(len(expected))) == expected


REFUSED = [
    ("ok\ud800", UnicodeEncodeError),
    (5, TypeError),
    ([b"a"], TypeError),
    (memoryview(b"abcdef")[::2], BufferError),
]
CASES = [(verb, *case) for verb in ("write", "end") for case in REFUSED] + [("write", None, TypeError)]


@pytest.mark.parametrize(("verb", "data", "error"), CASES, ids=without_address)
def test_what_is_refused_is_not_taken_and_ends_nothing(loop, transport, verb, data, error):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    with pytest.raises(error):
        getattr(sink, verb)(data)
    assert sink.pending == 0
    assert sink.write(b"ok") == 2
    assert loop.wait(peer.recv_exactly(2)) == b"ok"


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_bytearray_changed_after_the_write_changes_nothing_on_the_wire(loop, transport, size):
    socket, peer = accepted(loop, transport, Recorder())
    given = bytearray(pattern(size))
    socket.sink(high_water_mark=1 << 20).write(given)
    given[:] = bytes(size)
    assert loop.wait(peer.recv_exactly(size)) == pattern(size)


# ---------------------------------------------------------------- limit


def test_past_the_limit_write_is_a_buffer_error_and_takes_nothing(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    sink = socket.sink(limit=socket.pending + 1000)
    assert sink.write(b"a" * 900) == 900
    pending = sink.pending
    with pytest.raises(BufferError, match="limit"):
        sink.write(b"b" * 101)
    assert sink.pending == pending
    assert sink.write(b"c" * 100) == 100
    assert sink.pending == sink.limit
    with pytest.raises(BufferError):
        sink.write(b"d")
    assert sink.write(b"") == 0
    assert loop.wait(peer.recv_exactly(BIG + 1000)) == pattern(BIG) + b"a" * 900 + b"c" * 100


def test_after_the_drain_the_limit_has_room_again(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    sink = socket.sink(limit=1000)
    with pytest.raises(BufferError):
        sink.write(b"x")
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert sink.write(b"x" * 1000) == 1000
    assert loop.wait(peer.recv_exactly(1000)) == b"x" * 1000


def test_before_the_limit_refuses_what_came_together_is_sent(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink(limit=10)
    before = writes()
    for number in range(5):
        assert sink.write(bytes([number]) * 10) == 10
        assert (sink.pending, writes() - before) == (10, number)
    assert loop.wait(peer.recv_exactly(50)) == b"".join(bytes([number]) * 10 for number in range(5))


@pytest.mark.parametrize("mark", [0, 65536])
def test_a_write_larger_than_the_limit_is_refused_though_the_kernel_is_empty(loop, transport, mark):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink(limit=10, high_water_mark=mark)
    with pytest.raises(BufferError):
        sink.write(bytes(11))
    assert sink.write(b"x" * 10) == 10
    assert loop.wait(peer.recv_exactly(10)) == b"x" * 10


def test_the_limit_counts_what_socket_write_left_unsent(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    assert 0 < socket.write(pattern(BIG)) < BIG
    pending = socket.pending
    assert pending > 100
    with pytest.raises(BufferError):
        socket.sink(limit=pending).write(b"x")
    assert socket.sink(limit=pending + 1).write(b"x") == 1
    assert socket.pending == pending + 1


def test_two_sinks_have_a_limit_each_of_what_both_left_unsent(loop, transport):
    socket, _peer = stuffed(loop, transport, Recorder())
    pending = socket.pending
    low, high = socket.sink(limit=pending + 5), socket.sink(limit=pending + 10)
    assert high.write(b"123456") == 6
    with pytest.raises(BufferError):
        low.write(b"x")
    assert high.write(b"7890") == 4


def test_a_stalled_peer_holds_no_more_than_the_limit_and_its_sibling_is_unhurt(loop, transport):
    limit = 200_000
    stalled, _ = accepted(loop, transport, Recorder(label="stalled"))
    lively, peer = accepted(loop, transport, Recorder(label="lively"))
    sinks, refused, arriving = [each.sink(limit=limit) for each in (stalled, lively)], [0, 0], peer.recv_until_eof()
    for _ in range(400):
        for number, sink in enumerate(sinks):
            try:
                sink.write(pattern(30_000))
            except BufferError:
                refused[number] += 1
                if number == 1:
                    loop.settle()
            assert sink.pending <= limit
    lively.end()
    assert len(loop.wait(arriving)) == (400 - refused[1]) * 30_000
    assert refused[0] > 0
