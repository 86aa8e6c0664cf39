"""CONTRACT.md, "TLS": S8, handshakes never starve open connections, nor those them: each turn has a step of each; and they time out."""

from __future__ import annotations

import collections
import contextlib
import socket
import time

import pytest
from support import Peer, Recorder, wait_for
from support.handlers import echo
from support.kernel import SLOWER
from support.tls import SERVER_TLS, TLSRecorder
from support.tls_peer import client_context, dialling, hello, server_context, unread_at, versions

import pybuntcp

STUCK, WORKING, AT_ONCE = 200, 50, 5
one_loop = pytest.mark.standalone("the time is a loop's, and the same in all")


class Flood:
    """A listener, open connections, and clients that have said hello and will never finish.

    `log`: what the loop did, in order, and in which turn: ("hello", turn), a client's hello answered; ("data", turn).
    """

    def __init__(self, loop, tcp, stack, **options):
        self.loop, self.tcp, self.log = loop, tcp, []
        self.server = Recorder(label="server", data=self._data)
        context = server_context()
        context.sni_callback = self._hello
        self.listener = tcp.listen(self.server, tls=context, **options)
        self._stack = stack
        self._peer = Peer(socket.socket)  # a thread for those that wait
        stack.callback(self._peer.stop)
        self.working, self.stuck = [], []

    def _data(self, socket, chunk):
        self.log.append(("data", pybuntcp.stats()["turns"]))
        socket.write(chunk)

    def _hello(self, connection, name, context):
        self.log.append(("hello", pybuntcp.stats()["turns"]))

    def open(self, count):
        """Connections that are served."""
        context = client_context()

        def make():
            for _ in range(count):
                raw = self.tcp.dial(self.listener)
                secured = context.wrap_socket(raw, server_hostname="localhost")
                self.working.append(self._stack.enter_context(secured))

        self.loop.wait(self._peer.call(make))
        self.loop.run_until(lambda: len(self.server.sockets) == count)

    def crowd(self, count):
        """Connections that are accepted, and have said nothing."""
        before = self.listener.connections
        self.stuck = [self._stack.enter_context(self.tcp.dial(self.listener)) for _ in range(count)]
        while self.listener.connections < before + count:
            self.loop.settle()

    def hello(self):
        """Everybody of the crowd says hello, and it is in our kernel; the loop has not turned."""
        said = hello()
        for sock in self.stuck:
            sock.sendall(said)

    def ping(self):
        """Every open connection sends, and it is in our kernel."""
        for secured in self.working:
            secured.sendall(b"ping")
        for ours in self.server.sockets:
            wait_for(lambda ours=ours: unread_at(ours), "the ping in our kernel")

    def pong(self):
        """Every open connection has its answer."""

        def hear():
            return [secured.recv(100) for secured in self.working]

        assert self.loop.wait(self._peer.call(hear)) == [b"ping"] * len(self.working)


@pytest.fixture
def flood(loop, tcp):
    with contextlib.ExitStack() as stack:
        yield Flood(loop, tcp, stack)


def counted(log, what):
    return sum(name == what for name, _ in log)


def test_s8_of_two_hundred_hellos_at_most_five_are_answered_in_a_turn(loop, flood):
    flood.crowd(STUCK)
    flood.hello()
    while counted(flood.log, "hello") < STUCK:
        loop.settle()
    turns = collections.Counter(turn for _, turn in flood.log)
    assert len(flood.log) == STUCK
    assert max(turns.values()) <= AT_ONCE


def test_s8_open_connections_go_before_two_hundred_handshakes(loop, flood):
    """All came in the same turn."""
    flood.open(WORKING)
    flood.crowd(STUCK)
    flood.log.clear()
    flood.hello()
    flood.ping()
    flood.pong()
    while counted(flood.log, "hello") < STUCK:
        loop.settle()
    assert counted(flood.log, "data") == WORKING
    last = max(index for index, (name, _) in enumerate(flood.log) if name == "data")
    assert counted(flood.log[:last], "hello") <= AT_ONCE
    assert max(collections.Counter(turn for name, turn in flood.log if name == "hello").values()) <= AT_ONCE


def test_s8_echoes_go_on_while_the_handshakes_are_worked_off(loop, flood):
    flood.open(WORKING)
    flood.crowd(STUCK)
    flood.log.clear()
    flood.hello()
    rounds = 0
    while counted(flood.log, "hello") < STUCK:
        flood.ping()
        flood.pong()
        rounds += 1
    assert rounds >= 3
    assert counted(flood.log, "data") == rounds * WORKING


@one_loop
def test_s8_the_stuck_ones_time_out_and_nothing_is_left(loop, tcp):
    with contextlib.ExitStack() as stack:
        flood = Flood(loop, tcp, stack, handshake_timeout=0.4)
        flood.open(WORKING)
        failures = pybuntcp.stats()["handshake_failures"]
        flood.crowd(STUCK)
        assert flood.listener.connections == STUCK + WORKING
        flood.hello()
        flood.ping()
        flood.pong()
        wait_until(loop, lambda: flood.listener.connections == WORKING)
        assert pybuntcp.stats()["handshake_failures"] == failures + STUCK
        assert len(flood.server.sockets) == WORKING
        flood.ping()
        flood.pong()
        flood.listener.stop(True)
        loop.run_until(lambda: flood.server.count("close") == WORKING)
        assert set(loop.gauges().values()) == {0}


def wait_until(loop, condition, timeout=5.0):
    """Of what no handler is told."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        loop.settle()


@one_loop
def test_s8_a_client_that_says_a_byte_now_and_then_times_out_too(loop, tcp):
    recorder = TLSRecorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS, handshake_timeout=0.2)
    peer = dialling(tcp, listener, client_context())
    said, at, began = peer.step().result(), 0, time.monotonic()
    while not recorder.count("close"):
        assert time.monotonic() < began + 3
        peer.send(said[at : at + 1]).ignore()
        at += 1
        loop.settle()
    assert time.monotonic() - began >= 0.2
    assert isinstance(recorder.close_error, TimeoutError)
    assert recorder.names() == ["open", "handshake", "close"]


@one_loop
@versions
def test_s8_two_hundred_clients_at_once_are_all_served(loop, tcp, version):
    """Ours, on the same loop."""
    server = Recorder(label="server", data=echo)
    client = Recorder(
        label="client", open=lambda socket: socket.write(b"ping"), data=lambda socket, chunk: socket.end()
    )
    listener = tcp.listen(server, tls=SERVER_TLS)
    tls = {"reject_unauthorized": False, "max_version": version}
    for _ in range(STUCK):
        tcp.connect(client, listener, tls=tls)
    loop.run_until(lambda: client.count("close") == STUCK, timeout=30 * SLOWER)
    assert client.count("data") == STUCK
    assert listener.connections == 0


@one_loop
def test_s8_connections_in_a_handshake_count_for_max_connections(loop, tcp):
    recorder = Recorder(data=echo)
    listener = tcp.listen(recorder, tls=SERVER_TLS, max_connections=2, handshake_timeout=0.1)
    with tcp.dial(listener), tcp.dial(listener):
        peer = dialling(tcp, listener, client_context())
        peer.write(b"x")
        assert loop.wait(peer.read(1)) == b"x"  # when one of the silent two was given up
