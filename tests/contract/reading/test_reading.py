"""CONTRACT.md, "Reading and closing": R1 `data`, R4 `pause`, R5 nobody starves.

A test that says "before" waits until the kernel has the bytes, the FIN or the reset; only then
does the loop turn. So the order under test is ours and not the scheduler's.
"""

from __future__ import annotations

import gc
import itertools
from pathlib import Path

import pytest
from support import (
    Feed,
    Recorder,
    accepted,
    finish_and_wait,
    linux_only,
    pattern,
    reset_and_wait,
    send_and_wait,
    sides,
    silent_crowd,
)

import pybuntcp

BIG = 4 << 20


# ---------------------------------------------------------------- R1: data


@pytest.mark.parametrize(
    ("binary_type", "kind"), [(None, bytes), ("bytes", bytes), ("bytearray", bytearray), ("memoryview", memoryview)]
)
@pytest.mark.parametrize("size", [1, 100, 5000, 65536, 65537, 1 << 20])
@sides
def test_r1_data_gets_one_to_n_bytes_of_binary_type(loop, transport, side, size, binary_type, kind):
    recorder = Recorder(binary_type=binary_type)
    _socket, peer = side(loop, transport, recorder)
    peer.send(pattern(size))
    peer.close()
    loop.run()
    chunks = [chunk for (chunk,) in recorder.args("data")]
    assert {type(chunk) for chunk in chunks} == {kind}
    assert all(len(chunk) > 0 for chunk in chunks)
    assert recorder.received() == pattern(size)


def test_r1_a_memoryview_is_of_plain_bytes(loop, transport):
    recorder = Recorder(binary_type="memoryview")
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"abc")
    loop.run_until(recorder.received)
    (view,) = (chunk for (chunk,) in recorder.args("data"))
    assert (view.format, view.ndim, view.itemsize, view.contiguous) == ("B", 1, 1, True)
    assert view == b"abc"
    assert view.tobytes() == b"abc"


@pytest.mark.parametrize("binary_type", ["bytes", "memoryview"])
@pytest.mark.parametrize("size", [1, 100, 3000, 16_383, 16_384, 60_000])
def test_r1_a_kept_chunk_stays_valid_and_unchanged(loop, transport, size, binary_type):
    kept, copies = [], []

    def data(socket, chunk):
        kept.append(chunk)
        copies.append(bytes(chunk))
        socket.write(b".")

    recorder = Recorder(data=data, binary_type=binary_type)
    _socket, peer = accepted(loop, transport, recorder)
    for number in range(20):  # each answered before the next: many events over the same buffer
        peer.send(bytes([number]) * size)
        loop.run_until(lambda n=number: sum(map(len, copies)) == (n + 1) * size)
        assert list(map(bytes, kept)) == copies
    peer.close()
    loop.run()
    recorder.events.clear()
    gc.collect()
    assert list(map(bytes, kept)) == copies
    assert b"".join(copies) == b"".join(bytes([number]) * size for number in range(20))


def test_r1_a_kept_view_is_not_touched_by_large_bytes_on_the_same_loop(loop, transport):
    first, second = Recorder(binary_type="memoryview"), Recorder()
    _socket, viewed = accepted(loop, transport, first)
    _socket, other = accepted(loop, transport, second)
    for number in range(6):
        viewed.send(bytes([number]) * 50_000)
        other.send(bytes([100 + number]) * 50_000)
        loop.run_until(lambda n=number: all(len(r.received()) == (n + 1) * 50_000 for r in (first, second)))
    views = b"".join(bytes(chunk) for (chunk,) in first.args("data"))
    chunks = b"".join(chunk for (chunk,) in second.args("data"))
    assert views == b"".join(bytes([number]) * 50_000 for number in range(6))
    assert chunks == b"".join(bytes([100 + number]) * 50_000 for number in range(6))


def test_r1_a_kept_slice_of_a_memoryview_stays_valid_without_it(loop, transport):
    slices = []

    def data(socket, chunk):
        if not slices:
            slices.append(chunk[10:20])

    recorder = Recorder(data=data, binary_type="memoryview")
    _socket, peer = accepted(loop, transport, recorder)
    first = pattern(50_000)
    peer.send(first)
    loop.run_until(lambda: len(recorder.received()) == 50_000)
    recorder.events[:] = [event for event in recorder.events if event[0] != "data"]
    gc.collect()
    for _ in range(5):
        peer.send(b"\xff" * 50_000)
        loop.run_until(lambda: len(recorder.received()) >= 50_000)
        recorder.events[:] = [event for event in recorder.events if event[0] != "data"]
    assert bytes(slices[0]) == first[10:20]


def test_r1_a_memoryview_may_be_released_by_the_handler(loop, transport):
    total = []

    def data(socket, chunk):
        total.append(bytes(chunk))
        recorder.events.clear()
        chunk.release()

    recorder = Recorder(data=data, binary_type="memoryview")
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(pattern(BIG))
    peer.shutdown()
    loop.run()
    assert b"".join(total) == pattern(BIG)


@linux_only
def test_r1_kept_small_views_do_not_pin_a_slab_each(loop, transport):
    kept = []

    def data(socket, chunk):
        kept.append(chunk)
        recorder.events.clear()
        socket.write(b".")

    def ask(times):
        for _ in range(times):
            peer.sock.sendall(b"x" * 100)
            assert peer.sock.recv(1) == b"."

    recorder = Recorder(data=data, binary_type="memoryview")
    _socket, peer = accepted(loop, transport, recorder)
    loop.wait(peer.call(ask, 50))
    before = _virtual_memory()
    loop.wait(peer.call(ask, 4000), timeout=30)
    assert len(kept) == 4050
    assert _virtual_memory() - before < 64 << 20  # 4,000 slabs of 64 KiB would be 256 MiB


def _virtual_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * 4096


def test_r1_a_bytearray_belongs_to_the_handler(loop, transport):
    kept = []

    def data(socket, chunk):
        kept.append((chunk, bytes(chunk)))
        chunk.extend(b"mine")
        socket.write(b".")

    recorder = Recorder(data=data, binary_type="bytearray")
    _socket, peer = accepted(loop, transport, recorder)
    for number in range(10):
        peer.send(bytes([number]) * 1000)
        loop.wait(peer.recv(100))
    peer.close()
    loop.run()
    assert [bytes(chunk) for chunk, _ in kept] == [copy + b"mine" for _, copy in kept]
    assert b"".join(copy for _, copy in kept) == b"".join(bytes([n]) * 1000 for n in range(10))


def test_r1_bytes_read_counts_what_data_was_given(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    peer.send(pattern(100_000))
    loop.run_until(lambda: len(recorder.received()) == 100_000)
    assert socket.bytes_read == 100_000


# ---------------------------------------------------------------- R4: pause


@sides
def test_r4_pause_stops_reads_and_resume_delivers_data_end_close_in_order(loop, transport, side, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = side(loop, transport, recorder)
    send_and_wait(socket, peer, pattern(5000))
    finish_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.received() == pattern(5000)
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


@sides
def test_r4_pause_stops_a_fin_alone(loop, transport, side, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = side(loop, transport, recorder)
    finish_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == ["open"]
    assert socket.write(b"still open") == 10
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]


def test_r4_pausing_in_the_first_data_handler_loses_nothing(loop, transport, handlers):
    recorder = handlers(data=lambda socket, chunk: socket.pause())
    socket, peer = accepted(loop, transport, recorder)
    peer.send(pattern(BIG))
    peer.shutdown()
    loop.run_until(lambda: recorder.count("data"))
    for number in itertools.count(1):  # one chunk for each resume, no more
        loop.settle()
        assert recorder.count("data") == number
        if len(recorder.received()) == BIG:
            break
        socket.resume()
        loop.run_until(lambda n=number: recorder.count("data") > n)
    assert recorder.count("end") == 0
    socket.resume()
    loop.run()
    assert recorder.received() == pattern(BIG)
    assert recorder.order() == ["open", "data", "end", "close"]


@sides
def test_r4_pausing_in_open_loses_nothing_that_came_with_the_connection(loop, transport, side, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = side(loop, transport, recorder)
    send_and_wait(socket, peer, b"first words")
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run_until(recorder.received)
    assert recorder.received() == b"first words"


def test_r4_resume_in_the_handler_that_paused_goes_on(loop, transport, handlers):
    def data(socket, chunk):
        socket.pause()
        socket.resume()

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(pattern(BIG))
    peer.shutdown()
    loop.run()
    assert recorder.received() == pattern(BIG)


def test_r4_pause_and_resume_do_not_count(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    socket.resume()
    for _ in range(3):
        socket.pause()
    socket.resume()
    peer.send(b"x")
    loop.run_until(recorder.received)
    assert recorder.received() == b"x"


@linux_only
@sides
def test_r4_a_reset_that_comes_while_paused_is_reported_at_resume(loop, transport, side, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = side(loop, transport, recorder)
    reset_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert type(recorder.close_error) is ConnectionResetError


@linux_only
@sides
def test_r4_a_reset_that_comes_while_paused_is_reported_after_the_bytes_before_it(loop, transport, side, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = side(loop, transport, recorder)
    send_and_wait(socket, peer, pattern(20_000))
    reset_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.received() == pattern(20_000)
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ConnectionResetError


@linux_only
@pytest.mark.parametrize("waiting", ["nothing", "data", "fin", "reset"])
@pytest.mark.parametrize("verb", ["pause before", "pause after"])
def test_r4_paused_sockets_cost_no_wake_ups(loop, transport, waiting, verb, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    if verb == "pause before":  # the loop has turned with the socket paused
        socket.pause()
        loop.settle()
    if waiting == "data":
        send_and_wait(socket, peer, b"x" * 1000)
    elif waiting == "fin":
        finish_and_wait(socket, peer)
    elif waiting == "reset":
        reset_and_wait(socket, peer)
    socket.pause()
    clock = handlers(label="clock", timeout=lambda clock: clock.timeout(0))
    ticking, _ = accepted(loop, transport, clock)
    loop.settle()
    ticking.timeout(0.1)
    before = pybuntcp.stats()["turns"]
    loop.run_until(lambda: clock.count("timeout"))
    assert pybuntcp.stats()["turns"] - before < 20
    assert recorder.names() == ["open"]


@pytest.mark.parametrize("verb", ["close", "terminate", "end"])
def test_r4_a_paused_socket_can_be_closed(loop, transport, verb, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = accepted(loop, transport, recorder)
    send_and_wait(socket, peer, b"unheard")
    getattr(socket, verb)()
    if verb == "end":
        socket.resume()
        peer.shutdown()
    loop.run()
    assert recorder.names(without=("data", "end")) == ["open", "close"]
    assert recorder.received() == (b"unheard" if verb == "end" else b"")


def test_r4_pause_on_connect_opens_paused(loop, transport, handlers):
    recorder = handlers()
    listener = transport.listen(recorder, pause_on_connect=True)
    peer = transport.peer(listener)
    peer.send(b"early")
    finished = peer.shutdown()
    if not transport.has_tls:  # else the handshake comes first
        finished.result()
    loop.run_until(lambda: recorder.sockets)
    listener.stop()
    loop.wait(finished)
    loop.settle()
    assert recorder.names() == ["open"]
    recorder.socket.resume()
    loop.run()
    assert recorder.received() == b"early"
    assert recorder.order() == ["open", "data", "end", "close"]


def test_r4_a_paused_socket_still_writes_and_drains(loop, transport, handlers):
    recorder = handlers(open=lambda socket: socket.pause())
    socket, peer = accepted(loop, transport, recorder)
    feed = Feed(8 << 20)
    feed.fill(socket)
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    loop.run_until(lambda: recorder.count("drain"))
    assert recorder.names() == ["open", "drain"]


# ---------------------------------------------------------------- R5: nobody starves


def test_r5_a_flooding_socket_does_not_starve_a_sibling(loop, transport, handlers):
    def data(socket, chunk):
        if socket is not recorder.sockets[0]:
            socket.end(chunk)
        recorder.events[:] = [event for event in recorder.events if event[0] == "open"]

    def flood():
        block = bytes(1 << 20)
        while not answered.done():
            peers[0].sock.sendall(block)

    recorder = handlers(data=data)
    listener = transport.listen(recorder)
    peers = [transport.peer(listener)]
    loop.run_until(lambda: len(recorder.sockets) == 1)
    peers.append(transport.peer(listener))
    loop.run_until(lambda: len(recorder.sockets) == 2)
    peers[1].send(b"ping")
    answered = peers[1].recv_exactly(4)
    peers[0].call(flood)  # does not end before the sibling was served
    assert loop.wait(answered) == b"ping"


def test_r5_the_reads_of_a_socket_in_one_turn_are_bounded(loop, transport, handlers):
    turns = []

    def data(socket, chunk):
        recorder.events.clear()
        turns.append(pybuntcp.stats()["turns"])

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    loop.wait(peer.send(bytes(64 << 20)), timeout=30)
    peer.shutdown()
    loop.run()
    most = max(turns.count(turn) for turn in set(turns))
    assert most <= 64
    assert len(set(turns)) > 1


@silent_crowd
def test_r5_the_accepts_of_one_turn_are_bounded(loop, transport, handlers):
    turns = []
    recorder = handlers(open=lambda socket: turns.append(pybuntcp.stats()["turns"]))
    listener = transport.listen(recorder)
    dialled = [transport.dial(listener) for _ in range(200)]  # all wait in the backlog
    try:
        loop.run_until(lambda: len(turns) == 200)
        assert max(turns.count(turn) for turn in set(turns)) <= 64
    finally:
        for sock in dialled:
            sock.close()
