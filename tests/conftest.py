"""Fixtures every test has: `transport` x `loop`, and the leak check after each test.

After every test the loop is turned until it finishes, the gauges of `pybuntcp.stats()` are zero,
and the process has the descriptors it had before. The harness itself is `support`; which loops and
transports a test runs on is `support.axis`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # for --import-mode=importlib
pytest.register_assert_rewrite("support")

import support  # noqa: E402
from support import axis  # noqa: E402
from support.slots import HANDLERS  # noqa: E402
from support.summary import pytest_terminal_summary  # noqa: E402, F401

_failed = pytest.StashKey[bool]()
_stderr = pytest.StashKey[int]()


def pytest_addoption(parser):
    axis.add_options(parser)


def pytest_configure(config):
    for marker in axis.MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[_stderr] = os.dup(2)  # capturing is suspended here: the real one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Tests that share what a session builds go to one process, when there are several."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            folder = _folder_of(item.path)
            if folder in ("capi", "examples", "programs"):
                item.add_marker(pytest.mark.xdist_group(folder if folder == "capi" else item.path.stem))


@functools.cache
def _folder_of(path):
    """The folder of tests/ that a file is in."""
    return path.relative_to(os.path.dirname(__file__)).parts[0]


def pytest_collection():
    gc.disable()


def _make_hypothesis_random():
    """Hypothesis asks what refers to its random generator when it makes it, which nobody can tell of frozen objects."""
    with contextlib.suppress(ImportError):
        import hypothesis

        @hypothesis.settings(max_examples=1, database=None)
        @hypothesis.given(hypothesis.strategies.none())
        def first(nothing):
            pass

        first()


def pytest_collection_finish():
    """Thousands of collected tests stay to the end: no collection of garbage, which many tests ask for, need look at them."""
    _make_hypothesis_random()
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """A shell starts background jobs with SIGINT ignored; `run_loop` interrupts a hang with it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc):
    handlers = (
        list(HANDLERS) if "handlers" in metafunc.fixturenames and "contract" in metafunc.definition.path.parts else ()
    )
    axis.parametrize(metafunc, handlers)


@pytest.fixture(scope="session", autouse=True)
def _warm_loops(_interruptible):
    for loop in support.LOOPS.values():  # all of them: coroutines run on kinds that were not chosen, too
        if not loop.missing():
            support.warm(loop)


@pytest.fixture(autouse=True)
def no_leaks(request):
    """Gauges at zero, descriptors as before, no exception lost in a handler."""
    support.Recorder.alive.clear()
    before = support.descriptors()
    faulthandler.dump_traceback_later(_last_net(request.node), exit=True, file=request.config.stash[_stderr])
    try:
        yield
        if request.node.stash.get(_failed, False):
            support.sweep()
            support.warm(support.StandaloneLoop)
            return
        support.run_loop()
        support.check_nothing_left(before)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _last_net(item):
    """Seconds until a test that holds the GIL is shot; pytest-timeout had its chance before."""
    marker = item.get_closest_marker("timeout")
    return 20.0 + float(marker.args[0] if marker and marker.args else item.config.getini("timeout"))


@pytest.fixture
def loop(request, loop_name, no_leaks):
    """What turns the sockets: `run()`, `run_until(condition)`, `wait(job)`, `call(function)`."""
    loop = support.LOOPS[loop_name]()
    yield loop
    if request.node.stash.get(_failed, False):
        support.sweep(loop)
    loop.close()


@pytest.fixture
def transport(request, no_leaks):
    """Where the bytes travel: how to listen, connect and dial (`support.Transport`)."""
    transport = support.TRANSPORTS[request.param]()
    yield transport
    transport.close()


@pytest.fixture
def over_tcp(request, no_leaks):
    """The TCP transport, and TLS over it, for tests of what both have (RST)."""
    transport = support.TRANSPORTS[request.param]()
    yield transport
    transport.close()


@pytest.fixture
def tcp(no_leaks):
    """The TCP transport, for tests of what only TCP has (RST, ports, segments)."""
    transport = support.TcpTransport()
    yield transport
    transport.close()


@pytest.fixture
def unix(no_leaks):
    """The unix transport, for tests of what only it has (paths)."""
    transport = support.UnixTransport()
    yield transport
    transport.close()
