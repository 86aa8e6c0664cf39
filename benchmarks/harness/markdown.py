"""A Markdown page filled from a result file: each block between `<!-- row KEY -->` and `<!-- end -->` is the table of that row.

    <!-- row KEY -->      the row's table            <!-- beside KEY -->   its second ratios
    <!-- series FIELD KEY KEY ... -->   rows that differ in that field, side by side
    <!-- goals -->        goals, and what was met    <!-- behind -->       where ours is behind, in sentences
    <!-- missing -->      peers and samples without  <!-- machine -->      machine, versions, commit, plan, date
    <!-- tls -->          who has which library
    <!-- compare NAME -->, <!-- summary -->, <!-- run -->   what a reader is shown first: see summary.py
    <!-- instructions -->   the stored counts of instructions.json, which are not the result's

Promises: what stands outside the blocks is kept to the letter; filling twice gives the same page, and a page without a marker is left as it is; a marker that cannot be filled is an error that names it, and the page is then
not written; a row that no marker asks for is named to the caller. A table's columns and words are report.py's: they are read out of its rich tables.
It does not know: what the rows mean, where a page lies, what its author says around the tables.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import report, summary
from harness.build import HERE
from harness.names import OUR_OWN, OURS
from harness.questions import Goal
from harness.report import Result
from harness.summary import Comparison

MARKER = re.compile(
    r"<!-- (?:(row|beside) (\S+)|(series) (\w+(?: \S+)+)|compare \S+|(?:goals|behind|missing|machine|tls|summary|run|instructions)) -->"
)
END = "<!-- end -->"
INSTRUCTIONS = HERE / "instructions.json"
LEGEND = "Less is better. Bold: the best, and each whose rounds overlap with the best. aiofastnet runs on uvloop."
SPECIAL = re.compile(r"([\\`*|<])")


class PageError(ValueError):
    """The page asks for what is not there, or a block of it does not end."""


class Keeper(Console):
    """A console that keeps what is printed, for what report.py only prints."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def print(self, *objects: Any, **options: Any) -> None:
        self.kept += objects


def fill(page: Path, result: Result, goals: Iterable[Goal]) -> list[str]:
    """Writes the page anew; returns the keys of the rows that it has no block for."""
    text = page.read_text()
    try:
        filled = "".join(line + "\n" for line in fill_lines(text.splitlines(), blocks_of(result, list(goals))))
    except PageError as error:
        raise PageError(f"{page}: {error}") from None
    if filled != text:
        page.write_text(filled)
    asked = {key for found in MARKER.finditer(text) for key in (found[2] or found[4] or "").split()}
    return [row["key"] for row in result["rows"] if row["key"] not in asked]


def fill_lines(lines: list[str], blocks: Callable[[str, str], list[str]]) -> Iterator[str]:
    """The page's own lines as they are, each block's replaced."""
    opened = ""
    for number, line in enumerate(lines, 1):
        found = MARKER.fullmatch(line.strip())
        if found and opened:
            raise PageError(f"line {number}: {opened} has no {END}")
        if line.strip() == END:
            if not opened:
                raise PageError(f"line {number}: {END}, and no block is open")
            opened = ""
        if not opened:
            yield line
        if found:
            opened = line.strip()
            kind, _, words = found[0][len("<!-- ") : -len(" -->")].partition(" ")
            yield from ("", *blocks(kind, words), "")
    if opened:
        raise PageError(f"{opened} has no {END}")


def blocks_of(result: Result, goals: list[Goal]) -> Callable[[str, str], list[str]]:
    """What fills a block: of its kind, and for a row of its key."""
    rows = {row["key"]: row for row in result["rows"]}
    whole: dict[str, Callable[[], list[str]]] = {
        "goals": lambda: goal_lines(result, goals),
        "behind": lambda: behind_lines(result),
        "missing": lambda: missing_lines(result),
        "machine": lambda: bullets(machine_words(result)),
        "tls": lambda: tls_lines(result),
        "summary": lambda: summary_lines(result),
        "run": lambda: run_lines(result),
        "instructions": instruction_lines,
    }

    def block(kind: str, key: str) -> list[str]:
        if kind in whole:
            return whole[kind]()
        if kind == "compare":
            return compare_lines(result, comparison_named(key))
        field, *several = key.split()
        asked = several if kind == "series" else [key]
        if missing := [each for each in asked if each not in rows]:
            raise PageError(f"the result has no row {', '.join(missing)}")
        if kind == "series":
            return series_lines([rows[each] for each in asked], field)
        return row_lines(rows[key]) if kind == "row" else beside_lines(rows[key])

    return block


# --- blocks ---


def comparison_named(name: str) -> Comparison:
    if name not in summary.COMPARISONS:
        raise PageError(f"no comparison {name}: there are {', '.join(summary.COMPARISONS)}")
    return summary.COMPARISONS[name]


def compare_lines(result: Result, comparison: Comparison) -> list[str]:
    if missing := summary.missing_rows(result, comparison):
        raise PageError(f"the result has no row {', '.join(missing)}")
    return summary.compare_lines(result, comparison)


def summary_lines(result: Result) -> list[str]:
    """The README's table, and what one must know to read it."""
    return [
        *compare_lines(result, summary.README),
        "",
        LEGEND,
        *run_lines(result, summary.README.columns, commits=False),
    ]


def run_lines(
    result: Result, columns: Collection[str] = tuple(summary.OTHERS.values()), commits: bool = True
) -> list[str]:
    """A paragraph: where, when, what and how often."""
    plan, python = result["plan"], f"Python {result['machine']['python']}"
    run = f"medians of {plan['rounds']} interleaved rounds of {plan['seconds']} s"
    peers = ", ".join((python, *summary.versions_of(result, columns)))
    words = "; ".join((computer(result), system(result), peers, run, when(result, commits)))
    return textwrap.wrap(f"{escaped(words)}.", 140, break_on_hyphens=False, break_long_words=False)


def when(result: Result, commits: bool) -> str:
    """The day of the run, and of rows that were measured again on another."""
    later = result.get("later", ())
    days = " and ".join(dict.fromkeys(run["finished"][:10] for run in (result, *later)))
    again = ", ".join(run["commit"]["revision"][:10] for run in later if run.get("commit"))
    if not commits:
        return days
    return f"{days}, {source(result)}" + (f", of some rows {again}" if again else "")


def instruction_lines() -> list[str]:
    """What is stored, which `make instructions` compares with."""
    stored = json.loads(INSTRUCTIONS.read_text())
    optimised = "" if stored["optimised"] else ", not optimised"
    counted = (
        f"CPython {stored['python']}{optimised}, {stored['architecture']}, {stored['compiler']}, {stored['openssl']}"
    )
    rows = [f"| `{case}` | {count:,.0f} |" for case, count in stored["instructions"].items()]
    return [
        "| case | instructions a message |",
        "| --- | ---: |",
        *rows,
        "",
        f"{counted}, valgrind {stored['valgrind']}.",
    ]


def row_lines(row: dict[str, Any]) -> list[str]:
    return table_lines(report.TABLES.get(row["mode"], report.cpu_table)(row))


def series_lines(rows: list[dict[str, Any]], field: str) -> list[str]:
    if field not in rows[0]:
        raise PageError(f"rows have no {field}")
    return table_lines(report.series_table(rows, field))


def beside_lines(row: dict[str, Any]) -> list[str]:
    if not row.get("beside"):
        raise PageError(f"row {row['key']} sets nobody beside another")
    table = report.beside_table(row)
    return table_lines(table) if table.rows else ["Not measured."]


def goal_lines(result: Result, goals: list[Goal]) -> list[str]:
    keeper = Keeper()
    report.print_goals(keeper, report.medians_of(result), goals)
    return kept_lines(keeper) or ["No goal was measured."]


def missing_lines(result: Result) -> list[str]:
    keeper = Keeper()
    report.print_missing(keeper, result)
    return kept_lines(keeper) or ["Nothing: every peer was there, and every sample gave its figures."]


def tls_lines(result: Result) -> list[str]:
    return table_lines(report.tls_table(result)) if result.get("tls") else ["Nothing was measured over TLS."]


def behind_lines(result: Result) -> list[str]:
    measured = {peer for row in result["rows"] for peer, samples in row["samples"].items() if report.good(samples)}
    if not OUR_OWN & measured:
        return [f"{OURS} was not measured."]
    return bullets(report.sentences(result)) or [f"{OURS} is behind nobody in this run."]


def kept_lines(keeper: Keeper) -> list[str]:
    """Tables as tables, the rest as a list."""
    lines: list[str] = []
    for thing in keeper.kept:
        lines += table_lines(thing) if isinstance(thing, Table) else bullets([plain(thing)])
    return lines


# --- Markdown ---


def plain(cell: Any) -> str:
    """Without rich's markup: `[dim]`, `[/]` and the like."""
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)


def escaped(words: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(words.split()))


def bullets(sentences: Iterable[str]) -> list[str]:
    return [f"- {escaped(sentence)}" for sentence in sentences]


def table_lines(table: Table) -> list[str]:
    """What a rich table says, its title above and its caption below."""
    heads = [escaped(plain(column.header)) for column in table.columns]
    rules = ["---:" if column.justify == "right" else "---" for column in table.columns]
    cells = zip(*([escaped(plain(cell)) for cell in column.cells] for column in table.columns), strict=True)
    rows = [emphasized(list(line), row.style == "bold") for line, row in zip(cells, table.rows, strict=True)]
    title = [f"**{escaped(plain(table.title))}**", ""] if table.title else []
    return [*title, *("| " + " | ".join(line) + " |" for line in (heads, rules, *rows)), *caption_lines(table)]


def emphasized(cells: list[str], ours: bool) -> list[str]:
    """Of ours, who it is and the main figure."""
    return [f"**{cell}**" if ours and cell and place < 2 else cell for place, cell in enumerate(cells)]


def caption_lines(table: Table) -> list[str]:
    said = plain(table.caption or "").splitlines()
    return [line for words in said for line in ("", escaped(words))]


# --- the machine and the run ---


def machine_words(result: Result) -> list[str]:
    """All that somebody who repeats the run will want to compare, a fact a line."""
    facts, plan = result["machine"], result["plan"]
    suite = f", TLS 1.3 with {plan.get('suite') or 'any suite'}" if result.get("tls") else ""
    software = (f"Python {facts['python']}", facts.get("compiler"))
    said = [
        f"machine: {computer(result)}",
        f"kernel: {system(result)}",
        f"built with: {', '.join(str(s) for s in software if s)}",
        f"cores: {result['cores']['words']}",
        f"source: {source(result)}",
        f"date: {result['finished'][:10]}, took {result['took_seconds'] / 60:.1f} min",
        f"plan: {plan['rounds']} interleaved rounds, windows of {plan['seconds']} s after {plan['warmup']} s{suite}",
    ]
    said += [
        f"measured again, {run['finished'][:10]}: the rows {', '.join(run['rows'])}" for run in result.get("later", ())
    ]
    return said + [f"{', '.join(peers)}: {version}" for version, peers in versions(result).items()]


def computer(result: Result) -> str:
    facts = result["machine"]
    memory = f"{facts['memory_kib'] / 2**20:.0f} GiB" if facts.get("memory_kib") else None
    virtual = "virtual machine" if facts.get("hypervisor") else None
    governor = f"governor {facts['governor']}" if facts.get("governor") else None
    parts = (facts.get("cpu"), f"{facts.get('cores')} cores", memory, facts.get("machine"), virtual, governor)
    return ", ".join(str(part) for part in parts if part)


def system(result: Result) -> str:
    facts = result["machine"]
    return ", ".join(part for part in (f"{facts['system']} {facts['kernel']}", facts.get("libc")) if part)


def source(result: Result) -> str:
    """The commit, short, and whether what ran was more than the commit."""
    commit = result["machine"].get("commit")
    if not commit:
        return "no commit known"
    return f"commit {commit['revision'][:10]}{' with uncommitted changes' if commit['changed'] else ''}"


def versions(result: Result) -> dict[str, list[str]]:
    """version -> the peers that were there with it."""
    found: dict[str, list[str]] = {}
    for name, peer in result["peers"].items():
        if not peer["missing"]:
            found.setdefault(peer["version"] or "version unknown", []).append(name)
    return found
