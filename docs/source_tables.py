"""Rewrites what docs/architecture.md says of single files: `make docs`, or `python docs/source_tables.py`.

Owns the two tables between markers: the files, from the first sentence of each, by folder; and the upcalls, from the table
in _core/base/upcalls.pyx and from what _core/module.pyx puts into it. Reads the sources as text and imports nothing of
the package. Promises an error that names the file which does not begin with a sentence. `tests/project/test_docs.py`
says whether the page is current.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pybuntcp"
CORE = PACKAGE / "_core"
PAGE = ROOT / "docs" / "architecture.md"

OPENING = re.compile(r'(?:\s*#[^\n]*\n)*\s*r?"""(.*?)"""', re.DOTALL)
SENTENCE = re.compile(r"(.+?)\.(?: |$)")  # a dot inside a name ends none
FOLDER = re.compile(r"^# (\w+): (.*)$", re.MULTILINE)
ENTRY = re.compile(r"    \w+ \(\*(\w+)\)\([^#]*(?:#\s*(.*))?$")


# --- the files -------------------------------------------------------------------------------------------


def owns(path: Path) -> str:
    """The first sentence of a file's docstring, without the file's own name."""
    opening = OPENING.match(path.read_text())
    sentence = SENTENCE.match(" ".join(opening[1].split())) if opening else None
    if sentence is None:
        raise ValueError(f"{path.relative_to(ROOT)} does not begin with a sentence")
    return sentence[1].removeprefix(f"{path.stem}: ").replace("|", "\\|")


def table(files: list[Path]) -> str:
    return "\n".join(["| file | owns |", "|---|---|"] + [f"| `{path.name}` | {owns(path)} |" for path in files])


def section(folder: str, what: str, files: list[Path]) -> str:
    return f"### `{folder}`\n\n{what}\n\n{table(files)}\n"


def included(contents_page: Path) -> list[Path]:
    """The files of a contents page, in its order."""
    found = re.findall(r'^include "([\w/]+\.pyx)"', contents_page.read_text(), re.MULTILINE)
    return [PACKAGE / name for name in found]


def layers() -> list[str]:
    """The folders of _core, highest first, under the headings that its contents page gives them."""
    files = included(PACKAGE / "_core.pyx")
    found = [section("_core/", "Above the layers.", [CORE / "module.pyx"])]
    for name, what in reversed(FOLDER.findall((PACKAGE / "_core.pyx").read_text())):
        own = [path for path in files if path.parent.name == name]
        if own:
            found.append(section(f"_core/{name}/", f"{what[0].upper()}{what[1:]}.", own))
    return found


def files() -> str:
    facade = [path for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"]
    tls = [path for path in sorted((PACKAGE / "tls").glob("*.py")) if path.stem != "__init__"]
    aio = [path for path in sorted((PACKAGE / "aio").glob("*.py")) if path.stem != "__init__"]
    foreign = [path for path in sorted((PACKAGE / "_c").glob("*.pxd")) if path.stem != "__init__"]
    return "\n".join(
        [
            section("pybuntcp/", "The facade, in Python.", facade),
            section("tls/", "From the option `tls=` to what connections are made of, in Python.", tls),
            *layers(),
            section("aio/", "asyncio's event loop on the transports of `_aio/`, in Python.", aio),
            section(
                "_aio/",
                "asyncio's transports: an extension module of its own, which uses the C API.",
                included(PACKAGE / "_aio.pyx"),
            ),
            section("_tls/", "The TLS engines: an extension module of its own.", included(PACKAGE / "_tls.pyx")),
            section("_c/", "Declarations of foreign C.", foreign),
        ]
    )


# --- the upcalls -----------------------------------------------------------------------------------------


def home(function: str) -> str:
    """The file of _core that defines a function: its folder and name."""
    definition = re.compile(rf"^cdef [^\n(]*\b{function}\(", re.MULTILINE)
    (path,) = [path for path in CORE.rglob("*.pyx") if definition.search(path.read_text())]
    return path.relative_to(CORE).with_suffix("").as_posix()


def upcalls() -> str:
    """One line for each entry of the table: what it is called for, and which function it is."""
    filled = dict(re.findall(r"^upcalls\.(\w+) = .*?(\w+)$", (CORE / "module.pyx").read_text(), re.MULTILINE))
    rows = ["| entry | when it is called, or what for | function | in |", "|---|---|---|---|"]
    for line in (CORE / "base" / "upcalls.pyx").read_text().splitlines():
        group, entry = re.match(r"    # (from .*)$", line), ENTRY.match(line)
        if group:
            rows.append(f"| *{group[1]}* | | | |")
        if entry:
            name, why = entry[1], entry[2] or ""
            function = filled.pop(name)
            rows.append(f"| `{name}` | {why} | `{function}` | `{home(function)}` |")
    if filled:
        raise ValueError(f"_core/module.pyx fills what base/upcalls.pyx does not have: {', '.join(filled)}")
    return "\n".join(rows) + "\n"


# --- the page --------------------------------------------------------------------------------------------


def put(page: str, name: str, text: str) -> str:
    """The page with `text` between the two markers of that name."""
    begin, end = f"<!-- {name}: written by `make docs` -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"no markers of {name!r}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def current(page: str) -> str:
    """The page as it should be."""
    return put(put(page, "files", files()), "upcalls", upcalls())


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
