"""Contract, Listening (L4): the descriptor limit, `max_connections`, bounded accepts, a full backlog."""

from __future__ import annotations

import collections
import contextlib
import json
import select
import socket as stdlib

import pytest
from support import Recorder, silent_crowd, wait_for
from support.endpoints import answers
from support.kernel import descriptor_limit
from support.programs import Program

import pybuntcp

ACCEPTS_A_TURN = 64


CROWDED = """
    import resource

    def opened(socket):
        socket.write(b"welcome\\n")

    def asked(socket, chunk):
        used = resource.getrusage(resource.RUSAGE_SELF)
        answer = {"cpu": used.ru_utime + used.ru_stime, "errors": pybuntcp.stats()["accept_errors"],
                  "open": listener.connections, "turns": pybuntcp.stats()["turns"]}
        socket.write(json.dumps(answer) + "\\n")

    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"open": opened, "data": asked})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    say(listener.port)
    pybuntcp.run()
"""


class Clients:
    """Raw clients of a server in another process; the first one asks it how it feels."""

    def __init__(self, port, stack):
        self._address, self._stack = ("127.0.0.1", port), stack
        self.all = []

    def dial(self, count):
        for _ in range(count):
            client = self._stack.enter_context(stdlib.create_connection(self._address, timeout=10))
            self.all.append(client)

    def welcomed(self):
        """Those that the server has accepted so far."""
        return select.select(self.all[1:], [], [], 0)[0]

    def ask(self):
        """What the server says of itself."""
        self.all[0].sendall(b"?")
        return json.loads(self.reader.readline())

    def greet(self):
        """Wait until the first one is accepted."""
        self.reader = self._stack.enter_context(self.all[0].makefile("rb"))
        assert self.reader.readline() == b"welcome\n"


@pytest.fixture
def crowd():
    """A server that has run out of its 64 descriptors, and its clients, 80 of them."""
    with Program(CROWDED) as program, contextlib.ExitStack() as stack:
        clients = Clients(program.hear(), stack)
        clients.dial(1)
        clients.greet()
        clients.dial(79)
        wait_for(lambda: clients.ask()["errors"], "the server to run out of descriptors")
        yield clients


def test_l4_at_the_descriptor_limit_the_listener_does_not_spin(crowd):
    before = crowd.ask()
    select.select([], [], [], 1.0)  # a second of the server's life, to be measured
    after = crowd.ask()
    assert after["cpu"] - before["cpu"] < 0.1
    assert after["errors"] - before["errors"] < 100


def test_l4_at_the_descriptor_limit_open_connections_are_served(crowd):
    first = crowd.ask()
    assert 1 <= first["open"] < 64
    for _ in range(10):
        assert crowd.ask()["open"] >= first["open"]


def test_l4_the_listener_goes_on_when_descriptors_come_back(crowd):
    early = crowd.welcomed()
    assert 40 < len(early) < 64  # so that the rest has room once these are gone
    for client in early:
        crowd.all.remove(client)
        client.close()
    late = len(crowd.all) - 1
    wait_for(lambda: len(crowd.welcomed()) == late, "the rest to be accepted")


@pytest.mark.parametrize("limit", [1, 3])
def test_l4_max_connections_pauses_accepting_and_goes_on_after_a_close(loop, transport, limit):
    recorder = Recorder(open=lambda socket: most.append(listener.connections))
    most = []
    listener = transport.listen(recorder, max_connections=limit)
    peers = [transport.peer(listener) for _ in range(limit + 2)]
    for peer in peers:
        peer.dialled.result()
    loop.run_until(lambda: len(recorder.sockets) == limit)
    for expected in (limit + 1, limit + 2):
        recorder.sockets[expected - limit - 1].terminate()
        loop.run_until(lambda expected=expected: len(recorder.sockets) == expected)
    assert max(most) == limit
    assert listener.connections == limit


def test_l4_at_max_connections_nothing_more_is_accepted(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder, max_connections=1)
    peers = [transport.peer(listener) for _ in range(2)]
    for peer in peers:
        peer.dialled.result()
    loop.run_until(lambda: recorder.sockets)
    turns = pybuntcp.stats()["turns"]
    witness = transport.listen(Recorder(data=lambda socket, chunk: socket.write(chunk)))
    for _ in range(10):
        assert answers(loop, transport, witness)
    assert pybuntcp.stats()["turns"] >= turns + 10
    assert len(recorder.sockets) == 1
    assert listener.connections == 1


def test_l4_a_paused_listener_costs_no_wake_ups(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder, max_connections=1)
    for _ in range(2):
        transport.peer(listener).dialled.result()
    loop.run_until(lambda: recorder.sockets)
    before = pybuntcp.stats()["turns"]
    recorder.socket.timeout(0.3)
    loop.run_until(lambda: recorder.count("close"))
    assert pybuntcp.stats()["turns"] - before < 20


def test_l4_max_connections_survives_closing_inside_open(loop, transport):
    recorder = Recorder(open=lambda socket: socket.close())
    listener = transport.listen(recorder, max_connections=1)
    for _ in range(20):
        transport.peer(listener)
    loop.run_until(lambda: recorder.count("close") == 20)
    assert listener.connections == 0


@silent_crowd
def test_l4_at_most_64_accepts_a_turn(loop, transport):
    turns = collections.Counter()

    def opened(socket):
        turns[pybuntcp.stats()["turns"]] += 1

    recorder = Recorder(open=opened)
    listener = transport.listen(recorder)
    with descriptor_limit(1000), contextlib.ExitStack() as stack:
        for _ in range(3 * ACCEPTS_A_TURN):
            stack.enter_context(transport.dial(listener))
        loop.run_until(lambda: len(recorder.sockets) == 3 * ACCEPTS_A_TURN)
        assert max(turns.values()) <= ACCEPTS_A_TURN
        listener.stop(True)
        loop.run()


@silent_crowd
def test_l4_accepting_a_crowd_does_not_starve_an_open_connection(loop, transport):
    """Bytes that arrived before the crowd are read before all of the crowd is in."""

    def data(socket, chunk):
        seen.append(len(recorder.sockets))

    seen = []
    recorder = Recorder(data=data)
    listener = transport.listen(recorder)
    with descriptor_limit(1000), contextlib.ExitStack() as stack:
        first = stack.enter_context(transport.dial(listener))
        loop.run_until(lambda: recorder.sockets)
        first.sendall(b"x")
        for _ in range(4 * ACCEPTS_A_TURN):
            stack.enter_context(transport.dial(listener))
        loop.run_until(lambda: len(recorder.sockets) == 4 * ACCEPTS_A_TURN + 1 and seen)
        assert seen[0] <= 2 * ACCEPTS_A_TURN
        listener.stop(True)
        loop.run()


def test_a_crowd_of_clients_connects_at_once(loop, transport):
    """More than the backlog holds, but over TLS: a full queue delays a connect and never fails it."""
    count = transport.crowd
    server = Recorder(data=lambda socket, chunk: socket.end(chunk), without=("end", "drain"))
    client = Recorder(open=lambda socket: socket.write(b"x"), without=("drain",))
    with descriptor_limit(3 * count):
        listener = transport.listen(server)
        for _ in range(count):
            transport.connect(client, listener)
        loop.run_until(lambda: client.count("close") + client.count("connect_error") == count, timeout=40)
        assert client.count("connect_error") == 0
        assert len(client.received()) == count
        listener.stop(True)
        loop.run()
