"""What is committed: source, and pictures that this project drew. Nothing that was built or fetched."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
PICTURES = ("docs/performance/",)


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout")
def test_only_text_is_committed_but_for_pictures() -> None:
    counted = [line.split("\t") for line in git("diff", "--cached", "--numstat", EMPTY_TREE).splitlines()]
    assert len(counted) > 100
    binary = [path for added, _, path in counted if added == "-"]
    assert [path for path in binary if not (path.startswith(PICTURES) and path.endswith(".png"))] == []
