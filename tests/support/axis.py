"""Which loops and transports a test runs on: the tables, the choice, and the reasons to stay on one.

Tests of the contract run on all four loops, and so do tests marked `every_loop`; other tests run
on the standalone loop. A test of the contract that means that loop alone says why, with one of the
marks below. Which loops there are in this run is `--loops standalone,native`, or the environment's
PYBUNTCP_TEST_LOOPS.

Tests of the contract and of units run over every transport; others over plain ones. A test that
means plain ones alone says why, with `plain`. Which there are in this run is `--transports tcp,tls`,
or PYBUNTCP_TEST_TRANSPORTS.

Tests inside asyncio have the axis `host` instead of `loop`, with the kinds of loop that they are marked with (`hosts`).
Which there are in this run is `--hosts native`, or PYBUNTCP_TEST_HOSTS; a test for none of them runs on its first. The loops of
others that make our connections (`STAYING`) are hosts of tests marked `loops_that_stay`; a run that names them has them wherever
the native loop is a host.

A run that does not choose has each loop and each transport, and not each loop with each transport: the standalone loop has
every transport, asyncio and the native loop tcp, uvloop TLS (`COMPANION`), and unix sockets the last of a test's hosts.
Slots (`slots.HANDLERS`) have the standalone loop over tcp. `--product` has everything with everything.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from .asyncio_loops import STAYING
from .hosted_loops import AsyncioLoop, NativeLoop, UvloopLoop
from .loops import Loop, StandaloneLoop
from .transports import TRANSPORTS

LOOPS: dict[str, type[Loop]] = {loop.name: loop for loop in (StandaloneLoop, AsyncioLoop, UvloopLoop, NativeLoop)}

COMPANION = {"asyncio": "tcp", "uvloop": "tls", "native": "tcp"}  # the transport of a loop that has one
HOSTS = tuple(COMPANION)

MARKERS = (
    "every_loop: runs on the standalone loop and in asyncio loops, as the tests of the contract do",
    "standalone(reason): runs on the standalone loop alone",
    "plain(reason): does not run over TLS",
    "hosts(*kinds): runs in these kinds of asyncio loops, given to it as `host`",
    "loops_that_stay: what runs in the native loop runs in each loop that `pybuntcp.aio.install` has changed, too",
    "not_in(host, reason): does not run in this kind of asyncio loop",
)

every_loop = pytest.mark.every_loop
unreferenced = pytest.mark.standalone(
    "ref() and unref() decide when run() returns; an asyncio loop goes on until it is stopped"
)
plain = pytest.mark.plain
silent_crowd = plain("its raw crowd connects and says nothing: over TLS nobody would be open")
calls_run = pytest.mark.standalone("it calls pybuntcp.run() itself, which an asyncio loop refuses")


def add_options(parser: pytest.Parser) -> None:
    for what, table in (("loops", LOOPS), ("transports", TRANSPORTS), ("hosts", HOSTS)):
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


def chosen_hosts(config: pytest.Config) -> list[str]:
    """The kinds of asyncio loops of this run."""
    return _chosen(config, "host", (*HOSTS, *STAYING))


def _chosen(config: pytest.Config, what: str, table: Iterable[str]) -> list[str]:
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


def hosts_of(definition: Any, names: list[str]) -> list[Any]:
    """As `loops_of`, of the kinds of asyncio loops that a test is marked with."""
    kinds = definition.get_closest_marker("hosts").args
    if "native" in kinds:
        marked = definition.get_closest_marker("loops_that_stay") and {*names} >= {*HOSTS}
        kinds = (*kinds, *(kind for kind in STAYING if marked or kind in names))
    refused = {mark.args[0] for mark in definition.iter_markers("not_in")}
    here = [kind for kind in kinds if (kind in names or kind in STAYING) and kind not in refused]
    return [_parameter(kind, LOOPS[STAYING.get(kind, kind)].missing()) for kind in here] or [_parameter(kinds[0], "")]


# ---------------------------------------------------------------- which with which


def parametrize(metafunc: pytest.Metafunc, handlers: Sequence[str] = ()) -> None:
    """Give a test its loops or hosts, its transports and its kinds of handlers, with each other as far as a run has them."""
    definition, config, wanted = metafunc.definition, metafunc.config, metafunc.fixturenames
    among, columns = chosen_transports(config), {}
    if "loop_name" in wanted:
        columns["loop_name"] = loops_of(definition, chosen(config))
    if "host" in wanted and definition.get_closest_marker("hosts"):
        columns["host"] = hosts_of(definition, chosen_hosts(config))
    if "transport" in wanted:
        columns["transport"] = transports_of(definition, among)
    if "over_tcp" in wanted:
        columns["over_tcp"] = transports_of(definition, among, ("tcp", "tls"))
    if handlers:
        columns["handlers"] = [_parameter(name) for name in handlers]
    if columns:
        rows = [row for row in itertools.product(*columns.values()) if _is_had(columns, row, config)]
        indirect = [name for name in columns if name not in ("loop_name", "host")]
        metafunc.parametrize(list(columns), [_joined(row) for row in rows], indirect=indirect)


def _is_had(columns: dict[str, list[Any]], row: tuple[Any, ...], config: pytest.Config) -> bool:
    if config.getoption("--product"):
        return True
    cell = {name: parameter.values[0] for name, parameter in zip(columns, row, strict=True)}
    way = "transport" if "transport" in columns else "over_tcp"
    loop, transport = cell.get("loop_name", "standalone"), cell.get(way, "tcp")
    if cell.get("handlers") == "slots" and (loop, transport) != ("standalone", "tcp"):
        return False
    if way not in columns or {*chosen_transports(config)} < {*TRANSPORTS}:
        return True
    among = [parameter.values[0] for parameter in columns[way]]
    if "host" in cell:
        return transport in host_transports(cell["host"], [kind.values[0] for kind in columns["host"]], among)
    return {*chosen(config)} < {*LOOPS} or COMPANION.get(loop, transport) == transport


def host_transports(host: str, hosts: Sequence[str], among: Sequence[str]) -> set[str]:
    """Those of a host: its companion, or the first there is; and the last host has what is nobody's."""
    companions = {kind: COMPANION[STAYING.get(kind, kind)] for kind in hosts}
    own = {kind: companion if companion in among else among[0] for kind, companion in companions.items()}
    return {own[host]} | ({*among} - {*own.values()} if host == hosts[-1] else set())


def _joined(row: tuple[Any, ...]) -> Any:
    """One parameter of several."""
    values = [parameter.values[0] for parameter in row]
    marks = [mark for parameter in row for mark in parameter.marks]
    return pytest.param(*values, marks=marks, id="-".join(values))


def has_slots(item: Any) -> bool:
    """Whether the `handlers` of this test are slots."""
    return hasattr(item, "callspec") and item.callspec.params.get("handlers") == "slots"


def _parameter(name: str, missing: str = "") -> Any:
    return pytest.param(name, marks=pytest.mark.skip(missing) if missing else ())
