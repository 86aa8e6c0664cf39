"""The harness can fail: a hang, a leak, an early finish and a peer's failure are each told.

Tests stand on `support`; if it swallowed something, many of them could not fail any more.
"""

from __future__ import annotations

import os
import time

import pytest
import support
from support import LoopHung, Recorder, accepted, check_nothing_left, descriptors, every_loop, run_loop

import pybuntcp

pytestmark = every_loop


def test_a_loop_that_does_not_finish_is_interrupted_and_told(tcp):
    tcp.listen(Recorder(label="the one"))
    started = time.monotonic()
    with pytest.raises(LoopHung, match=r"still turned after 0.1 s.*'open_listeners': 1.*the one"):
        run_loop(0.1)
    assert time.monotonic() - started < 2


def test_a_loop_that_was_interrupted_turns_again(tcp):
    recorder = Recorder()
    listener = tcp.listen(recorder)
    with pytest.raises(LoopHung):
        run_loop(0.05)
    tcp.peer(listener).close().result()
    listener.stop()
    run_loop()
    assert recorder.names() == []


def test_run_until_tells_a_loop_that_finished_before_its_condition(loop, tcp):
    listener = tcp.listen(Recorder())
    listener.stop()
    with pytest.raises(AssertionError, match="finished before the condition held"):
        loop.run_until(lambda: False)


def test_run_until_stops_when_the_condition_holds_though_sockets_are_open(loop, transport):
    recorder = Recorder()
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(recorder.received)
    assert recorder.names() == ["open", "data"]
    assert loop.gauges()["open_sockets"] == 1


def test_call_runs_in_the_loops_thread_and_hands_back_what_it_raises(loop, tcp):
    tcp.listen(Recorder())
    assert loop.wait(loop.call(lambda: "done")) == "done"
    with pytest.raises(KeyError):
        loop.wait(loop.call({}.__getitem__, "absent"))


def test_a_peers_failure_that_nobody_looked_at_is_told_at_the_end(tcp):
    server = tcp.raw_server()
    peer = tcp.peer(server)
    server.accept().close().result()
    failing = peer.recv_exactly(5)
    while not failing.done():
        time.sleep(0.001)
    with pytest.raises(EOFError, match="after 0 of 5 bytes"):
        peer.stop()


def test_an_exception_in_a_handler_is_remembered(loop, transport):
    def data(socket, chunk):
        raise LookupError("an assertion in a handler")

    recorder = Recorder(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(lambda: recorder.raised)
    (raised,) = recorder.raised
    assert isinstance(raised, LookupError)
    recorder.raised.clear()  # or this test would fail for it


def test_an_exception_in_a_handler_fails_the_test():
    recorder = Recorder()
    recorder.raised.append(LookupError("an assertion in a handler"))
    with pytest.raises(LookupError):
        check_nothing_left(descriptors())
    recorder.raised.clear()


def test_an_open_listener_fails_the_test(tcp):
    before = descriptors()
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=Recorder().handlers)
    with pytest.raises(AssertionError, match="open_listeners"):
        check_nothing_left(before)
    listener.stop()


def test_an_open_descriptor_fails_the_test():
    before = descriptors()
    reading, writing = os.pipe()
    try:
        with pytest.raises(AssertionError, match=r"descriptors: .*pipe"):
            check_nothing_left(before)
    finally:
        os.close(reading)
        os.close(writing)


def test_sweep_ends_whatever_a_failed_test_left(loop, transport):
    recorder = Recorder()
    transport.listen(recorder)
    accepted(loop, transport, recorder)
    support.sweep(loop)
    assert loop.gauges()["open_sockets"] <= 0
    assert loop.gauges()["open_listeners"] == 0


def test_a_pattern_shows_every_lost_or_moved_byte():
    data = support.pattern(100_000)
    assert len(data) == 100_000
    words = {data[at : at + 4] for at in range(0, 100_000, 4)}
    assert len(words) == 25_000
