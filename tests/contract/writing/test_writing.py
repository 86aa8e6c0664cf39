"""CONTRACT.md, "Writing": W1 what `write` takes and returns, W7 a peer that is gone, W8 order.

What a write does is seen from both ends: what it returned here, what arrived there.
"""

from __future__ import annotations

import array
import ctypes
import random
import socket as stdlib_socket
import sys

import pytest
from support import (
    Feed,
    Recorder,
    accepted,
    linux_only,
    pattern,
    raw,
    reset_and_wait,
    shrink_send_buffer,
    sides,
    unread_bytes,
    unsent_bytes,
    wait_for,
    was_reset,
    wire_size,
)

BIG = 8 << 20  # more than any kernel buffer of a loopback connection holds


# ---------------------------------------------------------------- W1: what write returns and takes


@sides
def test_w1_write_returns_the_bytes_accepted(loop, transport, side, handlers):
    socket, peer = side(loop, transport, handlers())
    assert socket.write(b"hello") == 5
    assert socket.write(b"") == 0
    assert socket.write(b" world") == 6
    assert peer.recv_exactly(11).result() == b"hello world"
    assert socket.bytes_written == 11


@sides
def test_w1_write_of_more_than_fits_returns_a_short_count(loop, transport, side, handlers):
    socket, peer = side(loop, transport, handlers())
    feed = Feed(BIG)
    count = feed.write(socket, BIG)
    assert 0 < count < BIG
    got = peer.recv_until_eof()
    socket.close()
    assert loop.wait(got) == feed.accepted


@pytest.mark.parametrize("verb", ["end", "shutdown", "close", "terminate"])
@sides
def test_w1_write_returns_minus_one_once_this_side_is_over(loop, transport, side, verb, handlers):
    socket, _peer = side(loop, transport, handlers())
    getattr(socket, verb)()
    assert socket.write(b"late") == -1
    assert socket.write(b"") == -1
    assert socket.bytes_written == 0


@pytest.mark.parametrize("verb", ["end", "shutdown", "close", "terminate"])
def test_w1_write_returns_minus_one_in_the_handler_that_ended_the_socket(loop, transport, verb, handlers):
    returned = []

    def data(socket, chunk):
        getattr(socket, verb)()
        returned.append(socket.write(b"late"))

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(lambda: returned)
    assert returned == [-1]


@pytest.mark.parametrize("text", ["", "ascii", "aä€😀", "\0", "line\r\n" * 1000, "😀" * 20_000])
def test_w1_str_is_utf8(loop, transport, text):
    socket, peer = accepted(loop, transport, Recorder())
    expected = text.encode()
    assert socket.write(text) == len(expected)
    assert loop.wait(peer.recv_exactly(len(expected))) == expected


def test_w1_lone_surrogates_are_refused_and_nothing_is_sent(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    with pytest.raises(UnicodeEncodeError):
        socket.write("ok\ud800")
    with pytest.raises(UnicodeEncodeError):
        socket.end("\udfff")
    assert socket.write(b"after") == 5  # the refused end() did not end
    assert peer.recv_exactly(5).result() == b"after"


BUFFERS = {
    "bytes": b"buffer",
    "bytearray": bytearray(b"buffer"),
    "memoryview": memoryview(b"<buffer>")[1:-1],
    "read-only view of a bytearray": memoryview(bytearray(b"buffer")).toreadonly(),
    "array of 16 bits": array.array("H", b"buffer"),
    "two dimensions": memoryview(b"buffer").cast("B", (2, 3)),
    "no dimension": ctypes.c_uint64(0x1122334455667788),
    "ctypes": (ctypes.c_char * 6)(*b"buffer"),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_w1_any_c_contiguous_buffer_is_taken(loop, transport, kind):
    socket, peer = accepted(loop, transport, Recorder())
    expected = memoryview(BUFFERS[kind]).tobytes()
    assert socket.write(BUFFERS[kind]) == len(expected)
    assert peer.recv_exactly(len(expected)).result() == expected


@pytest.mark.parametrize(
    "view",
    [memoryview(b"abcdef")[::2], memoryview(b"abcdef")[::-1], memoryview(array.array("I", range(9)))[::3]],
    ids=["every second", "backwards", "every third word"],
)
def test_w1_a_non_contiguous_buffer_is_a_buffer_error(loop, transport, view):
    socket, peer = accepted(loop, transport, Recorder())
    for verb in (socket.write, socket.end):
        with pytest.raises(BufferError):
            verb(view)
    assert socket.write(b"ok") == 2
    assert peer.recv_exactly(2).result() == b"ok"


@pytest.mark.parametrize("wrong", [None, 5, 1.5, ["a"], {"a": 1}, object()], ids=lambda wrong: type(wrong).__name__)
def test_w1_what_is_neither_str_nor_buffer_is_a_type_error(loop, transport, wrong):
    socket, peer = accepted(loop, transport, Recorder())
    with pytest.raises(TypeError):
        socket.write(wrong)
    assert socket.write(b"ok") == 2
    assert peer.recv_exactly(2).result() == b"ok"


WORDS = array.array("I", range(4))  # 16 bytes
RANGES = [
    (b"0123456789", (3,), b"3456789"),
    (b"0123456789", (3, 4), b"3456"),
    (b"0123456789", (0, 10), b"0123456789"),
    (b"0123456789", (0, 0), b""),
    (b"0123456789", (10,), b""),
    (b"0123456789", (10, 0), b""),
    (b"0123456789", (9, 1), b"9"),
    (b"0123456789", (4, None), b"456789"),
    (WORDS, (3, 6), WORDS.tobytes()[3:9]),
    (memoryview(b"012345").cast("B", (2, 3)), (1, 4), b"1234"),
    ("aä€😀", (1, 5), "ä€".encode()),
    ("aä€😀", (3,), "€😀".encode()),
]


@pytest.mark.parametrize("verb", ["write", "end"])
@pytest.mark.parametrize(("data", "window", "expected"), RANGES)
def test_w1_offset_and_length_are_in_bytes_and_default_to_the_rest(loop, transport, verb, data, window, expected):
    socket, peer = accepted(loop, transport, Recorder())
    assert getattr(socket, verb)(data, *window) == len(expected)
    got = peer.recv_until_eof()
    socket.end()
    assert loop.wait(got) == expected


def test_w1_offset_and_length_have_names(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    assert socket.write(b"0123456789", offset=2, length=3) == 3
    assert socket.write(b"0123456789", length=1) == 1
    assert peer.recv_exactly(4).result() == b"2340"


@pytest.mark.parametrize(
    "window",
    [(11,), (-1,), (0, 11), (0, -1), (5, 6), (10, 1), (11, 0), (sys.maxsize,), (1, sys.maxsize), (-sys.maxsize - 1, 1)],
)
@pytest.mark.parametrize("data", [b"0123456789", "0123456789"], ids=["bytes", "str"])
@pytest.mark.parametrize("verb", ["write", "end"])
def test_w1_out_of_range_is_a_value_error(loop, transport, verb, data, window):
    socket, peer = accepted(loop, transport, Recorder())
    with pytest.raises(ValueError, match=r"offset|length"):
        getattr(socket, verb)(data, *window)
    assert socket.write(b"ok") == 2
    assert peer.recv_exactly(2).result() == b"ok"


@pytest.mark.parametrize("window", [("1",), (1.0,), (None,), (0, "2"), (0, 2.0)], ids=repr)
def test_w1_offsets_that_are_not_integers_are_a_type_error(loop, transport, window):
    socket, peer = accepted(loop, transport, Recorder())
    with pytest.raises(TypeError):
        socket.write(b"0123456789", *window)
    assert socket.write(b"ok") == 2
    assert peer.recv_exactly(2).result() == b"ok"


@pytest.mark.parametrize("size", [10, 20_000, 600_000], ids=["small", "medium", "past the kernel's buffer"])
@sides
def test_w1_changing_a_bytearray_after_write_never_changes_the_wire(loop, transport, side, size):
    socket, peer = side(loop, transport, Recorder(), high_water_mark=1 << 20)
    shrink_send_buffer(socket)
    buffer = bytearray(pattern(size))
    assert socket.write(buffer) == size
    buffer[:] = bytes(size)
    buffer.clear()  # BufferError if somebody still held the buffer
    assert loop.wait(peer.recv_exactly(size)) == pattern(size)


@pytest.mark.parametrize("size", [10, 20_000, 600_000], ids=["small", "medium", "past the kernel's buffer"])
@pytest.mark.parametrize("verb", ["write", "end"])
def test_w1_changing_a_bytearray_in_the_handler_never_changes_the_wire(loop, transport, verb, size):
    def data(socket, chunk):
        buffer = bytearray(pattern(size))
        assert getattr(socket, verb)(buffer) == size
        buffer[:] = bytes(size)
        buffer.clear()

    recorder = Recorder(data=data, open=shrink_send_buffer)
    _socket, peer = accepted(loop, transport, recorder, high_water_mark=1 << 20)
    peer.send(b"x")
    assert loop.wait(peer.recv_exactly(size)) == pattern(size)


def test_w1_nothing_of_the_callers_buffer_is_referenced_after_write(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder(), high_water_mark=BIG)
    shrink_send_buffer(socket)
    buffer = pattern(BIG // 2)
    before = sys.getrefcount(buffer)
    assert socket.write(buffer) == len(buffer)
    assert socket.pending > 0
    assert sys.getrefcount(buffer) == before


# ---------------------------------------------------------------- W7: writing to a peer that is gone


@linux_only
def test_w7_a_write_to_a_reset_peer_returns_minus_one(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, pause_on_connect=True)
    reset_and_wait(socket, peer)
    assert socket.write(b"refused") == -1
    assert socket.write(b"refused again") == -1
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, ConnectionError)
    assert recorder.close_error.errno in (stdlib_socket.errno.ECONNRESET, stdlib_socket.errno.EPIPE)


@linux_only
def test_w7_the_refused_write_surfaces_as_close_with_errno_code_and_syscall(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    reset_and_wait(socket, peer)
    assert socket.write(b"refused") == -1
    loop.run()
    error = recorder.close_error
    assert isinstance(error, OSError)
    assert error.code in ("ECONNRESET", "EPIPE")
    assert stdlib_socket.errno.errorcode[error.errno] == error.code
    assert error.syscall == "write"
    assert recorder.names() == ["open", "close"]


@linux_only
def test_w7_what_the_peer_sent_before_it_went_is_delivered_before_the_close(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, pause_on_connect=True)
    peer.send(b"last words").result()
    with raw(socket) as duplicate:
        wait_for(lambda: unread_bytes(duplicate) == wire_size(peer.sock, 10), "the last words")
    reset_and_wait(socket, peer)
    assert socket.write(b"refused") == -1
    socket.resume()
    loop.run()
    assert recorder.order() == ["open", "data", "close"]
    assert recorder.received() == b"last words"
    assert isinstance(recorder.close_error, ConnectionError)


@linux_only
def test_w7_a_gathered_write_to_a_reset_peer_surfaces_as_close(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, pause_on_connect=True)
    reset_and_wait(socket, peer)
    with socket.cork():
        assert socket.write(b"gathered") in (8, -1)
    assert socket.write(b"more") == -1
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, ConnectionError)


def test_w7_pending_bytes_to_a_peer_that_resets_surface_as_close(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder)
    Feed(BIG).fill(socket)
    peer.reset()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, ConnectionError)
    assert loop.gauges()["pending_bytes"] == 0


@linux_only
def test_w7_a_half_open_write_to_a_closed_peer_surfaces_as_broken_pipe(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, allow_half_open=True)
    closed = peer.close()
    loop.run_until(lambda: recorder.count("end"))
    closed.result()  # over TLS the end comes before it
    if socket.write(b"x") == 1:  # TCP learns of it only by the answer
        wait_for(lambda: was_reset(socket), "the answer of a closed peer")
        assert socket.write(b"x") == -1
    loop.run()
    assert recorder.order() == ["open", "end", "close"]
    assert isinstance(recorder.close_error, BrokenPipeError)


# ---------------------------------------------------------------- W8: order


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mark", [1, 5000, 65536])
def test_w8_order_is_kept_across_cork_direct_and_short_writes(loop, transport, seed, mark, handlers):
    dice = random.Random(seed * 1000 + mark)
    feed = Feed(3 << 20)

    def push(socket, size):
        """Whether all of it was accepted; if not, a drain will come."""
        asked = min(size, len(feed.data) - feed.at)
        return feed.write(socket, asked) == asked

    def write_some(socket):
        while feed.at < len(feed.data):
            size = dice.choice([1, 2, 50, 1000, 16383, 16384, 16385, 40_000, 200_000])
            if dice.random() < 0.2:
                with socket.cork():
                    whole = push(socket, dice.randrange(1, 100)) and push(socket, size)
            else:
                whole = push(socket, size)
            if dice.random() < 0.1:
                socket.flush()
            if not whole:
                return
        socket.end()

    recorder = handlers(data=lambda socket, chunk: write_some(socket), drain=write_some)
    _socket, peer = accepted(loop, transport, recorder, high_water_mark=mark)
    peer.send(b"go")
    assert loop.wait(peer.recv_until_eof()) == feed.data


def test_w8_a_write_behind_a_tail_does_not_overtake_it(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers(), high_water_mark=1 << 20)
    shrink_send_buffer(socket)
    feed = Feed(500_000)
    assert feed.write(socket, 400_000) == 400_000
    assert socket.pending > 0
    first = peer.recv(50_000).result()  # the kernel has room again, the tail has not moved
    if transport.name == "tcp":
        wait_for(lambda: _room(socket), "room in the kernel")
    assert feed.write(socket, 100) == 100
    with socket.cork():
        assert feed.write(socket, 100) == 100
    assert feed.write(socket, 90_000) == 90_000
    assert first + loop.wait(peer.recv_exactly(feed.at - len(first))) == feed.accepted


def _room(socket) -> bool:
    with raw(socket) as duplicate:
        return unsent_bytes(duplicate) == 0
