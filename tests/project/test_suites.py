"""`tests/suites`: its reading of results, its judgement in both directions, its runs, and the page of its scores."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("suite", "source", "results", "run", "page")

TESTS = """\
import asyncio, os, unittest

class Test(unittest.TestCase):
    def test_passes(self): pass
    def test_fails_here(self): self.assertEqual(os.environ["PYBUNTCP_SUITE_LOOP"], "asyncio")
    def test_fails_there(self): self.assertEqual(os.environ["PYBUNTCP_SUITE_LOOP"], "pybuntcp")
    def test_fails_in_both(self): self.fail("always")
    def test_fails_on_fallback(self): self.assertEqual(os.environ["PYBUNTCP_TLS_ENGINE"], "borrowed")
    def test_is_skipped_here(self):
        if os.environ["PYBUNTCP_SUITE_LOOP"] == "pybuntcp": self.skipTest("not here")
    def test_left_out(self): os._exit(3)
    def test_has_the_loop_of_the_run(self):
        async def main():
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            self.assertEqual(await reader.read(), b"")
            writer.close()
            server.close()
            return type(asyncio.get_running_loop()).__module__
        loop = asyncio.new_event_loop()
        self.assertIn(os.environ["PYBUNTCP_SUITE_LOOP"], loop.run_until_complete(main()))
        loop.close()
"""


@pytest.fixture
def suites() -> Iterator[Any]:
    """The modules, as run.py has them: its folder first on the path. The benchmarks have a run.py, too."""
    sys.path.insert(0, str(ROOT / "tests" / "suites"))
    others = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(ROOT / "tests" / "suites"))
        for name in [name for name in sys.modules if name in MODULES or name.split(".")[0] == "catalogue"]:
            del sys.modules[name]
        sys.modules.update(others)


def lines(end: bool = True, **outcomes: str) -> str:
    told: list[dict[str, Any]] = [{"test": test, "outcome": outcome} for test, outcome in outcomes.items()]
    last = {"end": True, "transports": 1, "secured": 1, "engine": "borrowed"}
    return "".join(json.dumps(each) + "\n" for each in [*told, *([last] if end else [])])


def judged(suites: Any, ours: dict[str, str], control: dict[str, str], **more: Any) -> Any:
    suite = suites.suite.Suite("fake", "A fake's", **more)
    return suites.results.judge(
        suite, suites.results.read(lines(**ours), True), suites.results.read(lines(**control), True)
    )


# ---------------------------------------------------------------- reading


def test_the_worst_of_several_lines_counts(suites: Any) -> None:
    run = suites.results.read(
        lines(False, a="failed") + lines(False, b="skipped") + lines(a="passed", b="passed"), True
    )
    assert run.outcomes == {"a": "failed", "b": "skipped"}
    assert run.ended


@pytest.mark.parametrize(("end", "status"), [(False, True), (True, False)])
def test_a_run_without_its_last_line_or_with_a_bad_status_has_not_ended(suites: Any, end: bool, status: bool) -> None:
    assert not suites.results.read(lines(end, a="passed"), status).ended


# ---------------------------------------------------------------- judging


def test_what_passes_in_both_is_fine(suites: Any) -> None:
    verdict = judged(suites, {"a": "passed"}, {"a": "passed"})
    assert verdict.fine()
    assert verdict.passed == verdict.control_passed == 1


def test_what_fails_in_both_is_subtracted(suites: Any) -> None:
    verdict = judged(suites, {"a": "failed"}, {"a": "failed"}, control_fails_at_most=1)
    assert verdict.fine()
    assert (verdict.failed, verdict.control_failed, verdict.unlisted) == (1, ["a"], [])


def test_a_failure_that_is_not_listed_fails(suites: Any) -> None:
    verdict = judged(suites, {"a": "failed"}, {"a": "passed"})
    assert not verdict.fine()
    assert verdict.unlisted == ["a"]


def test_a_failure_that_is_listed_is_expected(suites: Any) -> None:
    verdict = judged(suites, {"a": "failed"}, {"a": "passed"}, expected={"a": "why"})
    assert verdict.fine()
    assert verdict.expected == ["a"]


def test_a_listed_test_that_passes_fails(suites: Any) -> None:
    verdict = judged(suites, {"a": "passed"}, {"a": "passed"}, expected={"a": "why"})
    assert not verdict.fine()
    assert verdict.listed_but_passed == ["a"]


@pytest.mark.parametrize("ours", [{"b": "passed"}, {"a": "skipped", "b": "passed"}])
def test_a_test_that_ran_in_the_control_alone_fails(suites: Any, ours: dict[str, str]) -> None:
    verdict = judged(suites, ours, {"a": "passed", "b": "passed"})
    assert not verdict.fine()
    assert verdict.not_run == ["a"]


@pytest.mark.parametrize("ours", [{"b": "passed"}, {"a": "skipped", "b": "passed"}])
def test_a_listed_test_that_did_not_run_fails(suites: Any, ours: dict[str, str]) -> None:
    verdict = judged(suites, ours, ours, expected={"a": "why"})
    assert not verdict.fine()
    assert verdict.not_run == ["a"]


def test_a_control_with_more_failures_than_stated_is_no_control(suites: Any) -> None:
    assert not judged(suites, {"a": "failed"}, {"a": "failed"}).fine()


def test_fewer_tests_than_stated_fail(suites: Any) -> None:
    assert not judged(suites, {"a": "passed"}, {"a": "passed"}, fewest=2).fine()


def test_a_run_without_a_connection_of_ours_fails(suites: Any) -> None:
    ours, control = (suites.results.read(lines(a="passed"), True) for _ in range(2))
    ours.transports = 0
    assert not suites.results.judge(suites.suite.Suite("fake", "A fake's"), ours, control).fine()


@pytest.mark.parametrize(("ours", "control"), [(True, False), (False, True)])
def test_a_run_that_did_not_end_fails(suites: Any, ours: bool, control: bool) -> None:
    suite = suites.suite.Suite("fake", "A fake's")
    runs = [suites.results.read(lines(a="passed"), ended) for ended in (ours, control)]
    assert not suites.results.judge(suite, *runs).fine()


# ---------------------------------------------------------------- running


def test_a_suite_runs_on_both_loops_and_is_judged(suites: Any, tmp_path: Path) -> None:
    def prepare(place: Any) -> None:
        (place.tests / "test_fake.py").write_text(TESTS, encoding="utf-8")

    ids = {name: f"test_fake.py::Test::test_{name}" for name in ("fails_here", "fails_in_both", "is_skipped_here")}
    suite = suites.suite.Suite(
        "fake",
        "A fake's",
        files=("test_fake.py",),
        prepare=prepare,
        left_out={"*test_left_out": "ends the process"},
        expected={ids["fails_here"]: "why"},
        control_fails_at_most=2,
        seconds=50,
    )
    ((_, verdict, _),) = suites.run.play(suite, suites.source.provide(suite, tmp_path))
    assert verdict.troubles == []
    assert verdict.expected == [ids["fails_here"]]
    assert verdict.not_run == [ids["is_skipped_here"]]
    assert verdict.unlisted == []
    assert ids["fails_in_both"] in verdict.control_failed
    assert (verdict.passed, verdict.failed, verdict.skipped) == (4, 2, 1)


def test_what_is_about_tls_runs_on_both_engines(suites: Any, tmp_path: Path) -> None:
    def prepare(place: Any) -> None:
        (place.tests / "test_fake.py").write_text(TESTS, encoding="utf-8")

    tls = ("*test_fails_on_fallback", "*test_fails_in_both", "*test_has_the_loop_of_the_run")
    left_out = dict.fromkeys(("*test_left_out", "*here"), "not the subject of this test")
    suite = suites.suite.Suite(
        "fake",
        "A fake's",
        files=("test_fake.py",),
        prepare=prepare,
        tls=tls,
        secures=False,
        left_out=left_out,
        control_fails_at_most=2,
    )
    (_, verdict, _), (fallback, second, _) = suites.run.play(suite, suites.source.provide(suite, tmp_path))
    assert fallback.engine == "stdlib"
    assert (verdict.unlisted, verdict.troubles) == ([], [])
    assert second.unlisted == ["test_fake.py::Test::test_fails_on_fallback"]
    assert second.troubles == []
    assert (second.passed, second.failed, second.control_passed) == (1, 2, 2)


def test_a_run_that_hangs_is_stopped(suites: Any, tmp_path: Path) -> None:
    def command(side: str, results: Path) -> list[str]:
        return [sys.executable, "-c", "import threading; threading.Event().wait()"]

    suite = suites.suite.Suite("fake", "A fake's", command=command, seconds=0.5)
    ((_, verdict, _),) = suites.run.play(suite, suites.source.provide(suite, tmp_path))
    assert len(verdict.troubles) == 3


def test_a_run_of_tests_about_tls_without_a_tls_connection_of_ours_fails(suites: Any) -> None:
    ours, control = (suites.results.read(lines(a="passed"), True) for _ in range(2))
    ours.secured = 0
    suite = suites.suite.Suite("fake", "A fake's", tls=("a",))
    assert not suites.results.judge(suite, ours, control).fine()
    assert suites.results.judge(replace(suite, secures=False), ours, control).fine()


def test_a_run_on_another_engine_than_the_suites_fails(suites: Any) -> None:
    ours, control = (suites.results.read(lines(a="passed"), True) for _ in range(2))
    suite = suites.suite.Suite("fake", "A fake's", tls=("a",))
    assert suites.results.judge(suite, ours, control).fine()
    assert not suites.results.judge(suite.on_fallback(), ours, control).fine()


# ---------------------------------------------------------------- the catalogue and the page


def test_every_suite_is_pinned_and_named_as_its_file(suites: Any) -> None:
    catalogue = suites.run.catalogue()
    assert {"stdlib", "uvloop", "aiofastnet"} <= set(catalogue)
    for name, suite in catalogue.items():
        assert suite.name == name
        assert len(suite.sha256) == 64 or suite.command is not None
        assert all("==" in need for need in suite.needs), name


def test_at_most_five_tests_are_expected_to_fail(suites: Any) -> None:
    assert sum(len(suite.expected) for suite in suites.run.catalogue().values()) <= 5


def test_a_quick_run_does_not_look_for_what_it_leaves_out(suites: Any) -> None:
    suite = suites.suite.Suite("fake", "A fake's", not_quick=("*ssl*",), expected={"a_ssl": "why", "b": "why"})
    assert suite.quick() == replace(suite, expected={"b": "why"}, left_out={"*ssl*": "not in a quick run"})


def test_the_scores_are_those_of_the_pinned_versions(suites: Any) -> None:
    stored = json.loads(suites.run.SCORES.read_text(encoding="utf-8"))
    catalogue = suites.run.catalogue()
    assert set(stored) <= set(catalogue)
    for name, suite in ((name, catalogue[name]) for name in stored):
        assert stored[name]["troubles"] == [], name
        assert stored[name]["expected"] == sorted(suite.expected), name
        assert not suite.sha256 or stored[name]["version"] == suite.version


def test_the_page_of_scores_is_current(suites: Any) -> None:
    page = suites.page.PAGE.read_text(encoding="utf-8")
    assert suites.page.current(page) == page, "run `make docs`"
