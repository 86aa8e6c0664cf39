"""CPython's own tests of asyncio, those of the interpreter that runs this: nothing is fetched."""

import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType

from suite import SIDES, Suite

PROGRAM = Path(__file__).resolve().parents[2] / "project" / "stdlib_asyncio.py"
MODULES = ("events", "sock_lowlevel", "server", "buffered_proto", "streams", "sendfile", "subprocess", "unix_events")


def program() -> ModuleType:
    """tests/project/stdlib_asyncio.py, which tests/contract/asyncio/test_stdlib.py runs too."""
    spec = importlib.util.spec_from_file_location("stdlib_asyncio", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(side: str, results: Path) -> list[str]:
    there = set(program().available())
    modules = [f"test_{name}" for name in MODULES if f"test_{name}" in there]
    how = ["--bare"] if side == SIDES[0] else ["--stock"]
    return [sys.executable, str(PROGRAM), *how, "--limit", "280", "--results", str(results), *modules]


def unavailable() -> str:
    return "" if program().available() else "this interpreter was installed without test.test_asyncio"


SUITE = Suite(
    name="stdlib",
    title="CPython's `test.test_asyncio`",
    version=platform.python_version(),
    command=command,
    patch_loops=False,  # the program does
    unavailable=unavailable,
    expected=program().KNOWN,
    fewest=400,
)
