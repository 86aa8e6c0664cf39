"""The shape of the source: layers, contracts of `cdef` functions, sizes, openings.

Reads the files as text and imports nothing; each rule is a function from text to complaints, so that the rules
themselves are tested, in the last section, on text that breaks them.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pybuntcp"
CHAPTERS = PACKAGE / "_core"

LAYERS = (
    ("errors", "buffers", "address", "stats", "files", "descriptors", "sink"),
    ("loop", "signals", "timers", "lookups", "resolve", "selector", "embed", "awaiting", "raising", "tenancy"),
    ("stream", "output", "tail", "sealing"),
    (
        "handlers",
        "compiling",
        "clocks",
        "socket",
        "closing",
        "secure",
        "scheduling",
        "upgrading",
        "capi",
        "face",
        "record",
        "gathering",
        "reading",
        "listener",
        "accepting",
        "binding",
        "connector",
        "dialing",
        "connecting",
        "running",
        "exiting",
        "module",
    ),
)
LAYER_OF = {chapter: number for number, layer in enumerate(LAYERS) for chapter in layer}
LONGEST = 450
LONG_FOR_A_REASON: dict[str, str] = {}  # file -> why it is one room and not two

BLANKED = re.compile(r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*', re.DOTALL)

OBJECTS = ("object", "bytes", "str", "tuple", "list", "dict", "set", "bytearray", "type")


def sources(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in PACKAGE.glob(pattern))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


CYTHON = sources("*.pyx", "*.pxd", "_core/*.pyx", "_tls/*.pyx")
EVERYTHING = sources("**/*.py", "**/*.pyx", "**/*.pxd", "**/*.pyi")
files = pytest.mark.parametrize("path", CYTHON, ids=name_of)


# --- rules -----------------------------------------------------------------------------------------------


def code_only(text: str) -> str:
    """The text with comments and strings blanked; line numbers stay."""
    return BLANKED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def included(contents_page: str) -> list[str]:
    return re.findall(r'^include "_core/(\w+)\.pyx"', contents_page, re.MULTILINE)


def out_of_order(chapters: list[str]) -> list[str]:
    """Chapters that the design does not know, that come twice, or that come before one of a lower layer."""
    complaints = [f"{name}: not a chapter of the design" for name in chapters if name not in LAYER_OF]
    complaints += [f"{name}: included twice" for name in set(chapters) if chapters.count(name) > 1]
    known = [name for name in chapters if name in LAYER_OF]
    pairs = itertools.pairwise(known)
    return complaints + [f"{b}: after {a}, a higher layer" for a, b in pairs if LAYER_OF[b] < LAYER_OF[a]]


def headers(code: str) -> list[str]:
    """`cdef`/`cpdef` function headers and function pointer types, each on one line."""
    found = re.findall(r"^[ \t]*((?:cdef|cpdef)\b[^\n=:(]*\([^:]*):", code, re.MULTILINE)
    found += re.findall(
        r"^[ \t]*(ctypedef\b[^\n(]*\(\*\w+\)\s*\([^()]*(?:\([^()]*\)[^()]*)*\)[^\n()]*)$", code, re.MULTILINE
    )
    return [" ".join(header.split()) for header in found]


def without_contract(code: str) -> list[str]:
    """Functions that state neither `except` nor `noexcept`; one that returns an object must say so instead."""
    complaints = []
    for header in headers(code):
        before = header.split("(")[0].split()
        words = [word for word in before if word not in ("cdef", "cpdef", "ctypedef", "inline", "api", "public")]
        returns = words[0].split("[")[0] if len(words) > 1 or header.startswith("ctypedef") else None
        is_object = returns is not None and (returns in OBJECTS or returns[0].isupper()) and "*" not in "".join(words)
        if is_object or re.search(r"\b(no)?except\b", header[header.rindex(")") :]):
            continue
        complaints.append(header)
    return complaints


def defined(code: str) -> set[str]:
    """Functions and classes of a file's outermost level."""
    names = re.findall(r"^(?:cdef|cpdef|def)\b[^\n(=:]*?(\w+)\(", code, re.MULTILINE)
    return set(names) | set(re.findall(r"^(?:cdef )?class (\w+)", code, re.MULTILINE))


def reaching_up(code_of: dict[str, str]) -> list[str]:
    """Uses of a function or class whose only definition is in a higher layer."""
    home: dict[str, list[str]] = {}
    for chapter, code in code_of.items():
        for name in defined(code):
            home.setdefault(name, []).append(chapter)
    complaints = []
    for chapter, code in code_of.items():
        used = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", code))
        for name in sorted(used & home.keys()):
            lowest = min(home[name], key=LAYER_OF.__getitem__)
            if LAYER_OF[lowest] > LAYER_OF[chapter]:
                complaints.append(f"{chapter} uses {name} of {lowest}")
    return complaints


# --- the tree --------------------------------------------------------------------------------------------


def test_chapters_are_included_in_layer_order() -> None:
    assert out_of_order(included((PACKAGE / "_core.pyx").read_text())) == []


def test_every_chapter_is_included() -> None:
    assert sorted(included((PACKAGE / "_core.pyx").read_text())) == sorted(path.stem for path in CHAPTERS.glob("*"))


def test_a_contents_page_contains_no_logic() -> None:
    code = code_only((PACKAGE / "_core.pyx").read_text())
    assert re.findall(r"^\s*(?:def|cdef class|class|if|for|while|cdef \w+ \w+\()\b.*", code, re.MULTILINE) == []


def test_no_chapter_uses_a_higher_layer() -> None:
    code_of = {path.stem: code_only(path.read_text()) for path in CHAPTERS.glob("*.pyx")}
    assert len(code_of) > 5
    assert reaching_up(code_of) == []


def test_only_embed_knows_asyncio() -> None:
    knowing = {path.stem for path in CHAPTERS.glob("*.pyx") if re.search(r"\basyncio\b", code_only(path.read_text()))}
    assert knowing <= {"embed"}


@files
def test_every_cdef_function_states_its_contract(path: Path) -> None:
    assert without_contract(code_only(path.read_text())) == []


@files
def test_foreign_c_keeps_its_prefix(path: Path) -> None:
    code = code_only(path.read_text())
    assert re.findall(r".*\bcimport \*.*", code) == []
    assert re.findall(r".*\b_c\.\w+ cimport .*", code) == []


@pytest.mark.parametrize("path", sources("*.pxd"), ids=name_of)
def test_a_shipped_pxd_names_no_foreign_library(path: Path) -> None:
    code = code_only(path.read_text())
    assert re.findall(r".*(?:\b_c\b|\buv_|\buv\.|\bossl\.|\bSSL\b|extern from (?!\*)).*", code) == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_a_file_opens_by_saying_what_it_owns(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or re.match(r'\s*(?:#|r?"""|\'\'\')', text)


def test_no_file_is_longer_than_a_room() -> None:
    long = {name_of(path) for path in EVERYTHING if len(path.read_text().splitlines()) > LONGEST}
    assert long == LONG_FOR_A_REASON.keys()


# --- the rules can fail ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "cdef int f(int a):",
        "cdef void f() nogil:",
        "cdef f(a):",
        "cdef inline char* f():",
        "    cdef int method(self):",
        "cdef int f(\n    int a,\n    int b,\n) nogil:",
        "ctypedef void (*slot)(int) nogil",
    ],
)
def test_the_contract_rule_sees(header: str) -> None:
    assert len(without_contract(header + "\n    pass\n")) == 1


@pytest.mark.parametrize(
    "header",
    [
        "cdef int f(int a) except -1:",
        "cdef void f() noexcept nogil:",
        "cdef object f(a):",
        "cdef Socket f(socket_t* s):",
        "cdef int f(\n    int a,\n) except? -1 nogil:",
        "ctypedef void (*slot)(int) noexcept nogil",
        "cdef struct socket_t:",
        "cdef class Socket:",
        "cdef int x = g(3)",
    ],
)
def test_the_contract_rule_passes(header: str) -> None:
    assert without_contract(header + "\n    pass\n") == []


def test_the_layer_rules_see() -> None:
    assert out_of_order(["errors", "stream", "loop"]) == ["loop: after stream, a higher layer"]
    assert out_of_order(["errors", "errors", "odd"]) == ["odd: not a chapter of the design", "errors: included twice"]
    code_of = {"stream": "cdef int a() except -1:\n    b()\n", "socket": "cdef int b() except -1:\n    a()\n"}
    assert reaching_up(code_of) == ["stream uses b of socket"]


def test_comments_and_strings_are_no_code() -> None:
    assert code_only('x = "asyncio"  # asyncio\n"""asyncio\nasyncio"""\n').split() == ["x", "="]
