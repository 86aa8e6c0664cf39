"""Test suites of other projects on pybuntcp's event loop, each beside a control run on the interpreter's own.

    make suites                          all of them
    make suites ARGS=uvloop              one
    make suites ARGS="uvloop -- -k tcp -x"    one, with more arguments for pytest; judges nothing
    make suites ARGS="--quick"           without the tests that take long
    make suites ARGS="--store"           and write the scores into tests/suites/scores.json

Owns the processes and what is printed. Each suite of catalogue/ is fetched (source.py), run on both loops, what is about
TLS on the fallback engine, too, all at the same time, and judged (results.py). What fails once and is not listed runs a
second time, alone: what passes then is told apart. The last lines of each suite are its scores; any that is not as expected
makes the exit code 1. What the runs printed is kept in build/suites/NAME/*.txt, all that was found in
build/suites/results.json.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import results
import source
from suite import SIDES, Place, Suite

HERE = Path(__file__).resolve().parent
SCORES = HERE / "scores.json"


def catalogue() -> dict[str, Suite]:
    """Every suite, in the order of `make suites`."""
    names = sorted(path.stem for path in (HERE / "catalogue").glob("[a-z]*.py"))
    return {name: importlib.import_module(f"catalogue.{name}").SUITE for name in names}


# ---------------------------------------------------------------- one run


class Process:
    """One run of a suite in a process of its own, with all that it starts in one group."""

    def __init__(self, suite: Suite, place: Place, side: str, only: list[str], tag: str = "") -> None:
        self.suite, self.place, self.side = suite, place, side
        home = place.tests.parent
        self.file = home / f"results-{side}{tag}.jsonl"
        self.file.write_text("", encoding="utf-8")
        self.output = home / f"output-{side}{tag}.txt"
        self.began = time.monotonic()
        with open(self.output, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                self.command(only),
                cwd=place.tests,
                env=self.environment(place),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self, only: list[str]) -> list[str]:
        if self.suite.command is not None:
            return [*self.suite.command(self.side, self.file), *only]
        command = [
            *self.suite.before,
            source.interpreter(self.suite),
            "-m",
            "pytest",
            "-p",
            "pybuntcp_suite",
            "-p",
            "no:cacheprovider",
        ]
        command += [f"--rootdir={self.place.tests}", "-c", self.suite.config or "pytest.ini"]
        command += ["-q", "-o", f"timeout={self.suite.test_seconds}", *self.suite.arguments]
        return [*command, *(only or self.suite.files)]

    def environment(self, place: Place) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")},
            "PYTHONPATH": os.pathsep.join(map(str, (place.site, HERE / "plugin", place.tests))),
            "PYBUNTCP_SUITE_LOOP": self.side,
            "PYBUNTCP_SUITE_RESULTS": str(self.file),
            "PYBUNTCP_SUITE_LEFT_OUT": json.dumps(list(self.suite.left_out)),
            "PYBUNTCP_SUITE_ONLY": json.dumps(self.suite.only),
            "PYBUNTCP_TLS_ENGINE": self.suite.engine,
            "PYBUNTCP_SUITE_PATCH": "1" if self.suite.patch_loops else "0",
            **self.suite.environment,
        }

    def wait(self) -> results.Run:
        """To its end, or the suite's; what it started ends with it."""
        try:
            status = self.process.wait(max(0.1, self.suite.seconds - (time.monotonic() - self.began)))
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            self.end()
        return results.read(self.file.read_text(encoding="utf-8"), status in (0, 1))

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


# ---------------------------------------------------------------- one suite


Found = tuple[Suite, results.Verdict, results.Run]


def play(suite: Suite, place: Place) -> list[Found]:
    """The suite's runs at the same time, and what is found of each engine of TLS."""
    ours = [suite, *([suite.on_fallback()] if suite.tls else [])]
    with contextlib.ExitStack() as stack:
        processes = [Process(suite, place, SIDES[1], [])]
        processes += [Process(each, place, SIDES[0], [], f"-{each.engine}" * bool(each.only)) for each in ours]
        for process in processes:
            stack.callback(process.end)
        control, *runs = (process.wait() for process in processes)
    return [judged(each, place, run, control.part(each.only)) for each, run in zip(ours, runs, strict=True)]


def judged(suite: Suite, place: Place, ours: results.Run, control: results.Run) -> Found:
    """What is new runs once more."""
    verdict = results.judge(suite, ours, control)
    if 0 < len(verdict.unlisted) <= 20 and ours.ended:
        again = Process(suite, place, SIDES[0], verdict.unlisted, "-again").wait()
        passed = [test for test in verdict.unlisted if again.outcomes.get(test) == "passed"]
        for test in passed:
            ours.outcomes[test] = "passed"
        verdict = results.judge(suite, ours, control)
        verdict.passed_again = passed
    return suite, verdict, ours


def tell(suite: Suite, verdict: results.Verdict, ours: results.Run, seconds: float, texts: bool) -> None:
    for test in verdict.unlisted:
        print(f"FAILED {test}")
        if texts:
            print(ours.texts.get(test, ""))
    for test in verdict.listed_but_passed:
        print(f"PASSED though it is listed: {test} ({suite.expected[test]})")
    for test in verdict.not_run:
        print(f"DID NOT RUN {test}: {ours.outcomes.get(test, 'not found')} {ours.texts.get(test, '')}")
    for test in verdict.passed_again:
        print(f"passed the second time: {test}")
    for trouble in verdict.troubles:
        print(f"TROUBLE {trouble}")
    engine = ", TLS on the fallback engine" if suite.only else ""
    print(
        f"{suite.name} {suite.version}{engine}: {verdict.line()}; {seconds:.0f} s{'' if verdict.fine() else '  <--'}",
        flush=True,
    )


def look(suite: Suite, place: Place, arguments: list[str]) -> int:
    """A run on ours with arguments for pytest, to look into a failure."""
    process = Process(suite, place, os.environ.get("SIDE", SIDES[0]), [*suite.files, *arguments], "-look")
    run = process.wait()
    print(process.output.read_text(encoding="utf-8", errors="replace"))
    return 0 if run.ended and not run.having("failed") else 1


# ---------------------------------------------------------------- the command


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    theirs = arguments[cut + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    suites = catalogue()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what it started
    parser.add_argument("names", nargs="*", choices=[*suites, []], help="all of them if none is named")
    parser.add_argument("--store", action="store_true", help="write the scores into tests/suites/scores.json")
    parser.add_argument("--short", action="store_true", help="names of failures, without what they said")
    parser.add_argument("--quick", action="store_true", help="without the tests that a suite names not_quick")
    given = parser.parse_args(arguments[:cut])
    source.BUILD.mkdir(parents=True, exist_ok=True)
    if theirs:
        return look(suites[given.names[0]], source.provide(suites[given.names[0]]), theirs)
    found: dict[str, list[Found]] = {}
    for name in given.names or suites:
        why = suites[name].unavailable() if suites[name].unavailable else ""
        if why:
            print(f"skipped: {name}: {why}", flush=True)
            continue
        began = time.monotonic()
        suite = suites[name].quick() if given.quick else suites[name]
        found[name] = play(suite, source.provide(suite))
        for each in found[name]:
            tell(*each, time.monotonic() - began, not given.short)
    report(found, given.store, given.quick)
    return 0 if all(verdict.fine() for each in found.values() for _, verdict, _ in each) else 1


def report(found: dict[str, list[Found]], store: bool, quick: bool) -> None:
    told = {}
    for name, ((suite, verdict, _), *more) in found.items():
        told[name] = {"version": suite.version, "python": platform.python_version(), "quick": quick, **asdict(verdict)}
        if more:
            told[name]["fallback"] = asdict(more[0][1])
    (source.BUILD / "results.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if store:
        kept = json.loads(SCORES.read_text(encoding="utf-8")) if SCORES.exists() else {}
        ended = {name for name, each in found.items() if not any(verdict.troubles for _, verdict, _ in each)}
        kept.update({name: told[name] for name in ended})
        SCORES.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
