"""CONTRACT.md, "One's own loop": X3, `run(timeout=)`: how long it turns, and what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import socket as stdlib
import time

import pytest
from support import LATE, Recorder, accepted, calls_run, spin
from support.handlers import QUIET

import pybuntcp

LOCAL = {"hostname": "127.0.0.1", "port": 0}


@pytest.fixture
def took():
    """A block that must take this long, and not much longer."""

    @contextlib.contextmanager
    def check(seconds):
        start = time.monotonic()
        yield
        assert seconds <= time.monotonic() - start < seconds + LATE

    return check


@pytest.mark.parametrize("referenced", [True, False])
def test_x3_it_returns_after_that_long_though_something_is_open(took, referenced):
    with pybuntcp.listen(socket=QUIET, **LOCAL) as listener:
        if not referenced:
            listener.unref()
        with took(0.05):
            assert pybuntcp.run(timeout=0.05) is None


def test_x3_unreferenced_timers_are_called_meanwhile(took):
    called = []
    timer = pybuntcp.every(0.01, called.append, 1)
    timer.unref()
    with took(0.06):
        pybuntcp.run(timeout=0.06)
    assert 1 <= len(called) <= 6
    timer.cancel()


@pytest.mark.parametrize("timeout", [0, 30, float("inf")])
def test_x3_it_returns_at_once_when_nothing_is_open(took, timeout):
    with took(0):
        pybuntcp.run(timeout=timeout)


def test_x3_it_returns_when_nothing_is_open_any_more(took):
    recorder = Recorder(open=lambda socket: socket.terminate())
    ours, theirs = stdlib.socketpair()
    with theirs, took(0):
        pybuntcp.connect(fd=ours.detach(), socket=recorder.handlers)
        pybuntcp.call_later(0.001, int)
        pybuntcp.run(timeout=30)
    assert recorder.names() == ["open", "close"]


@calls_run
@pytest.mark.parametrize("referenced", [True, False])
def test_x3_zero_serves_what_is_ready_and_does_not_wait(loop, transport, took, referenced):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    loop._close_control()
    if not referenced:
        socket.unref()
    with took(0):
        pybuntcp.run(timeout=0)
    assert recorder.names() == ["open"]
    peer.send(b"x").result()
    with took(0):
        while not recorder.received():
            pybuntcp.run(timeout=0)
    assert recorder.received() == b"x"
    socket.terminate()


def test_x3_zero_calls_the_timers_that_are_due(took):
    called = []
    late = pybuntcp.call_later(60, called.append, "later")
    pybuntcp.call_later(0.001, called.append, "due")
    spin(0.003)
    pybuntcp.call_soon(called.append, "soon")
    with took(0):
        pybuntcp.run(timeout=0)
    assert called == ["due", "soon"]
    late.cancel()


def test_x3_a_handler_that_runs_is_not_cut_short(took):
    pybuntcp.call_soon(spin, 0.05)
    with took(0.05):
        pybuntcp.run(timeout=0.01)


def test_x3_a_busy_loop_ends_in_time_too(took):
    timer = []

    def again():
        timer[:] = [pybuntcp.call_soon(again)]

    again()
    with took(0.03):
        pybuntcp.run(timeout=0.03)
    timer[0].cancel()


def test_x3_what_was_written_last_is_sent_before_it_returns():
    ours, theirs = stdlib.socketpair()
    with theirs:
        sockets = []
        pybuntcp.connect(fd=ours.detach(), socket={"open": sockets.append, "data": print})
        pybuntcp.run(timeout=0)
        sink = sockets[0].sink()
        pybuntcp.call_soon(sink.write, b"coalesced")
        pybuntcp.run(timeout=0)
        assert theirs.recv(100) == b"coalesced"
        sockets[0].terminate()


def test_x3_an_exception_comes_out_and_the_next_run_goes_on():
    def stop():
        raise SystemExit("stop")

    pybuntcp.call_soon(stop)
    with pytest.raises(SystemExit):
        pybuntcp.run(timeout=30)
    pybuntcp.run(timeout=0)


WRONG = [(-1, ValueError), (float("nan"), ValueError), (True, TypeError), ("1", TypeError), ([], TypeError)]


@pytest.mark.parametrize(("timeout", "error"), WRONG, ids=repr)
@pytest.mark.parametrize("with_main", [False, True])
def test_x3_a_wrong_timeout_is_refused(timeout, error, with_main, recwarn):
    async def main():
        """Never run."""

    with pytest.raises(error, match="timeout"):
        pybuntcp.run(*[main()] if with_main else [], timeout=timeout)
    assert not recwarn.list  # such as "was never awaited"


# ---------------------------------------------------------------- with a coroutine


def test_x3_a_coroutine_that_takes_longer_is_cancelled_and_raises_timeout_error(took):
    ended = []

    async def main():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    with took(0.02), pytest.raises(TimeoutError):
        pybuntcp.run(main(), timeout=0.02)
    assert ended == [True]


def test_x3_a_coroutine_that_ends_in_time_gives_its_result():
    async def main():
        return 7

    assert pybuntcp.run(main(), timeout=30) == 7


def test_x3_a_timeout_inside_asyncio_is_refused_as_run_is(recwarn):
    async def inner():
        """Never run."""

    async def main():
        with pytest.raises(RuntimeError):
            pybuntcp.run(timeout=0)
        with pytest.raises(RuntimeError):
            pybuntcp.run(inner(), timeout=0)

    asyncio.run(main())
    assert not recwarn.list
