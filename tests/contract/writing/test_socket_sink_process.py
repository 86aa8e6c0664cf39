"""Sinks when their loop dies: after fork in the child, and with the thread that had it."""

from __future__ import annotations

import socket as stdlib
import threading

import pytest
from support import TIMEOUT
from support.programs import run_program
from support.sinks import BIG, DrainCallback, ended

import pybuntcp

FORKING = """
    ours, theirs = socket.socketpair()
    report, reports = os.pipe()
    told = []

    def data(sock, chunk):
        global sink, drain, child
        sink = sock.sink()
        sink.write(b"once")
        sink.add_drain_callback(told.append)
        drain = sink.drain()
        drain.send(None)
        child = os.fork()

    def outcome(function):
        try:
            function()
        except BaseException as error:
            return type(error).__name__

    pybuntcp.connect(fd=ours.detach(), socket={"data": data})
    theirs.send(b"go")
    theirs.shutdown(socket.SHUT_WR)
    pybuntcp.run()
    if child == 0:
        what = [told, outcome(lambda: sink.write(b"twice")), outcome(lambda: drain.send(None)), sink.pending]
        os.write(reports, json.dumps(what).encode())
        os._exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    say(json.loads(os.read(report, 1000)))
    say(theirs.recv(100).decode())
    say(theirs.recv(100).decode())
    say(told)
    say(outcome(lambda: drain.send(None)))
"""


def test_after_a_fork_in_a_handler_the_parent_sends_once_and_the_child_is_refused():
    status, child, arrived, after, told, drained = run_program(FORKING)
    assert status == 0
    assert child == [[], "BrokenPipeError", "BrokenPipeError", 0]
    assert (arrived, after) == ("once", "")
    assert (told, drained) == ([None], "StopIteration")


def test_who_waits_when_the_thread_of_the_loop_ends_is_not_called_and_waits_no_longer():
    ours, theirs = stdlib.socketpair()
    told, waiting = DrainCallback(), []

    def data(socket, chunk):
        sink = socket.sink(high_water_mark=0)
        sink.write(bytes(BIG))
        sink.add_drain_callback(told)
        waiting.extend([sink, sink.drain()])
        assert not ended(waiting[1])
        raise SystemExit

    def thread():
        pybuntcp.connect(fd=ours.detach(), socket={"data": data})
        with pytest.raises(SystemExit):
            pybuntcp.run()

    with theirs:
        theirs.send(b"go")
        worker = threading.Thread(target=thread, name="worker")
        worker.start()
        worker.join(TIMEOUT)
        assert not worker.is_alive()
        sink, drain = waiting
        with pytest.raises(BrokenPipeError):
            ended(drain)
        with pytest.raises(BrokenPipeError):
            sink.write(b"x")
        assert told.errors == []
