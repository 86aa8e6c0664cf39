"""The interpreter's own tests of asyncio, run on loops made by `pybuntcp.new_event_loop`.

    python tests/project/stdlib_asyncio.py [--bare | --stock] [--results FILE] [module | test ...]

Owns: how loops get there. Whatever a test calls to have a loop (`asyncio.new_event_loop`, the
policy, `asyncio.SelectorEventLoop()`, a mixin's `create_event_loop`) makes a native one; what
names a selector of its own (`PollSelector`) keeps it and is left out where it is the same test
once more. While nothing of ours is open a native loop selects as the stock loop does, so each has
a listener of ours open; `--bare` leaves it out. `--stock` runs the same tests on stock loops, as a
control, and `--results` appends what each test did to a file (see tests/suites).

Prints a line for each module and every failure. Ends with status 1 for a failure that `KNOWN`
does not list, for one it lists that passed, and for a module in which no loop was native.
Does not know what the tests test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import importlib
import importlib.util
import sys
import time
import unittest
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pybuntcp
import pybuntcp.aio

PACKAGE = "test.test_asyncio"

MODULES = [
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_locks",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
]
"""Those in which loops are made; the others test futures, transports and protocols with a mock for a loop."""

INNARDS = "use private parts of asyncio's own TLS transport"
KNOWN = {
    "test_ssl.TestSSL.test_flush_before_shutdown": INNARDS,
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data": INNARDS,
}
"""What does not pass on the native loop: "module.Class.test", and why."""


def available() -> list[str]:
    """The modules that this interpreter has; none if it was installed without its tests."""
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(PACKAGE) is None:
        return []
    return [name for name in MODULES if importlib.util.find_spec(f"{PACKAGE}.{name}") is not None]


# ---------------------------------------------------------------- native loops for everything


class Natives:
    """Makes the loops, counts them, and gives each a listener of ours until it is closed. Or makes stock loops."""

    def __init__(self, bare: bool, stock: bool = False) -> None:
        self.count = 0
        self._bare = bare
        self._stock: Any = asyncio.SelectorEventLoop if stock else None

    def make(self) -> Any:
        self.count += 1
        if self._stock is not None:
            return self._stock()
        loop: Any = pybuntcp.new_event_loop()
        if not self._bare:
            loop.close = _closing(loop, _listener_in(loop))
        return loop


def _listener_in(loop: Any) -> pybuntcp.Listener:
    """A listener of ours in a loop that does not run yet."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        return pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
    finally:
        asyncio._set_running_loop(before)


def _closing(loop: Any, listener: pybuntcp.Listener) -> Callable[[], None]:
    def close() -> None:
        if not loop.is_running():
            with contextlib.suppress(RuntimeError):  # closed by another thread than ran it, as some tests do
                listener.stop()
        type(loop).close(loop)

    return close


def install(natives: Natives) -> None:
    """From now on everything that asks for a loop gets a native one."""
    stock: Any = asyncio.SelectorEventLoop

    class NativeEventLoop(stock):
        def __new__(cls, selector: Any = None) -> Any:
            return natives.make() if selector is None else stock(selector)

    asyncio.SelectorEventLoop = NativeEventLoop  # type: ignore[misc]
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = NativeEventLoop
    policy: Any = importlib.import_module("asyncio.unix_events")._UnixDefaultEventLoopPolicy
    policy._loop_factory = staticmethod(natives.make)


def adapt(module: ModuleType, natives: Natives) -> None:
    """Of the classes that are one mixin with different selectors, the first is ours and the rest are left out."""
    for name, thing in list(vars(module).items()):
        if not (isinstance(thing, type) and issubclass(thing, unittest.TestCase)):
            continue
        if "create_event_loop" not in vars(thing):
            continue
        if name.startswith("Select"):
            thing.create_event_loop = lambda self: natives.make()  # type: ignore[attr-defined]
        else:
            delattr(module, name)


# ---------------------------------------------------------------- running


class Result(unittest.TestResult):
    """Tells what each test did to a `Recorder` of tests/suites, if there is one."""

    def __init__(self, recorder: Any = None) -> None:
        super().__init__()
        self.buffer = True
        self._recorder = recorder

    def _tell(self, test: Any, outcome: str, text: str = "") -> None:
        if self._recorder is not None:
            self._recorder.tell(_short(test), outcome, text)

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._tell(test, "passed")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._tell(test, "passed")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._tell(test, "failed", "unexpected success")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._tell(test, "skipped", reason)

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._tell(test, "failed", self.failures[-1][1])

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._tell(test, "failed", self.errors[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._tell(subtest, "failed", (self.failures + self.errors)[-1][1])


def run(name: str, natives: Natives, wanted: Callable[[str], bool], recorder: Any = None) -> bool:
    """The wanted tests of one module, told in a line; whether everything went as `KNOWN` says."""
    before, start = natives.count, time.monotonic()
    module = importlib.import_module(f"{PACKAGE}.{name}")
    adapt(module, natives)
    result = Result(recorder)
    tests = unittest.defaultTestLoader.loadTestsFromModule(module)
    suite = unittest.TestSuite(test for test in _each(tests) if wanted(_short(test)))
    names = {_short(test) for test in suite}
    if not names:
        return True
    suite.run(result)
    failed = {_short(test): text for test, text in [*result.failures, *result.errors]}
    unknown = {test: text for test, text in failed.items() if test not in KNOWN}
    passed = [test for test in KNOWN if test in names and test not in failed]
    made = natives.count - before
    print(
        f"{name}: {result.testsRun} run, {len(result.skipped)} skipped, {len(failed)} failed "
        f"({len(failed) - len(unknown)} known), {made} native loops, {time.monotonic() - start:.1f} s",
        flush=True,
    )
    for test, text in unknown.items():
        print(f"FAILED {test}\n{text}", flush=True)
    for test in passed:
        print(f"PASSED though it is listed: {test} ({KNOWN[test]})", flush=True)
    if not made:
        print(f"NO NATIVE LOOP in {name}", flush=True)
    return not unknown and not passed and made > 0 and not result.unexpectedSuccesses


def _each(suite: Any) -> list[Any]:
    if not isinstance(suite, unittest.TestSuite):
        return [suite]
    return [test for part in suite for test in _each(part)]


def _short(test: Any) -> str:
    """ "module.Class.test", a subtest's being its test's."""
    name: str = getattr(test, "test_case", test).id()
    return name.removeprefix(PACKAGE + ".")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("tests", nargs="*", help="as test_events, or test_events.Class.test; all if none is named")
    parser.add_argument("--bare", action="store_true", help="no listener of ours in the loops")
    parser.add_argument("--stock", action="store_true", help="stock loops, as a control")
    parser.add_argument("--results", default="", help="a file that what each test did is appended to")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds until it is stopped, with a traceback")
    options = parser.parse_args(arguments)
    faulthandler.dump_traceback_later(options.limit, exit=True)
    modules = list(dict.fromkeys(test.partition(".")[0] for test in options.tests)) or available()
    if not modules:
        print("this interpreter has no test.test_asyncio")
        return 1
    warnings.simplefilter("ignore", ResourceWarning)
    recorder: Any = None
    named = {test for test in options.tests if "." in test}
    plugin: Any = None
    if options.results:  # tests/suites has started this, with its plugin on the path; which counts the transports
        plugin = importlib.import_module("pybuntcp_suite")
        recorder = plugin.Recorder(options.results)

    def wanted(test: str) -> bool:
        return (not named or test in named) and (plugin is None or plugin.wanted(test))

    natives = Natives(options.bare, options.stock)
    install(natives)
    outcomes = [run(name, natives, wanted, recorder) for name in modules]
    if recorder is not None:
        recorder.pytest_sessionfinish()
    kind = "stock" if options.stock else "native"
    print(f"{outcomes.count(True)} of {len(outcomes)} modules as expected, {natives.count} {kind} loops")
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
