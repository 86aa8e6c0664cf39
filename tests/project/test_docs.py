"""The documentation is true: every code block in `docs/` is run, and what it says it prints is what it prints.

How a page marks its blocks: see `support.documents`. Those that need an extension module built are run by
`tests/capi/test_cython_guide.py`.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from support.documents import DOCS, Block, blocks_of, complaints_about, run

import pybuntcp
from pybuntcp.tls.options import NAMES

ROOT = DOCS.parent
PACKAGE = ROOT / "pybuntcp"
ARCHITECTURE = (DOCS / "architecture.md").read_text()
PAGES = sorted(DOCS.glob("**/*.md"))
BESIDE = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")]
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")

BLOCKS = [block for page in PAGES for block in blocks_of(page.relative_to(DOCS).as_posix(), page.read_text())]
PYTHON = [block for block in BLOCKS if block.language == "python"]
PROGRAMS = [block for block in PYTHON if block.runs]

NOT_OURS = {"noun_verb", "uv_write", "on_every_loop"}  # a pattern, what we do not call, and a name of tests


# --- rules -----------------------------------------------------------------------------------------------


def source_tables() -> ModuleType:
    """docs/source_tables.py, which writes the tables of the page about the architecture."""
    spec = importlib.util.spec_from_file_location("source_tables", DOCS / "source_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages_of(pyproject: str, extra: str) -> set[str]:
    """The packages that an extra installs, by the names of their modules as far as those are the packages' own."""
    listed = re.search(rf"^{extra} = \[(.*?)\]$", pyproject, re.MULTILINE | re.DOTALL)
    assert listed is not None
    return {name.lower().replace("-", "_") for name in re.findall(r'"([\w-]+)', listed[1])}


def rows_of(page: str) -> set[str]:
    """The files of a page's tables, each under the heading of its folder, as paths inside the package."""
    found = set()
    folder = ""
    for line in page.splitlines():
        if heading := re.match(r"### `([\w/]+/)`$", line):
            folder = heading[1].removeprefix("pybuntcp/")
        if row := re.match(r"\| `(\w+\.\w+)` \|", line):
            found.add(folder + row[1])
    return found


def code_words(text: str) -> set[str]:
    """The identifiers of a source: not those of its comments and docstrings, which a renaming may forget."""
    return set(re.findall(r"\w+", re.sub(r'"""(?:\\.|[^\\])*?"""|#[^\n]*', " ", text, flags=re.DOTALL)))


def anchors_of(page: str) -> set[str]:
    """Of its headings, as a web page names them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def quoted(page: str) -> list[str]:
    """What stands in backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))


def names_not_in(page: str, known: set[str]) -> list[str]:
    """Names in backticks that look like ours, because they have an underscore, and are none. A path is no name."""
    names = {name for text in quoted(page) if "/" not in text for name in re.findall(r"\w+", text)}
    return sorted(name for name in names if re.search(r"[a-zA-Z]_\w", name) and name not in known)


def sections_of_contents(text: str) -> dict[str, set[str]]:
    """The sections of mkdocs.yml, each with its pages."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if section := re.match(r"  - ([A-Z][^:]*):$", line):
            pages = found[section[1]] = set()
        elif page := re.match(r"      - .*?([\w/-]+\.md)$", line):
            pages.add(page[1])
    return found


def sections_of_page(text: str) -> dict[str, set[str]]:
    """The sections of a page, each with the pages that it links."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        name: {link.split("#")[0] for link in LINK.findall(part)}
        for name, part in zip(parts[::2], parts[1::2], strict=True)
    }


def files_not_in(page: str, names: set[str]) -> list[str]:
    """Files of the sources in backticks, with their folder or without, that do not end one of the paths `names`."""
    named = {name for text in quoted(page) for name in re.findall(r"[\w/]+\.(?:pyx|pxd|pyi|py)\b", text)}
    return sorted(name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in names))


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


def test_make_test_installs_every_module_that_a_block_needs() -> None:
    """A program that is skipped wherever the tests are run would be checked by nobody."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    needed = {block.mark.removeprefix("installed: ") for block in PROGRAMS if block.mark.startswith("installed: ")}
    assert len(needed) > 5
    assert sorted(needed - packages_of(pyproject, "test") - packages_of(pyproject, "programs")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link.split("#")[0] for link in LINK.findall(page.read_text())]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_table_of_contents_names_every_page_once() -> None:
    listed = re.findall(r"^\s+- .*?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_the_front_page_has_the_sections_of_the_table_of_contents() -> None:
    contents = sections_of_contents((ROOT / "mkdocs.yml").read_text())
    front = sections_of_page((DOCS / "index.md").read_text())
    assert list(contents) == list(front)
    assert {name: sorted(missing) for name, pages in contents.items() if (missing := pages - front[name])} == {}


def test_every_page_is_found_from_the_readme_and_the_first_walk() -> None:
    walk = (DOCS / "tour.md").read_text()
    assert "docs/tour.md" in LINK.findall((ROOT / "README.md").read_text())
    linked = {link.split("#")[0] for link in LINK.findall(walk)}
    assert sorted({page.relative_to(DOCS).as_posix() for page in PAGES} - linked) == ["tour.md"]


@pytest.mark.parametrize("page", BESIDE, ids=lambda page: page.name)
def test_links_of_the_pages_beside_the_source_lead_to_a_heading(page: Path) -> None:
    """Those of docs/ are checked by `mkdocs build --strict`."""
    missing = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text())):
            missing.append(link)
    assert missing == []


def test_the_tables_of_the_architecture_are_those_of_the_sources() -> None:
    assert source_tables().current(ARCHITECTURE) == ARCHITECTURE, "run `make docs`"


def test_the_architecture_has_a_row_for_every_file() -> None:
    sources = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyx")
    }
    contents_pages = {"__init__.py", "tls/__init__.py", "aio/__init__.py", "_core.pyx", "_tls.pyx", "_aio.pyx"}
    assert {row for row in rows_of(ARCHITECTURE) if not row.startswith("_c/")} == sources - contents_pages


@pytest.mark.parametrize("page", ["architecture.md", "state.md"])
def test_every_name_on_a_page_about_the_inside_is_one_of_the_sources(page: str) -> None:
    sources = [path for path in PACKAGE.rglob("*.p*") if path.suffix in (".py", ".pyx", ".pxd")]
    known = NOT_OURS.union(*(code_words(path.read_text()) for path in sources))
    assert names_not_in((DOCS / page).read_text(), known) == []


def test_every_file_of_the_architecture_is_there() -> None:
    folders = ("pybuntcp", "tests", "docs", "benchmarks")
    paths = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.p*")}
    assert files_not_in(ARCHITECTURE, paths) == []


def test_the_page_about_installing_has_every_option_of_the_build_with_its_default() -> None:
    rows = re.findall(r"^\| `(PYBUNTCP_\w+)` \| (\w+) \|", (DOCS / "install.md").read_text(), re.MULTILINE)
    options = re.findall(r'^(PYBUNTCP_\w+) = "(\w*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(options) > 4
    assert rows == [(name, default or "empty") for name, default in options]


def test_the_page_about_tls_names_every_option() -> None:
    page = (DOCS / "tls.md").read_text()
    assert [name for name in NAMES if not re.search(rf"^\|[^|]*`{name}`[^|]*\|", page, re.MULTILINE)] == []


def test_the_page_about_figures_names_all_that_stats_has() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "logging-and-figures.md").read_text(), re.MULTILINE)
    assert pybuntcp.stats().keys() <= set(re.findall(r"`(\w+)`", " ".join(rows)))


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
        "```js\n",
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


def test_a_name_that_is_none_is_seen() -> None:
    page = "A `stream_rest` and `socket_t*`, `context_t.size`, `f(S_DEAF)`, `turn`.\n\n```text\nheir_go\n```\n"
    assert names_not_in(page, {"socket_t", "context_t"}) == ["S_DEAF", "stream_rest"]
    assert names_not_in(page, {"socket_t", "context_t", "S_DEAF", "stream_rest"}) == []
    assert names_not_in("`tests/project/test_docs.py`", set()) == []


def test_a_name_that_only_a_comment_has_is_none() -> None:
    assert code_words('"""stream_rest: see heir_go."""\nx = 1  # S_DEAF\n"a text"') == {"x", "1", "a", "text"}


def test_a_file_that_is_not_there_is_seen() -> None:
    page = "`stream.pyx`, `connection/stream.pyx`, `loop/stream.pyx`, `am.pyx`, `_core/__init__.pxd`"
    there = {"pybuntcp/_core/connection/stream.pyx", "pybuntcp/_core/__init__.pxd"}
    assert files_not_in(page, there) == ["am.pyx", "loop/stream.pyx"]


def test_rows_are_found_under_their_folder() -> None:
    page = "### `pybuntcp/`\n\n| `api.py` | x |\n\n### `_core/loop/`\n\n| `turn.pyx` | x |\n\n| `turn` | x |\n"
    assert rows_of(page) == {"api.py", "_core/loop/turn.pyx"}


def test_packages_are_read_as_modules() -> None:
    pyproject = 'docs = ["nothing"]\ntest = [\n  "pytest>=8,<9", "a-b>=1",\n  "C; x != \'y\'",\n]\n'
    assert packages_of(pyproject, "test") == {"pytest", "a_b", "c"}


def test_sections_are_read_with_their_pages() -> None:
    contents = "nav:\n  - Home: index.md\n  - Start:\n      - A b: a.md\n      - C: c/d.md\n  - Inside:\n      - E: e.md\nplugins:\n  - search\n"
    assert sections_of_contents(contents) == {"Start": {"a.md", "c/d.md"}, "Inside": {"e.md"}}
    page = "# P\n\n[x](x.md)\n\n## Start\n\n[a](a.md#b) [c](c/d.md)\n\n## Inside\n\n[e](e.md)\n"
    assert sections_of_page(page) == {"Start": {"a.md", "c/d.md"}, "Inside": {"e.md"}}


def test_a_table_that_is_out_of_date_is_seen() -> None:
    tables = source_tables()
    page = "# A\n" + "".join(
        f"<!-- {name}: written by `make docs` -->\n<!-- end of {name} -->\n" for name in ("files", "upcalls")
    )
    written = tables.current(page)
    assert written != page
    assert tables.current(written) == written
    assert tables.current(written.replace("| `api.py` |", "| `apis.py` |")) == written
    with pytest.raises(ValueError, match="no markers of 'files'"):
        tables.current("# A\n")


@pytest.mark.parametrize("text", ["", "x = 1\n", '"""chunk: a buffer"""\n'])
def test_a_file_that_does_not_begin_with_a_sentence_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = source_tables()
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "chunk.pyx").write_text(text)
    with pytest.raises(ValueError, match=r"chunk\.pyx does not begin with a sentence"):
        tables.owns(tmp_path / "chunk.pyx")


@pytest.mark.parametrize(
    "text",
    [
        '"""chunk: one buffer, see a.b."""\n',
        '"""chunk: one buffer, see a.b.\n\nMore."""\n',
        '"""chunk: one buffer,\nsee a.b. More."""\n',
        '# cython: x\n"""one buffer, see a.b."""\n',
    ],
)
def test_a_row_is_the_first_sentence_without_the_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "chunk.pyx").write_text(text)
    assert source_tables().owns(tmp_path / "chunk.pyx") == "one buffer, see a.b"
