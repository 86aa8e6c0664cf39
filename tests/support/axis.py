"""Which loops a test runs on: the table, the choice, and the reasons to stay on one.

Tests of the contract run on all four, and so does whoever says `every_loop`; other tests run on
the standalone loop. A test of the contract that means that loop alone says why, with one of the
marks below. Which loops there are in this run is `--loops standalone,native`, or the environment's
PYBUNTCP_TEST_LOOPS.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from .hosts import AsyncioLoop, NativeLoop, UvloopLoop
from .loops import Loop, StandaloneLoop

LOOPS: dict[str, type[Loop]] = {loop.name: loop for loop in (StandaloneLoop, AsyncioLoop, UvloopLoop, NativeLoop)}

MARKERS = (
    "every_loop: runs on the standalone loop and in asyncio loops, as the tests of the contract do",
    "standalone(reason): runs on the standalone loop alone",
)

every_loop = pytest.mark.every_loop
unreferenced = pytest.mark.standalone("ref() and unref() decide when run() returns; an asyncio loop goes on until told")
calls_run = pytest.mark.standalone("it calls pybuntcp.run() itself, which an asyncio loop refuses")


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loops",
        default=os.environ.get("PYBUNTCP_TEST_LOOPS") or ",".join(LOOPS),
        help="the loops that tests run on, with commas; default: PYBUNTCP_TEST_LOOPS, else %(default)s",
    )


def chosen(config: pytest.Config) -> list[str]:
    """The loops of this run."""
    names = [name.strip() for name in config.getoption("--loops").split(",")]
    if unknown := [name for name in names if name not in LOOPS]:
        raise pytest.UsageError(f"--loops: no such loop: {', '.join(unknown)}; there are {', '.join(LOOPS)}")
    return names


def loops_of(definition: Any, names: list[str]) -> list[Any]:
    """The parameters of a test (its item), given the loops of this run."""
    only = definition.get_closest_marker("standalone")
    everywhere = "contract" in definition.path.parts or definition.get_closest_marker("every_loop")
    if everywhere and not only:
        return [_parameter(name, LOOPS[name].missing()) for name in names]
    return [_parameter("standalone", "" if "standalone" in names else "on the standalone loop alone")]


def _parameter(name: str, missing: str) -> Any:
    return pytest.param(name, marks=pytest.mark.skip(missing) if missing else ())
