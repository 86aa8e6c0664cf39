"""CONTRACT.md, "Reading and closing": R6, anything from inside anything."""

from __future__ import annotations

import itertools

import pytest
from support import Recorder, accepted, bring_about, first_of_twenty_closes_the_others

import pybuntcp

ACTS = {
    "close": lambda socket, handlers: socket.close(),
    "end": lambda socket, handlers: socket.end(b"bye"),
    "terminate": lambda socket, handlers: socket.terminate(),
    "shutdown": lambda socket, handlers: socket.shutdown(),
    "shutdown(True)": lambda socket, handlers: socket.shutdown(True),
    "pause": lambda socket, handlers: socket.pause(),
    "stop": lambda socket, handlers: socket.listener.stop(),
    "stop(True)": lambda socket, handlers: socket.listener.stop(True),
    "reload": lambda socket, handlers: socket.reload(handlers),
    "listener.reload": lambda socket, handlers: socket.listener.reload(handlers),
}


class _Scene:
    """Two accepted siblings; `act` is done once, in `event` of the first, to one of them."""

    def __init__(self, loop, transport, handlers, event, act, target):
        def do(socket, *_):
            if not self.done and (event == "open" or socket is self.recorder.sockets[0]):
                self.done = True
                wanted = self.recorder.sockets[0 if target == "self" else -1]
                ACTS[act](wanted, self.recorder.handlers)
            if event == "timeout":
                socket.timeout(0)

        self.done = False
        self.loop = loop
        functions = {event: do}
        if event == "error":
            functions["data"] = self._raise
        self.recorder = handlers(**functions)
        self.listener = transport.listen(self.recorder)
        self.peers = []
        self.accept(transport)
        self.accept(transport)

    @staticmethod
    def _raise(socket, chunk):
        raise LookupError("told to `error`")

    def accept(self, transport):
        count = len(self.recorder.sockets)
        peer = transport.peer(self.listener)
        peer.connected.ignore()  # the act in `open` may have stopped the listener
        self.peers.append(peer)
        self.loop.run_until(lambda: len(self.recorder.sockets) > count or self.done)


@pytest.mark.parametrize("target", ["self", "sibling"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("event", ["open", "data", "drain", "end", "close", "timeout"])
def test_r6_any_verb_from_inside_any_handler_is_safe(loop, transport, handlers, event, act, target):
    play(_Scene(loop, transport, handlers, event, act, target), event)


@pytest.mark.parametrize("target", ["self", "sibling"])
@pytest.mark.parametrize("act", ACTS)
def test_r6_any_verb_from_inside_an_error_handler_is_safe(loop, transport, act, target):
    play(_Scene(loop, transport, Recorder, "error", act, target), "error")


def play(scene, event):
    recorder, (one, other) = scene.recorder, scene.peers
    first = recorder.sockets[0]
    for peer in (one, other):  # something to read waits at both when the handler runs
        peer.send(b"x" * 1000).ignore()
    bring_about(event, first, one)
    scene.loop.run_until(lambda: scene.done)
    scene.loop.settle()
    for socket in recorder.sockets:
        socket.resume()
    for peer in (one, other):
        peer.close().ignore()
    scene.listener.stop(True)
    scene.loop.run()
    assert scene.done
    for socket in recorder.sockets:
        assert recorder.names(socket)[-1] == "close"
        assert recorder.count("close", socket) == 1
        assert recorder.count("end", socket) <= 1


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_r6_a_sibling_closed_in_the_same_batch_gets_no_more_data(loop, transport, verb, handlers):
    recorder = first_of_twenty_closes_the_others(loop, transport, handlers, verb)
    assert recorder.count("data") == 1
    assert recorder.names()[20] == "data"


def test_r6_a_connecting_socket_may_be_closed_in_its_own_handlers(loop, transport, handlers):
    for event, verb in itertools.product(("open", "data"), ("close", "end", "terminate")):
        recorder = handlers(label=f"{verb} in {event}", **{event: lambda socket, *_, v=verb: getattr(socket, v)()})
        server = transport.raw_server()
        peer = server.accept()
        peer.send(b"hello").ignore()
        transport.connect(recorder, server)
        loop.run_until(lambda r=recorder, e=event: r.count(e))
        peer.close()
        loop.run()
        assert recorder.names()[-1] == "close"
        assert recorder.count("close") == 1


def test_r6_connecting_and_listening_inside_a_handler_works(loop, transport, handlers):
    inner, client = handlers(label="inner"), handlers(label="client")

    def data(socket, chunk):
        inner_listener = transport.listen(inner)
        transport.connect(client, inner_listener)

    _socket, peer = accepted(loop, transport, handlers(data=data))
    peer.send(b"go")
    loop.run_until(lambda: client.sockets and inner.sockets)
    assert client.socket.write(b"hi") == 2
    loop.run_until(inner.received)
    assert inner.received() == b"hi"


@pytest.mark.parametrize("event", ["open", "data", "end", "close", "timeout"])
def test_r6_running_the_loop_inside_a_handler_is_a_runtime_error(loop, transport, event):
    told = []

    def run(socket, *_):
        with pytest.raises(RuntimeError):
            pybuntcp.run()
        told.append(event)

    recorder = Recorder(**{event: run})
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    listener.stop()
    if event == "timeout":
        recorder.socket.timeout(0.001)
    else:
        peer.send(b"x")
        peer.shutdown()
    loop.run()
    assert told == [event]
    assert recorder.names()[-1] == "close"
