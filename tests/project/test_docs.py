"""The documentation is true: every code block in `docs/` is run, and what it says it prints is what it prints.

How a page marks its blocks: see `support.documents`. Those that need an extension module built are run by
`tests/capi/test_cython_guide.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.documents import DOCS, Block, blocks_of, complaints_about, run

from pybuntcp.tls.options import NAMES

ROOT = DOCS.parent
PAGES = sorted(DOCS.glob("**/*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")

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


def test_what_must_be_built_stands_where_it_is_built() -> None:
    assert {block.page for block in BLOCKS if block.needs or block.file or block.language == "cython"} == {"cython.md"}


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_a_block_compiles(block: Block) -> None:
    compile(block.text, block.name, "exec")


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_a_block_does_what_it_says(block: Block, tmp_path: Path) -> None:
    if block.lacks:
        pytest.skip(f"needs {block.lacks}")
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


def test_the_architecture_names_every_chapter_of_the_engines() -> None:
    table = (DOCS / "architecture.md").read_text().partition("| chapter of `_tls` |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in ROOT.glob("pybuntcp/_tls/*.pyx"))


def test_the_page_about_tls_names_every_option() -> None:
    page = (DOCS / "tls.md").read_text()
    assert [name for name in NAMES if not re.search(rf"^\|[^|]*`{name}`[^|]*\|", page, re.MULTILINE)] == []


def test_the_page_about_tls_names_all_that_the_fallback_refuses() -> None:
    page = (DOCS / "tls.md").read_text()
    source = (ROOT / "pybuntcp/_tls/connection.pyx").read_text()
    refused = set(re.findall(r'tls_require_openssl\(self, "(\w+)"', source))
    assert len(refused) > 5
    assert sorted(name for name in refused if f"`{name}`" not in page) == []


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


def test_a_block_that_needs_what_is_not_here_is_known() -> None:
    marks = {
        "": "",
        "since: 3.10": "",
        "since: 3.999": "Python 3.999",
        "installed: pytest": "",
        "installed: nowhere": "nowhere",
    }
    blocks = [Block("page.md", 1, "python", mark, "pass\n") for mark in marks]
    assert [block.runs for block in blocks] == [True] * len(blocks)
    assert [block.lacks for block in blocks] == list(marks.values())


@pytest.mark.parametrize(
    "fence",
    [
        "```sh\n",
        "```\n",
        "<!-- compile only: -->\n```python\n",
        "<!-- skip -->\n```python\n",
        "<!-- since: 2 -->\n```python\n",
    ],
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
