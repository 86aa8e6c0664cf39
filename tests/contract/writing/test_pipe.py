"""X4: `socket.pipe(target)`: bytes once and in order, what is held, the end, resets, `unpipe`."""

from __future__ import annotations

import pytest
from support import Recorder, accepted, pattern, send_and_wait
from support.piping import apart, piped, proxied
from support.slots import settle_until

import pybuntcp

MUCH = pattern(2 << 20)  # more than small buffers on the way hold
RECORD = 16384  # bytes of a TLS record: a source delivers it whole

# ---------------------------------------------------------------- bytes


def test_x4_every_byte_is_written_to_the_target_once_and_in_order(loop, transport, handlers):
    pair = piped(loop, transport, handlers)
    pair.sender.send(MUCH)
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_until_eof()) == MUCH
    assert "data" not in pair.at_source.names() + pair.at_target.names()


def test_x4_a_socket_piped_into_itself_is_an_echo(loop, transport):
    recorder = Recorder(open=lambda socket: socket.pipe(socket))
    _socket, peer = accepted(loop, transport, recorder)
    echoed = [loop.wait(peer.send(MUCH[:1000])), loop.wait(peer.recv_exactly(1000))]
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == b""
    loop.run()
    assert echoed[1] == MUCH[:1000]
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None


def test_x4_two_that_are_piped_into_each_other_are_a_proxy(loop, transport):
    pair = proxied(loop, transport, small=True)
    pair.sender.send(MUCH)
    assert loop.wait(pair.receiver.recv_exactly(len(MUCH))) == MUCH
    pair.receiver.send(MUCH[::-1])
    pair.receiver.shutdown()
    assert loop.wait(pair.sender.recv_until_eof()) == MUCH[::-1]
    pair.sender.shutdown()
    loop.run()
    assert [each.close_error for each in (pair.at_source, pair.at_target)] == [None, None]


def test_x4_many_sockets_can_be_piped_into_one(loop, transport, handlers):
    pair = piped(loop, transport, handlers, end=False)
    others = [accepted(loop, transport, handlers()) for _ in range(3)]
    senders = [pair.sender] + [peer for _, peer in others]
    for socket, _ in others:
        socket.pipe(pair.target, end=False)
    for number, sender in enumerate(senders):
        sender.send(bytes([number]) * 300_000)
    received = loop.wait(pair.receiver.recv_exactly(1_200_000))
    assert sorted(received) == sorted(bytes(range(4)) * 300_000)


def test_x4_what_the_user_writes_to_the_target_stays_in_its_place(loop, transport):
    pair = piped(loop, transport)
    pair.sender.send(b"one ")
    received = [loop.wait(pair.receiver.recv_exactly(4))]
    pair.target.write(b"two ")
    pair.sender.send(b"three")
    assert received[0] + loop.wait(pair.receiver.recv_exactly(9)) == b"one two three"


def test_x4_bytes_that_data_was_given_before_are_not_piped(loop, transport):
    pair = apart(loop, transport)
    pair.sender.send(b"first")
    loop.run_until(lambda: pair.at_source.received() == b"first")
    pair.source.pipe(pair.target)
    pair.sender.send(b"second")
    assert loop.wait(pair.receiver.recv_exactly(6)) == b"second"


def test_x4_a_paused_socket_is_resumed_and_can_be_paused_again(loop, transport, handlers):
    pair = apart(loop, transport, handlers, source={"pause_on_connect": True})
    send_and_wait(pair.source, pair.sender, b"waits")
    loop.settle()
    assert pair.source.bytes_read == 0
    pair.source.pipe(pair.target)
    assert loop.wait(pair.receiver.recv_exactly(5)) == b"waits"
    pair.source.pause()
    send_and_wait(pair.source, pair.sender, b"again")
    loop.settle()
    assert pair.target.bytes_written == 5
    pair.source.resume()
    assert loop.wait(pair.receiver.recv_exactly(5)) == b"again"


# ---------------------------------------------------------------- how much is held


@pytest.mark.parametrize("mark", [0, 1000, 65536])
def test_x4_no_more_than_the_high_water_mark_is_held_and_the_source_is_not_read(loop, transport, mark):
    pair = piped(loop, transport, high_water_mark=mark, small=True)
    pair.sender.send(MUCH)
    settle_until(loop, lambda: pair.target.pending, "bytes that the kernel does not take")
    for _ in range(20):
        loop.settle()
        assert pair.target.pending <= max(mark, 4096) + (RECORD if transport.has_tls else 0)
        assert pair.source.bytes_read == pair.target.bytes_written + pair.target.pending
    assert pair.source.bytes_read < len(MUCH) // 2
    assert loop.wait(pair.receiver.recv_exactly(len(MUCH))) == MUCH


def test_x4_the_users_own_short_write_gets_its_drain(loop, transport):
    pair = piped(loop, transport, small=True)
    pair.sender.send(MUCH)
    settle_until(loop, lambda: pair.target.pending, "bytes that the kernel does not take")
    assert pair.target.write(bytes(1 << 20)) < 1 << 20
    pair.receiver.recv_exactly(len(MUCH)).ignore()
    loop.run_until(lambda: pair.at_target.count("drain") == 1)


# ---------------------------------------------------------------- the end


def test_x4_the_end_of_the_source_is_the_end_of_the_target(loop, transport, handlers):
    pair = piped(loop, transport, handlers)
    pair.sender.send(b"last words")
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_until_eof()) == b"last words"
    assert pair.target.write(b"x") == -1
    pair.receiver.shutdown()
    loop.run()
    assert pair.at_source.names() == ["open", "end", "close"]
    assert pair.at_target.names() == ["open", "end", "close"]


def test_x4_without_end_the_target_goes_on(loop, transport):
    pair = piped(loop, transport, end=False)
    pair.sender.send(b"all")
    pair.sender.shutdown()
    loop.run_until(lambda: pair.at_source.count("close"))
    assert pair.target.ready_state == pybuntcp.ReadyState.ESTABLISHED
    pair.target.end(b" of it")
    assert loop.wait(pair.receiver.recv_until_eof()) == b"all of it"


def test_x4_a_side_of_a_proxy_still_gets_what_the_other_sends_after_its_own_end(loop, transport, handlers):
    pair = proxied(loop, transport, handlers)
    pair.sender.send(b"question")
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_until_eof()) == b"question"
    pair.receiver.send(MUCH)
    pair.receiver.shutdown()
    assert loop.wait(pair.sender.recv_until_eof()) == MUCH
    loop.run()
    assert [each.close_error for each in (pair.at_source, pair.at_target)] == [None, None]


def test_x4_a_socket_whose_peer_has_ended_before_ends_its_target_at_once(loop, transport):
    pair = apart(loop, transport, allow_half_open=True)
    pair.sender.shutdown()
    loop.run_until(lambda: pair.at_source.count("end"))
    pair.source.pipe(pair.target)
    assert loop.wait(pair.receiver.recv_until_eof()) == b""
    assert pair.at_source.count("end") == 1
    pair.source.end()


@pytest.mark.parametrize("verb", ["close", "shutdown"])
def test_x4_closing_the_source_ends_the_target_after_what_was_read(loop, transport, verb):
    pair = piped(loop, transport)
    pair.sender.send(b"read")
    assert loop.wait(pair.receiver.recv_exactly(4)) == b"read"
    pair.source.close() if verb == "close" else pair.source.shutdown(True)
    assert loop.wait(pair.receiver.recv_until_eof()) == b""
    pair.source.close()


@pytest.mark.parametrize("verb", ["end", "close", "shutdown"])
def test_x4_when_the_user_ends_the_target_bytes_go_to_data_again(loop, transport, verb):
    pair = piped(loop, transport)
    pair.sender.send(b"piped")
    assert loop.wait(pair.receiver.recv_exactly(5)) == b"piped"
    getattr(pair.target, verb)()
    pair.sender.send(b"not piped")
    loop.run_until(lambda: pair.at_source.received() == b"not piped")
    assert loop.wait(pair.receiver.recv_until_eof()) == b""


def test_x4_a_handler_of_end_may_still_write_to_the_target_or_unpipe(loop, transport):
    pair = piped(loop, transport, lambda label: Recorder(label=label, end=lambda socket: last_words(socket)))

    def last_words(socket):
        if socket is pair.source:
            pair.target.write(b"trailer")
            socket.unpipe()

    pair.sender.send(b"body ")
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_exactly(12)) == b"body trailer"
    loop.run_until(lambda: pair.at_source.count("close"))
    assert pair.target.ready_state == pybuntcp.ReadyState.ESTABLISHED


# ---------------------------------------------------------------- resets


def test_x4_a_reset_of_the_source_resets_the_target(loop, over_tcp):
    pair = piped(loop, over_tcp)
    pair.sender.send(b"x")
    assert loop.wait(pair.receiver.recv_exactly(1)) == b"x"
    pair.sender.reset()
    loop.wait(pair.receiver.recv_until_reset())
    loop.run()
    assert isinstance(pair.at_source.close_error, ConnectionResetError)
    assert isinstance(pair.at_target.close_error, ConnectionAbortedError)


def test_x4_a_reset_of_the_target_resets_the_source(loop, over_tcp):
    pair = piped(loop, over_tcp)
    pair.receiver.reset()
    loop.wait(pair.sender.recv_until_reset())
    loop.run()
    assert isinstance(pair.at_target.close_error, ConnectionResetError)
    assert isinstance(pair.at_source.close_error, ConnectionAbortedError)


def test_x4_a_target_that_cannot_be_written_to_resets_the_source(loop, over_tcp):
    pair = piped(loop, over_tcp)
    pair.target.pause()
    pair.receiver.reset().result()
    pair.sender.send(MUCH).ignore()
    settle_until(loop, lambda: pybuntcp.stats()["armed_timers"], "the failed write")
    pair.target.resume()
    loop.run()
    assert isinstance(pair.at_source.close_error, ConnectionAbortedError)
    assert isinstance(pair.at_target.close_error, OSError)


@pytest.mark.parametrize("which", ["source", "target"])
def test_x4_terminating_one_resets_the_other(loop, over_tcp, which):
    pair = piped(loop, over_tcp)
    getattr(pair, which).terminate()
    loop.wait(pair.receiver.recv_until_reset())
    loop.wait(pair.sender.recv_until_reset())
    loop.run()


@pytest.mark.parametrize("which", ["source", "target"])
def test_x4_a_timeout_of_one_resets_the_other(loop, over_tcp, which):
    pair = piped(loop, over_tcp)
    getattr(pair, which).timeout(0.01)
    other = pair.receiver if which == "source" else pair.sender
    loop.wait(other.recv_until_reset())
    loop.run()


# ---------------------------------------------------------------- unpipe


def test_x4_unpipe_leaves_both_open_and_bytes_go_to_data_again(loop, transport, handlers):
    pair = piped(loop, transport, handlers)
    pair.sender.send(b"there")
    assert loop.wait(pair.receiver.recv_exactly(5)) == b"there"
    pair.source.unpipe()
    pair.source.unpipe()
    pair.sender.send(b"here")
    loop.run_until(lambda: pair.at_source.received() == b"here")
    pair.target.write(b"still open")
    assert loop.wait(pair.receiver.recv_exactly(10)) == b"still open"
    pair.sender.shutdown()
    loop.run_until(lambda: pair.at_source.count("close"))
    assert pair.target.ready_state == pybuntcp.ReadyState.ESTABLISHED


def test_x4_unpipe_in_the_middle_of_a_stream_loses_nothing(loop, transport, handlers):
    pair = piped(loop, transport, handlers, small=True)
    pair.sender.send(MUCH)
    settle_until(loop, lambda: pair.target.pending, "bytes that the kernel does not take")
    pair.source.unpipe()
    there = pair.source.bytes_read
    received = pair.receiver.recv_exactly(there)
    loop.run_until(lambda: len(pair.at_source.received()) == len(MUCH) - there)
    assert loop.wait(received) + pair.at_source.received() == MUCH


def test_x4_a_socket_can_be_piped_from_one_target_to_another(loop, transport):
    pair = piped(loop, transport)
    third, peer = accepted(loop, transport, Recorder())
    pair.sender.send(b"first")
    assert loop.wait(pair.receiver.recv_exactly(5)) == b"first"
    pair.source.unpipe()
    pair.source.pipe(third)
    pair.sender.send(b"second")
    pair.sender.shutdown()
    assert loop.wait(peer.recv_until_eof()) == b"second"
    assert pair.target.ready_state == pybuntcp.ReadyState.ESTABLISHED


# ---------------------------------------------------------------- what it costs


def test_x4_the_gauge_and_the_counter_count(loop, transport):
    pair = piped(loop, transport)
    before = pybuntcp.stats()
    assert before["pipes"] == 1
    pair.sender.send(MUCH)
    received = pair.receiver.recv_exactly(len(MUCH))
    assert loop.wait(received) == MUCH
    after = pybuntcp.stats()
    assert after["bytes_piped"] - before["bytes_piped"] == len(MUCH)
    pair.source.unpipe()
    assert pybuntcp.stats()["pipes"] == 0


@pytest.mark.standalone("a loop inside asyncio keeps the GIL")
@pytest.mark.plain("the engine of the standard library takes it")
def test_x4_the_gil_is_not_taken_however_many_bytes_move(loop, transport):
    pair = piped(loop, transport, small=True)
    pair.sender.send(4 * MUCH)
    pair.sender.shutdown()
    received = pair.receiver.recv_until_eof()
    pair.receiver.shutdown()
    before = pybuntcp.stats()
    loop.run()
    after = pybuntcp.stats()
    assert received.result() == 4 * MUCH
    assert after["turns"] - before["turns"] > 30
    assert after["gil_takes"] - before["gil_takes"] < 10  # for `end` and `close` of both, and the end of `run`
