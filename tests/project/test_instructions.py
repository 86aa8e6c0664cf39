"""`benchmarks/instructions.py`: when two figures are compared, what is said of them, what is stored. One case is counted, with few messages."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

pytest.importorskip("rich")

import instructions  # noqa: E402
from harness.build import compile_program  # noqa: E402
from harness.names import OURS  # noqa: E402
from harness.runtimes import Peer  # noqa: E402
from instructions import Count, Facts  # noqa: E402
from rich.console import Console  # noqa: E402

FIGURES = {"echo": 2000.0, "tls-echo": 16000.0}
needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


def facts(**other: object) -> Facts:
    """Of an imagined machine."""
    here = {"python": "3.11.7", "optimised": False, "architecture": "x86_64", "compiler": "gcc 12.2.0"}
    return {**here, "openssl": "OpenSSL 3.0.19", "valgrind": "3.19.0", **other}


def stored(**other: object) -> Facts:
    return {**facts(**other), "instructions": dict(FIGURES)}


def judge(figure: float, name: str = "echo", **other: object) -> tuple[list[str], list[str]]:
    return instructions.judge({name: Count(figure)}, stored(), facts(**other))


# --- comparing ---


@pytest.mark.parametrize("figure", [1901.0, 2000.0, 2099.0])
def test_within_five_per_cent_there_is_nothing_to_say(figure: float) -> None:
    assert judge(figure) == ([], [])


def test_more_is_a_failure_that_says_which_and_how_to_accept_it() -> None:
    (failure,), notes = judge(2102.0)
    assert notes == []
    assert failure.startswith("echo: +5.1%, more than 5% above the stored figure")
    assert failure.endswith("benchmarks/instructions.py --store --case echo")


def test_less_is_no_failure_but_the_stored_figure_is_old() -> None:
    failures, (note,) = judge(1800.0)
    assert failures == []
    assert note.startswith("echo: -10.0%: the stored figure is old")
    assert "--store" in note


@pytest.mark.parametrize("same", [{"python": "3.11.12"}, {"compiler": "gcc 12.9.1"}, {"valgrind": "3.25.0"}])
def test_small_differences_of_the_platform_are_compared(same: dict[str, object]) -> None:
    assert len(judge(4000.0, **same)[0]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"python": "3.13.1"},
        {"python": "3.11.7t"},
        {"optimised": True},
        {"architecture": "aarch64"},
        {"compiler": "gcc 14.1.0"},
        {"compiler": "clang 12.2.0"},
    ],
)
def test_another_platform_is_not_compared(other: dict[str, object]) -> None:
    failures, (note,) = judge(4000.0, **other)
    assert failures == []
    assert note.startswith("echo: not compared: stored for CPython 3.11 (not optimised) on x86_64, gcc 12, this is ")


def test_the_refusal_names_both() -> None:
    words = instructions.refusal(stored(), facts(python="3.13.1", optimised=True), over_tls=False)
    assert words.endswith("this is CPython 3.13 (optimised) on x86_64, gcc 12")
    assert "3.14t" in instructions.platform_words(facts(python="3.14.2t"))


def test_another_openssl_matters_over_tls_only() -> None:
    assert len(judge(4000.0, openssl="OpenSSL 3.5.0")[0]) == 1
    failures, (note,) = judge(40000.0, name="tls-echo", openssl="OpenSSL 3.5.0")
    assert failures == []
    assert note == "tls-echo: not compared: stored for OpenSSL 3.0.19, this is OpenSSL 3.5.0"


def test_what_is_not_stored_is_said() -> None:
    assert instructions.judge({"echo": Count(1.0)}, None, facts()) == (
        [],
        ["echo: not compared: no figure is stored (--store)"],
    )


def test_what_cannot_be_counted_here_is_said_and_what_went_wrong_fails() -> None:
    counts = {"echo": Count(why="it was silent", failed=True), "tls-echo": Count(why="no trustme")}
    assert instructions.judge(counts, stored(), facts()) == (
        ["echo: it was silent"],
        ["tls-echo: not counted: no trustme"],
    )


@pytest.mark.parametrize(("figure", "code"), [(2000.0, 0), (1000.0, 0), (3000.0, 1)])
def test_the_exit_code_is_the_checks(figure: float, code: int) -> None:
    assert instructions.report(Console(quiet=True), {"echo": Count(figure)}, stored(), facts()) == code


def test_without_valgrind_the_exit_code_is_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instructions, "first_line", lambda *command: None)
    monkeypatch.setattr(sys, "argv", ["instructions.py"])
    assert instructions.main() == 2
    assert "no valgrind" in capsys.readouterr().out


# --- storing ---


def test_one_case_is_stored_beside_the_others() -> None:
    result = instructions.merged({"echo": Count(1999.96)}, stored(), facts(python="3.11.9"), all_cases=False)
    assert result["instructions"] == {"echo": 2000.0, "tls-echo": 16000.0}
    assert result["python"] == "3.11.9"


@pytest.mark.parametrize("other", [{"python": "3.13.1"}, {"openssl": "OpenSSL 3.5.0"}])
def test_figures_of_two_platforms_are_never_in_one_file(other: dict[str, object]) -> None:
    with pytest.raises(SystemExit, match=r"not stored: stored for .*; store all cases"):
        instructions.merged({"echo": Count(1.0)}, stored(), facts(**other), all_cases=False)
    result = instructions.merged({"echo": Count(1.0)}, stored(), facts(**other), all_cases=True)
    assert result["instructions"] == {"echo": 1.0}


def test_what_was_stored_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "STORED", tmp_path / "instructions.json")
    assert instructions.read_stored() is None
    instructions.store(Console(quiet=True), stored())
    assert instructions.read_stored() == stored()


def test_the_stored_file_knows_its_cases_and_no_machine() -> None:
    known = json.loads((BENCHMARKS / "instructions.json").read_text())
    assert known.keys() == stored().keys()
    assert known["instructions"].keys() == instructions.CASES.keys()


# --- reading callgrind ---


def test_inlined_code_and_recursion_belong_to_their_function() -> None:
    said = """
488,436 (100.0%)  PROGRAM TOTALS
 32,985 ( 6.75%)  /a b/Python/ceval.c:eval'2 [/lib/libpython3.11.so.1.0]
  1,000 ( 0.20%)  ./Include/object.h:eval
    819 ( 0.17%)  ???:0x0000000000052db0 [/usr/lib/libssl.so.3]
"""
    assert instructions.by_function(said) == {"eval": 33985, "0x0000000000052db0 in libssl.so.3": 819}


def test_the_compiler_is_read_out_of_what_it_compiled(tmp_path: Path) -> None:
    extension = tmp_path / "a.so"
    for inside, said in (
        (b"\0GCC: (Debian 12-1) 12.2.0\0", "gcc 12.2.0"),
        (b"\0clang version 17.0.6\0", "clang 17.0.6"),
    ):
        extension.write_bytes(inside)
        assert instructions.compiler_of(extension) == said


@needs_valgrind
def test_a_case_is_counted() -> None:
    server = Peer(OURS, "Python handlers", (sys.executable, str(BENCHMARKS / "servers" / "pybuntcp_handler.py")))
    means = instructions.Means({OURS: server}, (str(compile_program("load/load.c")),))
    counted = instructions.count_case("echo", means, few=20, many=220)
    assert counted.why == ""
    assert 500 < (counted.figure or 0) < 100_000
