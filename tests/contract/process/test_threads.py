"""Contract, Process (P1): a loop for each thread, and what another thread may not do."""

from __future__ import annotations

import gc
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import TIMEOUT, Peer, Recorder, accepted, descriptors
from support.addresses import dialled
from support.handlers import QUIET
from support.threads import in_thread

import pybuntcp


def naming_both(error):
    """Whether this is a RuntimeError that names this thread and the other."""
    return isinstance(error, RuntimeError) and threading.current_thread().name in str(error) and "another" in str(error)


LISTENER_VERBS = {
    "stop": lambda listener: listener.stop(),
    "ref": lambda listener: listener.ref(),
    "unref": lambda listener: listener.unref(),
    "reload": lambda listener: listener.reload(QUIET),
    "data": lambda listener: listener.data,
    "data = ...": lambda listener: setattr(listener, "data", object()),
}

SOCKET_VERBS = {
    "write": lambda socket: socket.write(b"x"),
    "end": lambda socket: socket.end(),
    "close": lambda socket: socket.close(),
    "terminate": lambda socket: socket.terminate(),
    "shutdown": lambda socket: socket.shutdown(),
    "flush": lambda socket: socket.flush(),
    "pause": lambda socket: socket.pause(),
    "resume": lambda socket: socket.resume(),
    "ref": lambda socket: socket.ref(),
    "unref": lambda socket: socket.unref(),
    "timeout": lambda socket: socket.timeout(1),
    "reload": lambda socket: socket.reload(QUIET),
    "cork": lambda socket: socket.cork().__enter__(),
}


@pytest.mark.parametrize("verb", LISTENER_VERBS)
def test_p1_a_listener_used_from_another_thread_is_a_runtime_error(loop, transport, verb):
    listener = transport.listen({"data": lambda socket, chunk: socket.write(chunk)})
    assert naming_both(in_thread(lambda: LISTENER_VERBS[verb](listener)))
    peer = transport.peer(listener)
    peer.send(b"unharmed")
    assert loop.wait(peer.recv_exactly(8)) == b"unharmed"


@pytest.mark.parametrize("verb", SOCKET_VERBS)
def test_p1_a_socket_used_from_another_thread_is_a_runtime_error(loop, transport, verb):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    socket, peer = accepted(loop, transport, recorder)
    assert naming_both(in_thread(lambda: SOCKET_VERBS[verb](socket)))
    peer.send(b"unharmed")
    assert loop.wait(peer.recv_exactly(8)) == b"unharmed"


def test_p1_a_connect_cancelled_from_another_thread_is_a_runtime_error(loop, transport):
    client = Recorder()
    connecting = transport.connect(client, transport.raw_server(accepting=1))
    assert naming_both(in_thread(connecting.cancel))
    loop.run_until(lambda: client.sockets)
    assert connecting.result() is client.socket


def test_p1_every_thread_has_a_loop_of_its_own(loop, transport):
    """Another thread serves from its own loop, while this thread's turns too, and neither sees the other's."""

    def serve():
        def data(socket, chunk):
            served.append((threading.current_thread().name, pybuntcp.stats()["open_listeners"]))
            socket.end(chunk)
            listener.stop()

        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": data})
        ports.put(listener.port)
        pybuntcp.run()
        return served

    served, ports = [], queue.SimpleQueue()
    with ThreadPoolExecutor(1, thread_name_prefix="another") as pool:
        serving = pool.submit(serve)
        peer = Peer(lambda: dialled(ports.get(timeout=TIMEOUT)))
        mine = transport.peer(transport.listen(Recorder(data=lambda socket, chunk: socket.write(chunk))))
        with peer:
            mine.send(b"main")
            assert loop.wait(mine.recv_exactly(4)) == b"main"
            peer.send(b"x")
            assert loop.wait(peer.recv_until_eof()) == b"x"
        assert serving.result(TIMEOUT) == [("another_0", 1)]
    assert loop.gauges()["open_listeners"] == 1


def test_p1_the_counters_of_one_thread_are_not_anothers(loop, transport):
    _, peer = accepted(loop, transport, Recorder(data=lambda socket, chunk: socket.write(chunk)))
    peer.send(b"x")
    loop.wait(peer.recv_exactly(1))
    assert pybuntcp.stats()["accepted"] > 0

    def elsewhere():
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=QUIET).stop()
        pybuntcp.run()
        return pybuntcp.stats()

    other = in_thread(elsewhere)
    assert (other["accepted"], other["bytes_read"], other["open_sockets"]) == (0, 0, 0)


def test_p1_a_thread_that_ends_gives_its_loop_back():
    def serve():
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=QUIET).stop()
        pybuntcp.run()

    assert in_thread(serve) is None
    gc.collect()
    before = len(descriptors())
    for _ in range(5):
        assert in_thread(serve) is None
    gc.collect()
    assert len(descriptors()) <= before
