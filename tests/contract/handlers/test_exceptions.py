"""Contract, Handlers (H1): the roads that an exception of a handler takes."""

from __future__ import annotations

import pytest
from support import Recorder, pattern
from support.endpoints import local_pair
from support.handlers import Boom, chain, ignore, raising

import pybuntcp

EVENTS = ["open", "data", "drain", "end", "close", "timeout"]
EXITS = [KeyboardInterrupt, SystemExit]


def provoke(event, socket, peer):
    """Make this event happen to an open accepted socket."""
    if event == "data":
        peer.send(b"x")
    elif event == "end":
        peer.shutdown()
    elif event == "close":
        peer.close()
    elif event == "timeout":
        socket.timeout(0.01)
    elif event == "drain":
        chunk = pattern(65536)
        while socket.write(chunk) == len(chunk):
            pass
        peer.recv_until_eof()


def accepted(loop, transport, recorder, **options):
    """A listener with these handlers and a raw peer, once its `open` has run: (listener, peer)."""
    listener = transport.listen(recorder, **options)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    return listener, peer


def echo(loop, transport, listener):
    """Whether the listener still serves a new connection."""
    peer = transport.peer(listener)
    peer.send(b"alive?")
    return loop.wait(peer.recv_exactly(6)) == b"alive?"


@pytest.mark.parametrize("event", EVENTS)
def test_h1_a_handler_that_raises_goes_to_error(loop, transport, event):
    boom = Boom(event)
    recorder = Recorder(**{event: raising(boom)}, error=ignore)
    _, peer = accepted(loop, transport, recorder)
    provoke(event, recorder.socket, peer)
    loop.run_until(lambda: recorder.count("error"))
    ((name, socket, args),) = [entry for entry in recorder.events if entry[0] == "error"]
    assert (name, socket) == ("error", recorder.socket)
    assert args[0] is boom


def test_h1_a_socket_whose_data_raised_lives_on(loop, transport):
    def data(socket, chunk):
        socket.write(chunk)
        if chunk == b"first":
            raise Boom

    recorder = Recorder(data=data, error=ignore)
    _, peer = accepted(loop, transport, recorder)
    peer.send(b"first")
    assert loop.wait(peer.recv_exactly(5)) == b"first"
    peer.send(b"second")
    assert loop.wait(peer.recv_exactly(6)) == b"second"
    assert recorder.order() == ["open", "data", "error", "data"]


def test_h1_what_an_end_handler_raises_does_not_keep_the_socket_open(loop, transport):
    recorder = Recorder(end=raising(Boom()), error=ignore)
    _, peer = accepted(loop, transport, recorder)
    peer.shutdown()
    loop.wait(peer.recv_until_eof())
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "end", "error", "close"]


def test_h1_the_error_of_a_raising_close_comes_after_the_close(loop, transport):
    states = []
    recorder = Recorder(close=raising(Boom()), error=lambda socket, error: states.append(int(socket.ready_state)))
    _, peer = accepted(loop, transport, recorder)
    peer.close()
    loop.run_until(lambda: recorder.count("error"))
    assert recorder.names()[-2:] == ["close", "error"]
    assert states == [0]


@pytest.mark.parametrize("event", EVENTS)
def test_h1_without_an_error_handler_it_is_reported_once(loop, transport, event):
    boom = Boom(event)
    recorder = Recorder(**{event: raising(boom)}, without=("error",))
    with loop.reports() as told:
        listener, peer = accepted(loop, transport, recorder)
        provoke(event, recorder.socket, peer)
        loop.run_until(lambda: recorder.count(event))
        listener.stop(True)
        loop.run_until(lambda: recorder.count("close"))
        assert told == [boom]


def test_h1_without_an_error_handler_the_server_lives_on(loop, transport):
    def data(socket, chunk):
        socket.write(chunk)
        raise Boom

    recorder = Recorder(data=data, without=("error",))
    with loop.reports() as told:
        listener, peer = accepted(loop, transport, recorder)
        peer.send(b"x")
        assert loop.wait(peer.recv_exactly(1)) == b"x"
        assert echo(loop, transport, listener)
        assert [type(error) for error in told] == [Boom, Boom]


def test_h1_an_error_handler_that_raises_is_reported_with_what_it_was_given(loop, transport):
    first, second = Boom("in data"), Boom("in error")
    recorder = Recorder(data=raising(first), error=raising(second))
    with loop.reports() as told:
        listener, peer = accepted(loop, transport, recorder)
        peer.send(b"x")
        loop.run_until(lambda: recorder.count("error"))
        listener.stop(True)
        loop.run_until(lambda: recorder.count("close"))
        assert told[-1] is second
        assert chain(second) == [second, first]


def test_h1_an_error_handler_that_raises_is_not_called_for_itself(loop, transport):
    recorder = Recorder(data=raising(Boom()), error=raising(Boom()))
    with loop.reports():
        listener, peer = accepted(loop, transport, recorder)
        peer.send(b"x")
        loop.run_until(lambda: recorder.count("error"))
        listener.stop(True)
        loop.run_until(lambda: recorder.count("close"))
    assert recorder.count("error") == 1


@pytest.mark.parametrize("without", [(), ("error",)], ids=["with error", "without error"])
def test_h1_open_raising_closes_that_socket_alone(loop, transport, without):
    def opened(socket):
        if len(recorder.sockets) == 1:
            raise Boom

    functions = {} if without else {"error": ignore}
    recorder = Recorder(open=opened, data=lambda socket, chunk: socket.write(chunk), without=without, **functions)
    listener = transport.listen(recorder)
    with loop.reports():
        peer = transport.peer(listener)
        assert loop.wait(peer.recv_until_eof()) == b""
        loop.run_until(lambda: recorder.count("close"))
    assert recorder.names() == [name for name in ("open", "error", "close") if name not in without]
    assert echo(loop, transport, listener)


def test_h1_open_raising_closes_a_client_too(loop, transport):
    server, client = Recorder(), Recorder(open=raising(Boom()), error=ignore)
    local_pair(loop, transport, server, client)
    loop.run_until(lambda: client.count("close") and server.count("close"))
    assert client.names() == ["open", "error", "close"]
    assert server.names() == ["open", "end", "close"]


@pytest.mark.parametrize("target", ["socket", "listener"])
def test_h1_after_a_reload_inside_the_handler_the_new_error_runs(loop, transport, target):
    boom = Boom()

    def data(socket, chunk):
        (listener if target == "listener" else socket).reload(new.handlers)
        raise boom

    old, new = Recorder(data=data, error=ignore), Recorder(error=ignore)
    listener, peer = accepted(loop, transport, old)
    peer.send(b"x")
    loop.run_until(lambda: new.count("error"))
    assert new.args("error") == [(boom,)]
    assert old.count("error") == 0


@pytest.mark.parametrize("exit", EXITS)
@pytest.mark.parametrize("event", EVENTS)
def test_h1_keyboard_interrupt_and_system_exit_come_out_of_run(loop, transport, event, exit):
    leaving = exit("from a handler")
    recorder = Recorder(**{event: raising(leaving)})
    with pytest.raises(exit) as caught:  # noqa: PT012 - in `open` it leaves at the first turn already
        _, peer = accepted(loop, transport, recorder)
        provoke(event, recorder.socket, peer)
        loop.run()
    assert caught.value is leaving
    assert recorder.count("error") == 0
    assert recorder.count(event) == 1


@pytest.mark.parametrize("exit", EXITS)
def test_h1_an_exit_raised_in_an_error_handler_comes_out_of_run(loop, transport, exit):
    leaving = exit("from error")
    recorder = Recorder(data=raising(Boom()), error=raising(leaving))
    _, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    with pytest.raises(exit) as caught:
        loop.run()
    assert caught.value is leaving


@pytest.mark.parametrize("exit", EXITS)
def test_h1_an_exit_raised_in_connect_error_comes_out_of_run(loop, unix, exit):
    leaving = exit("from connect_error")
    recorder = Recorder(connect_error=raising(leaving))
    pybuntcp.connect(unix=unix.listen_options()["unix"], socket=recorder.handlers)
    with pytest.raises(exit) as caught:
        loop.run()
    assert caught.value is leaving


def test_h1_after_an_exit_the_loop_can_be_run_again_and_nothing_was_lost(loop, transport):
    def data(socket, chunk):
        socket.write(chunk)
        if len(recorder.args("data")) == 1:
            raise SystemExit

    recorder = Recorder(data=data)
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(8)]
    loop.run_until(lambda: len(recorder.sockets) == len(peers))
    for peer in peers:
        peer.send(b"hello").result()  # all of it is in the kernel: one turn sees them all
    with pytest.raises(SystemExit):
        loop.run()
    for peer in peers:
        assert loop.wait(peer.recv_exactly(5)) == b"hello"
    assert all(recorder.received(socket) == b"hello" for socket in recorder.sockets)


def test_h1_what_was_written_before_an_exit_is_sent(loop, transport):
    def data(socket, chunk):
        socket.write(b"goodbye")
        raise SystemExit

    recorder = Recorder(data=data)
    _, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    with pytest.raises(SystemExit):
        loop.run()
    assert loop.wait(peer.recv_exactly(7)) == b"goodbye"
