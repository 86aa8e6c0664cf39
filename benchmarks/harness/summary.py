"""What a reader is shown first: a small table for a page, one for the README, and the bars beside it, out of the many rows of a result.

    <!-- compare NAME -->   one of COMPARISONS: a row for each question, a column for each of a few peers
    <!-- summary -->        the README's, with the machine and the date below
    <!-- run -->            machine, date, plan and versions in one paragraph

Promises: a cell is the median of all rounds, or, in a table of ratios, the median of the ratios inside the rounds; bold is the best of a row and each peer whose rounds overlap
with it, so that a tie is seen; bare C takes no part in that. It does not know: how a figure was measured.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.names import BUFFERED, LIMIT, OURS, PROGRAMS, PROTOCOL, SCHEDULING, STREAMS, is_limit
from harness.report import Result, spreads_touch, values

RowData = dict[str, Any]  # a row of the result file
FIGURES = {"idle": "private_bytes", "fixed": "p99_us"}  # by the row's mode; else the server's CPU
AIOFASTNET = "aiofastnet-uvloop"  # on uvloop, where it is faster than on asyncio's loop


@dataclass(frozen=True)
class Line:
    """A row of the table: the question in a reader's words, and who stands in each column."""

    key: str
    words: str
    peers: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A table for readers. `against` is the column to which all figures are ratios; "" = figures as they are."""

    head: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    against: str = ""


@dataclass(frozen=True)
class Cell:
    """`numbers`: one a round; none if the peer was not measured."""

    peer: str
    numbers: tuple[float, ...]
    bold: bool = False


SERVERS = (OURS, "uvloop", AIOFASTNET, "asyncio", "bun", LIMIT)
SERVER_COLUMNS = ("pybuntcp", "uvloop", "aiofastnet", "asyncio", "Bun", "bare C")
LOOPS = ("native", "uvloop", AIOFASTNET, "rloop", "asyncio")
LOOP_COLUMNS = ("pybuntcp", "uvloop", "aiofastnet", "rloop", "asyncio")
OTHERS = {"uvloop": "uvloop", "aiofastnet": "aiofastnet", "rloop": "rloop", "bun": "Bun"}
BARS = {OURS: "pybuntcp", "uvloop": "uvloop", "asyncio": "asyncio", "bun": "Bun", LIMIT: "bare C (epoll)"}
BARS_ROW = "echo-50"


def servers(key: str, words: str) -> Line:
    return Line(key, words, SERVERS)


def loops(key: str, words: str, peers: dict[str, str] = PROTOCOL) -> Line:
    """The same asyncio program on each loop; "" where the loop is not one that is asked."""
    return Line(key, words, tuple(peers.get(loop, "") for loop in LOOPS))


ECHO = servers("echo-50", "echo of 100 bytes, 50 connections")
MANY = servers("echo-10000", "the same, 10,000 connections")
MIB = servers("size-1048576", "echo of 1 MiB")
FIVE = servers("five-1", "five writes of 20 bytes a message")
DOWNLOAD = servers("download", "download, for each MiB")
FANOUT = servers("fanout", "fan-out to 100, for each delivery")
CHURN = servers("churn", "connect, echo, close")
LATENCY = servers("latency-10000", "p99 at 10,000 messages/s, us")
IDLE = servers("idle-used", "memory of an idle connection, bytes")
TLS = servers("tls-100", "TLS: echo of 100 bytes")
HANDSHAKE = servers("handshake", "TLS 1.3 handshake")
CPU = "server CPU, us"

README = Comparison(CPU, SERVER_COLUMNS[:5], (ECHO, FIVE, DOWNLOAD, IDLE, TLS, HANDSHAKE))
COMPARISONS = {
    "servers": Comparison(
        CPU, SERVER_COLUMNS, (ECHO, MANY, MIB, FIVE, DOWNLOAD, FANOUT, CHURN, TLS, HANDSHAKE, LATENCY, IDLE)
    ),
    "loops": Comparison(
        "CPU, times uvloop",
        LOOP_COLUMNS,
        (
            loops("aio-50", "Protocol, echo of 100 bytes, 50 connections"),
            loops("aio-1", "the same, 1 connection"),
            loops("aio-10000", "the same, 10,000 connections"),
            loops("aio-five", "five writes of 20 bytes a message"),
            loops("aio-buffered", "BufferedProtocol, echo of 100 bytes", BUFFERED),
            loops("aio-4096k", "Protocol, echo of 4 MiB"),
            loops("aio-churn", "connect, echo, close"),
            loops("aio-streams", "streams: `read`, `write`, `drain`", STREAMS),
            loops("aio-uvicorn", "uvicorn, a request", PROGRAMS["uvicorn"]),
            loops("aio-aiohttp", "aiohttp's server, a request", PROGRAMS["aiohttp"]),
            loops("aio-redis-py", "redis-py, pipelines of 16", PROGRAMS["redis-py"]),
            loops("aio-asyncpg", "asyncpg, `select 1`", PROGRAMS["asyncpg"]),
            loops("aio-tls-100", "TLS: Protocol, echo of 100 bytes"),
            loops("aio-tls-uvicorn", "TLS: uvicorn, a request", PROGRAMS["uvicorn"]),
            loops("tasks", "`create_task` and `await`", SCHEDULING),
            loops("aio-idle", "memory of an idle Protocol connection"),
        ),
        against="uvloop",
    ),
}


# --- figures ---


def figure_of(row: RowData) -> str:
    return FIGURES.get(row["mode"], "cpu_us")


def numbers_of(row: RowData, peer: str, against: str) -> tuple[float, ...]:
    """The peer's figure in each round, or how many times that of `against` in the same round it was."""
    found = row["samples"].get(peer, [])
    if not against:
        return tuple(values(found, figure_of(row)))
    others = {s["round"]: s[figure_of(row)] for s in row["samples"].get(against, []) if figure_of(row) in s}
    return tuple(s[figure_of(row)] / others[s["round"]] for s in found if figure_of(row) in s and s["round"] in others)


def cells_of(row: RowData, line: Line, comparison: Comparison) -> list[Cell]:
    """One for each column, the best and all that tie with it in bold."""
    columns = comparison.columns
    against = line.peers[columns.index(comparison.against)] if comparison.against else ""
    cells = [Cell(peer, numbers_of(row, peer, against)) for peer in line.peers[: len(columns)]]
    best = min((c for c in cells if c.numbers and not is_limit(c.peer)), key=lambda c: median(c.numbers), default=None)
    return [Cell(c.peer, c.numbers, best is not None and is_level(c, best)) for c in cells]


def is_level(cell: Cell, best: Cell) -> bool:
    """Its rounds overlap with those of the best; the run does not tell the two apart."""
    return bool(cell.numbers) and not is_limit(cell.peer) and spreads_touch([*cell.numbers], [*best.numbers])


# --- words ---


def short(value: float) -> str:
    """Three figures that count."""
    return f"{value:,.{0 if value == 0 or value >= 100 else 1 if value >= 10 else 2}f}"


def cell_words(cell: Cell, ratio: bool) -> str:
    if not cell.numbers:
        return "-"
    words = f"{median(cell.numbers):.2f}" if ratio else short(median(cell.numbers))
    return f"**{words}**" if cell.bold else words


def compare_lines(result: Result, comparison: Comparison) -> list[str]:
    rows = {row["key"]: row for row in result["rows"]}
    table = [[comparison.head, *comparison.columns], ["---", *["---:"] * len(comparison.columns)]]
    for line in comparison.lines:
        cells = cells_of(rows[line.key], line, comparison)
        table.append([line.words, *(cell_words(cell, bool(comparison.against)) for cell in cells)])
    return ["| " + " | ".join(line) + " |" for line in table]


def missing_rows(result: Result, comparison: Comparison) -> list[str]:
    known = {row["key"] for row in result["rows"]}
    return [line.key for line in comparison.lines if line.key not in known]


def versions_of(result: Result, columns: Collection[str]) -> list[str]:
    """Of others that these columns show, as far as they were there."""
    told = {name: result["peers"].get(peer, {}) for peer, name in OTHERS.items() if name in columns}
    return [f"{name} {peer['version'].split()[0]}" for name, peer in told.items() if peer.get("version")]


def picture_rows(result: Result) -> dict[str, list[float]]:
    """Of the bars: what is written beside each, and its figure in each round; nothing if ours was not measured."""
    row = next((row for row in result["rows"] if row["key"] == BARS_ROW), None)
    found = {words: list(numbers_of(row, peer, "")) for peer, words in BARS.items()} if row else {}
    return {words: numbers for words, numbers in found.items() if numbers} if found.get(BARS[OURS]) else {}
