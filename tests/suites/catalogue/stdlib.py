"""CPython's own tests of asyncio, those of the interpreter that runs this: nothing is fetched."""

import platform
import sys
from pathlib import Path

from source import ROOT, module_at
from suite import SIDES, Suite

PROGRAM = "tests/project/stdlib_asyncio.py"  # which tests/contract/asyncio/test_stdlib.py runs too
MODULES = [
    "events",
    "sock_lowlevel",
    "server",
    "buffered_proto",
    "streams",
    "sendfile",
    "subprocess",
    "unix_events",
    "ssl",
    "sslproto",
    "context",
]

program = module_at(PROGRAM)


def command(side: str, results: Path) -> list[str]:
    there = program.available()
    modules = [f"test_{name}" for name in MODULES if f"test_{name}" in there]
    how = ["--bare"] if side == SIDES[0] else ["--stock"]
    return [sys.executable, str(ROOT / PROGRAM), *how, "--limit", "280", "--results", str(results), *modules]


def unavailable() -> str:
    return "" if program.available() else "this interpreter was installed without test.test_asyncio"


SUITE = Suite(
    name="stdlib",
    title="CPython's `test.test_asyncio`",
    version=platform.python_version(),
    command=command,
    patch_loops=False,  # the program does
    unavailable=unavailable,
    tls=("test_ssl.*", "test_sslproto.*", "*ssl*", "*SSL*"),
    expected={test: why for test, why in program.KNOWN.items() if test.partition(".")[0] in program.available()},
    fewest=400,
)
