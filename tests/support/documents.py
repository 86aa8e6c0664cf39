"""The documentation's code blocks: what a page has of them, and how one that is a program is run.

How a page marks its blocks, each mark an HTML comment on the line above the fence:

  (nothing)                      a ```python block is a program: run in a new interpreter and an empty folder, with a
                                 time limit; it must end by itself, with exit code 0 and nothing on stderr
  <!-- since: 3.N -->            the same, from that Python on
  <!-- installed: MODULE -->     the same, where somebody else's module of that name is installed
  <!-- with: MODULE -->          the same, once the extension module of that name was built out of the page's files
  <!-- prints -->                this ```text block is what the python block before it writes to stdout
  <!-- compile only: REASON -->  it serves for ever, or needs what a test has not; it is only compiled
  <!-- not run: REASON -->       a program in another language, for comparison; nothing is done with it
  <!-- file: FOLDER/NAME -->     a file of a package; a ```cython block without a mark is a part of the last .pyx file

Owns the extraction and the rules; knows nothing of the runtime, and nothing of how packages are built.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TIME_LIMIT = 20

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
FILE = r"file: [\w.]+/[\w.]+"
WHERE = r"since: 3\.\d+|installed: \w+"
MARKS = {
    "python": rf"|compile only: \S.*|{WHERE}|with: \w+|{FILE}",
    "text": r"|prints",
    "js": r"not run: \S.*",
    "cython": rf"|{FILE}",
    "toml": FILE,
    "cmake": FILE,
}


@dataclass
class Block:
    page: str
    line: int
    language: str
    mark: str
    text: str
    prints: str | None = None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """It is a program, and needs nothing built."""
        return self.language == "python" and (not self.mark or re.fullmatch(WHERE, self.mark) is not None)

    @property
    def lacks(self) -> str:
        """What this program needs that is not here: a later Python, a module; "" if nothing."""
        kind, _, what = self.mark.partition(": ")
        if kind == "since" and sys.version_info < tuple(map(int, what.split("."))):
            return f"Python {what}"
        if kind == "installed" and importlib.util.find_spec(what) is None:
            return what
        return ""

    @property
    def needs(self) -> str:
        """The module that must be built for this program; "" for all other blocks."""
        return self.mark.removeprefix("with: ") if self.mark.startswith("with: ") else ""

    @property
    def file(self) -> str:
        """FOLDER/NAME, or ""."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else ""


def blocks_of(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page in order; the text that one prints is joined to it."""
    found: list[Block] = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        block = Block(page, line, match["language"], match["mark"] or "", match["text"])
        if block.mark == "prints" and found and (found[-1].runs or found[-1].needs):
            found[-1].prints = block.text
        found.append(block)
    return found


def complaints_about(block: Block) -> list[str]:
    """What is wrong with how a block is written."""
    if block.language not in MARKS:
        return [f"{block.name}: language {block.language!r}: must be one of {', '.join(MARKS)}"]
    if not re.fullmatch(MARKS[block.language], block.mark):
        return [f"{block.name}: unknown mark {block.mark!r}"]
    return []


def run(block: Block, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What the block prints, run as a program."""
    script = folder / "block.py"
    script.write_text("\n" * (block.line - 1) + block.text)  # tracebacks name the page's lines
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{block.name}\n{done.stdout}{done.stderr}"
    return done.stdout
