"""The sources of the package as text: which files there are, and their code without what is none.

Owns what several rules of tests/project read. Imports nothing of the package.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pybuntcp"

BLANKED = re.compile(r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*', re.DOTALL)


def sources(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in PACKAGE.glob(pattern))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_only(text: str) -> str:
    """The text with comments and strings blanked; line numbers stay."""
    return BLANKED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
