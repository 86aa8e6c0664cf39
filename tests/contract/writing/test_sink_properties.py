"""Sinks, direct writes, corks and flushes in any order, over real kernel buffers of the smallest size.

The peer is a raw socket that reads when the example says so, and what arrives is exactly what was accepted, once, in
order. Whoever waits for a drain is told once.
"""

from __future__ import annotations

import contextlib
import socket as stdlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TIMEOUT, Recorder, pattern
from support.sinks import ended

import pybuntcp

MARK = 4000  # of the socket
SINKS = [{}, {"high_water_mark": 0}, {"high_water_mark": 1500}, {"limit": 30_000}]
SOURCE = memoryview(pattern(1 << 20))

quick = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# ---------------------------------------------------------------- connections with tiny buffers


def unix_pair():
    return stdlib.socketpair()


def tcp_pair():
    """Segments much smaller than the buffers, so that nobody waits for a delayed acknowledgement."""
    with stdlib.socket() as listener, contextlib.ExitStack() as failing:
        ours = failing.enter_context(stdlib.socket())
        for each in (listener, ours):
            each.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_MAXSEG, 536)
            each.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours.connect(listener.getsockname())
        theirs = listener.accept()[0]
        failing.pop_all()
    return ours, theirs


@contextlib.contextmanager
def connection(loop, make, recorder, **options):
    """Our socket, and the raw one at the other end, non-blocking."""
    ours, theirs = make()
    with theirs:
        theirs.setblocking(False)
        ours.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 8192)
        pybuntcp.connect(fd=ours.detach(), socket=recorder.handlers, **options)
        loop.run_until(lambda: recorder.sockets)
        yield recorder.socket, theirs
        recorder.socket.terminate()
        loop.run()


# ---------------------------------------------------------------- what an example does


SIZES = st.integers(0, 40) | st.sampled_from([999, 1500, 3999, 4001, 16_384, 16_385, 50_000])
WAYS = st.integers(-1, len(SINKS) - 1)  # -1: the socket itself
WRITE = st.tuples(st.just("write"), WAYS, SIZES)
STEP = st.one_of(
    WRITE,
    WRITE,
    st.tuples(st.just("cork"), st.lists(st.tuples(WAYS, SIZES), max_size=4)),
    st.tuples(st.just("flush"), WAYS),
    st.tuples(st.just("drain"), st.integers(0, len(SINKS) - 1)),
    st.tuples(st.just("ask"), st.integers(0, len(SINKS) - 1)),
    st.tuples(st.just("read"), SIZES),
    st.tuples(st.just("turn")),
)
STEPS = st.lists(
    STEP | st.tuples(st.just("handler"), st.lists(STEP.filter(lambda s: s[0] != "turn"), max_size=6)), max_size=25
)


class Play:
    """A connection on which steps are performed, and the account of it."""

    def __init__(self, loop, socket, theirs):
        self.loop, self.socket, self.theirs = loop, socket, theirs
        self.sinks = [socket.sink(**options) for options in SINKS]
        self.accepted, self.arrived = bytearray(), bytearray()
        self.at = 0
        self.drains = []
        self.told = []  # a list of outcomes for each one that asked

    def perform(self, steps):
        for name, *args in steps:
            getattr(self, name)(*args)
            assert self.socket.pending + self.socket.bytes_written == len(self.accepted)

    def write(self, way, size):
        if self.at + size > len(SOURCE):
            self.at = 1
        data = SOURCE[self.at : self.at + size]
        self.at += size
        before = self.socket.pending
        if way < 0:
            taken = self.socket.write(data)
            assert 0 <= taken <= size
        else:
            taken = self.write_whole(self.sinks[way], data, before)
        self.accepted += data[:taken]

    def write_whole(self, sink, data, before):
        try:
            assert sink.write(data) == len(data)
        except BufferError:
            assert sink.limit is not None
            assert self.socket.pending + len(data) > sink.limit
            assert self.socket.pending <= before
            return 0
        if sink.limit is not None and data:
            assert self.socket.pending <= sink.limit
        return len(data)

    def cork(self, writes):
        with self.socket.cork():
            for way, size in writes:
                self.write(way, size)

    def flush(self, way):
        (self.socket if way < 0 else self.sinks[way]).flush()

    def drain(self, which):
        drain = self.sinks[which].drain()
        if not ended(drain):
            self.drains.append(drain)

    def ask(self, which):
        """Note the outcome, and whether all that was accepted was with the kernel then."""
        outcomes = []
        self.told.append(outcomes)
        self.sinks[which].add_drain_callback(
            lambda error: outcomes.append((error, self.socket.bytes_written >= len(self.accepted)))
        )

    def read(self, size):
        """What is there, at most `size` bytes. False: the end of file."""
        try:
            chunk = self.theirs.recv(size) if size else b""
        except BlockingIOError:
            return True
        self.arrived += chunk
        return bool(chunk) or not size

    def turn(self):
        self.loop.settle()

    def handler(self, steps):
        self.loop.wait(self.loop.call(self.perform, steps))

    def finish(self):
        """Read and turn until the end of file."""
        deadline = time.monotonic() + TIMEOUT
        while self.read(65536):
            assert time.monotonic() < deadline, f"{len(self.arrived)} of {len(self.accepted)} bytes arrived"
            self.turn()


ENDS = {
    "sink.end": lambda play: play.sinks[0].end(b"tail"),
    "socket.end": lambda play: play.socket.end(b"tail"),
    "sink.close": lambda play: (play.sinks[0].write(b"tail"), play.sinks[0].close()),
    "socket.close": lambda play: (play.sinks[2].write(b"tail"), play.socket.close()),
}


@pytest.mark.parametrize("make", [unix_pair, tcp_pair])
@given(steps=STEPS, end=st.sampled_from(sorted(ENDS)), mark=st.sampled_from([0, 1, MARK]))
@quick
def test_what_arrives_is_what_was_accepted_once_in_order(loop, make, steps, end, mark):
    recorder = Recorder()
    with connection(loop, make, recorder, high_water_mark=mark) as (socket, theirs):
        play = Play(loop, socket, theirs)
        play.perform(steps)
        ENDS[end](play)
        play.finish()
        assert play.arrived == play.accepted + b"tail"
        play.turn()
        assert play.told == [[(None, True)]] * len(play.told)
        assert all(ended(drain) for drain in play.drains)
    assert recorder.count("close") == 1


@pytest.mark.parametrize("make", [unix_pair, tcp_pair])
@given(steps=STEPS, end=st.sampled_from(["terminate", "peer"]))
@quick
def test_when_the_connection_breaks_every_callback_is_called_once_and_before_close(loop, make, steps, end):
    at_close = []
    recorder = Recorder(close=lambda socket, error: at_close.append([len(each) for each in play.told]))
    with connection(loop, make, recorder, high_water_mark=MARK) as (socket, theirs):
        play = Play(loop, socket, theirs)
        play.perform(steps)
        if end == "terminate":
            socket.terminate()
        else:
            theirs.close()
        loop.run()
    assert play.arrived == play.accepted[: len(play.arrived)]
    assert at_close == [[1] * len(play.told)]
    for ((error, all_out),) in play.told:
        assert all_out if error is None else isinstance(error, (ConnectionResetError, BrokenPipeError))
    for drain in play.drains:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            assert ended(drain)


@pytest.mark.parametrize("make", [unix_pair, tcp_pair])
@given(steps=STEPS)
@quick
def test_without_an_end_everything_is_with_the_kernel_when_all_is_read(loop, make, steps):
    with connection(loop, make, Recorder(), high_water_mark=MARK) as (socket, theirs):
        play = Play(loop, socket, theirs)
        play.perform(steps)
        deadline = time.monotonic() + TIMEOUT
        while len(play.arrived) < len(play.accepted):
            assert time.monotonic() < deadline, f"{len(play.arrived)} of {len(play.accepted)} bytes arrived"
            play.turn()
            assert play.read(65536)
        play.turn()
        assert play.arrived == play.accepted
        assert (socket.pending, socket.bytes_written) == (0, len(play.accepted))
        assert loop.gauges()["pending_bytes"] == 0
        assert play.told == [[(None, True)]] * len(play.told)
        assert all(ended(drain) for drain in play.drains)
