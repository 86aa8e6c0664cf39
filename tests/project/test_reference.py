"""The API reference names everything public, and everything public has a docstring of its own for it to show.

`make site` writes the docstrings into `docs/reference.md`, by the names that stand there.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from support.documents import DOCS

import pybuntcp
import pybuntcp.aio
import pybuntcp.testing

MODULES = [pybuntcp, pybuntcp.aio, pybuntcp.testing]
PUBLIC = [f"{module.__name__}.{name}" for module in MODULES for name in module.__all__]


def thing(path: str) -> Any:
    found: Any = pybuntcp
    for name in path.split(".")[1:]:
        found = getattr(found, name)
    return found


CLASSES = [path for path in PUBLIC if isinstance(thing(path), type)]


def reference_labels() -> ModuleType:
    """docs/reference_labels.py"""
    spec = importlib.util.spec_from_file_location("reference_labels", DOCS / "reference_labels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(page: str) -> list[str]:
    """The names whose docstrings are written into a page."""
    return re.findall(r"^::: (\S+)$", page, re.MULTILINE)


def silent(cls: type) -> Iterator[str]:
    """Public members of a class without a docstring, those that it has from another class of ours included."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("pybuntcp", __name__.partition(".")[0]):
            for name, value in vars(base).items():
                if not name.startswith("_") and is_documentable(value) and not (value.__doc__ or "").strip():
                    yield f"{base.__name__}.{name}"


def is_documentable(value: Any) -> bool:
    """A function or a property; not a plain value, as the default of an option is."""
    return callable(value) or hasattr(value, "__get__")


def test_the_reference_names_everything_public_once() -> None:
    assert sorted(shown((DOCS / "reference.md").read_text())) == sorted(PUBLIC)


@pytest.mark.parametrize("path", [path for path in PUBLIC if callable(thing(path))])
def test_everything_public_has_a_docstring(path: str) -> None:
    assert (thing(path).__doc__ or "").strip()


@pytest.mark.parametrize("path", CLASSES)
def test_every_public_member_of_a_class_has_a_docstring_of_its_own(path: str) -> None:
    assert list(silent(thing(path))) == []


def test_every_option_of_tls_is_explained_with_the_others() -> None:
    words = set(re.findall(r"\w+", pybuntcp.TLSOptions.__doc__ or ""))
    assert pybuntcp.TLSOptions.__dataclass_fields__.keys() <= words


def test_labels_begin_paragraphs() -> None:
    text = "Listen.\n\nport, fd: where.\ndata: yours. backlog:\na number.\nErrors at the call: OSError: all.\nBun: spins.\nNone: no."
    written = reference_labels().with_paragraphs(text, ["port", "fd", "data", "backlog"])
    assert [paragraph.strip() for paragraph in written.split("\n\n") if paragraph.strip()] == [
        "Listen.",
        "**port, fd**: where.",
        "**data**: yours.",
        "**backlog**:\na number.",
        "**Errors at the call**: OSError: all.",
        "**Bun**: spins.\nNone: no.",
    ]


def test_public_names_are_links() -> None:
    module = reference_labels()
    names = module.linked_names("::: pybuntcp.Socket\n\n::: pybuntcp.aio.install\n\n::: pybuntcp.run\n")
    assert names == ["Socket", "run"]
    assert module.with_links(
        "`Socket.end`, `install`, `run`, `run()`, `Sockets`, Bun's `Socket`, `Socket.readyState`.", names
    ) == (
        "[`Socket.end`][pybuntcp.Socket.end], `install`, [`run`][pybuntcp.run], `run()`, `Sockets`, Bun's `Socket`, `Socket.readyState`."
    )


# --- the rules can fail --------------------------------------------------------------------------------------


class Base:
    """A base."""

    def inherited(self) -> None: ...


class Silent(Base):
    """A class."""

    default = 1

    def method(self) -> None: ...

    @property
    def value(self) -> int:
        return 1

    def documented(self) -> None:
        """It has one."""

    def _private(self) -> None: ...


def test_a_member_without_a_docstring_is_seen() -> None:
    assert list(silent(Silent)) == ["Silent.method", "Silent.value", "Base.inherited"]


def test_names_are_found_where_the_page_shows_them() -> None:
    assert shown("See `::: a.b`.\n\n::: pybuntcp.run\n    options:\n      x: 1\n") == ["pybuntcp.run"]
