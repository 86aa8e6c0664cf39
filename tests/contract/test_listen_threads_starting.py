"""`listen_threads` while it starts: who fails or is interrupted meanwhile leaves nothing running."""

from __future__ import annotations

import socket as stdlib
import threading

import pytest
from support import TIMEOUT, wait_for
from support_more import ECHO, Program

import pybuntcp


def running():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pybuntcp-")]


class Failing:
    """A `setup` by which the first thread's loop ends with `error` while thread number `at` is being started."""

    def __init__(self, error, at):
        self.error, self.at = error, at
        self.calls = 0
        self.ours, self.poker = stdlib.socketpair()

    def __call__(self, listener):
        if self.calls == 0:
            pybuntcp.connect(fd=self.ours.detach(), socket={"data": self._fail})
        if self.calls == self.at:
            self.poker.send(b"!")
            wait_for(lambda: "pybuntcp-0" not in running(), "the first thread to end")
        self.calls += 1

    def _fail(self, socket, chunk):
        raise self.error


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(("count", "at"), [(2, 1), (4, 1), (4, 2), (4, 3)])
def test_a_thread_that_stops_while_others_are_being_started_stops_all(count, at, stop):
    """And what stopped it comes out of `wait`."""
    setup = Failing(stop("enough"), at)
    with setup.poker:
        threads = pybuntcp.listen_threads(count, socket=ECHO, hostname="127.0.0.1", port=0, setup=setup)
        try:
            with pytest.raises(stop, match="enough"):
                threads.wait(TIMEOUT)
        finally:
            threads.stop(True)
    assert setup.calls == count
    assert running() == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_ctrl_c_while_a_thread_is_being_started_leaves_none(number):
    with Program(
        """
        import threading, traceback
        calls = []
        def is_waiting():           # for the worker, and not for Python's own start of its thread
            stack = traceback.walk_stack(sys._current_frames()[threading.main_thread().ident])
            names = [(frame.f_code.co_filename, frame.f_code.co_name) for frame, _ in stack]
            ours, pythons = (pybuntcp.threads.__file__, "start"), (threading.__file__, "start")
            return ours in names and pythons not in names and names[0][0] == threading.__file__
        def setup(listener):
            calls.append(listener)
            if len(calls) - 1 == int(sys.argv[1]):
                while not is_waiting():
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)
                while is_waiting():     # until the interruption has come out of there
                    time.sleep(0.001)
        try:
            pybuntcp.listen_threads(3, setup=setup, socket={"data": print}, hostname="127.0.0.1", port=0)
        except KeyboardInterrupt:
            say([len(calls), [thread.name for thread in threading.enumerate()]])
        """,
        number,
    ) as program:
        assert program.hear() == [number + 1, ["MainThread"]]
        assert program.finish() == []
