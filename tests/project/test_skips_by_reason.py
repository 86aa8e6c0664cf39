"""tests/support/summary.py: the end of a run lists each reason of skipped tests once, with the number of tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SOME_SKIPPED = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_one(number):
    pytest.skip("redis-server is not installed")

@pytest.mark.skip("redis-server is not installed")
def test_two(): pass

@pytest.mark.skipif(True, reason="wrk is not installed")
def test_three(): pass
"""
FILE_SKIPPED = 'import pytest; pytest.skip("not on this system", allow_module_level=True)'


def run_of(folder: Path, *files: str) -> list[str]:
    """The output of pytest for files of these contents."""
    for number, content in enumerate(files):
        (folder / f"test_{number}.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "support.summary", "--rootdir", folder, folder]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50)
    return done.stdout.splitlines()


def test_each_reason_is_listed_once_the_most_frequent_first(tmp_path: Path) -> None:
    said = run_of(tmp_path, SOME_SKIPPED, FILE_SKIPPED, "def test_it(): pass")
    first = said.index("    4 redis-server is not installed")
    assert sorted(said[first + 1 : first + 3]) == ["    1 not on this system", "    1 wrk is not installed"]
    assert "redis-server" not in "".join(said[:first] + said[first + 1 :])
    assert said[-1].startswith("1 passed, 6 skipped")


def test_a_run_that_skips_nothing_has_no_list(tmp_path: Path) -> None:
    assert not any("reason" in line for line in run_of(tmp_path, "def test_it(): pass"))
