"""The imports of the Python modules and the extensions: no circle, and no extension that needs the facade.

Reads the files as text and imports nothing. An import counts wherever it stands: in a function, or for the type checker
alone. Each rule is a function from text to complaints, so that the rules themselves are tested, in the last section.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pybuntcp"
BENCHMARKS = ROOT / "benchmarks"

# what the extensions may import of the package; none of it may import an extension, directly or by others
LEAVES = {"pybuntcp.checks", "pybuntcp.names", "pybuntcp.tls.certificate", "pybuntcp.tls.memory_file"}
ALLOWED = {"pybuntcp._core": set(), "pybuntcp._tls": LEAVES, "pybuntcp._aio": set()}

Graph = Mapping[str, set[str]]


# --- rules -----------------------------------------------------------------------------------------------


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(text: str, name: str, is_package: bool, modules: set[str]) -> set[str]:
    """The modules among `modules` that the Python text of the module `name` imports."""
    package = name.split(".") if is_package else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            members = {f"{origin}.{alias.name}" for alias in node.names}
            found |= (members & modules) or {origin}
    return (found & modules) - {name}


def graph_of(files: Iterable[Path], root: Path) -> Graph:
    """Of modules that import each other by their names below `root`."""
    paths = {module_name(path, root): path for path in sorted(files)}
    modules = set(paths)
    return {name: imported(path.read_text(), name, path.stem == "__init__", modules) for name, path in paths.items()}


def circles(graph: Graph) -> list[str]:
    """Each way from a module back to itself that a search finds, as "a -> b -> a"."""
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def reachable(graph: Graph, names: set[str]) -> set[str]:
    found: set[str] = set()
    todo = set(names)
    while todo:
        found |= todo
        todo = {other for name in todo for other in graph.get(name, ())} - found
    return found


def imports_of_cython(text: str) -> Iterator[str]:
    """The modules of the package that Cython code imports at run time; `cimport` is none of it."""
    for found in re.finditer(
        r"^[ \t]*(?:from[ \t]+(pybuntcp|\.)([\w.]*)[ \t]+import\b|import[ \t]+(pybuntcp[\w.]*))", text, re.MULTILINE
    ):
        yield found[3] or found[1] + found[2]


def not_allowed(extension: str, text: str, allowed: set[str]) -> list[str]:
    return [f"{extension} imports {name}" for name in imports_of_cython(text) if name not in allowed]


# --- the tree --------------------------------------------------------------------------------------------


def package_graph() -> Graph:
    """An extension stands in it with the imports of its stub."""
    return graph_of([*PACKAGE.rglob("*.py"), *PACKAGE.glob("_*.pyi")], ROOT)


def test_the_package_has_no_circle_of_imports() -> None:
    graph = package_graph()
    assert {"pybuntcp.api", "pybuntcp._core", "pybuntcp.tls.config"} <= graph.keys()
    assert "pybuntcp.options" in graph["pybuntcp.api"]
    assert circles(graph) == []


def test_the_benchmarks_have_no_circle_of_imports() -> None:
    graph = graph_of([*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("harness/*.py")], BENCHMARKS)
    assert "harness.questions" in graph["harness.measure"]
    assert circles(graph) == []


@pytest.mark.parametrize("extension", ALLOWED)
def test_an_extension_imports_no_facade(extension: str) -> None:
    name = extension.rpartition(".")[2]
    paths = [PACKAGE / f"{name}.pyx", *sorted((PACKAGE / name).rglob("*.pyx"))]
    assert len(paths) > 5
    complaints = [each for path in paths for each in not_allowed(extension, path.read_text(), ALLOWED[extension])]
    assert complaints == []


def test_what_extensions_import_leads_to_no_extension() -> None:
    graph = package_graph()
    assert graph.keys() >= LEAVES
    assert reachable(graph, LEAVES) <= LEAVES


# --- the rules can fail ----------------------------------------------------------------------------------

MODULES = {"p", "p.a", "p.b", "p.q", "p.q.c"}


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("from . import a", "p.b", {"p.a"}),
        ("from .a import f", "p.b", {"p.a"}),
        ("from p.a import f", "p.b", {"p.a"}),
        ("import p.a", "p.b", {"p.a"}),
        ("from . import f", "p.b", {"p"}),
        ("from .. import a", "p.q.c", {"p.a"}),
        ("from ..a import f", "p.q.c", {"p.a"}),
        ("def f():\n    from .a import g\n", "p.b", {"p.a"}),
        ("if TYPE_CHECKING:\n    from .q.c import C\n", "p.b", {"p.q.c"}),
        ("import os\nfrom ssl import a\n", "p.b", set()),
    ],
)
def test_imports_are_seen(text: str, name: str, found: set[str]) -> None:
    assert imported(text, name, False, MODULES) == found


def test_a_packages_own_relative_imports_are_seen() -> None:
    assert imported("from .c import C", "p.q", True, MODULES) == {"p.q.c"}


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, ["a -> b -> a"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b -> c -> b"]),
    ],
)
def test_circles_are_seen(graph: Graph, found: list[str]) -> None:
    assert circles(graph) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cdef int f() except -1:\n    from pybuntcp.options import read\n", ["e imports pybuntcp.options"]),
        ("import pybuntcp.api\n", ["e imports pybuntcp.api"]),
        ("from pybuntcp import api\n", ["e imports pybuntcp"]),
        ("from .options import read\n", ["e imports .options"]),
        ("from pybuntcp.checks import integer\n", []),
        ("from pybuntcp._c cimport uv\nimport ssl\n", []),
    ],
)
def test_imports_of_an_extension_are_seen(text: str, found: list[str]) -> None:
    assert not_allowed("e", text, {"pybuntcp.checks"}) == found


def test_what_a_leaf_leads_to_is_seen() -> None:
    assert reachable({"a": {"b"}, "b": {"c"}, "c": set(), "d": set()}, {"a"}) == {"a", "b", "c"}
