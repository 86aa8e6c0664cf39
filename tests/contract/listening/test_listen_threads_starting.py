"""`listen_threads` while it starts: who fails or is interrupted meanwhile leaves nothing running."""

from __future__ import annotations

import os
import socket as stdlib
import subprocess
import sys
import textwrap
import threading
import types

import pytest
from support import TIMEOUT, linux_only, wait_for
from support.handlers import ECHO
from support.programs import Program

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


# ---------------------------------------------------------------- how many, and of what


def threads_of(*options, **environment):
    """How many threads a program that was started so takes for `None`, and the cores it has."""
    source = "import os, pybuntcp.threads as t; print(t.usable_cores(), len(os.sched_getaffinity(0)))"
    command = [sys.executable, *options, "-c", source]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return tuple(map(int, run.stdout.split()))


@linux_only
def test_as_many_threads_as_the_cores_that_the_process_may_use():
    threads, cores = threads_of()
    assert threads == cores


@linux_only
@pytest.mark.parametrize("many", [1, 7])
def test_python_cpu_count_says_how_many_threads(many):
    assert threads_of(PYTHON_CPU_COUNT=str(many))[0] == many
    assert threads_of("-X", f"cpu_count={many}")[0] == many
    assert threads_of("-X", f"cpu_count={many}", PYTHON_CPU_COUNT="3")[0] == many


@linux_only
def test_python_cpu_count_that_says_nothing_changes_nothing():
    threads, cores = threads_of(PYTHON_CPU_COUNT="default")
    assert threads == cores
    threads, cores = threads_of("-E", PYTHON_CPU_COUNT="7")
    assert threads == cores


PATCHED = {
    "gevent": ("gevent.monkey", {"is_module_patched": lambda name: name == "threading"}),
    "eventlet": ("eventlet.patcher", {"is_monkey_patched": lambda name: name == "thread"}),
}


@pytest.mark.parametrize("name", PATCHED)
def test_threads_that_are_greenlets_are_refused(name, monkeypatch):
    """They would wait for the first for ever."""
    module, functions = PATCHED[name]
    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**functions))
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match=name):
        pybuntcp.listen_threads(2, socket=ECHO, hostname="127.0.0.1", port=0)
    assert set(threading.enumerate()) == before


def test_gevent_that_has_left_threads_alone_is_no_matter(monkeypatch):
    monkeypatch.setitem(sys.modules, "gevent.monkey", types.SimpleNamespace(is_module_patched=lambda name: False))
    with pybuntcp.listen_threads(2, socket=ECHO, hostname="127.0.0.1", port=0) as threads:
        assert threads.port


def test_a_program_that_gevent_has_patched_is_told():
    pytest.importorskip("gevent")
    source = """
        from gevent import monkey
        monkey.patch_all()
        import pybuntcp
        try:
            pybuntcp.listen_threads(2, socket={"data": print}, hostname="127.0.0.1", port=0)
        except RuntimeError as error:
            print("gevent" in str(error))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert run.stdout == "True\n", run.stderr
