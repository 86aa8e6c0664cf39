"""What a suite is: where its tests come from, which are run, how they get a loop, and which are expected to fail.

Owns the two classes that the files in catalogue/ fill in: one file for each suite, with a `SUITE` in it. A suite is a
source distribution of somebody else's project, pinned, whose tests run twice: on pybuntcp's event loop and, as a
control, on the interpreter's own. Those of its tests that are about TLS run once more, on pybuntcp's fallback engine.
Does not know how they are fetched (source.py), run (run.py) or judged (results.py).

The smallest suite names its pin and its files. The plugin in plugin/ then makes `asyncio.new_event_loop`, the policy,
and `asyncio.SelectorEventLoop` give the loop that is wanted; PYBUNTCP_SUITE_LOOP tells which ("pybuntcp" or "asyncio").
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

SIDES = ("pybuntcp", "asyncio")
ENGINES = ("borrowed", "stdlib")  # of TLS, as `pybuntcp.tls_engine_info` has them; the second is the fallback


@dataclass(frozen=True)
class Place:
    """The folders of a suite, in build/suites/NAME."""

    source: Path  # the unpacked archive
    tests: Path  # where pytest runs; what the suite's `folders` name is copied into it
    site: Path  # the first entry of PYTHONPATH: modules that stand in for others


@dataclass(frozen=True)
class Suite:
    name: str  # of its package, too, if that is fetched
    title: str  # as the page of scores has it
    version: str = ""
    sha256: str = ""  # of the source distribution; none: nothing is fetched
    folders: tuple[str, ...] = ("tests",)  # of the archive, copied away from the project's own package
    config: str = ""  # the file of the archive that has pytest's settings; none: settings of its own are not needed
    files: tuple[str, ...] = ()  # arguments of pytest: files, or test ids
    needs: tuple[str, ...] = ()  # what pip installs for it, pinned, beside what the interpreter here has
    arguments: tuple[str, ...] = ()  # more arguments of pytest
    environment: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()  # what starts the interpreter: a program and its arguments
    patch_loops: bool = True  # whether the plugin makes asyncio's own names give the loop
    prepare: Callable[[Place], None] | None = None  # writes stand-ins into `site`, once it is unpacked
    command: Callable[[str, Path], list[str]] | None = (
        None  # (side, file of results) -> what runs it, instead of pytest
    )
    unavailable: Callable[[], str] | None = None  # why it cannot run on this interpreter, or ""
    tls: tuple[str, ...] = ()  # patterns of the tests that are about TLS: these run on both engines
    secures: bool = True  # whether those connect with TLS by the event loop: some projects do TLS themselves
    engine: str = ENGINES[0]  # that TLS connections of ours are on
    only: tuple[str, ...] = ()  # patterns of the tests that are run; none: all of them
    left_out: dict[str, str] = field(default_factory=dict)  # pattern of test ids (fnmatch) -> why these are not run
    not_quick: tuple[str, ...] = ()  # patterns of tests that `--quick` does not run
    expected: dict[str, str] = field(default_factory=dict)  # id of a test that fails here and not on asyncio -> why
    but_not_on_fallback: tuple[str, ...] = ()  # of these, those that pass on the fallback engine
    fewest: int = 1  # tests that run on asyncio; fewer: the suite was not found, or not read
    control_fails_at_most: int = 0  # a control that fails more often is no control
    seconds: float = 300.0  # until a run is stopped
    test_seconds: int = 60  # until one test is

    def on_fallback(self) -> Suite:
        """What of it is about TLS, on the fallback engine."""
        left = {test: why for test, why in self.expected.items() if matches(test, self.tls)}
        expected = {test: why for test, why in left.items() if test not in self.but_not_on_fallback}
        return replace(self, engine=ENGINES[1], only=self.tls, expected=expected, fewest=1)

    def quick(self) -> Suite:
        """It without what takes long; what is listed of that is not looked for."""
        expected = {test: why for test, why in self.expected.items() if not matches(test, self.not_quick)}
        left_out = {**self.left_out, **dict.fromkeys(self.not_quick, "not in a quick run")}
        return replace(self, left_out=left_out, expected=expected)


def matches(test: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)
