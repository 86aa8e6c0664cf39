"""The workflows run what is pinned, and every list of Python versions is the same: what is tested, built and promised.

Reads the text of the files; of .ci/run only what ends before it does anything is run. It does not know whether a commit is that of the release beside it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"([\w-]+/[\w-]+)@([0-9a-f]{40})\s+# v\d+\.\d+\.\d+")

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="the workflows are not here")


def uses() -> list[str]:
    return [
        line.partition("uses:")[2].strip()
        for path in WORKFLOWS
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]


def test_every_action_is_pinned_by_commit_with_its_release_beside_it() -> None:
    assert len(uses()) > 5
    assert [use for use in uses() if not PINNED.fullmatch(use)] == []


def test_an_action_is_the_same_one_in_every_place() -> None:
    assert len(set(uses())) == len({use.partition("@")[0] for use in uses()})


def expanded(pattern: str) -> list[str]:
    """`cp31{4,5}t-*` -> `cp314t-*`, `cp315t-*`; one pair of braces."""
    before, _, rest = pattern.partition("{")
    several, _, after = rest.partition("}")
    return [before + one + after for one in several.split(",")]


def built_as_wheels() -> set[str]:
    listed = re.search(r"^build = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert listed
    selectors = [name for pattern in re.findall(r'"(.*?)"', listed[1]) for name in expanded(pattern)]
    matches = [re.fullmatch(r"cp(\d)(\d+)(t?)-\*", name) for name in selectors]
    assert all(matches), selectors
    return {f"{match[1]}.{match[2]}{match[3]}" for match in matches if match}


def run_by_the_matrix() -> set[str]:
    listed = re.search(r"for version in (.*); do", (ROOT / ".ci" / "run").read_text())
    assert listed
    return set(listed[1].split())


def set_up_by_ci() -> set[str]:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    return set(re.findall(r"^ +(3\.\d+t?)$", text, re.MULTILINE))


def test_every_version_that_is_promised_is_built_and_tested() -> None:
    classifiers = set(
        re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    )
    assert built_as_wheels() == run_by_the_matrix() == set_up_by_ci()
    assert {version for version in built_as_wheels() if not version.endswith("t")} == classifiers


def test_the_names_of_steps_that_may_be_given_are_those_of_the_steps() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    listed = re.search(r'^steps=" (.*) "$', text, re.MULTILINE)
    assert listed
    assert set(listed[1].split()) == set(re.findall(r"\bstep ([a-z]+) ['\"]", text)) | {"matrix"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_step_that_is_not_there_is_an_error() -> None:
    done = subprocess.run(["bash", ROOT / ".ci" / "run", "lint", "nope"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert ": no step nope; there are: install " in done.stderr
