"""An extension of griffe, for the API reference: a docstring's labels begin paragraphs, and public names are links.

The docstrings of this project have labels with a colon, `Errors: ...`, `Bun: ...` and the names of options, one below the
other or one behind the other. Markdown would join the lines. A name of the page `reference.md` in backticks, alone or
with a member behind it, becomes a link to where the page has it. Owns which words are labels: those below, the parameters of
the function, and the fields of the dataclass. `make site` uses it; `tests/project/test_reference.py` tests it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Extension = object
else:
    try:
        from griffe import Extension
    except ImportError:  # the tests do without it
        Extension = object

PAGE = Path(__file__).with_name("reference.md")
LABELS = ("Errors", "Source", "Bun", "Gauges", "Counters")


class ReferenceLabels(Extension):
    """What griffe calls for everything that it has read."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = with_paragraphs(obj.docstring.value, option_names(obj))
            obj.docstring.value = with_links(text, linked_names(PAGE.read_text()))


def option_names(obj: Any) -> list[str]:
    """The parameters of a function, the fields of a dataclass."""
    if obj.is_function:
        return [each.name for each in obj.parameters]
    return list(obj.members) if "dataclass" in obj.labels else []


def with_paragraphs(text: str, names: list[str]) -> str:
    """The text, with an empty line and bold type where a line or a sentence begins with labels and a colon."""
    one = "|".join(map(re.escape, [*LABELS, *names]))
    label = rf"(?:^|(?<=\. ))((?:{one})(?:, (?:{one}))*[^:\n.;`]{{0,30}}):(?=\s)"
    return re.sub(label, r"\n\n**\1**:", text, flags=re.MULTILINE)


def linked_names(page: str) -> list[str]:
    """The names of `pybuntcp` itself on the page. Those of its modules are words that have other meanings as well."""
    return re.findall(r"^::: pybuntcp\.([A-Za-z]\w*)$", page, re.MULTILINE)


def with_links(text: str, names: list[str]) -> str:
    """The text, with links to these names and to members of theirs. Bun has names in camel case, and classes of its own."""
    name = rf"(?<!Bun's )`((?:{'|'.join(map(re.escape, names))})(?:\.[a-z_]+)?)`"
    return re.sub(name, r"[`\1`][pybuntcp.\1]", text)
