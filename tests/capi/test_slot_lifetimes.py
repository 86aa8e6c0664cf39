"""What slots are told, and are not, when their listener, their thread or their process ends."""

from __future__ import annotations

import gc
import os

import pytest
from support import Peer, run_loop
from support.addresses import dialled
from support.programs import Program
from support.slots import Slots, settle_until
from support.threads import in_thread

import pybuntcp


def listening(slots, **options):
    return pybuntcp.listen(hostname="127.0.0.1", port=0, socket=slots.handlers, **options)


def test_stop_tells_close_to_every_socket_and_then_nothing(loop, transport):
    slots = Slots(data=lambda handle, chunk: handle.write(chunk))
    listener = transport.listen(slots)
    peers = [transport.peer(listener) for _ in range(10)]
    loop.run_until(lambda: len(slots.sockets) == 10)
    listener.stop(True)
    assert slots.count("close") == 0  # from the loop, not from inside the verb
    loop.run()
    assert slots.names() == ["open"] * 10 + ["close"] * 10
    assert slots.args("close") == [(0,)] * 10
    for peer in peers:
        peer.close()


def test_a_listener_nobody_holds_goes_on_and_its_table_with_it(loop, transport):
    slots = Slots(data=lambda handle, chunk: handle.write(chunk))
    listener = pybuntcp.listen(socket=slots.handlers, **transport.listen_options())
    peer = transport.peer(listener)
    del listener
    gc.collect()
    peer.send(b"still there?")
    assert loop.wait(peer.recv_exactly(12)) == b"still there?"
    (handle,) = slots.sockets
    handle.object().listener.stop(True)
    loop.run()
    assert handle.gone


def test_sockets_outlive_their_listener(loop, transport):
    slots = Slots(data=lambda handle, chunk: handle.write(chunk))
    listener = transport.listen(slots)
    peer = transport.peer(listener)
    loop.run_until(lambda: slots.sockets)
    listener.stop()
    gc.collect()
    for question in (b"one", b"two"):
        peer.send(question)
        assert loop.wait(peer.recv_exactly(3)) == question
    peer.close()
    loop.run()
    assert slots.names()[-2:] == ["end", "close"]


@pytest.mark.parametrize("pending", [0, 8 << 20])
def test_when_a_thread_ends_with_its_connections_open_no_slot_is_called(pending):
    """And the peer sees the end, or a reset if bytes were lost."""

    def leave(socket, chunk):
        raise SystemExit("out of run()")

    def opened(handle):
        handle.timeout(1000)
        assert handle.write(bytes(pending)) == pending

    slots = Slots(ext_size=1000, open=opened, without=("data",), python={"data": leave})
    peers = []

    def serve():
        listener = listening(slots, high_water_mark=8 << 20)
        peers.append(Peer(lambda: dialled(listener.port)))
        peers[0].send(b"x")
        pybuntcp.run()

    assert isinstance(in_thread(serve), SystemExit)
    gc.collect()
    assert slots.names() == ["open"]
    ended = peers[0].recv_until_eof()
    assert isinstance(ended.exception(), ConnectionResetError) or len(ended.result()) <= pending
    peers[0].stop()


SERVER = """
    import outside.silent
    class Echo(outside.silent.Echo):
        pass
    echo = Echo(last=1)
    echo.on_last = lambda: say("told")
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=echo.handlers())
    say(listener.port)
    def probe():
        listener.unref()
        for each in range(2):       # what the program does then
            THEN
    echo.on_probe = probe
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        say("interrupted")
"""


def program(built, monkeypatch, then):
    path = os.pathsep.join(filter(None, [str(built[0]), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return Program(SERVER.replace("THEN", then))


def test_when_the_process_ends_with_connections_open_no_slot_is_called(built, monkeypatch):
    with program(built, monkeypatch, "pass") as server, dialled(server.hear()) as client:
        client.sendall(b"?")
        assert client.recv(1) == b"?"
        server.signal()
        assert server.finish() == ["interrupted"]
        assert client.recv(1) == b""


def test_a_child_forked_inside_a_slot_tells_no_slot_and_writes_nothing(built, monkeypatch):
    """The parent serves on."""
    fork = """
            if each == 0 and os.fork() == 0:
                try:
                    assert pybuntcp.stats()["open_sockets"] == 0
                finally:
                    os._exit(0)
            elif each == 1:
                say(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    with program(built, monkeypatch, fork.strip()) as server:
        with dialled(server.hear()) as client:
            for _ in range(2):
                client.sendall(b"?")
                assert client.recv(10) == b"?"
                assert server.hear() == 0
        assert server.finish() == ["told"]


def test_slots_that_take_the_gil_and_those_that_do_not_share_a_loop(outside):
    """Until both listeners have ended."""
    echo = outside.silent.Echo(last=3)

    def closed(handle, *args):
        if slots.count("close") == 3:
            listeners[1].stop()

    slots = Slots(data=lambda handle, chunk: handle.write(chunk), close=closed)
    listeners = [
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table) for table in (echo.handlers(), slots.handlers)
    ]
    echo.on_last = listeners[0].stop
    peers = []
    try:
        for listener in listeners * 3:
            peer = Peer(lambda port=listener.port: dialled(port))
            peers.append((peer, peer.send(b"x" * 1000), peer.recv_exactly(1000)))
            peer.close()
        run_loop()
        assert [answer.result() for _, _, answer in peers] == [b"x" * 1000] * 6
    finally:
        for peer, _, _ in peers:
            peer.stop()
    assert (echo.counts["closes"], slots.count("close")) == (3, 3)


def test_a_socket_that_closes_while_another_thread_has_the_gil_is_reported(loop, transport, outside):
    echo = outside.silent.Echo()
    listener = transport.listen(echo.handlers())
    peer = transport.peer(listener)
    settle_until(loop, lambda: echo.counts["opens"], "the connection")
    in_thread(lambda: peer.close().result())
    settle_until(loop, lambda: echo.counts["closes"], "the close")
    assert echo.counts["ends"] == 1
