"""CONTRACT.md, "TLS": S5, what is written before the handshake is kept, and what is written in a turn fills records.

Records are counted on the wire: what came to the peer, cut by record headers.
"""

from __future__ import annotations

import ssl

import pytest
from support import Feed, Recorder, pattern, shrink_send_buffer
from support.tls import CLIENT_TLS, SERVER_TLS, TLSRecorder, needs_borrowed, on_fallback, refused_by_fallback
from support.tls_peer import (
    accepting,
    client_context,
    context_of,
    dialling,
    server_context,
    tls_accepted,
    tls_sides,
    versions,
)
from support.tls_records import DATA, records

import pybuntcp

one_loop = pytest.mark.standalone("what is sealed when is nothing that a loop decides")

NAMED = {**CLIENT_TLS, "server_name": "localhost"}
FULL = 16384  # bytes of plaintext in a record, at most
SEALED = {ssl.TLSVersion.TLSv1_2: 24, ssl.TLSVersion.TLSv1_3: 17}  # what AES-GCM adds to it


def opening(loop, tcp, recorder, kind, **options):
    """A peer whose handshake has not begun, of a socket that knows `handshake`: its `open` has been called."""
    if kind == "accepted":
        listener = tcp.listen(recorder, tls=SERVER_TLS, **options)
        peer = dialling(tcp, listener, client_context())
        loop.run_until(lambda: recorder.sockets)
        listener.stop()
    else:
        server = tcp.raw_server()
        peer = accepting(tcp, server, server_context())
        tcp.connect(recorder, server, tls=NAMED, **options)
        loop.run_until(lambda: recorder.sockets)
    return recorder.socket, peer


each_side = pytest.mark.parametrize("kind", ["accepted", "connected"])

# ---------------------------------------------------------------- before the handshake


@each_side
def test_s5_writes_before_the_handshake_are_kept_and_sent_after_it_in_order(loop, tcp, kind):
    def opened(socket):
        assert [socket.write(b"one "), socket.write(b"two ")] == [4, 4]
        assert (socket.pending, socket.bytes_written) == (8, 0)

    recorder = TLSRecorder(open=opened, handshake=lambda socket, *verdict: socket.write(b"four "))
    socket, peer = opening(loop, tcp, recorder, kind)
    assert socket.write(b"three ") == 6
    peer.handshake()
    assert loop.wait(peer.read(19)) == b"one two three four "
    assert (socket.pending, socket.bytes_written) == (0, 19)
    assert recorder.count("drain") == 0


@one_loop
@each_side
def test_s5_nothing_of_it_is_on_the_wire_before(loop, tcp, kind):
    recorder = TLSRecorder(open=lambda socket: socket.write(b"a secret of 22 bytes!!"))
    socket, peer = opening(loop, tcp, recorder, kind)
    socket.flush()
    loop.settle()
    assert b"secret" not in loop.wait(peer.call(peek, peer.sock))
    assert socket.pending == 22


def peek(sock):
    sock.setblocking(False)
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


@one_loop
@each_side
def test_s5_what_is_kept_is_bounded_by_the_high_water_mark_and_one_drain_follows(loop, tcp, kind):
    recorder = TLSRecorder()
    socket, peer = opening(loop, tcp, recorder, kind, high_water_mark=20_000)
    feed = Feed(100_000)
    assert feed.write(socket, 15_000) == 15_000
    assert feed.write(socket, 15_000) == 5_000
    assert feed.write(socket, 1) == 0
    assert socket.pending == 20_000
    peer.handshake()
    assert loop.wait(peer.read(20_000)) == feed.accepted
    loop.run_until(lambda: recorder.count("drain"))
    loop.settle()
    assert recorder.names() == ["open", "handshake", "drain"]
    assert socket.pending == 0


@one_loop
@each_side
def test_w4_the_handshake_is_no_drain(loop, tcp, kind):
    recorder = TLSRecorder(open=lambda socket: socket.write(pattern(65536)))
    _socket, peer = opening(loop, tcp, recorder, kind)
    peer.handshake()
    assert loop.wait(peer.read(65536)) == pattern(65536)
    loop.settle()
    assert recorder.names() == ["open", "handshake"]


@one_loop
@each_side
def test_w5_end_before_the_handshake_delivers_every_byte_and_then_ends(loop, tcp, kind):
    recorder = TLSRecorder(open=lambda socket: socket.write(b"first, "))
    socket, peer = opening(loop, tcp, recorder, kind)
    assert socket.end(pattern(300_000)) == 300_000  # past the mark
    assert socket.write(b"late") == -1
    peer.handshake()
    assert loop.wait(peer.read_to_end()) == (b"first, " + pattern(300_000), "close_notify")
    peer.notify()
    loop.run()
    assert recorder.names() == ["open", "handshake", "end", "close"]
    assert recorder.close_error is None


@one_loop
@each_side
def test_w5_close_before_the_handshake_sends_what_is_pending_and_then_closes(loop, tcp, kind):
    recorder = TLSRecorder(open=lambda socket: socket.write(b"the last words"))
    socket, peer = opening(loop, tcp, recorder, kind)
    socket.close()
    peer.handshake()
    assert loop.wait(peer.read_to_end()) == (b"the last words", "close_notify")
    loop.run()
    assert recorder.names()[-1] == "close"
    assert recorder.close_error is None
    assert recorder.count("data") == recorder.count("end") == 0


@one_loop
@each_side
def test_w5_close_before_the_handshake_with_nothing_pending_closes(loop, tcp, kind):
    recorder = TLSRecorder()
    socket, peer = opening(loop, tcp, recorder, kind)
    socket.close()
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names()[0] == "open"
    assert recorder.close_error is None
    peer.raw_to_end().result()


@one_loop
@each_side
def test_w5_terminate_before_the_handshake_drops_what_is_pending(loop, tcp, kind):
    recorder = TLSRecorder(open=lambda socket: socket.write(b"never sent"))
    socket, peer = opening(loop, tcp, recorder, kind)
    socket.terminate()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert b"never" not in peer.raw_to_end().result()
    assert loop.gauges()["pending_bytes"] == 0


@one_loop
def test_s5_what_was_kept_is_dropped_when_the_handshake_fails(loop, tcp):
    recorder = TLSRecorder(open=lambda socket: socket.write(b"never sent"))
    socket, peer = opening(loop, tcp, recorder, "accepted")
    peer.send(b"no TLS at all\r\n")
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "handshake", "close"]
    assert b"never" not in peer.raw_to_end().result()
    assert (socket.pending, socket.write(b"x")) == (0, -1)


# ---------------------------------------------------------------- records


def listening(loop, socket, peer):
    """From here on `records_of` counts: what the handshake sends is behind us."""
    assert socket.write(b"!") == 1
    assert loop.wait(peer.read(1)) == b"!"
    peer.came.clear()


def records_of(peer):
    """The sizes of the records that came since."""
    found = records(bytes(peer.came))
    assert {kind for kind, _ in found} <= {DATA}
    return [len(content) - SEALED[ssl.TLSVersion[peer.tls.version().replace(".", "_")]] for _, content in found]


def answering(loop, tcp, side, handler, version=None, **options):
    """What the peer gets from a handler that is called once: (bytes, the sizes of its records, system calls)."""
    recorder = Recorder(data=handler)
    context = context_of(side, version)
    socket, peer = side(loop, tcp, recorder, context, **options)
    listening(loop, socket, peer)
    before = pybuntcp.stats()["writes"]
    peer.write(b"go")
    loop.run_until(lambda: recorder.count("data"))
    socket.end()
    data, _ = loop.wait(peer.read_to_end())
    peer.notify()
    loop.run()
    *found, _notify = records_of(peer) if version is not ssl.TLSVersion.TLSv1_2 else [*record_sizes(peer), 0]
    return data, found, pybuntcp.stats()["writes"] - before - 1


def record_sizes(peer):
    """Of TLS 1.2, whose alerts are seen as such."""
    return [len(content) - 24 for kind, content in records(bytes(peer.came)) if kind == DATA]


@versions
@tls_sides
def test_s5_fifty_small_writes_in_a_handler_are_one_record(loop, tcp, side, version):
    def handler(socket, chunk):
        for number in range(50):
            assert socket.write(b"%02d" % number) == 2

    data, sizes, calls = answering(loop, tcp, side, handler, version)
    assert data == b"".join(b"%02d" % number for number in range(50))
    assert sizes == [100]
    assert calls == 1


@one_loop
@pytest.mark.parametrize("size", [FULL, FULL + 1, 150_000])
def test_s5_a_large_write_fills_its_records(loop, tcp, size):
    def handler(socket, chunk):
        assert socket.write(pattern(size)) == size

    data, sizes, _ = answering(loop, tcp, tls_accepted, handler, high_water_mark=1 << 20)
    assert data == pattern(size)
    full, rest = divmod(size, FULL)
    assert sorted(sizes) == sorted([FULL] * full + [rest] * bool(rest))


@one_loop
def test_s5_many_writes_of_a_kib_fill_records_too(loop, tcp):
    def handler(socket, chunk):
        for at in range(0, 128_000, 1000):
            assert socket.write(pattern(128_000)[at : at + 1000]) == 1000

    data, sizes, calls = answering(loop, tcp, tls_accepted, handler, high_water_mark=1 << 20)
    assert data == pattern(128_000)
    assert len(sizes) <= 16
    assert calls <= 16


@one_loop
@pytest.mark.parametrize(
    "sizes", [[1, 200_000, 1], [5, 20_000, 5, 20_000, 5], [FULL, 1], [FULL - 1, 1, 1], [40_000] * 3]
)
def test_w8_small_and_large_writes_of_a_handler_keep_their_order(loop, tcp, sizes):
    feed = Feed(sum(sizes))

    def handler(socket, chunk):
        for size in sizes:
            assert feed.write(socket, size) == size

    data, _, _ = answering(loop, tcp, tls_accepted, handler, high_water_mark=1 << 20)
    assert data == feed.data


@one_loop
def test_w2_outside_handlers_each_write_is_a_record_at_once(loop, tcp):
    socket, peer = tls_accepted(loop, tcp, Recorder())
    listening(loop, socket, peer)
    for word in (b"one", b"three"):
        assert socket.write(word) == len(word)
        assert socket.pending == 0
        assert peer.read(len(word)).result() == word
    assert records_of(peer) == [3, 5]


@one_loop
def test_w2_what_is_written_in_a_cork_is_one_record(loop, tcp):
    socket, peer = tls_accepted(loop, tcp, Recorder())
    listening(loop, socket, peer)
    with socket.cork():
        for word in (b"one", b"two", b"three"):
            assert socket.write(word) == len(word)
    assert peer.read(11).result() == b"onetwothree"
    assert records_of(peer) == [11]


@one_loop
def test_w2_flush_in_a_handler_ends_the_record(loop, tcp):
    def handler(socket, chunk):
        socket.write(b"first")
        socket.flush()
        assert (socket.pending, socket.bytes_written) == (0, 6)
        socket.write(b"second")

    data, sizes, _ = answering(loop, tcp, tls_accepted, handler)
    assert data == b"firstsecond"
    assert sizes == [5, 6]


@one_loop
def test_w8_cork_direct_writes_and_a_sink_keep_their_order(loop, tcp):
    def handler(socket, chunk):
        sink = socket.sink(high_water_mark=30_000)
        expected = bytearray()

        def say(verb, data):
            expected.extend(data)
            verb(data)

        say(socket.write, b"direct ")
        say(sink.write, b"sink ")
        with socket.cork():
            say(socket.write, b"corked ")
            say(sink.write, b"s" * 50_000)
            say(socket.write, b"w" * 20_000)
        say(sink.write, b"again ")
        say(socket.write, b"x" * 70_000)
        say(sink.write, b"last")
        sink.flush()
        told.append(bytes(expected))

    told = []
    data, _, _ = answering(loop, tcp, tls_accepted, handler, high_water_mark=1 << 20)
    assert [data] == told


@one_loop
def test_w8_a_sinks_writes_of_a_turn_are_one_record(loop, tcp):
    def handler(socket, chunk):
        sink = socket.sink()
        for _ in range(50):
            sink.write(b"ab")

    data, sizes, _ = answering(loop, tcp, tls_accepted, handler)
    assert data == b"ab" * 50
    assert sizes == [100]


@one_loop
def test_w3_pending_passes_the_mark_by_no_more_than_what_is_sealed(loop, tcp):
    """The peer does not read. What is sealed counts as sealed, in `pending` alone: 32 KiB more at the most."""
    recorder = Recorder()
    socket, peer = tls_accepted(loop, tcp, recorder, high_water_mark=50_000)
    shrink_send_buffer(socket)
    feed = Feed(16 << 20)
    feed.fill(socket, 10_000)
    assert 0 < socket.pending <= 50_000 + 32_768
    assert 0 < socket.bytes_written < feed.at
    assert loop.wait(peer.read(feed.at)) == feed.accepted
    loop.run_until(lambda: recorder.count("drain"))
    loop.settle()
    assert recorder.names() == ["open", "drain"]
    assert (socket.pending, socket.bytes_written) == (0, feed.at)


@one_loop
@needs_borrowed
def test_s5_set_max_send_fragment_bounds_the_records(loop, tcp):
    socket, peer = tls_accepted(loop, tcp, Recorder())
    listening(loop, socket, peer)
    assert socket.set_max_send_fragment(512)
    assert socket.write(pattern(2000)) == 2000
    assert peer.read(2000).result() == pattern(2000)
    assert records_of(peer) == [512, 512, 512, 464]


@one_loop
@on_fallback
def test_s5_the_fallback_engine_refuses_set_max_send_fragment(loop, tcp):
    socket, _peer = tls_accepted(loop, tcp, Recorder())
    with refused_by_fallback("set_max_send_fragment"):
        socket.set_max_send_fragment(512)
