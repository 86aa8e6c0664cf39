"""CONTRACT.md, "Writing": W5 `end`, `close`, `terminate`, `shutdown`; W6 `close` comes from the loop."""

from __future__ import annotations

import socket as stdlib_socket
import time

import pytest
from support import Feed, Recorder, accepted, pattern, sides, wait_for

import pybuntcp

BIG = 8 << 20  # more than any kernel buffer of a loopback connection holds


# ---------------------------------------------------------------- W5: end, close, terminate, shutdown


@pytest.mark.parametrize("size", [0, 1, 20_000, BIG])
@sides
def test_w5_end_delivers_every_byte_then_fin(loop, transport, side, size, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder, high_water_mark=1000)
    assert socket.end(pattern(size)) == size
    assert loop.wait(peer.recv_until_eof()) == pattern(size)
    peer.close()
    loop.run()
    assert recorder.close_error is None


@pytest.mark.parametrize("size", [1, 20_000, BIG])
def test_w5_end_in_a_handler_delivers_what_was_gathered_and_every_byte_of_its_own(loop, transport, size, handlers):
    def data(socket, chunk):
        assert socket.write(b"gathered") == 8
        assert socket.end(pattern(size)) == size

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder, high_water_mark=1000)
    peer.send(b"go")
    assert loop.wait(peer.recv_until_eof()) == b"gathered" + pattern(size)


def test_w5_end_without_data_returns_zero(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers())
    assert socket.end() == 0
    assert loop.wait(peer.recv_until_eof()) == b""


def test_w5_end_sends_pending_bytes_first(loop, transport, handlers):
    socket, peer = accepted(loop, transport, handlers())
    feed = Feed(BIG)
    feed.fill(socket)
    assert socket.end(b"the end") == 7
    assert loop.wait(peer.recv_until_eof()) == feed.accepted + b"the end"


@sides
def test_w5_after_end_the_socket_stays_readable_until_the_peer_ends(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    socket.end(b"bye")
    assert loop.wait(peer.recv_until_eof()) == b"bye"
    peer.send(pattern(200_000))
    loop.run_until(lambda: len(recorder.received()) == 200_000)
    peer.send(b"and more")
    peer.close()
    loop.run()
    assert recorder.received() == pattern(200_000) + b"and more"
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


def test_w5_after_end_the_state_is_shutdown(loop, transport, handlers):
    socket, _peer = accepted(loop, transport, handlers())
    assert socket.ready_state == pybuntcp.ReadyState.ESTABLISHED
    socket.end()
    assert socket.ready_state == pybuntcp.ReadyState.SHUTDOWN == -2


@pytest.mark.parametrize("data", [None, b"again"])
def test_w5_a_second_end_returns_minus_one_and_sends_nothing(loop, transport, data, handlers):
    socket, peer = accepted(loop, transport, handlers())
    assert socket.end(pattern(BIG)) == BIG
    assert socket.end(data) == -1
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG)
    assert socket.end(data) == -1


def test_w5_leaving_a_with_block_ends_the_socket(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    with socket as same:
        assert same is socket
        assert socket.write(b"inside") == 6
    assert socket.write(b"outside") == -1
    assert loop.wait(peer.recv_until_eof()) == b"inside"


@sides
def test_w5_close_sends_pending_bytes_then_closes(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    assert socket.close() is None
    assert loop.wait(peer.recv_until_eof()) == feed.accepted
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


def test_w5_close_in_a_handler_sends_what_was_gathered(loop, transport, handlers):
    def data(socket, chunk):
        assert socket.write(b"last words") == 10
        socket.close()

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"go")
    assert loop.wait(peer.recv_until_eof()) == b"last words"
    loop.run()
    assert recorder.names() == ["open", "data", "close"]


def test_w5_close_closes_the_reading_side_too(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    feed = Feed(BIG)
    feed.fill(socket)  # keeps the descriptor open after close()
    peer.send(b"unheard").result()
    socket.close()
    loop.settle()
    peer.recv_until_eof().ignore()  # may end in a reset: bytes were left unread
    loop.run()
    assert recorder.names() == ["open", "close"]


def test_w5_close_does_not_wait_for_the_peer(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, linger_timeout=None)
    socket.close()
    loop.run()  # the peer never ends
    assert recorder.names() == ["open", "close"]
    assert peer.recv_until_eof().result() == b""


@sides
def test_w5_terminate_drops_pending_bytes_and_resets(loop, over_tcp, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, over_tcp, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    assert socket.terminate() is None
    assert loop.gauges()["pending_bytes"] == 0
    loop.run()
    got = peer.recv_until_reset().result()
    assert feed.accepted.startswith(got)
    assert len(got) < feed.at
    assert recorder.names() == ["open", "close"]


def test_w5_terminate_drops_pending_bytes_and_closes_a_unix_socket(loop, unix, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, unix, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    socket.terminate()
    loop.run()
    got = peer.recv_until_eof().result()
    assert feed.accepted.startswith(got)
    assert len(got) < feed.at


def test_w5_terminate_in_a_handler_drops_what_was_gathered(loop, over_tcp, handlers):
    def data(socket, chunk):
        assert socket.write(b"never") == 5
        socket.terminate()

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, over_tcp, recorder)
    peer.send(b"go")
    loop.run()
    assert peer.recv_until_reset().result() == b""
    assert recorder.names() == ["open", "data", "close"]
    assert recorder.close_error is None


def test_w5_terminate_after_end_resets_what_still_waits(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder)
    assert socket.end(pattern(BIG)) == BIG
    socket.terminate()
    loop.run()
    assert len(peer.recv_until_reset().result()) < BIG


@sides
def test_w5_shutdown_is_fin_and_still_readable(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    feed = Feed(BIG)
    feed.fill(socket)
    socket.shutdown()
    assert socket.ready_state == pybuntcp.ReadyState.SHUTDOWN
    assert loop.wait(peer.recv_until_eof()) == feed.accepted
    peer.send(b"still heard")
    peer.close()
    loop.run()
    assert recorder.received() == b"still heard"
    assert [name for name in recorder.order() if name != "drain"] == ["open", "data", "end", "close"]
    assert recorder.close_error is None


def test_w5_shutdown_twice_is_once(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    socket.shutdown()
    socket.shutdown()
    assert loop.wait(peer.recv_until_eof()) == b""
    peer.close()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]


@sides
def test_w5_shutdown_of_the_reading_half_gives_no_data_and_no_end(loop, transport, side, handlers):
    recorder = handlers()
    socket, peer = side(loop, transport, recorder)
    socket.shutdown(True)
    peer.send(pattern(300_000))
    peer.shutdown()
    loop.settle()
    assert socket.write(b"still writable") == 14
    assert loop.wait(peer.recv_exactly(14)) == b"still writable"
    loop.settle()
    assert recorder.names() == ["open"]
    assert socket.end(b"bye") == 3
    assert loop.wait(peer.recv_until_eof()) == b"bye"
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


def test_w5_shutdown_of_the_reading_half_closes_when_we_end(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, linger_timeout=None)
    socket.shutdown(True)
    socket.end(b"bye")
    loop.run()  # the peer has not ended
    assert recorder.names() == ["open", "close"]
    assert peer.recv_exactly(3).result() == b"bye"


def test_w5_shutdown_of_the_reading_half_in_a_handler_ends_delivery_at_once(loop, transport, handlers):
    def data(socket, chunk):
        socket.shutdown(half_close=True)

    recorder = handlers(data=data)
    socket, peer = accepted(loop, transport, recorder)
    sent = peer.send(pattern(BIG))
    loop.wait(sent)  # discarded, not left in the kernel to stop the peer
    loop.settle()
    assert recorder.names() == ["open", "data"]
    socket.end()


def _reset_seen_by(peer) -> None:
    """The peer's kernel was told RST: with FIN seen before, it is an error of the next send."""
    wait_for(lambda: peer.sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR), "the reset")


@sides
def test_w5_after_end_a_peer_that_never_ends_is_reset_after_linger_timeout(loop, over_tcp, side, handlers):
    times = []
    recorder = handlers(close=lambda *_: times.append(time.monotonic()))
    socket, peer = side(loop, over_tcp, recorder, linger_timeout=0.1)
    started = time.monotonic()
    socket.end(b"bye")
    assert loop.wait(peer.recv_until_eof()) == b"bye"
    loop.run()
    assert 0.1 <= times[0] - started < 2
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, TimeoutError)
    _reset_seen_by(peer)


def test_w5_after_end_a_unix_peer_that_never_ends_is_closed_after_linger_timeout(loop, unix, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, unix, recorder, linger_timeout=0.05)
    socket.end()
    loop.run()
    assert isinstance(recorder.close_error, TimeoutError)
    with pytest.raises(BrokenPipeError):
        peer.send(b"x").result()


@pytest.mark.parametrize("verb", ["end", "close"])
def test_w5_pending_bytes_of_a_stalled_peer_are_waited_for_linger_timeout_then_reset(loop, over_tcp, verb, handlers):
    times = []
    recorder = handlers(close=lambda *_: times.append(time.monotonic()))
    socket, peer = accepted(loop, over_tcp, recorder, linger_timeout=0.1)
    feed = Feed(BIG)
    feed.fill(socket)
    started = time.monotonic()
    getattr(socket, verb)()
    loop.run()
    assert 0.1 <= times[0] - started < 2
    assert isinstance(recorder.close_error, TimeoutError)
    got = peer.recv_until_reset().result()
    assert feed.accepted.startswith(got)
    assert len(got) < feed.at


def test_w5_linger_timeout_does_not_touch_a_peer_that_ends_in_time(loop, transport, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, linger_timeout=5)
    socket.end(b"bye")
    assert loop.gauges()["armed_timers"] == 1
    loop.wait(peer.recv_until_eof())
    peer.close()
    loop.run()
    assert recorder.close_error is None
    assert loop.gauges()["armed_timers"] == 0


# ---------------------------------------------------------------- W6: close comes from the loop


VERBS = {
    "end": lambda socket: socket.end(b"bye"),
    "close": lambda socket: socket.close(),
    "terminate": lambda socket: socket.terminate(),
    "shutdown": lambda socket: socket.shutdown(),
    "stop(True)": lambda socket: socket.listener.stop(True),
}


@pytest.mark.parametrize("verb", VERBS)
def test_w6_no_verb_calls_a_handler_before_it_returns(loop, transport, verb, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder)
    peer.send(b"waiting to be read").result()
    peer.shutdown().result()
    before = recorder.names()
    VERBS[verb](socket)
    assert recorder.names() == before == ["open"]
    loop.run()
    assert recorder.names()[-1] == "close"
    assert recorder.count("close") == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("event", ["open", "data", "end", "timeout"])
def test_w6_no_verb_in_a_handler_calls_a_handler_before_it_returns(loop, transport, verb, event, handlers):
    called = []

    def act(socket, *_):
        before = recorder.names()
        VERBS[verb](socket)
        assert recorder.names() == before
        called.append(event)

    recorder = handlers(**{event: act})
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    peer.connected.ignore()  # a reset in `open` may meet its connect()
    peer.send(b"x").ignore()
    if event == "timeout":
        loop.run_until(lambda: recorder.sockets)
        recorder.socket.timeout(0.01)
    if event == "end":
        peer.shutdown().ignore()
    loop.run_until(lambda: called)
    listener.stop()
    peer.close().ignore()
    loop.run()
    assert called == [event]
    assert recorder.names()[-1] == "close"
    assert recorder.count("close") == 1


def test_w6_close_is_delivered_once_whatever_is_called(loop, transport, handlers):
    recorder = handlers()
    socket, _peer = accepted(loop, transport, recorder)
    for verb in ("shutdown", "end", "close", "close", "terminate", "close", "end"):
        getattr(socket, verb)()
    loop.run()
    assert recorder.names() == ["open", "close"]
    loop.settle()
    assert recorder.count("close") == 1


def test_w6_close_is_the_last_handler_of_its_socket(loop, transport, handlers):
    def data(socket, chunk):
        socket.timeout(0.001)
        socket.close()

    recorder = handlers(data=data)
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(10)]
    for peer in peers:
        peer.send(pattern(300_000)).ignore()
        peer.shutdown().ignore()
    loop.run_until(lambda: recorder.count("close") == 10)
    loop.settle()
    for socket in recorder.sockets:
        assert recorder.names(socket) == ["open", "data", "close"]


def test_w6_stop_with_sockets_closes_each_once_from_the_loop(loop, transport, handlers):
    recorder = handlers()
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(5)]
    loop.run_until(lambda: len(recorder.sockets) == 5)
    listener.stop(True)
    assert recorder.count("close") == 0
    loop.run()
    assert recorder.count("close") == 5
    assert [peer.recv_until_eof().result() for peer in peers] == [b""] * 5
