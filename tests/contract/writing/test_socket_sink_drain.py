"""API.md, `SocketSink`: `await drain()` and `add_drain_callback`: told once, from the loop, with the real outcome."""

from __future__ import annotations

import errno

import pytest
from support import Recorder, accepted, pattern, reset_and_wait, sides
from support.sinks import BIG, SMALL, DrainCallback, ended, stuffed

# ---------------------------------------------------------------- await drain()


def test_drain_returns_at_once_if_nothing_is_pending(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    assert ended(socket.sink().drain())


@sides
def test_drain_waits_until_the_peer_has_read(loop, transport, side):
    socket, peer = stuffed(loop, transport, Recorder(), side)
    drain = socket.sink().drain()
    for _ in range(3):
        assert not ended(drain)
        loop.settle()
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert socket.pending == 0
    assert ended(drain)


def test_drain_waits_for_what_the_turn_has_not_sent_yet(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    sink.write(b"x")
    drain = sink.drain()
    assert not ended(drain)
    loop.settle()
    assert ended(drain)


def test_drain_waits_for_what_socket_write_left_too(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    count = socket.write(pattern(BIG))
    assert 0 < count < BIG
    drain = socket.sink().drain()
    assert not ended(drain)
    loop.wait(peer.recv_exactly(count))
    loop.settle()
    assert ended(drain)


def test_drain_waits_for_what_is_written_meanwhile(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    sink = socket.sink()
    drain = sink.drain()
    assert not ended(drain)
    sink.write(pattern(BIG))
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert socket.pending > 0
    assert not ended(drain)
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert ended(drain)


def test_drain_waits_for_what_the_drain_handler_writes(loop, transport):
    recorder = Recorder(drain=lambda socket: socket.sink(high_water_mark=0).write(pattern(BIG)))
    socket, peer = accepted(loop, transport, recorder, rcvbuf=SMALL)
    count = socket.write(pattern(BIG))
    assert 0 < count < BIG
    drain, pendings = socket.sink().drain(), []
    socket.sink().add_drain_callback(lambda error: pendings.append(socket.pending))
    assert not ended(drain)
    loop.wait(peer.recv_exactly(count))
    loop.run_until(lambda: recorder.count("drain"))
    loop.settle()
    assert socket.pending > 0
    assert (ended(drain), pendings) == (False, [])
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert (ended(drain), pendings) == (True, [0])


def test_several_drains_end_together(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    drains = [socket.sink().drain() for _ in range(3)]
    assert [ended(each) for each in drains] == [False] * 3
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert [ended(each) for each in drains] == [True] * 3


def test_a_drain_that_is_given_up_harms_nobody(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    drain, told = socket.sink().drain(), DrainCallback()
    assert not ended(drain)
    drain.close()
    socket.sink().add_drain_callback(told)
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert told.error is None


@pytest.mark.parametrize("verb", ["terminate", "close"])
def test_drain_fails_when_the_socket_goes_with_bytes_unsent(loop, transport, verb):
    socket, _peer = stuffed(loop, transport, Recorder(), linger_timeout=0.05)
    drain = socket.sink().drain()
    assert not ended(drain)
    getattr(socket, verb)()
    loop.run()
    with pytest.raises(BrokenPipeError if verb == "terminate" else TimeoutError):
        ended(drain)


def test_drain_fails_with_the_error_of_the_connection(loop, transport):
    recorder = Recorder()
    socket, peer = stuffed(loop, transport, recorder)
    drain = socket.sink().drain()
    assert not ended(drain)
    peer.close()  # with bytes unread: a reset
    loop.run()
    with pytest.raises(ConnectionResetError) as caught:
        ended(drain)
    assert caught.value.code == "ECONNRESET"
    assert isinstance(recorder.close_error, ConnectionResetError)


# ---------------------------------------------------------------- callbacks: when


def test_a_callback_is_called_once_when_all_is_with_the_kernel(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    told = DrainCallback()
    socket.sink().add_drain_callback(told)
    loop.settle()
    assert told.errors == []
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert told.errors == [None]
    socket.sink().write(pattern(BIG))  # another drain is nothing to it
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert told.errors == [None]


def test_a_callback_is_called_when_the_bytes_are_out_and_not_before(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    seen = []
    socket.sink().add_drain_callback(lambda error: seen.append((socket.pending, socket.bytes_written)))
    loop.wait(peer.recv_exactly(BIG))
    loop.settle()
    assert seen == [(0, BIG)]


def test_a_callback_on_an_idle_socket_is_called_from_the_loop(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    told = DrainCallback()
    socket.sink().add_drain_callback(told)
    assert told.errors == []
    loop.settle()
    assert told.errors == [None]


VERBS = {
    "sink.flush": lambda socket, sink: sink.flush(),
    "sink.write": lambda socket, sink: socket.sink(high_water_mark=0).write(b"now"),
    "sink.end": lambda socket, sink: sink.end(b"now"),
    "sink.close": lambda socket, sink: sink.close(),
    "socket.flush": lambda socket, sink: socket.flush(),
    "socket.write": lambda socket, sink: socket.write(b"now"),
    "socket.end": lambda socket, sink: socket.end(b"now"),
    "socket.close": lambda socket, sink: socket.close(),
    "socket.shutdown": lambda socket, sink: socket.shutdown(),
    "socket.terminate": lambda socket, sink: socket.terminate(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("place", ["handler", "outside"])
def test_a_callback_is_never_called_inside_a_verb(loop, transport, place, verb):
    socket, _peer = accepted(loop, transport, Recorder())
    told, seen = DrainCallback(), []

    def perform():
        sink = socket.sink()
        sink.write(b"held")
        sink.add_drain_callback(told)
        VERBS[verb](socket, sink)
        seen.append(list(told.errors))

    if place == "handler":
        loop.wait(loop.call(perform))
    else:
        perform()
    loop.settle()
    assert seen == [[]]
    assert len(told.errors) == 1
    assert (told.error is None) is (verb != "socket.terminate")


def test_a_callback_is_not_called_when_a_cork_is_left(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    told = DrainCallback()
    with socket.cork():
        socket.sink().write(b"held")
        socket.sink().add_drain_callback(told)
        loop.settle()
        assert (told.errors, socket.pending) == ([], 4)
    assert (told.errors, socket.pending) == ([], 0)
    loop.settle()
    assert told.errors == [None]
    assert peer.recv_exactly(4).result() == b"held"


def test_callbacks_are_called_in_the_order_they_asked(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    log = []
    for number in range(5):
        socket.sink().add_drain_callback(DrainCallback(log, number))
    loop.settle()
    assert log == [0, 1, 2, 3, 4]


def test_a_callback_that_asked_twice_is_called_twice(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    told = DrainCallback()
    for _ in range(2):
        socket.sink().add_drain_callback(told)
    loop.settle()
    assert told.errors == [None, None]


@pytest.mark.parametrize("value", [None, 5, "drain"])
def test_what_cannot_be_called_is_a_type_error(loop, transport, value):
    socket, _peer = accepted(loop, transport, Recorder())
    with pytest.raises(TypeError, match="callable"):
        socket.sink().add_drain_callback(value)


# ---------------------------------------------------------------- callbacks: the outcome


def test_a_reset_is_reported_before_close_with_its_error(loop, transport):
    log = []
    recorder = Recorder(close=lambda socket, error: log.append("close"))
    socket, peer = stuffed(loop, transport, recorder)
    told = DrainCallback(log)
    socket.sink().add_drain_callback(told)
    peer.close()  # with bytes unread
    loop.run()
    assert isinstance(told.error, ConnectionResetError)
    assert (told.error.errno, told.error.code) == (errno.ECONNRESET, "ECONNRESET")
    assert log == ["drain", "close"]


def test_terminate_is_reported_before_close_as_a_broken_pipe(loop, transport):
    log = []
    socket, _peer = stuffed(loop, transport, Recorder(close=lambda socket, error: log.append("close")))
    told = DrainCallback(log)
    socket.sink().add_drain_callback(told)
    socket.terminate()
    loop.run()
    assert isinstance(told.error, BrokenPipeError)
    assert (told.error.errno, told.error.code) == (errno.EPIPE, "EPIPE")
    assert log == ["drain", "close"]


def test_close_with_everything_delivered_is_reported_before_close_as_success(loop, transport):
    log = []
    socket, peer = stuffed(loop, transport, Recorder(close=lambda socket, error: log.append("close")))
    told = DrainCallback(log)
    socket.sink().add_drain_callback(told)
    socket.close()
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG)
    loop.run()
    assert told.error is None
    assert log == ["drain", "close"]


def test_end_with_everything_delivered_is_reported_as_success(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    told = DrainCallback()
    sink = socket.sink()
    sink.add_drain_callback(told)
    sink.end(b"tail")
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG) + b"tail"
    peer.close()
    loop.run()
    assert told.error is None


def test_a_loss_at_the_end_of_linger_is_reported_as_close_is(loop, transport):
    recorder = Recorder()
    socket, _peer = stuffed(loop, transport, recorder, linger_timeout=0.05)
    told = DrainCallback()
    socket.sink().add_drain_callback(told)
    socket.close()
    loop.run()
    assert isinstance(told.error, TimeoutError)
    assert isinstance(recorder.close_error, TimeoutError)


def test_a_write_that_meets_a_reset_is_reported_with_its_error(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    socket.pause()
    reset_and_wait(socket, peer)
    told = DrainCallback()
    sink = socket.sink()
    sink.write(b"lost")
    sink.add_drain_callback(told)
    loop.settle()
    assert isinstance(told.error, (ConnectionResetError, BrokenPipeError))
    socket.resume()
    loop.run()
    assert len(told.errors) == 1
    assert type(recorder.close_error) is type(told.error)


def test_many_get_the_same_failure(loop, transport):
    socket, _peer = stuffed(loop, transport, Recorder())
    all_told = [DrainCallback() for _ in range(3)]
    for told in all_told:
        socket.sink().add_drain_callback(told)
    drain = socket.sink().drain()
    assert not ended(drain)
    socket.terminate()
    loop.run()
    assert [type(told.error) for told in all_told] == [BrokenPipeError] * 3
    with pytest.raises(BrokenPipeError):
        ended(drain)


def test_a_socket_that_is_gone_refuses_who_would_wait(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    socket.terminate()
    for _ in ("closing", "closed"):
        with pytest.raises(BrokenPipeError):
            sink.add_drain_callback(DrainCallback())
        with pytest.raises(BrokenPipeError):
            ended(sink.drain())
        loop.run()


def test_what_is_reported_does_not_outlive_the_loop(loop, transport):
    socket, _peer = stuffed(loop, transport, Recorder())
    told = DrainCallback()
    socket.sink().add_drain_callback(told)
    assert loop.gauges()["pending_bytes"] == socket.pending > 0
    socket.terminate()
    loop.run()
    assert loop.gauges()["pending_bytes"] == loop.gauges()["open_sockets"] == 0
    with loop.reports() as reports:
        loop.settle()
    assert (reports, len(told.errors)) == ([], 1)
