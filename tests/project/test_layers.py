"""The shape of the source: its layers, the prefixes of names, and the wing beside the core.

Reads the files as text and imports nothing of the package; each rule is a function from text to complaints, so that the rules
themselves are tested, in the last section, on text that breaks them.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Container

import pytest
from support.sources import PACKAGE, code_only, name_of, sources

CORE = PACKAGE / "_core"
WING = PACKAGE / "_aio"  # asyncio's transports, which use the C API as any other package does

LAYERS = (
    "base",
    "loop",
    "connection",
    "objects",
    "endpoints",
)  # folders of _core, lowest first; above them, module.pyx


# --- rules -----------------------------------------------------------------------------------------------


def included(contents_page: str, folder: str = "_core") -> list[str]:
    return re.findall(rf'^include "{folder}/([\w/]+)\.pyx"', contents_page, re.MULTILINE)


def layer_of(chapter: str) -> int:
    """The number of a chapter's folder; "loop/timers" -> 1. A folder that is no layer is a KeyError."""
    folder, _, file = chapter.rpartition("/")
    if (folder, file) == ("", "module"):
        return len(LAYERS)
    return {layer: number for number, layer in enumerate(LAYERS)}[folder]


def out_of_order(chapters: list[str]) -> list[str]:
    """Chapters that come twice, or after one of a higher layer."""
    complaints = [f"{name}: included twice" for name in sorted(set(chapters)) if chapters.count(name) > 1]
    pairs = itertools.pairwise(chapters)
    return complaints + [f"{b}: after {a}, a higher layer" for a, b in pairs if layer_of(b) < layer_of(a)]


def functions(code: str) -> list[str]:
    """Names of the functions of a file's outermost level."""
    return re.findall(r"^(?:cdef|cpdef|async def|def)\b[^\n(=:]*?(\w+)\(", code, re.MULTILINE)


def defined(code: str) -> set[str]:
    """All that a file's outermost level names: functions, classes, types, enumerators, variables."""
    names = set(functions(code))
    names |= set(re.findall(r"^(?:cdef )?class (\w+)", code, re.MULTILINE))
    names |= set(re.findall(r"^(?:cdef|ctypedef) (?:struct|union|enum) (\w+)", code, re.MULTILINE))
    names |= set(re.findall(r"^ctypedef[^\n]*\(\*(\w+)\)", code, re.MULTILINE))
    names |= set(re.findall(r"^cdef [\w.* ]*?(\w+)(?: *=|\[\d+\]|$)", code, re.MULTILINE))
    for body in re.findall(r"^cdef enum[^\n]*:[^\n]*\n((?:[ \t]+[^\n]*\n|\n)+)", code, re.MULTILINE):
        names |= set(re.findall(r"\b[A-Z][A-Z_0-9]+\b", body))
    return names


def used(code: str) -> set[str]:
    """Names that a file's code uses: not members (`a.b`, `(*b)(`), not methods that it defines."""
    return set(re.findall(r"(?<![\w.])(?<!\(\*)(?<!def )[A-Za-z_]\w*", code))


def reaching_up(code_of: dict[str, str], public: set[str]) -> list[str]:
    """Uses of a name, types included, that only a higher layer defines. `public`: names that the C API declares."""
    home: dict[str, list[str]] = {}
    for chapter, code in code_of.items():
        for name in defined(code) - public:
            home.setdefault(name, []).append(chapter)
    complaints = []
    for chapter, code in code_of.items():
        for name in sorted(used(code) & home.keys()):
            lowest = min(home[name], key=layer_of)
            if layer_of(lowest) > layer_of(chapter):
                complaints.append(f"{chapter} uses {name} of {lowest}")
    return complaints


def prefix(name: str) -> str:
    return name.lstrip("_").partition("_")[0]


# Prefixes that several files share, and why. Every other prefix names one file.
FAMILIES = {
    "on": "callbacks of libuv, OpenSSL and the wheel, wherever they are needed",
    "py": "adapters",
    "is": "predicates",
    "call": "adapters, and the public functions that asyncio's names were taken for: call_later, call_soon",
    "loop": "the noun of the folder loop/",
    "socket": "the C API's own prefix: what it publishes is in verbs, capi and wrapper",
    "tls": "what a TLS connection needs, layer by layer: the files tls* and _tls",
    "exit": "the two files named exiting",
}


# The same, of the wing.
FAMILIES_OF_THE_WING = {
    "on": "slots",
    "stream": "the noun of all its files: one connection",
}


def prefixes_of_several_files(code_of: dict[str, str], families: Container[str] = FAMILIES) -> list[str]:
    homes: dict[str, set[str]] = {}
    for chapter, code in code_of.items():
        for name in functions(code):
            if "_" in name.strip("_"):
                homes.setdefault(prefix(name), set()).add(chapter)
    shared = {word: sorted(homes[word]) for word in sorted(homes) if len(homes[word]) > 1 and word not in families}
    return [f"{word}_ is in {', '.join(where)}" for word, where in shared.items()]


def inner_cimports(code: str) -> list[str]:
    """What Cython code takes of the package otherwise than `from pybuntcp cimport ...`, which any package can."""
    found = re.findall(r"^[ \t]*from[ \t]+((?:pybuntcp|\.)[\w.]*)[ \t]+(?:c?import)\b", code, re.MULTILINE)
    found += re.findall(r"^[ \t]*c?import[ \t]+(pybuntcp[\w.]*)", code, re.MULTILINE)
    return [name for name in found if name != "pybuntcp"] + re.findall(r"from[ \t]+pybuntcp[ \t]+import\b.*", code)


def imports_of_the_wing(text: str, always: bool) -> list[str]:
    """The lines of a Python text that import the wing; `always`: those alone that run whenever the text is imported."""
    tree = ast.parse(text)
    later = {inner for node in ast.walk(tree) if runs_later(node) for inner in ast.walk(node)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = [ast.unparse(node) for node in found if not (always and node in later)]
    return [line for line in lines if re.search(r"\b_?aio\b", line)]


def runs_later(node: ast.AST) -> bool:
    """A function; or what type checkers alone read."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


# --- the tree --------------------------------------------------------------------------------------------


def chapters() -> dict[str, str]:
    found = {
        path.relative_to(CORE).with_suffix("").as_posix(): code_only(path.read_text()) for path in CORE.rglob("*.pyx")
    }
    assert len(found) > 5
    return found


def test_chapters_are_included_in_layer_order() -> None:
    assert out_of_order(included((PACKAGE / "_core.pyx").read_text())) == []


def test_every_chapter_is_included() -> None:
    assert sorted(included((PACKAGE / "_core.pyx").read_text())) == sorted(chapters())


@pytest.mark.parametrize("page", ["_core.pyx", "_tls.pyx", "_aio.pyx"])
def test_a_contents_page_contains_no_logic(page: str) -> None:
    code = code_only((PACKAGE / page).read_text())
    assert re.findall(r"^\s*(?:def|cdef class|class|if|for|while|cdef \w+ \w+\()\b.*", code, re.MULTILINE) == []


def test_no_chapter_uses_a_name_of_a_higher_layer() -> None:
    public = defined(code_only((PACKAGE / "_core.pxd").read_text()))
    assert reaching_up(chapters(), public) == []


def test_a_prefix_names_one_file() -> None:
    assert prefixes_of_several_files(chapters()) == []


def test_a_shared_prefix_is_shared() -> None:
    words = {prefix(name) for code in chapters().values() for name in functions(code)}
    assert FAMILIES.keys() <= words


def test_only_one_chapter_imports_asyncio() -> None:
    assert [name for name, code in chapters().items() if re.search(r"\bimport asyncio\b", code)] == ["loop/host"]


def wing() -> dict[str, str]:
    found = {path.stem: code_only(path.read_text()) for path in WING.glob("*.pyx")}
    assert len(found) > 5
    return found


def test_the_wing_takes_the_c_api_and_nothing_else_of_the_package() -> None:
    pages = {**wing(), "_aio": code_only((PACKAGE / "_aio.pyx").read_text())}
    assert {name: found for name, code in pages.items() if (found := inner_cimports(code))} == {}
    assert any("from pybuntcp cimport" in code for code in pages.values())


def test_the_core_does_not_know_the_wing() -> None:
    paths = [*sources("_core.pyx", "_core.pxd", "__init__.pxd", "_tls.pyx", "_core/**/*.pyx", "_tls/*.pyx")]
    assert [name_of(path) for path in paths if re.search(r"\b_?aio\b", code_only(path.read_text()))] == []


def test_python_modules_import_the_wing_when_they_need_it() -> None:
    paths = [path for path in sources("**/*.py") if path.parent.name != "aio"]
    assert any(imports_of_the_wing(path.read_text(), False) for path in paths)
    assert [name_of(path) for path in paths if imports_of_the_wing(path.read_text(), True)] == []


def test_every_file_of_the_wing_is_included_once() -> None:
    names = included((PACKAGE / "_aio.pyx").read_text(), "_aio")
    assert sorted(names) == sorted(wing())


def test_a_prefix_of_the_wing_names_one_file() -> None:
    assert prefixes_of_several_files(wing(), FAMILIES_OF_THE_WING) == []
    words = {prefix(name) for code in wing().values() for name in functions(code)}
    assert FAMILIES_OF_THE_WING.keys() <= words


# --- the rules can fail ----------------------------------------------------------------------------------


def test_the_order_rule_sees() -> None:
    assert out_of_order(["base/errors", "connection/stream", "loop/loop"]) == [
        "loop/loop: after connection/stream, a higher layer"
    ]
    assert out_of_order(["base/errors", "base/errors", "module"]) == ["base/errors: included twice"]
    with pytest.raises(KeyError):
        layer_of("cellar/errors")


@pytest.mark.parametrize(
    "definition",
    [
        "cdef int b() except -1:\n    pass\n",
        "cdef struct b:\n    int x\n",
        "ctypedef void (*b)(int) noexcept nogil\n",
        "cdef object b = None\n",
        "cdef list b\n",
        "cdef class b:\n    pass\n",
    ],
)
def test_the_layer_rule_sees(definition: str) -> None:
    code_of = {"loop/timers": "cdef int a() except -1:\n    b\n", "objects/socket": definition}
    assert reaching_up(code_of, set()) == ["loop/timers uses b of objects/socket"]
    assert reaching_up(code_of, {"b"}) == []
    assert reaching_up({"loop/timers": definition, "objects/socket": code_of["loop/timers"]}, set()) == []


def test_the_layer_rule_sees_enumerators_and_passes_members() -> None:
    above = "cdef enum:\n    GREEN = 1     \n\n\ncdef void gone() noexcept:\n    pass\n"
    assert reaching_up({"base/a": "x = GREEN\n", "loop/b": above}, set()) == ["base/a uses GREEN of loop/b"]
    assert reaching_up({"base/a": "cdef struct t:\n    void (*gone)(int)\nt.gone(1)\n", "loop/b": above}, set()) == []


def test_the_prefix_rule_sees() -> None:
    code_of = {"a": "cdef int wheel_turn() except -1:\n", "b": "cdef int wheel_stop() except -1:\n"}
    assert prefixes_of_several_files(code_of) == ["wheel_ is in a, b"]
    assert prefixes_of_several_files({"a": code_of["a"], "b": "cdef int on_wheel() except -1:\n"}) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from pybuntcp cimport (\n    socket_t,\n)\n", []),
        ("from pybuntcp._core cimport socket_t\n", ["pybuntcp._core"]),
        ("from pybuntcp._c cimport uv\n", ["pybuntcp._c"]),
        ("cimport pybuntcp._core as core\n", ["pybuntcp._core"]),
        ("from ._core import listen_on\n", ["._core"]),
        ("from pybuntcp import _core\n", ["from pybuntcp import _core"]),
        ("from cpython.ref cimport PyObject\nimport asyncio\n", []),
    ],
)
def test_the_rule_about_the_wing_sees(code: str, found: list[str]) -> None:
    assert inner_cimports(code) == found


@pytest.mark.parametrize(
    ("text", "always", "at_all"),
    [
        ("from .aio import EventLoop\n", 1, 1),
        ("from pybuntcp import _aio\n", 1, 1),
        ("class A:\n    import pybuntcp.aio\n", 1, 1),
        ("def f():\n    from .aio import EventLoop\n", 0, 1),
        ("if TYPE_CHECKING:\n    from . import aio as aio\n", 0, 1),
        ("if ready:\n    from . import aio as aio\n", 1, 1),
        ("import asyncio\n", 0, 0),
    ],
)
def test_imports_of_the_wing_are_seen(text: str, always: int, at_all: int) -> None:
    assert (len(imports_of_the_wing(text, True)), len(imports_of_the_wing(text, False))) == (always, at_all)
