"""What a suite's two runs say, and whether it is what the table of expected failures says.

Owns the judgement, and no process. A test fails the suite that fails on pybuntcp's loop, not in the control, and is not
listed; that is listed and passes; that did not run though it ran in the control; or that is listed and was not found.
What fails in the control is subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from suite import Suite, matches

WORST = ("passed", "skipped", "failed")


@dataclass
class Run:
    """One run: the outcome of each test, what failed ones said, and how the process ended."""

    outcomes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    ended: bool = True  # False: it was stopped, or died
    transports: int = 0  # connections of pybuntcp's loop that it has made and accepted
    engine: str = ""  # of TLS, that pybuntcp had
    secured: int = 0  # of the transports, those with TLS of pybuntcp's
    by_asyncio: int = 0  # TLS connections of asyncio's own protocol

    def having(self, *outcomes: str) -> set[str]:
        return {test for test, each in self.outcomes.items() if each in outcomes}

    def part(self, patterns: Iterable[str]) -> Run:
        """It as if only those tests had been run; no patterns: all of it."""
        if not patterns:
            return self
        outcomes = {test: each for test, each in self.outcomes.items() if matches(test, patterns)}
        return replace(self, outcomes=outcomes)

    def ran(self) -> set[str]:
        return self.having("passed", "failed")


def read(lines: str, ended: bool) -> Run:
    """The file that a run has written. Of several lines for one test the worst counts; the last tells that it is the last."""
    told: dict[str, Any] = {}
    run = Run()
    for line in lines.splitlines():
        told = json.loads(line)
        if "end" in told:
            break
        test, outcome = told["test"], told["outcome"]
        if WORST.index(outcome) >= WORST.index(run.outcomes.get(test, "passed")):
            run.outcomes[test] = outcome
            run.texts[test] = told.get("text", "")
    run.ended = ended and "end" in told
    for name in ("transports", "engine", "secured", "by_asyncio"):
        setattr(run, name, told.get(name, getattr(run, name)))
    return run


@dataclass
class Verdict:
    passed: int = 0
    failed: int = 0  # on ours, all told
    skipped: int = 0
    control_passed: int = 0
    control_failed: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)  # failed as listed
    unlisted: list[str] = field(default_factory=list)
    listed_but_passed: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # of the run itself
    passed_again: list[str] = field(default_factory=list)  # failed once, passed alone
    secured: int = 0  # TLS connections of ours
    by_asyncio: int = 0  # and those of asyncio's own protocol, on our transports

    def fine(self) -> bool:
        return not (self.unlisted or self.listed_but_passed or self.not_run or self.troubles)

    def line(self) -> str:
        return (
            f"{self.passed} passed, {self.failed} failed ({len(self.expected)} expected), {self.skipped} skipped; "
            f"asyncio: {self.control_passed} passed, {len(self.control_failed)} failed; "
            f"TLS connections: {self.secured} ours, {self.by_asyncio} asyncio's"
        )


def judge(suite: Suite, ours: Run, control: Run) -> Verdict:
    verdict = Verdict(
        passed=len(ours.having("passed")),
        failed=len(ours.having("failed")),
        skipped=len(ours.having("skipped")),
        control_passed=len(control.having("passed")),
        control_failed=sorted(control.having("failed")),
        secured=ours.secured,
        by_asyncio=ours.by_asyncio,
    )
    new = ours.having("failed") - control.having("failed")
    verdict.expected = sorted(new & set(suite.expected))
    verdict.unlisted = sorted(new - set(suite.expected))
    verdict.listed_but_passed = sorted(set(suite.expected) & ours.having("passed"))
    verdict.not_run = sorted((control.ran() | set(suite.expected)) - ours.ran())
    for side, run in (("pybuntcp", ours), ("asyncio", control)):
        if not run.ended:
            verdict.troubles.append(f"the run on {side} did not come to its end")
    if ours.ended and not ours.transports:
        verdict.troubles.append("the run on pybuntcp has not opened one of its transports")
    if ours.ended and suite.tls and suite.secures and not ours.secured:
        verdict.troubles.append("the run on pybuntcp has not opened one of its transports with TLS")
    if ours.ended and ours.engine != suite.engine:
        verdict.troubles.append(f"the run on pybuntcp had the TLS engine {ours.engine!r}, not {suite.engine!r}")
    if len(control.ran()) < suite.fewest:
        verdict.troubles.append(f"{len(control.ran())} tests ran on asyncio, {suite.fewest} at least were looked for")
    if len(verdict.control_failed) > suite.control_fails_at_most:
        verdict.troubles.append(
            f"{len(verdict.control_failed)} tests failed on asyncio, at most {suite.control_fails_at_most} may"
        )
    return verdict
