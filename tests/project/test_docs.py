"""The documentation is true: every code block in `docs/` is run, and what it says it prints is what it prints.

How a page marks its blocks, each mark an HTML comment on the line above the fence:

  (nothing)                      a ```python block is a program: run in a new interpreter and an empty folder, with a
                                 time limit; it must end by itself, with exit code 0 and nothing on stderr
  <!-- prints -->                this ```text block is what the python block before it writes to stdout
  <!-- compile only: REASON -->  it serves for ever, or needs what a test has not; it is only compiled

Owns the extraction and the rules; knows nothing of the runtime.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
TIME_LIMIT = 20

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


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
        return self.language == "python" and not self.mark


def blocks_of(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page in order; the text that one prints is joined to it."""
    found: list[Block] = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        block = Block(page, line, match["language"], match["mark"] or "", match["text"])
        if block.mark == "prints" and found and found[-1].runs:
            found[-1].prints = block.text
        found.append(block)
    return found


def complaints_about(block: Block) -> list[str]:
    """What is wrong with how a block is written."""
    known = {"python": r"|compile only: \S.*", "text": r"|prints"}
    if block.language not in known:
        return [f"{block.name}: language {block.language!r}: must be python or text"]
    if not re.fullmatch(known[block.language], block.mark):
        return [f"{block.name}: unknown mark {block.mark!r}"]
    return []


def run(block: Block, folder: Path) -> str:
    """What the block prints, run as a program."""
    script = folder / "block.py"
    script.write_text("\n" * (block.line - 1) + block.text)  # tracebacks name the page's lines
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{block.name}\n{done.stdout}{done.stderr}"
    return done.stdout


BLOCKS = [block for page in PAGES for block in blocks_of(page.name, page.read_text())]
PYTHON = [block for block in BLOCKS if block.language == "python"]
PROGRAMS = [block for block in PYTHON if block.runs]


# --- the pages -------------------------------------------------------------------------------------------


def test_there_is_something_to_run() -> None:
    assert len(PAGES) > 5
    assert len(PROGRAMS) > 15


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_is_well_marked(block: Block) -> None:
    assert complaints_about(block) == []


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_a_block_compiles(block: Block) -> None:
    compile(block.text, block.name, "exec")


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_a_block_does_what_it_says(block: Block, tmp_path: Path) -> None:
    printed = run(block, tmp_path)
    if block.prints is not None:
        assert printed == block.prints


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link.split("#")[0] for link in LINK.findall(page.read_text())]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_table_of_contents_names_every_page_once() -> None:
    listed = re.findall(r"^\s+- .*?([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_the_architecture_names_every_chapter() -> None:
    named = set(re.findall(r"^\|[^|]*\| `(\w+)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE))
    assert named == {path.stem for path in ROOT.glob("pybuntcp/_core/*.pyx")}


# --- the rules can fail ----------------------------------------------------------------------------------

PAGE = """\
A page.

```python
print(1)
```

<!-- prints -->
```text
1
```

<!-- compile only: it serves for ever -->
```python
while True: ...
```
"""


def test_blocks_are_found_with_their_marks() -> None:
    program, printed, endless = blocks_of("page.md", PAGE)
    assert (program.name, program.runs, program.prints) == ("page.md:4", True, "1\n")
    assert (printed.language, printed.runs) == ("text", False)
    assert (endless.runs, endless.text) == (False, "while True: ...\n")
    assert [complaints_about(block) for block in (program, printed, endless)] == [[], [], []]


@pytest.mark.parametrize(
    "fence", ["```sh\n", "```\n", "<!-- compile only: -->\n```python\n", "<!-- skip -->\n```python\n"]
)
def test_a_block_without_a_rule_is_seen(fence: str) -> None:
    (block,) = blocks_of("page.md", f"{fence}x\n```\n")
    assert len(complaints_about(block)) == 1


@pytest.mark.parametrize(
    "text", ["1 / 0\n", "raise SystemExit(3)\n", "import sys\nprint('a warning', file=sys.stderr)\n"]
)
def test_a_block_that_fails_is_seen(text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        run(Block("page.md", 1, "python", "", text), tmp_path)
