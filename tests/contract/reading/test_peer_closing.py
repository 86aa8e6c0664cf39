"""CONTRACT.md, "Reading and closing": R2 the peer's FIN, R3 its reset, and what came before them."""

from __future__ import annotations

import pytest
from support import Feed, Recorder, accepted, finish_and_wait, linux_only, pattern, reset_and_wait, send_and_wait, sides

from pybuntcp import ReadyState

BIG = 4 << 20
HUGE = 16 << 20  # more than the kernel holds of a loopback connection


# ---------------------------------------------------------------- R2: the peer's FIN


@sides
def test_r2_fin_is_end_once_then_close_without_error(loop, transport, side, handlers):
    recorder = handlers()
    _socket, peer = side(loop, transport, recorder)
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None
    assert peer.recv_until_eof().result() == b""


@sides
def test_r2_data_before_fin_is_delivered_before_end(loop, transport, side, handlers):
    recorder = handlers()
    _socket, peer = side(loop, transport, recorder)
    peer.send(pattern(BIG))
    peer.shutdown()
    loop.run()
    assert recorder.received() == pattern(BIG)
    assert recorder.order() == ["open", "data", "end", "close"]


def test_r2_without_an_end_handler_fin_closes_too(loop, transport, handlers):
    recorder = handlers(without=("end",))
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "data", "close"]
    assert recorder.close_error is None


@sides
def test_r2_pending_bytes_are_flushed_before_the_close(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder, high_water_mark=HUGE)
    assert socket.write(pattern(HUGE)) == HUGE
    finish_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == ["open", "end"]  # waits: the peer has not read
    assert socket.pending > 0
    assert loop.wait(peer.recv_until_eof()) == pattern(HUGE)
    loop.run()
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None


@pytest.mark.parametrize("size", [10, 8 << 20])
@sides
def test_r2_bytes_written_inside_end_are_flushed_before_the_close(loop, transport, side, size, handlers):
    def end(socket):
        assert socket.write(pattern(size)) == size

    recorder = handlers(end=end)
    _socket, peer = side(loop, transport, recorder, high_water_mark=8 << 20)
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == pattern(size)
    loop.run()
    assert recorder.names() == ["open", "end", "close"]


def test_r2_end_inside_end_delivers_every_byte(loop, transport, handlers):
    recorder = handlers(end=lambda socket: socket.end(pattern(8 << 20)))
    _socket, peer = accepted(loop, transport, recorder)
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == pattern(8 << 20)
    loop.run()
    assert recorder.names() == ["open", "end", "close"]


@pytest.mark.parametrize("without", [(), ("end",)], ids=["with end", "without end"])
@sides
def test_r2_allow_half_open_stays_writable_until_we_end(loop, transport, side, without, handlers):
    recorder = handlers(without=without)
    socket, peer = side(loop, transport, recorder, allow_half_open=True)
    finish_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == (["open"] if without else ["open", "end"])
    assert socket.ready_state == ReadyState.ESTABLISHED
    assert socket.write(b"after your end") == 14
    assert loop.wait(peer.recv_exactly(14)) == b"after your end"
    loop.settle()
    assert recorder.count("close") == 0
    assert socket.end(b", bye") == 5
    assert loop.wait(peer.recv_until_eof()) == b", bye"
    loop.run()
    assert recorder.names()[-1] == "close"
    assert recorder.count("end") == (0 if without else 1)
    assert recorder.close_error is None


def test_r2_allow_half_open_sends_more_than_the_kernel_holds_after_fin(loop, transport, handlers):
    feed = Feed(8 << 20)

    def go_on(socket):
        feed.write(socket, len(feed.data))
        if feed.at == len(feed.data):
            socket.end()

    recorder = handlers(end=go_on, drain=go_on)
    _socket, peer = accepted(loop, transport, recorder, allow_half_open=True)
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == feed.data
    loop.run()
    assert [name for name in recorder.order() if name != "drain"] == ["open", "end", "close"]


def test_r2_fin_after_our_end_closes_a_half_open_socket(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, allow_half_open=True)
    socket.end()
    loop.wait(peer.recv_until_eof())
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None


# ---------------------------------------------------------------- R3: reset


@sides
def test_r3_rst_is_close_with_connection_reset_error_and_no_end(loop, over_tcp, side):
    recorder = Recorder()
    _socket, peer = side(loop, over_tcp, recorder)
    peer.reset()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert type(recorder.close_error) is ConnectionResetError
    assert (recorder.close_error.code, recorder.close_error.syscall) == ("ECONNRESET", "read")


@linux_only
@sides
def test_r3_a_peer_that_leaves_bytes_unread_is_a_reset(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    reset_and_wait(socket, peer)
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert type(recorder.close_error) is ConnectionResetError


@linux_only
@pytest.mark.parametrize("size", [1, 50_000])
@sides
def test_r3_bytes_already_received_are_delivered_before_the_reset(loop, transport, side, size, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    send_and_wait(socket, peer, pattern(size))
    reset_and_wait(socket, peer)
    loop.run()
    assert recorder.received() == pattern(size)
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ConnectionResetError


def test_r3_a_reset_drops_pending_bytes(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder)
    Feed(8 << 20).fill(socket)
    peer.reset()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert loop.gauges()["pending_bytes"] == 0


def test_r3_a_reset_of_a_half_open_socket_is_reported(loop, over_tcp, handlers):
    recorder = handlers()
    _socket, peer = accepted(loop, over_tcp, recorder, allow_half_open=True)
    peer.send(b"x")
    peer.reset()
    loop.run()
    assert recorder.count("end") == 0
    assert type(recorder.close_error) is ConnectionResetError
