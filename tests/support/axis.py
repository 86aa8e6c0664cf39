"""Which loops and transports a test runs on: the tables, the choice, and the reasons to stay on one.

Tests of the contract run on all four loops, and so do tests marked `every_loop`; other tests run
on the standalone loop. A test of the contract that means that loop alone says why, with one of the
marks below. Which loops there are in this run is `--loops standalone,native`, or the environment's
PYBUNTCP_TEST_LOOPS.

Tests of the contract and of units run over every transport; others over plain ones. A test that
means plain ones alone says why, with `plain`. Which there are in this run is `--transports tcp,tls`,
or PYBUNTCP_TEST_TRANSPORTS. A run that names neither leaves out what `LEFT_OUT` says: the standalone
loop has every transport, asyncio and the native loop tcp, uvloop TLS; and slots (`slots.HANDLERS`) have the standalone
loop over tcp. `--product` leaves out nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from .hosted_loops import AsyncioLoop, NativeLoop, UvloopLoop
from .loops import Loop, StandaloneLoop
from .transports import TRANSPORTS

LOOPS: dict[str, type[Loop]] = {loop.name: loop for loop in (StandaloneLoop, AsyncioLoop, UvloopLoop, NativeLoop)}

LEFT_OUT = {(loop, "unix") for loop in LOOPS if loop != "standalone"}
LEFT_OUT |= {("asyncio", "tls"), ("uvloop", "tcp"), ("native", "tls")}

MARKERS = (
    "every_loop: runs on the standalone loop and in asyncio loops, as the tests of the contract do",
    "standalone(reason): runs on the standalone loop alone",
    "plain(reason): does not run over TLS",
)

every_loop = pytest.mark.every_loop
unreferenced = pytest.mark.standalone(
    "ref() and unref() decide when run() returns; an asyncio loop goes on until it is stopped"
)
plain = pytest.mark.plain
silent_crowd = plain("its raw crowd connects and says nothing: over TLS nobody would be open")
calls_run = pytest.mark.standalone("it calls pybuntcp.run() itself, which an asyncio loop refuses")


def add_options(parser: pytest.Parser) -> None:
    for what, table in (("loops", LOOPS), ("transports", TRANSPORTS)):
        variable = f"PYBUNTCP_TEST_{what.upper()}"
        parser.addoption(
            f"--{what}",
            default=os.environ.get(variable) or ",".join(table),
            help=f"the {what} that tests run on, with commas; default: {variable}, else %(default)s",
        )
    parser.addoption("--product", action="store_true", help="every loop with every transport")


def chosen(config: pytest.Config) -> list[str]:
    """The loops of this run."""
    return _chosen(config, "loop", LOOPS)


def chosen_transports(config: pytest.Config) -> list[str]:
    """The transports of this run."""
    return _chosen(config, "transport", TRANSPORTS)


def _chosen(config: pytest.Config, what: str, table: dict[str, Any]) -> list[str]:
    names = [name.strip() for name in config.getoption(f"--{what}s").split(",")]
    if unknown := [name for name in names if name not in table]:
        raise pytest.UsageError(f"--{what}s: no such {what}: {', '.join(unknown)}; there are {', '.join(table)}")
    return names


def loops_of(definition: Any, names: list[str]) -> list[Any]:
    """The parameters of a test (its item), given the loops of this run."""
    only = definition.get_closest_marker("standalone")
    everywhere = "contract" in definition.path.parts or definition.get_closest_marker("every_loop")
    if everywhere and not only:
        return [_parameter(name, LOOPS[name].missing()) for name in names]
    return [_parameter("standalone", "" if "standalone" in names else "on the standalone loop alone")]


def transports_of(definition: Any, names: list[str], among: Sequence[str] = tuple(TRANSPORTS)) -> list[Any]:
    """As `loops_of`, of the transports; `among`: those that the fixture is for."""
    over_tls = {"contract", "unit"} & set(definition.path.parts) and not definition.get_closest_marker("plain")
    among = [name for name in among if over_tls or not TRANSPORTS[name].has_tls]
    here = [_parameter(name, "") for name in names if name in among]
    return here or [_parameter(among[0], f"over {' or '.join(among)} alone")]


def leave_out(config: pytest.Config, items: list[Any]) -> None:
    """Take those tests out of the run that `LEFT_OUT` names; pytest counts them as deselected."""
    if config.getoption("--product") or {*chosen(config)} < {*LOOPS} or {*chosen_transports(config)} < {*TRANSPORTS}:
        return
    left_out = [item for item in items if _pair(item) in LEFT_OUT]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _pair(item) not in LEFT_OUT]


def leave_out_slots(config: pytest.Config, items: list[Any]) -> None:
    """Take tests with slots off every loop but the standalone one, and off every transport but tcp, unless `--product`."""
    if config.getoption("--product"):
        return
    left_out = [item for item in items if has_slots(item) and not _is_plainest(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def has_slots(item: Any) -> bool:
    """Whether the `handlers` of this test are slots."""
    return _parameters(item).get("handlers") == "slots"


def _is_plainest(item: Any) -> bool:
    """The standalone loop, tcp."""
    parameters = _parameters(item)
    loop, transports = parameters.get("loop_name"), {parameters.get(name) for name in ("transport", "over_tcp")}
    return loop in (None, "standalone") and transports <= {None, "tcp"}


def _pair(item: Any) -> tuple[Any, Any]:
    parameters = _parameters(item)
    return parameters.get("loop_name"), parameters.get("transport")


def _parameters(item: Any) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _parameter(name: str, missing: str) -> Any:
    return pytest.param(name, marks=pytest.mark.skip(missing) if missing else ())
