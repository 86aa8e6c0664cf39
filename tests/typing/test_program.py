"""The public types as programs meet them: mypy, strict, reads `program.py` and the programs of docs/typing.md.

Needs mypy; without it the tests are skipped. Where the stubs stand against the built extension is asked by
`mypy.stubtest` (`make types`); what pyright says of the same files, by `make pyright`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import DOCS, Block, blocks_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = DOCS / "typing.md"
SHOWN = [block for block in blocks_of(PAGE.name, PAGE.read_text()) if block.language == "python"]
EXPECTED = re.compile(r"#.*\berror: \[([\w-]+)\]")  # how a page marks the lines that mypy refuses
WRONG = """\
from typing_extensions import assert_type
import pybuntcp
assert_type(pybuntcp.stats(), dict[str, str])
pybuntcp.run('x', 'y')
pybuntcp.lisen
"""


def file_of(block: Block) -> str:
    return f"{block.page.partition('.')[0].lower()}_{block.line}.py"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str]]]:
    """What mypy says of each file: the lines, with the code of the error, or with all of what else it says."""
    pytest.importorskip("mypy", reason="needs mypy: pip install 'pybuntcp[lint]'")
    folder = tmp_path_factory.mktemp("typed")
    (folder / "wrong.py").write_text(WRONG)
    (folder / "program.py").write_text((HERE / "program.py").read_text())
    for block in SHOWN:
        (folder / file_of(block)).write_text(block.text)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--python-version=3.10"]
    command += ["--follow-imports=silent", f"--cache-dir={os.devnull}", "--no-error-summary", "--hide-error-context"]
    command += sorted(str(path) for path in folder.iterdir())
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, list[tuple[int, str]]] = {path.name: [] for path in folder.iterdir()}
    for path, line, what in re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        code = re.search(r"\[([\w-]+)\]$", what)
        found[Path(path).name].append((int(line), code[1] if code else what))
    return found


@pytest.mark.timeout(300)
def test_a_typed_program_passes_strict_mypy(said: dict[str, list[tuple[int, str]]]) -> None:
    assert said["program.py"] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.name)
def test_what_the_page_about_types_shows_is_what_strict_mypy_says(
    block: Block, said: dict[str, list[tuple[int, str]]]
) -> None:
    marked = [(number, EXPECTED.search(line)) for number, line in enumerate(block.text.splitlines(), 1)]
    assert said[file_of(block)] == [(number, mark[1]) for number, mark in marked if mark]


@pytest.mark.timeout(300)
def test_a_wrong_expectation_is_seen(said: dict[str, list[tuple[int, str]]]) -> None:
    """Else the tests above could pass for want of types: `Any` refuses nothing."""
    assert [line for line, _ in said["wrong.py"]] == [3, 4, 5]
