"""Each source file by itself: the contracts of `cdef` functions, sizes, comments, openings, foreign C.

Reads the files as text and imports nothing of the package; each rule is a function from text to complaints, so that the
rules themselves are tested, in the last section, on text that breaks them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.sources import code_only, name_of, sources

LONGEST_FUNCTION = 50
LONGEST = 450
LONG_FOR_A_REASON = {  # file -> why it is one room and not two
    "pybuntcp/_core.pyi": "its docstrings are those of the module: `make stubs`",
    "pybuntcp/_core/objects/socket.pyx": "one class, which cannot be divided; half of it is docstrings",
}

OBJECTS = ("object", "bytes", "str", "tuple", "list", "dict", "set", "bytearray", "type")

CYTHON = sources("*.pyx", "*.pxd", "_core/**/*.pyx", "_tls/*.pyx", "_aio/*.pyx")
EVERYTHING = sources("**/*.py", "**/*.pyx", "**/*.pxd", "**/*.pyi")
files = pytest.mark.parametrize("path", CYTHON, ids=name_of)


# --- rules -----------------------------------------------------------------------------------------------


def headers(code: str) -> list[str]:
    """`cdef`/`cpdef` function headers and function pointer types, each on one line."""
    found = re.findall(r"^[ \t]*((?:cdef|cpdef)\b(?! class)[^\n=:(]*\([^:]*):", code, re.MULTILINE)
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


def long_functions(code: str, limit: int) -> list[str]:
    """Functions and methods of more lines than that, from the header to the last line of the body."""
    lines = code.split("\n")
    starts = [
        (number, line) for number, line in enumerate(lines) if re.match(r"\s*(?:cdef|cpdef|async def|def)\b.*\(", line)
    ]
    complaints = []
    for number, line in starts:
        indent = len(line) - len(line.lstrip())
        end = last = number
        for end in range(number + 1, len(lines)):
            text = lines[end]
            if text.strip() and len(text) - len(text.lstrip()) <= indent and not text.lstrip().startswith(")"):
                break
            last = end if text.strip() else last
        if last - number + 1 >= limit:
            complaints.append(f"{line.strip()}: {last - number + 1} lines")
    return complaints


def riddles(text: str) -> list[str]:
    """Comments and docstrings that begin with "...": they need the line above to be understood."""
    return re.findall(r"""^.*(?:#+ ?|\"\"\")\.\.\. .*$""", text, re.MULTILINE)


# --- the tree --------------------------------------------------------------------------------------------


@files
def test_functions_are_short(path: Path) -> None:
    assert long_functions(code_only(path.read_text()), LONGEST_FUNCTION) == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_comment_needs_the_line_above_it(path: Path) -> None:
    assert riddles(path.read_text()) == []


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


def test_the_length_rule_sees() -> None:
    body = "cdef int f(\n    int a,\n) except -1:\n    x\n\n    y\n\n\ncdef int g() except -1:\n    z\n"
    assert long_functions(body, 6) == ["cdef int f(: 6 lines"]
    assert long_functions(body, 7) == []


def test_the_rule_about_comments_sees() -> None:
    assert len(riddles("x = 1  # ... and this\n")) == 1
    assert len(riddles('def f():\n    """... as well."""\n')) == 1
    assert riddles("x = 1  # this, that ...\nh[...] = 1\n") == []


def test_comments_and_strings_are_no_code() -> None:
    assert code_only('x = "asyncio"  # asyncio\n"""asyncio\nasyncio"""\n').split() == ["x", "="]
