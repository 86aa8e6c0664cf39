"""The public types as a program meets them: mypy reads `program.py`, which says what it expects.

Needs mypy; without it the test is skipped. Where the stubs stand against the built extension is asked by
`mypy.stubtest` (`make types`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def mypy(path: Path) -> str:
    """What mypy has to say of one file alone; "" is praise."""
    pytest.importorskip("mypy", reason="needs mypy: pip install 'pybuntcp[lint]'")
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--python-version=3.10"]
    command += ["--follow-imports=silent", f"--cache-dir={os.devnull}", "--no-error-summary", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_a_typed_program_passes_strict_mypy() -> None:
    assert mypy(HERE / "program.py") == ""


@pytest.mark.timeout(300)
def test_a_wrong_expectation_is_seen(tmp_path: Path) -> None:
    """Else the test above could pass for want of types: `Any` refuses nothing."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from typing_extensions import assert_type\n"
        "import pybuntcp\n"
        "assert_type(pybuntcp.stats(), dict[str, str])\n"
        "pybuntcp.run('x', 'y')\n"
    )
    said = mypy(wrong)
    assert "wrong.py:3: error" in said
    assert "wrong.py:4: error" in said
