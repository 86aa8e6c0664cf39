"""Writes the docstrings of the compiled module into its stub, pybuntcp/_core.pyi: `make stubs`.

Editors read stubs, and cannot read a compiled module: without this a hover shows a signature and no word. Owns the
rule of what is copied: the docstring of each public class, function, method and property of the built module. An
attribute that has none there keeps what the stub says of it. Promises that a second run changes nothing; the project's
formatter puts the blank lines in between. `tests/project/test_stubs.py` says whether the stub is current.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STUB = Path(__file__).resolve().parents[1] / "pybuntcp" / "_core.pyi"
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Place(NamedTuple):
    """Where a docstring goes: from one position to another, as (line, column), and how it is set apart."""

    start: tuple[int, int]
    end: tuple[int, int]
    before: str
    after: str


def current(text: str, module: Any) -> str:
    """The text of the stub with the docstrings of the module."""
    lines = text.splitlines(keepends=True)
    edits = []
    for node, thing in documented(ast.parse(text), module):
        doc = inspect.getdoc(thing)
        if doc and public(node):
            edits.append((place_of(node, lines), quoted(doc, " " * (node.col_offset + 4))))
    for place, docstring in sorted(edits, reverse=True):
        replace(lines, place, docstring)
    return "".join(lines)


def documented(tree: ast.Module, module: Any) -> Iterator[tuple[Definition, Any]]:
    """The definitions of the stub, each with what it is of the module. An overload has the docstring of its class."""
    for node in tree.body:
        if isinstance(node, Definition) and hasattr(module, node.name):
            thing = getattr(module, node.name)
            yield node, thing
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not is_setter(member):
                    yield member, getattr(thing, member.name, None)


def public(node: Definition) -> bool:
    return not node.name.startswith("_")


def is_setter(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(decorator, ast.Attribute) for decorator in node.decorator_list)


def place_of(node: Definition, lines: list[str]) -> Place:
    """Over the docstring that is there, over the `...` of a function, or before the first statement of a class."""
    first = node.body[0]
    start = (first.lineno - 1, first.col_offset)
    indent = " " * (node.col_offset + 4)
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        start = (min([first, *decorators(first)], key=lambda one: one.lineno).lineno - 1, len(indent))
        return Place(start, start, "", f"\n\n{indent}")
    end = ((first.end_lineno or 0) - 1, first.end_col_offset or 0)
    if not lines[start[0]][: start[1]].strip():
        return Place(start, end, "", "")
    comment = lines[end[0]][end[1] :].strip()  # stays with the signature
    behind = (end[0], len(lines[end[0]]) - 1)
    return Place((start[0], start[1] - 1), behind, f"{comment and '  '}{comment}\n{indent}", "")


def decorators(node: ast.stmt) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])


def quoted(doc: str, indent: str) -> str:
    """As a docstring, indented."""
    text = "\n".join(f"{indent}{line}".rstrip() for line in doc.splitlines()).strip()
    mark = "r" if "\\" in text else ""
    space = " " if text.startswith('"') else ""
    end = f"\n{indent}" if "\n" in text else ""
    return f'{mark}"""{space}{text}{end}"""'


def replace(lines: list[str], place: Place, docstring: str) -> None:
    (first, start), (last, end) = place.start, place.end
    head, tail = lines[first][:start], lines[last][end:]
    lines[first : last + 1] = [f"{head}{place.before}{docstring}{place.after}{tail}"]


if __name__ == "__main__":
    STUB.write_text(current(STUB.read_text(), importlib.import_module("pybuntcp._core")))
