"""API.md, `SocketSink`: what a drain callback may do: raise, write again, ask again, close this socket or others."""

from __future__ import annotations

import pytest
from support import Recorder, accepted, pattern, run_loop, unreferenced
from support.handlers import Boom, raising
from support.sinks import BIG, DrainCallback, stuffed

# ---------------------------------------------------------------- exceptions


def test_what_a_callback_raises_goes_to_the_error_handler(loop, transport):
    boom, seen = Boom(), []
    socket, _peer = accepted(loop, transport, Recorder(error=lambda socket, error: seen.append((socket, error))))
    socket.sink().add_drain_callback(raising(boom))
    loop.settle()
    assert seen == [(socket, boom)]
    assert socket.write(b"alive") == 5


def test_what_a_callback_raises_without_an_error_handler_is_reported(loop, transport):
    boom = Boom()
    socket, _peer = accepted(loop, transport, Recorder(without=("error",)))
    socket.sink().add_drain_callback(raising(boom))
    with loop.reports() as reports:
        loop.settle()
    assert reports == [boom]
    assert socket.write(b"alive") == 5


def test_an_error_handler_that_raises_is_reported(loop, transport):
    first, second = Boom("first"), Boom("second")

    def error(socket, _error):
        raise second

    socket, _peer = accepted(loop, transport, Recorder(error=error))
    socket.sink().add_drain_callback(raising(first))
    with loop.reports() as reports:
        loop.settle()
    assert reports == [second]
    assert second.__context__ is first


def test_those_after_a_callback_that_raised_are_called(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder(error=lambda socket, error: None))
    told = DrainCallback()
    for callback in (raising(Boom()), told, raising(Boom())):
        socket.sink().add_drain_callback(callback)
    loop.settle()
    assert told.errors == [None]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("pending", ["nothing", "much"])
def test_system_exit_and_ctrl_c_stop_run(loop, transport, pending, kind):
    stop = kind("told")
    make = accepted if pending == "nothing" else stuffed
    socket, peer = make(loop, transport, Recorder())
    socket.sink().add_drain_callback(raising(stop))
    peer.recv_until_eof()
    with pytest.raises(kind) as caught:
        loop.run()
    assert caught.value is stop
    assert socket.write(b"alive") == 5


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_second_stop_does_not_let_a_run_return_before_its_time(loop, transport, kind):
    """The callback is due in the turn that the handler stops, or in the next run: whenever, `run` says so."""

    def timeout(socket):
        socket.sink().add_drain_callback(raising(kind("second")))
        socket.timeout(0)
        raise kind("first")

    recorder = Recorder(timeout=timeout)
    socket, peer = accepted(loop, transport, recorder)
    socket.timeout(0.01)
    with pytest.raises(kind, match="first"):
        loop.run()
    peer.send(b"on").result()
    peer.shutdown().result()
    try:
        loop.run()
    except kind as error:
        assert str(error) == "second"  # noqa: PT017 - the first run may have dropped it
        loop.run()
    assert recorder.received() == b"on"
    assert recorder.count("close") == 1


@unreferenced
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_stop_after_the_last_referenced_socket_does_not_stop_the_next_run(loop, transport, kind):
    sibling = Recorder(label="sibling")
    other, other_peer = accepted(loop, transport, sibling)
    other.unref()
    closing = Recorder(close=lambda socket, error: other.sink().add_drain_callback(raising(kind("told"))))
    _socket, peer = accepted(loop, transport, closing)
    peer.shutdown().result()
    with pytest.raises(kind, match="told"):
        loop.run()
    other.ref()
    other_peer.send(b"on").result()
    other_peer.shutdown().result()
    loop.run()
    assert sibling.received() == b"on"


@pytest.mark.parametrize("event", ["data", "end", "timeout", "close"])
def test_what_was_written_before_a_handler_stopped_run_is_with_the_kernel(loop, transport, event):
    def write_and_stop(_socket, *args):
        sink.write(b"last words")
        raise SystemExit

    target, target_peer = accepted(loop, transport, Recorder(label="target"))
    sink = target.sink()
    socket, peer = accepted(loop, transport, Recorder(**{event: write_and_stop}))
    if event == "timeout":
        socket.timeout(0.01)
    elif event == "data":
        peer.send(b"x").result()
    else:
        peer.shutdown().result()
    with pytest.raises(SystemExit):
        loop.run()
    assert target.pending == 0
    assert target_peer.recv_exactly(10).result() == b"last words"


def test_a_failure_while_the_socket_closes_goes_to_the_error_handler_too(loop, transport):
    boom, seen = Boom(), []
    recorder = Recorder(error=lambda socket, error: seen.append(error))
    socket, _peer = stuffed(loop, transport, recorder)
    socket.sink().add_drain_callback(raising(boom))
    socket.terminate()
    loop.run()
    assert seen == [boom]
    assert recorder.names() == ["open", "error", "close"]


# ---------------------------------------------------------------- writing and asking again


def test_what_a_callback_writes_arrives_behind_the_rest(loop, transport):
    socket, peer = stuffed(loop, transport, Recorder())
    sink = socket.sink()

    def go_on(error):
        sink.write(b"and ")
        assert socket.write(b"on") == 2

    sink.add_drain_callback(go_on)
    assert loop.wait(peer.recv_exactly(BIG + 6)) == pattern(BIG) + b"and on"


def test_who_asks_again_is_called_in_a_later_turn(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    sink, log = socket.sink(), []

    def again(error):
        log.append("first")
        sink.add_drain_callback(DrainCallback(log, "again"))

    sink.add_drain_callback(again)
    sink.add_drain_callback(DrainCallback(log, "second"))
    loop.settle()
    assert log == ["first", "second", "again"]


def test_a_stream_made_of_drain_callbacks_arrives_whole(loop, transport):
    """The producer without asyncio: write some, go on when told."""
    socket, peer = accepted(loop, transport, Recorder())
    sink, pieces = socket.sink(), [pattern(BIG)[at : at + 100_000] for at in range(0, BIG, 100_000)]
    most = []

    def go_on(error):
        assert error is None
        while pieces and not sink.full:
            sink.write(pieces.pop(0))
            most.append(sink.pending)
        if pieces:
            sink.add_drain_callback(go_on)
        else:
            sink.end()

    sink.add_drain_callback(go_on)
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG)
    assert max(most) <= 65536 + 100_000


def test_callbacks_that_always_write_and_ask_again_starve_nobody(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    sink, rounds, going = socket.sink(), [], [True]
    arriving = peer.recv_until_eof()

    def again(error):
        if going:
            rounds.append(error)
            sink.write(b".")
            sink.add_drain_callback(again)
        else:
            sink.end()

    sibling = Recorder(label="sibling", data=lambda socket, chunk: socket.write(chunk))
    _other, other_peer = accepted(loop, transport, sibling)
    timed, _timed_peer = accepted(loop, transport, Recorder(label="timed", timeout=lambda socket: socket.timeout(0)))
    sink.add_drain_callback(again)
    other_peer.send(b"echo")
    assert loop.wait(other_peer.recv_exactly(4)) == b"echo"
    timed.timeout(0.01)
    loop.run_until(lambda: timed_out(timed))
    going.clear()
    assert loop.wait(arriving) == b"." * len(rounds)
    assert set(rounds) == {None}


def timed_out(socket):
    """Whether the recorder of this socket has seen its timeout."""
    return any(name == "timeout" and who is socket for each in Recorder.alive for name, who, _ in each.events)


def test_two_sockets_whose_callbacks_wake_each_other_starve_nobody(loop, transport):
    sinks = [accepted(loop, transport, Recorder())[0].sink() for _ in range(2)]
    turns, going = [], [True]

    def wake(other):
        turns.append(other)
        if going:
            sinks[other].add_drain_callback(lambda error: wake(1 - other))

    wake(0)
    loop.settle()
    going.clear()
    loop.settle()
    assert len(turns) > 2
    assert turns == [number % 2 for number in range(len(turns))]


# ---------------------------------------------------------------- closing


@pytest.mark.parametrize("verb", ["terminate", "close", "end", "shutdown"])
@pytest.mark.parametrize("pending", ["nothing", "much"])
def test_a_callback_may_end_its_socket(loop, transport, pending, verb):
    recorder = Recorder()
    make = accepted if pending == "nothing" else stuffed
    socket, peer = make(loop, transport, recorder)
    told = DrainCallback()
    for callback in (lambda error: getattr(socket, verb)(), told):
        socket.sink().add_drain_callback(callback)
    received = peer.recv_until_reset() if verb == "terminate" else peer.recv_until_eof()
    received.ignore()
    if verb in ("end", "shutdown"):
        loop.wait(received)
        peer.close()
    loop.run()
    assert told.errors == [None]
    assert recorder.count("close") == 1
    assert recorder.names()[-1] == "close"


def test_a_callback_that_writes_and_terminates_tells_the_later_ones_of_its_loss(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    sink, later = socket.sink(), DrainCallback()

    def lose(error):
        sink.write(b"never")
        sink.add_drain_callback(later)
        socket.terminate()

    sink.add_drain_callback(lose)
    loop.run()
    assert isinstance(later.error, BrokenPipeError)


def test_a_callback_may_close_siblings_that_wait_too(loop, transport):
    first, _peer = accepted(loop, transport, Recorder(label="first"))
    siblings = [stuffed(loop, transport, Recorder(label="sibling"))[0] for _ in range(3)]
    all_told = [DrainCallback() for _ in siblings]
    for socket, told in zip(siblings, all_told, strict=True):
        socket.sink().add_drain_callback(told)

    def close_all(error):
        for socket in siblings:
            socket.terminate()

    first.sink().add_drain_callback(close_all)
    loop.settle()
    assert [type(told.error) for told in all_told] == [BrokenPipeError] * 3
    assert first.write(b"alive") == 5


def test_siblings_of_one_turn_that_close_each_other_get_close_once_each(loop, transport):
    sockets = [accepted(loop, transport, Recorder(label="one of them"))[0] for _ in range(4)]
    log = []

    def closing(number):
        def callback(error):
            log.append((number, error))
            for socket in sockets:
                socket.terminate()

        return callback

    for number, socket in enumerate(sockets):
        socket.sink().add_drain_callback(closing(number))
    loop.run()
    assert log[0] == (0, None)
    assert sorted(log, key=lambda each: each[0]) == [(number, None) for number in range(4)]


def test_a_callback_may_stop_the_listener_with_all_its_sockets(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(3)]
    loop.run_until(lambda: recorder.count("open") == 3)
    told = [DrainCallback() for _ in peers]
    for socket, each in zip(recorder.sockets, told, strict=True):
        socket.sink().write(b"bye")
        socket.sink().add_drain_callback(each)
    recorder.sockets[0].sink().add_drain_callback(lambda error: listener.stop(True))
    for peer in peers:
        assert loop.wait(peer.recv_until_eof()) == b"bye"
    loop.run()
    assert [each.error for each in told] == [None] * 3
    assert recorder.count("close") == 3


def test_a_callback_may_not_turn_the_loop(loop, transport):
    seen = []
    socket, _peer = accepted(loop, transport, Recorder(error=lambda socket, error: seen.append(error)))
    socket.sink().add_drain_callback(lambda error: run_loop())
    loop.settle()
    assert [type(error) for error in seen] == [RuntimeError]
