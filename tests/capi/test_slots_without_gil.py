"""A connection that slots alone serve takes no GIL and makes no Python object; threads run at the same time as its slots.

The clients are another process, so that nothing of Python happens in this one but what is asked about.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import queue
import sys
import threading
import time

import pytest
from support import TIMEOUT, Peer, run_loop, wait_for
from support.addresses import dialled
from support.programs import Program

import pybuntcp

CLIENTS = """
    port, connections, messages = map(int, sys.argv[1:])
    sockets = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(connections)]

    def everybody_says(message):
        for each in sockets:
            each.sendall(message)
        for each in sockets:
            answer = b""
            while len(answer) < len(message):
                answer += each.recv(len(message) - len(answer)) or sys.exit("end of file")
            assert answer == message, answer

    for _ in range(messages):
        everybody_says(os.urandom(100).replace(b"?", b"!"))
        if _ in (0, messages - 1):      # when all are there, and before any goes
            sockets[0].sendall(b"?")
            assert sockets[0].recv(1) == b"?"
    for each in sockets:
        each.close()
"""


def served(outside, connections, messages, probe=lambda: None, piped=False):
    """The echo after it served so many, and what `stats()` gained meanwhile. `probe` runs inside slots."""
    echo = outside.silent.Echo(last=connections, piped=piped)
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=echo.handlers())
    echo.on_last, echo.on_probe = listener.stop, probe
    with Program(CLIENTS, listener.port, connections, messages) as clients:
        before = pybuntcp.stats()
        run_loop()
        after = pybuntcp.stats()
        clients.finish()
    assert echo.counts["errors"] == 0
    assert echo.counts["received"] == 0 if piped else connections * messages * 100 + min(messages, 2)
    assert (echo.counts["opens"], echo.counts["ends"], echo.counts["closes"]) == (connections,) * 3
    return echo, {name: after[name] - before[name] for name in after}


# ---------------------------------------------------------------- no GIL, no object


@pytest.mark.parametrize(("connections", "messages"), [(1, 1), (1, 300), (60, 1), (60, 50)])
def test_the_gil_is_taken_once_however_many_connections_and_messages(outside, connections, messages):
    """Once: the end of `run()`, or giving the listener back just before it. No slot ever held it."""
    echo, gained = served(outside, connections, messages)
    assert gained["turns"] > 1
    assert gained["reads"] >= connections
    assert gained["gil_takes"] == 1
    assert echo.counts["held"] == 0


def test_a_pipe_calls_no_slot_for_bytes_and_takes_no_gil(outside):
    echo, gained = served(outside, 20, 50, piped=True)
    assert gained["bytes_piped"] == gained["bytes_read"] == 20 * 50 * 100 + 2
    assert gained["gil_takes"] == 1
    assert echo.counts["held"] == 0


def test_no_python_object_is_made_from_the_first_message_to_the_last(outside):
    """Seen from inside slots, while all 40 connections are open: no `Socket`, and not one block more at the end."""

    def probe():
        now = next(moments)
        sockets[now] = sum(type(each) is pybuntcp.Socket for each in gc.get_objects())
        blocks[now] = sys.getallocatedblocks()

    moments, sockets, blocks = iter((0, 1)), array.array("q", [-1, -1]), array.array("q", [-1, -2])
    gc.collect()
    elsewhere = sum(type(each) is pybuntcp.Socket for each in gc.get_objects())
    gc.disable()
    try:
        echo, _ = served(outside, 40, 100, probe)
    finally:
        gc.enable()
    assert echo.counts["opens"] == 40
    assert list(sockets) == [elsewhere, elsewhere]
    kept = (
        1 if sys.version_info >= (3, 14) else 0
    )  # an integer of the probe, which CPython 3.14 puts aside for later ones
    assert 0 <= blocks[1] - blocks[0] <= kept  # 4000 messages later


def test_a_connection_costs_no_python_object_when_it_opens_or_closes(outside):
    """Many come and go, one after the other."""
    gc.collect()
    before = sys.getallocatedblocks()
    rises = []
    for connections in (5, 100):
        served(outside, connections, 1)
        gc.collect()
        rises.append(sys.getallocatedblocks() - before)
    assert rises[1] - rises[0] < 50


SPEAKER = """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        say(listener.getsockname()[1])
        other, _ = listener.accept()
    with other, other.makefile("rb") as answers:
        for _ in range(int(sys.argv[1])):
            other.sendall(b"x" * 100)
            assert answers.read(100) == b"x" * 100
"""


def dialled_out(outside, messages):
    """`gil_takes` and `held` of an outgoing connection that echoed so many messages."""
    echo = outside.silent.Echo()
    with Program(SPEAKER, messages) as server:
        pybuntcp.connect(hostname="127.0.0.1", port=server.hear(), socket=echo.handlers())
        before = pybuntcp.stats()["gil_takes"]
        run_loop()
        taken = pybuntcp.stats()["gil_takes"] - before
        server.finish()
    assert (echo.counts["received"], echo.counts["closes"]) == (messages * 100, 1)
    return taken, echo.counts["held"]


def test_of_an_outgoing_connection_only_its_birth_and_its_end_know_python(outside):
    """`connect()` is Python's, so are its outcome and the table of its own; the messages are not."""
    takes, held = dialled_out(outside, 300)
    assert takes <= 3
    assert held <= 2
    assert dialled_out(outside, 1)[0] <= 3


def test_an_outgoing_connection_that_nobody_asks_for_has_no_python_object(outside):
    def count():
        return sum(type(each) is pybuntcp.Socket for each in gc.get_objects())

    echo = outside.silent.Echo(last=1)
    gc.collect()
    before = count()
    seen = []
    echo.on_last = lambda: seen.append(count())
    with Program(SPEAKER, 1) as server:
        pybuntcp.connect(hostname="127.0.0.1", port=server.hear(), socket=echo.handlers())
        run_loop()
        server.finish()
    assert seen == [before]


# ---------------------------------------------------------------- at the same time


@contextlib.contextmanager
def pipes(count):
    """So many (read end, write end)."""
    made = [os.pipe() for _ in range(count)]
    try:
        yield made
    finally:
        for pair in made:
            for end in pair:
                os.close(end)


def served_once(gate, ports):
    """Serve one connection of this gate in this thread's loop."""
    listener = pybuntcp.listen(
        hostname="127.0.0.1",
        port=0,
        socket=gate.handlers({"close": lambda socket, error: listener.stop()}),
    )
    ports.put(listener.port)
    pybuntcp.run()


def asked(port):
    """What the gate says in the end to who knocks there; a Peer's job."""
    peer = Peer(lambda: dialled(port))
    peer.send(b"knock")
    answer = peer.recv(100)
    peer.close()
    return peer, answer


def test_python_threads_run_while_a_slot_blocks(outside):
    """The slot waits for a byte that only Python code of another thread can send."""
    with pipes(2) as ((told, tell), (answered, answer)):

        def reply():
            os.read(told, 1)
            os.write(answer, b"!")

        gate = outside.silent.Gate(tell, answered, TIMEOUT / 2)
        thread = threading.Thread(target=reply)
        thread.start()
        ports = queue.SimpleQueue()
        listener = threading.Thread(target=served_once, args=(gate, ports))
        listener.start()
        peer, said = asked(ports.get(timeout=TIMEOUT))
        assert said.result() == b"in time"
        peer.stop()
        for each in (thread, listener):
            each.join(TIMEOUT)
            assert not each.is_alive()
    assert gate.held == 0


def test_slots_of_two_loops_in_two_threads_run_at_the_same_time(outside):
    """Each waits, inside its slot, for the other one's slot to have begun."""
    with pipes(2) as ((one_read, one_write), (two_read, two_write)):
        gates = [
            outside.silent.Gate(one_write, two_read, TIMEOUT / 2),
            outside.silent.Gate(two_write, one_read, TIMEOUT / 2),
        ]
        ports = queue.SimpleQueue()
        threads = [threading.Thread(target=served_once, args=(gate, ports)) for gate in gates]
        for thread in threads:
            thread.start()
        peers = [asked(ports.get(timeout=TIMEOUT)) for _ in gates]
        assert [said.result() for _, said in peers] == [b"in time"] * 2
        for peer, _ in peers:
            peer.stop()
        for thread in threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


# ---------------------------------------------------------------- an echo that loses nothing


def test_an_echo_of_slots_alone_loses_nothing_when_the_peer_reads_late(outside, transport):
    """More than all buffers hold: short writes, pauses, drains, resumes, all without the GIL."""
    size = 16 << 20
    echo = outside.silent.Echo(last=1)
    listener = transport.listen(echo.handlers())
    echo.on_last = listener.stop
    writer = transport.peer(listener)
    block = os.urandom(1 << 16).replace(b"?", b"!")
    writer.send(block * (size >> 16))
    reader = Peer(lambda: writer.sock.dup())
    reader.call(wait_for, lambda: echo.counts["shorts"], "a short write")
    answer = reader.recv_exactly(size)
    writer.shutdown()
    writer.close()
    try:
        run_loop()
        assert answer.result() == block * (size >> 16)
    finally:
        reader.stop()
    assert echo.counts["drains"] == echo.counts["shorts"] > 0
    assert (echo.counts["errors"], echo.counts["held"]) == (0, 0)


# ---------------------------------------------------------------- Ctrl-C

SERVER = """
    import outside.silent
    echo = outside.silent.Echo()
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=echo.handlers())
    say(listener.port)
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        say(time.monotonic())
    listener.stop(True)
    pybuntcp.run()
    say({**echo.counts, "left": pybuntcp.stats()["open_sockets"]})
"""


@pytest.fixture
def server(built, monkeypatch):
    """A program that serves an echo of slots alone until Ctrl-C, then closes what is open."""
    path = os.pathsep.join(filter(None, [str(built[0]), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    with Program(SERVER) as program:
        yield program


def interrupted(server):
    """Seconds from Ctrl-C to what comes after `run()`; what the slots had counted in the end."""
    start = time.monotonic()
    server.signal()
    delay = server.hear() - start
    (counts,) = server.finish()
    return delay, counts


def test_ctrl_c_comes_out_of_run_while_slots_wait(server):
    with dialled(server.hear()) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        delay, counts = interrupted(server)
    assert 0 <= delay < 1
    assert (counts["opens"], counts["closes"], counts["left"]) == (1, 1, 0)


def test_ctrl_c_comes_out_of_run_while_slots_are_busy(server):
    """An echo that never ends: the loop is never idle when the signal comes, and no slot takes the GIL."""
    port = server.hear()

    def ping_pong(client):
        with contextlib.suppress(OSError):
            client.sendall(b"x" * 1000)
            while client.recv(65536):
                client.sendall(b"x" * 1000)

    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(lambda: dialled(port))) for _ in range(3)]
        for peer in peers:
            peer.send(b"x")
            peer.recv_exactly(1).result()
            peer.call(ping_pong, peer.sock)
        delay, counts = interrupted(server)
    assert 0 <= delay < 1
    assert (counts["opens"], counts["closes"], counts["left"]) == (3, 3, 0)
