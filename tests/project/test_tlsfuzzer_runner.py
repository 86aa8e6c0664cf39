"""`tests/tlsfuzzer`: its reading of a script's output, its comparison, its list, and what it takes for tlsfuzzer's source."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "tlsfuzzer"
MODULES = ("results", "scripts", "source", "certificates", "run")

OUTPUT = """\
sanity ...
OK

fragmented (1/4) ...
Error encountered while processing node ExpectAlert() (child: None) with last message being: None
Error while processing
Traceback (most recent call last):
  File "app.py", line 1, in main
    runner.run()
AssertionError: Unexpected message from peer: Alert(fatal, decode_error)

expected to fail ...
Error while processing
Traceback (most recent call last):
  File "app.py", line 1, in main
    runner.run()
AssertionError: Timeout when waiting for peer message

OK-expected failure

better than expected ...
XPASS-expected failure but test passed

"at random" repeat 0...
OK

"at random" repeat 1
Error while processing
Traceback (most recent call last):
TimeoutError: timed out

sanity ...
OK

What the script is for ...and more of it.
Test end
====================
TOTAL: 7
FAILED:
\t'fragmented (1/4)'
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[dict[str, ModuleType]]:
    """Its modules, under the names by which they import each other."""
    before = {name: sys.modules.get(name) for name in MODULES}
    loaded: dict[str, ModuleType] = {}
    for name in MODULES:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    yield loaded
    for name, module in before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module


# ---------------------------------------------------------------- the output of a script


def test_each_conversation_is_read_with_the_reason_why_it_failed(runner: dict[str, ModuleType]) -> None:
    result = runner["results"].read_output(OUTPUT)
    assert result.ended
    assert result.ran == [
        "sanity", "fragmented (1/4)", "expected to fail", "better than expected", "at random", "at random", "sanity",
    ]  # fmt: skip
    assert result.failed == {
        "fragmented (1/4)": "AssertionError: Unexpected message from peer: Alert(fatal, decode_error)",
        "better than expected": "passed, against expectation",
        "at random": "TimeoutError: timed out",
    }


def test_a_script_that_was_stopped_tells_what_it_did(runner: dict[str, ModuleType]) -> None:
    result = runner["results"].read_output("sanity ...\nOK\n\nhangs ...\n\nstopped after 90.0 s\n")
    assert not result.ended
    assert result.ran == ["sanity", "hangs"]
    assert result.failed == {"hangs": "no outcome"}


def test_a_conversation_that_fails_once_of_several_times_has_failed(runner: dict[str, ModuleType]) -> None:
    result = runner["results"].read_output("sanity ...\nError while processing\nsanity ...\nOK\nTest end\n")
    assert result.failed == {"sanity": "failed"}


# ---------------------------------------------------------------- the comparison


def read(runner: dict[str, ModuleType], failed: str, passed: str, end: str = "Test end\n"):  # type: ignore[no-untyped-def]
    lines = [f"{name} ...\nError while processing\nTimeout: {name}\n" for name in failed.split()]
    lines += [f"{name} ...\nOK\n" for name in passed.split()]
    return runner["results"].read_output("".join(lines) + end)


def test_what_fails_on_both_is_no_difference(runner: dict[str, ModuleType]) -> None:
    assert runner["results"].differences("s", read(runner, "a b", "c"), read(runner, "b", "a c")) == []


def test_what_fails_on_ours_alone_is_reported_by_name_and_reason(runner: dict[str, ModuleType]) -> None:
    found = runner["results"].differences("s", read(runner, "a", "b c"), read(runner, "a c", "b"))
    assert [str(each) for each in found] == ["s: c: Timeout: c"]


def test_what_ours_never_came_to_is_a_difference(runner: dict[str, ModuleType]) -> None:
    found = runner["results"].differences("s", read(runner, "a", "b c"), read(runner, "", "c", end=""))
    assert [(each.conversation, each.reason) for each in found] == [
        ("b", "was not had"),
        ("(the script)", "did not come to its end"),
    ]


def test_two_reasons_for_one_failure_are_told(runner: dict[str, ModuleType]) -> None:
    ours = runner["results"].read_output("a ...\nError while processing\nAssertionError: closed\nTest end\n")
    assert runner["results"].unlike(read(runner, "a", ""), ours) == [("a", "Timeout: a", "AssertionError: closed")]


def test_a_documented_difference_is_of_one_script_and_named_in_full(runner: dict[str, ModuleType]) -> None:
    difference = runner["results"].Difference
    known = {("s", "count .*"): "why"}
    found = [difference("s", "count 2", ""), difference("s", "recount 2", ""), difference("t", "count 2", "")]
    assert runner["results"].unexplained(found, known) == found[1:]


def test_a_difference_must_come_a_second_time(runner: dict[str, ModuleType]) -> None:
    run, script = runner["run"], runner["scripts"].SCRIPTS[0]
    row = run.Row(script, {"ssl": read(runner, "", "a b"), "borrowed": read(runner, "a b", "")})
    second = {"ssl": read(runner, "", "a b"), "borrowed": read(runner, "b", "a")}
    assert [each.conversation for each in run.confirmed(row, "borrowed", second.__getitem__)] == ["b"]
    assert row.passing == [f"{script.label}: a: Timeout: a (borrowed)"]


def test_the_report_fails_for_what_is_not_documented_and_for_nothing_else(
    runner: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, script, lines = runner["run"], runner["scripts"].SCRIPTS[0], list[str]()
    row = run.Row(script, {"ssl": read(runner, "", "a"), "borrowed": read(runner, "a", "")})
    row.found = {"borrowed": runner["results"].differences(script.label, *row.results.values())}
    assert not run.report([row], ["ssl", "borrowed"], "OpenSSL", 1.0, lines.append)
    assert f"  {script.label}: a: Timeout: a" in lines
    monkeypatch.setattr(run, "KNOWN", {(script.label, "a"): "why"})
    assert run.report([row], ["ssl", "borrowed"], "OpenSSL", 1.0, lines.append)


# ---------------------------------------------------------------- the list


def test_labels_are_unique_and_what_is_left_out_is_not_in_the_list(runner: dict[str, ModuleType]) -> None:
    scripts = runner["scripts"]
    labels = [script.label for script in scripts.SCRIPTS]
    assert len(labels) == len(set(labels)) > 100
    assert {script.name for script in scripts.SCRIPTS}.isdisjoint(scripts.LEFT_OUT)
    assert {label for label, _ in scripts.KNOWN} <= set(labels)


def test_a_line_of_the_list_has_a_bound_and_arguments_of_its_own(runner: dict[str, ModuleType]) -> None:
    scripts = runner["scripts"]
    lines = "\nconversation\ntls13-lengths *7 -C 'a b' {rsa.key}\nempty *-\n"
    short, long, unbound = scripts.parse(scripts.RSA, lines)
    assert (short.module, short.arguments, short.bound) == ("test_conversation", (), scripts.BOUND)
    assert (long.module, long.arguments, long.bound) == ("test_tls13_lengths", ("-C", "a b", "{rsa.key}"), 7)
    assert unbound.bound is None
    assert runner["run"].with_files("{rsa.key}") == str(runner["run"].CERTIFICATES / "rsa.key")


# ---------------------------------------------------------------- tlsfuzzer's source


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


@pytest.fixture
def repository(runner: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that looks like tlsfuzzer's; its commit is the pinned one."""
    folder = tmp_path / "repository"
    files = ("tlsfuzzer/runner.py", "tlsfuzzer/_apps/a.py", "tlsfuzzer/_apps.py", "README.md")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)

    def git(*words: str) -> str:
        settings = ("user.name=n", "user.email=e", "commit.gpgsign=false", "core.autocrlf=false")
        command = ["git", "-C", str(folder), *(word for each in settings for word in ("-c", each)), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "m")
    monkeypatch.setattr(runner["source"], "COMMIT", git("rev-parse", "HEAD"))
    monkeypatch.setattr(runner["source"], "TREE", git("rev-parse", "HEAD:tlsfuzzer"))
    monkeypatch.setattr(runner["source"], "BUILD", tmp_path / "build")
    return folder


@needs_git
def test_the_package_of_the_pinned_commit_is_taken_from_a_clone(
    runner: dict[str, ModuleType], repository: Path
) -> None:
    (repository / "tlsfuzzer" / "runner.py").write_text("changed since")
    kept = runner["source"].provide(str(repository))
    assert (kept / "tlsfuzzer" / "runner.py").read_text() == "tlsfuzzer/runner.py"
    assert not (kept / "README.md").exists()
    assert runner["source"].provide(None) == kept


@needs_git
def test_a_folder_of_the_same_files_is_as_good(runner: dict[str, ModuleType], repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "tlsfuzzer", tmp_path / "unpacked" / "tlsfuzzer")
    (tmp_path / "unpacked" / "tlsfuzzer" / "__pycache__").mkdir()
    assert (runner["source"].provide(str(tmp_path / "unpacked")) / "tlsfuzzer" / "_apps" / "a.py").is_file()


@needs_git
def test_a_folder_with_other_files_is_refused_and_not_kept(
    runner: dict[str, ModuleType], repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository / "tlsfuzzer", tmp_path / "unpacked" / "tlsfuzzer")
    (tmp_path / "unpacked" / "tlsfuzzer" / "more.py").touch()
    with pytest.raises(SystemExit, match="is not that of the pinned commit"):
        runner["source"].provide(str(tmp_path / "unpacked"))
    with pytest.raises(SystemExit, match="TLSFUZZER=/path"):
        runner["source"].provide(None)


@needs_git
def test_what_was_kept_and_changed_since_is_refused(runner: dict[str, ModuleType], repository: Path) -> None:
    (runner["source"].provide(str(repository)) / "tlsfuzzer" / "runner.py").write_text("mine")
    with pytest.raises((SystemExit, runner["source"].NotTheSource), match="is not that of the pinned commit"):
        runner["source"].provide(str(repository))
