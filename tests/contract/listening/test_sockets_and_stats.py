"""API.md, Listener: `sockets()`, the open ones, and `loop_stats()`, from any thread."""

from __future__ import annotations

import asyncio
import gc
import socket as stdlib
import threading

import pytest
from support import TIMEOUT, Recorder
from support.endpoints import quiet_listener
from support.handlers import ECHO, QUIET
from support.programs import run_program
from support.tls import SERVER

import pybuntcp

standalone = pytest.mark.standalone("the loop does not matter: what is enumerated is the listener's")


def crowd(loop, transport, count=3, **options):
    """A listener with that many open sockets: (listener, recorder)."""
    recorder = Recorder(**options)
    listener = transport.listen(recorder)
    for number in range(count):
        transport.peer(listener)
        loop.run_until(lambda number=number: len(recorder.sockets) > number)
    return listener, recorder


def turned(loop, condition):
    """Turn until the condition holds, of which no handler tells."""
    for _ in range(100):
        if condition():
            return
        loop.settle()
    raise AssertionError("it does not hold")


def in_a_thread(function):
    """What the function gives or raises, in a thread that has no loop."""

    def work():
        try:
            answers.append(function())
        except Exception as error:
            answers.append(error)

    answers = []
    thread = threading.Thread(target=work, name="elsewhere")
    thread.start()
    thread.join(TIMEOUT)
    return answers[0]


# ---------------------------------------------------------------- sockets()


def test_sockets_are_the_open_ones_oldest_first_and_each_once(loop, transport):
    listener, recorder = crowd(loop, transport)
    assert list(listener.sockets()) == recorder.sockets
    assert all(one is other for one, other in zip(listener.sockets(), recorder.sockets, strict=True))
    listener.stop()
    assert list(listener.sockets()) == recorder.sockets
    recorder.sockets[1].close()
    assert list(listener.sockets()) == [recorder.sockets[0], recorder.sockets[2]]
    listener.stop(True)
    assert list(listener.sockets()) == []
    loop.run()
    assert list(listener.sockets()) == []


@standalone
def test_sockets_are_those_of_this_listener_alone(loop, tcp):
    first, of_first = crowd(loop, tcp, 2)
    second, of_second = crowd(loop, tcp, 1)
    tcp.connect(QUIET, second)
    loop.run_until(lambda: len(of_second.sockets) == 2)
    assert list(first.sockets()) == of_first.sockets
    assert list(second.sockets()) == of_second.sockets


@standalone
def test_sockets_that_close_while_they_are_enumerated_are_left_out(loop, transport):
    listener, recorder = crowd(loop, transport, 4)
    one, two, three, four = recorder.sockets
    walk = listener.sockets()
    assert next(walk) is one
    one.terminate()
    two.close()
    three.terminate()
    loop.run_until(lambda: recorder.count("close") == 3)
    assert list(walk) == [four]
    with pytest.raises(StopIteration):
        next(walk)


@standalone
def test_one_that_opens_meanwhile_is_not_among_them(loop, transport):
    listener, recorder = crowd(loop, transport, 2)
    walk = listener.sockets()
    transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 3)
    assert list(walk) == recorder.sockets[:2]


@standalone
def test_handlers_may_broadcast_and_close_over_them(loop, transport):
    def data(socket, chunk):
        for other in listener.sockets():
            other.end(b"bye")
            other.close() if other is not socket else other.terminate()

    listener, recorder = crowd(loop, transport, data=data)
    peers = [transport.peer(listener)]
    peers[0].send(b"x").ignore()
    loop.run_until(lambda: recorder.count("close") == 4)


@standalone
def test_a_socket_in_its_open_handler_is_among_them(loop, transport):
    found = []
    _, recorder = crowd(loop, transport, 1, open=lambda socket: found.extend(socket.listener.sockets()))
    assert found == recorder.sockets


@standalone
def test_sockets_in_a_tls_handshake_are_counted_and_not_enumerated(loop, tcp):
    recorder = Recorder()
    listener = tcp.listen(recorder, tls=SERVER.options)
    with stdlib.create_connection(("127.0.0.1", listener.port)):
        turned(loop, lambda: listener.connections)
        assert list(listener.sockets()) == []
    turned(loop, lambda: not listener.connections)


@standalone
def test_sockets_without_an_object_get_one(loop, tcp):
    """They were accepted by slots; a `Socket` is made when it is asked for, and is the same from then on."""
    listener = tcp.listen({"drain": lambda socket: None})
    tcp.peer(listener)
    turned(loop, lambda: listener.connections)
    (socket,) = listener.sockets()
    assert [socket] == list(listener.sockets())
    assert socket.listener is listener
    del socket
    gc.collect()


@standalone
def test_sockets_belong_to_their_thread(loop, tcp):
    listener, _ = crowd(loop, tcp, 2)
    walk = listener.sockets()
    for use in (listener.sockets, lambda: next(walk)):
        error = in_a_thread(use)
        assert isinstance(error, RuntimeError)
        assert "elsewhere" in str(error)
    assert len(list(walk)) == 2


def test_a_forked_child_has_none_of_them():
    source = """
        import threading
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"open": lambda s: opened.append(s), "data": print})
        listener.unref()
        opened = []
        connecting = pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket={"open": lambda s: s.unref(), "data": print})
        while not opened:
            pybuntcp.run(timeout=0.01)
        walk = listener.sockets()
        if os.fork() == 0:
            os._exit(len([*listener.sockets(), *walk]) + listener.loop_stats()["open_sockets"])
        say([os.wait()[1], len(list(walk))])
    """
    assert run_program(source) == [[0, 1]]


def test_a_finalizer_that_stops_the_listener_while_sockets_are_enumerated_closes_them_all(loop, tcp):
    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            listener.stop(True)

    listener, recorder = crowd(loop, tcp, 30)
    threshold = gc.get_threshold()
    gc.collect()
    try:
        gc.set_threshold(5)
        Cycle()
        list(listener.sockets())
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    loop.run_until(lambda: recorder.count("close") == 30)
    assert listener.connections == 0


# ---------------------------------------------------------------- loop_stats(), stats()


def test_loop_stats_are_the_stats_of_the_listeners_loop_in_any_thread(loop, tcp):
    listener, _ = crowd(loop, tcp, 2)
    here, there = listener.loop_stats(), in_a_thread(listener.loop_stats)
    assert here.keys() == pybuntcp.stats().keys()
    assert there.keys() == here.keys()
    assert all(type(count) is int for name, count in there.items() if name != "longest_turn")
    assert here["accepted"] >= there["open_listeners"] == 1
    assert there["open_sockets"] == here["open_sockets"]


def test_another_thread_sees_how_many_bytes_the_kernel_has_refused(loop, tcp):
    listener, recorder = crowd(loop, tcp, 2, drain=lambda socket: None)
    socket, other = recorder.sockets
    assert 0 < socket.write(bytes(50_000_000)) < 50_000_000
    assert in_a_thread(listener.loop_stats)["pending_bytes"] == socket.pending > 0
    other.write(b"the kernel takes this")
    assert in_a_thread(listener.loop_stats)["pending_bytes"] == socket.pending
    socket.terminate()
    loop.run_until(lambda: recorder.count("close"))
    assert in_a_thread(listener.loop_stats)["pending_bytes"] == 0


def test_a_thread_whose_loop_has_ended_has_stats_of_zeros():
    def work():
        loop = pybuntcp.new_event_loop()
        loop.close()
        return pybuntcp.stats()

    stats = in_a_thread(work)
    assert stats["open_sockets"] == stats["open_listeners"] == 0


def test_loop_stats_of_a_loop_that_has_ended_are_its_last():
    def serve():
        listener = quiet_listener(socket=ECHO, hostname="127.0.0.1", port=0)
        ours = pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket={"open": end, "data": print})
        listener.unref()
        pybuntcp.run()
        listener.stop()
        return listener, ours

    def end(socket):
        socket.end(b"hello")

    listener, _ = in_a_thread(serve)
    gc.collect()
    stats = listener.loop_stats()
    assert (stats["open_listeners"], stats["open_sockets"], stats["connected"]) == (0, 0, 1)
    assert list(stats) == list(in_a_thread(listener.loop_stats))


def test_the_stats_of_threads_are_whole():
    with pybuntcp.listen_threads(2, socket=ECHO, hostname="127.0.0.1", port=0) as threads:
        for _ in range(5):
            with stdlib.create_connection(("127.0.0.1", threads.port)) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
        stats = threads.stats()
    assert [each["open_listeners"] for each in stats] == [1, 1]
    assert sum(each["accepted"] for each in stats) == 5
    assert sum(each["bytes_read"] for each in stats) == 25
    assert all({"connections", "accept_errors", "turns"} <= each.keys() for each in stats)


def test_stats_in_a_thread_without_a_loop_are_an_error_that_says_what_to_ask():
    error = in_a_thread(pybuntcp.stats)
    assert isinstance(error, RuntimeError)
    assert "elsewhere" in str(error)
    assert "loop_stats" in str(error)


def test_stats_in_a_thread_that_has_or_had_a_loop_are_its_own():
    def serve():
        with quiet_listener(hostname="127.0.0.1", port=0):
            during = pybuntcp.stats()["open_listeners"]
        pybuntcp.run()
        return during, pybuntcp.stats()["open_listeners"]

    assert in_a_thread(serve) == (1, 0)


def test_stats_are_zeros_in_the_main_thread_before_anything_and_in_an_asyncio_loop():
    async def ask():
        return pybuntcp.stats()["open_listeners"]

    assert run_program("say(pybuntcp.stats()['turns'])") == [0]
    assert in_a_thread(lambda: asyncio.run(ask())) == 0
