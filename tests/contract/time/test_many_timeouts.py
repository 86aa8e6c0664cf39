"""CONTRACT.md, "Time": T1, `timeout()`: none that nobody asked for, and many at no cost.

Owns the counts: how many timers are armed, how often each fires among thousands, what arming allocates
and how often the loop turns meanwhile. Early is measured strictly, from an instant before the call, with
`time.monotonic`. What one timeout does is in test_timeout.py.
"""

from __future__ import annotations

import resource
import socket as stdlib_socket
import sys
import time

import pytest
from support import Recorder

import pybuntcp


def test_t1_no_hidden_defaults(loop, transport):
    server, client = Recorder(label="server"), Recorder(label="client")
    listener = transport.listen(server)
    transport.connect(client, listener)
    loop.run_until(lambda: server.sockets and client.sockets)
    assert loop.gauges()["armed_timers"] == 0
    client.socket.write(b"x")
    loop.run_until(server.received)
    assert loop.gauges()["armed_timers"] == 0
    assert loop.gauges()["open_sockets"] == 2


@pytest.fixture
def most_pairs():
    """How many socket pairs the process may hold, with its limit raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = 25_000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    yield (raised - 500) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _open_many(loop, recorder, count):
    pairs = [stdlib_socket.socketpair() for _ in range(count)]
    for ours, _ in pairs:
        pybuntcp.connect(fd=ours.detach(), socket=recorder.handlers)
    loop.run_until(lambda: len(recorder.events) >= count)
    return [theirs for _, theirs in pairs]


def test_t1_ten_thousand_timeouts_fire_once_each_and_not_early(loop, most_pairs):
    early, fired = [], {}

    def timeout(socket):
        seconds, called = socket.data
        if time.monotonic() - called < seconds:
            early.append(socket)
        fired[socket] = fired.get(socket, 0) + 1

    recorder = Recorder(timeout=timeout)
    count = min(10_000, most_pairs)
    theirs = _open_many(loop, recorder, count)
    try:
        sockets = recorder.sockets
        for number, socket in enumerate(sockets):
            seconds = 0.05 + (number % 997) * 0.0003
            socket.data = (seconds, time.monotonic())
            socket.timeout(3600)
            socket.timeout(seconds)
        for socket in sockets[::2]:
            socket.timeout(0)
        assert loop.gauges()["armed_timers"] == count - len(sockets[::2])
        loop.run_until(lambda: len(fired) == count - len(sockets[::2]))
        loop.settle()
        assert early == []
        assert set(fired.values()) == {1}
        assert set(sockets[::2]).isdisjoint(fired)
    finally:
        for sock in theirs:
            sock.close()
    loop.run()
    assert recorder.count("close") == count


def test_t1_arming_allocates_nothing_and_costs_no_turns(loop, most_pairs):
    recorder = Recorder()
    count = min(2000, most_pairs)
    theirs = _open_many(loop, recorder, count)
    clock, clock_end = stdlib_socket.socketpair()
    tick = Recorder(label="clock", timeout=lambda socket: socket.timeout(0))
    pybuntcp.connect(fd=clock.detach(), socket=tick.handlers)
    loop.run_until(lambda: tick.sockets)
    sockets = recorder.sockets
    try:
        before = sys.getallocatedblocks()
        for socket in sockets:
            socket.timeout(0.5)
        assert sys.getallocatedblocks() - before < 50
        assert loop.gauges()["armed_timers"] == count
        tick.socket.timeout(0.1)
        turns = pybuntcp.stats()["turns"]
        loop.run_until(lambda: tick.count("timeout"))
        assert pybuntcp.stats()["turns"] - turns < 50
    finally:
        for sock in (*theirs, clock_end):
            sock.close()
    loop.run()
    assert recorder.count("close") == count
