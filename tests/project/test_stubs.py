"""The stub of the compiled module says what the module says: editors show it, for they cannot read the module.

`make stubs` writes it. Here: the stub is current, nothing public in it is without a word (of the modules themselves: `test_reference.py`), and the rules that write it, on
stubs and modules of the test's own.
"""

from __future__ import annotations

import ast
import importlib.util
import types
from collections.abc import Iterator

from support.documents import DOCS

from pybuntcp import _core

STUB = DOCS.parent / "pybuntcp" / "_core.pyi"


def stub_docstrings() -> types.ModuleType:
    """docs/stub_docstrings.py"""
    spec = importlib.util.spec_from_file_location("stub_docstrings", DOCS / "stub_docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def silent(tree: ast.Module) -> Iterator[str]:
    """What is public in a stub and has no docstring. An overload needs none; nor does a number."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name
            yield from (f"{node.name}.{name}" for name in silent_members(node))


def silent_members(node: ast.ClassDef) -> Iterator[str]:
    for member, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            if not member.name.startswith("_") and not ast.get_docstring(member) and not is_setter(member):
                yield member.name
        elif isinstance(member, ast.AnnAssign) and not (
            isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        ):
            yield ast.unparse(member.target)


def is_setter(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(decorator, ast.Attribute) for decorator in node.decorator_list)


# --- the stub ------------------------------------------------------------------------------------------------


def test_the_stub_has_the_docstrings_of_the_module() -> None:
    text = STUB.read_text()
    assert stub_docstrings().current(text, _core) == text, "run `make stubs`"


def test_the_stub_is_silent_about_nothing_public() -> None:
    assert list(silent(ast.parse(STUB.read_text()))) == []


# --- the rules can fail --------------------------------------------------------------------------------------

BEFORE = """\
class A:
    x: int

    def __init__(self) -> None: ...
    def f(self) -> int: ...  # what it is
    @property
    def p(self) -> int: ...
    @p.setter
    def p(self, value: int) -> None: ...
    def g(
        self,
    ) -> int:
        '''Old.'''

class B:
    @property
    def q(self) -> int: ...

def h() -> int: ...
"""
AFTER = '''\
class A:
    """An A."""

    x: int

    def __init__(self) -> None: ...
    def f(self) -> int:  # what it is
        """F.

        More of it.
        """
    @property
    def p(self) -> int:
        """ "P"."""
    @p.setter
    def p(self, value: int) -> None: ...
    def g(
        self,
    ) -> int:
        r"""G, \\n."""

class B:
    """A B."""

    @property
    def q(self) -> int:
        """Q."""

def h() -> int:
    """H."""
'''


class A:
    """An A."""

    def __init__(self) -> None:
        """Not copied."""

    def f(self) -> None:
        """F.

        More of it.
        """

    @property
    def p(self) -> int:
        """ "P"."""
        return 1

    def g(self) -> None:
        r"""G, \n."""


class B:
    """A B."""

    q = property(doc="Q.")


def h() -> None:
    """H."""


def test_docstrings_are_written_and_written_again() -> None:
    module = types.SimpleNamespace(A=A, B=B, h=h)
    written = stub_docstrings().current(BEFORE, module)
    assert written == AFTER
    assert stub_docstrings().current(written, module) == AFTER


def test_what_is_silent_is_seen() -> None:
    assert list(silent(ast.parse(BEFORE))) == ["A", "A.x", "A.f", "A.p", "B", "B.q"]
    assert list(silent(ast.parse(AFTER))) == ["A.x"]
