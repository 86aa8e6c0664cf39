"""From samples to what is said: medians with their spread, the tables, and sentences where our server is behind.

Promises: works from the result file's content alone (so any old file can be shown again); a ratio is the median of the ratios inside each round, because two figures
taken seconds apart share the machine's mood and two taken minutes apart do not; the row says to whom (`against`, and for some peers `beside`); a figure that a busy generator
may have capped is marked.
It does not know: how a sample was taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.names import LIMIT, OUR_OWN, OURS, PIPE, REDIS_SLOTS, SPEAK_HTTP, is_limit
from harness.questions import Goal, Medians

Result = dict[str, Any]
Samples = list[dict[str, Any]]

FIGURES = (
    "cpu_us",
    "user_us",
    "system_us",
    "rate",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "flood",
    "server_share",
    "unevenness",
    "private_bytes",
    "pss_bytes",
    "rss_bytes",
    "idle_cpu_ms",
    "wakeups",
    "seconds",
)
BEHIND = {  # figure -> (its name, +1 when less is better)
    "cpu_us": ("server CPU", 1),
    "rate": ("{}/s", -1),
    "p50_us": ("p50 latency", 1),
    "p99_us": ("p99 latency", 1),
    "p999_us": ("p99.9 latency", 1),
    "flood": ("handshakes/s", -1),
    "idle_cpu_ms": ("CPU while idle", 1),
    "private_bytes": ("memory", 1),
}
LATENCIES = (("p50 us", "p50_us"), ("p99 us", "p99_us"), ("p99.9 us", "p999_us"), ("max us", "max_us"))
WAKEUPS = (("server CPU ms", "idle_cpu_ms", 3), ("wake-ups", "wakeups", 0), ("in seconds", "seconds", 1))
CAPPED_ABOVE = 0.95
DISTURBED_ABOVE = 0.05


def plural(unit: str) -> str:
    return unit if unit == "MiB" else f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def good(samples: Samples) -> Samples:
    return [s for s in samples if "error" not in s]


def values(samples: Samples, figure: str) -> list[float]:
    return [s[figure] for s in good(samples) if figure in s]


def ratios(samples: Samples, limit: Samples) -> list[float]:
    """CPU against another's in the same round."""
    by_round = {s["round"]: s["cpu_us"] for s in good(limit) if "cpu_us" in s}
    return [s["cpu_us"] / by_round[s["round"]] for s in good(samples) if "cpu_us" in s and s["round"] in by_round]


def medians_of(result: Result) -> Medians:
    """row -> peer -> figure -> median."""
    table: Medians = {}
    for row in result["rows"]:
        limit = row["samples"].get(row.get("against", LIMIT), [])
        beside = dict(row.get("beside", ()))
        for peer, samples in row["samples"].items():
            figures = {f: median(v) for f in FIGURES if (v := values(samples, f))}
            if against := ratios(samples, limit):
                figures["ratio"] = median(against)
            if second := ratios(samples, row["samples"].get(beside.get(peer), [])):
                figures["beside"] = median(second)
            if figures:
                table.setdefault(row["key"], {})[peer] = figures
    return table


# --- tables ---


def with_spread(numbers: list[float], digits: int) -> str:
    if not numbers:
        return "-"
    middle = f"{median(numbers):,.{digits}f}"
    return (
        middle if len(numbers) < 2 else f"{middle} [dim]({min(numbers):,.{digits}f}..{max(numbers):,.{digits}f})[/dim]"
    )


def is_capped(samples: Samples) -> bool:
    """The load was busy all the time and the server was not: the figure is the load's."""
    return any(
        s["generator"]["bottleneck"] and s["server_share"] < CAPPED_ABOVE for s in good(samples) if "generator" in s
    )


def disturbed(samples: Samples) -> int:
    """In how many samples another program had one of the two cores for a noticeable time."""
    return sum(s.get("waited_share", 0) > DISTURBED_ABOVE for s in good(samples))


def errors(samples: Samples) -> list[str]:
    return sorted({s["error"] for s in samples if "error" in s})


def style(peer: str) -> str | None:
    return "bold" if peer in OUR_OWN else "dim" if is_limit(peer) else None


def cpu_table(row: dict[str, Any]) -> Table:
    against, unit = row.get("against", LIMIT), row.get("unit", "message")
    table = Table(title=row["title"], title_justify="left", caption_justify="left")
    table.add_column("peer")
    for heading in (
        f"server CPU us/{unit}",
        "user",
        "system",
        f"x {against}",
        f"{plural(unit)}/s",
        "p50 us",
        "p99 us",
        "busy: server",
        "load",
    ):
        table.add_column(heading, justify="right")
    limit = row["samples"].get(against, [])
    for peer, samples in row["samples"].items():
        if not good(samples):
            table.add_row(peer, *["-"] * 9, style=style(peer))
            continue
        mark = "*" if is_capped(samples) else ""
        load = median(s["generator"]["share"] for s in good(samples))
        figures = [with_spread(values(samples, f), d) for f, d in (("cpu_us", 2), ("user_us", 2), ("system_us", 2))]
        figures += [with_spread(ratios(samples, limit), 2), with_spread(values(samples, "rate"), 0) + mark]
        figures += [f"{median(values(samples, 'p50_us')):,.0f}{mark}", with_spread(values(samples, "p99_us"), 0) + mark]
        table.add_row(
            peer + ("!" if disturbed(samples) else ""),
            *figures,
            f"{median(values(samples, 'server_share')):.0%}",
            f"{load:.0%}",
            style=style(peer),
        )
    table.caption = remarks(row)
    return table


def remarks(row: dict[str, Any]) -> str | None:
    """What the marks of a table say."""
    unit, said = row.get("unit", "message"), []
    if any(is_capped(samples) for samples in row["samples"].values()):
        said.append(
            f"* the load generator was the limit: more {plural(unit)}/s may be possible, and latency is the load's."
        )
    if any(disturbed(samples) for samples in row["samples"].values()):
        said.append(f"! other programs took over 5 % of a core in some rounds: {plural(unit)}/s and p99 suffer first.")
    return "\n".join(said) or None


def beside_table(row: dict[str, Any]) -> Table:
    table = Table(title=f"{row['title']}: one beside another", title_justify="left")
    for heading in ("peer", "beside", "x its server CPU"):
        table.add_column(heading, justify="right" if heading.startswith("x") else "left")
    for peer, other in row.get("beside", ()):
        if both := ratios(row["samples"].get(peer, []), row["samples"].get(other, [])):
            table.add_row(peer, other, with_spread(both, 2), style=style(peer))
    return table


def alone_table(row: dict[str, Any]) -> Table:
    """Of a program that asks nobody and is asked by nobody."""
    against, unit = row["against"], row["unit"]
    table = Table(title=row["title"], title_justify="left", caption=remarks(row), caption_justify="left")
    table.add_column("peer")
    for heading in (f"CPU us/{unit}", "user", "system", f"x {against}", f"{plural(unit)}/s"):
        table.add_column(heading, justify="right")
    limit = row["samples"].get(against, [])
    for peer, samples in row["samples"].items():
        cells = [with_spread(values(samples, figure), 3) for figure in ("cpu_us", "user_us", "system_us")]
        cells += [with_spread(ratios(samples, limit), 2), with_spread(values(samples, "rate"), 0)]
        table.add_row(peer + ("!" if disturbed(samples) else ""), *cells, style=style(peer))
    return table


def memory_table(row: dict[str, Any]) -> Table:
    table = Table(title=row["title"], title_justify="left")
    table.add_column("peer")
    for heading in ("private B/connection", "Pss", "Rss"):
        table.add_column(heading, justify="right")
    for peer, samples in row["samples"].items():
        table.add_row(
            peer,
            *(with_spread(values(samples, f), 0) for f in ("private_bytes", "pss_bytes", "rss_bytes")),
            style=style(peer),
        )
    return table


def wakeups_table(row: dict[str, Any]) -> Table:
    table = Table(title=row["title"], title_justify="left")
    table.add_column("peer")
    for heading, _, _ in WAKEUPS:
        table.add_column(heading, justify="right")
    for peer, samples in row["samples"].items():
        table.add_row(peer, *(with_spread(values(samples, f), digits) for _, f, digits in WAKEUPS), style=style(peer))
    return table


def latency_table(row: dict[str, Any]) -> Table:
    """At a fixed rate; with a flood, how much of that was served, too."""
    table = Table(title=row["title"], title_justify="left", caption=remarks(row), caption_justify="left")
    table.add_column("peer")
    flooded = ("handshakes/s", "flood's load") if row.get("flood") else ()
    for heading in (*(heading for heading, _ in LATENCIES), "busy: server", "load", *flooded):
        table.add_column(heading, justify="right")
    for peer, samples in row["samples"].items():
        mark = "*" if is_capped(samples) else ""
        cells = [with_spread(values(samples, figure), 0) + mark for _, figure in LATENCIES]
        cells += [as_share(values(samples, "server_share")), as_share(generator_shares(samples, "generator"))]
        if flooded:
            cells += [with_spread(values(samples, "flood"), 0), as_share(generator_shares(samples, "flood_generator"))]
        table.add_row(peer + ("!" if disturbed(samples) else ""), *cells, style=style(peer))
    return table


def series_table(rows: list[dict[str, Any]], series: str) -> Table:
    """Rows that differ in one number, side by side: median CPU, and how many times that of whom the row is against."""
    against, unit = rows[0].get("against", LIMIT), rows[0].get("unit", "message")
    words = f"server CPU us/{unit} (x {against})"
    marks = dict.fromkeys(line for row in rows for line in (remarks(row) or "").splitlines())
    table = Table(title=words, title_justify="left", caption="\n".join(marks) or None)
    table.add_column(f"{series}:")
    for row in rows:
        table.add_column(f"{row[series]:,}", justify="right")
    for peer in dict.fromkeys(peer for row in rows for peer in row["samples"]):
        if any(not row["samples"].get(peer) for row in rows):
            continue  # not asked everywhere
        table.add_row(peer, *(series_cell(row, peer, against) for row in rows), style=style(peer))
    return table


def series_cell(row: dict[str, Any], peer: str, against: str) -> str:
    samples = row["samples"][peer]
    found, times = values(samples, "cpu_us"), ratios(samples, row["samples"].get(against, []))
    if not found:
        return "-"
    mark = ("*" if is_capped(samples) else "") + ("!" if disturbed(samples) else "")
    return f"{median(found):,.2f}{mark}" + (f" ({median(times):.2f} x)" if times else "")


def generator_shares(samples: Samples, which: str) -> list[float]:
    return [s[which]["share"] for s in good(samples) if which in s]


def as_share(numbers: list[float]) -> str:
    return f"{median(numbers):.0%}" if numbers else "-"


TABLES = {  # by the row's mode; else the table of CPU
    "idle": memory_table,
    "wakeups": wakeups_table,
    "fixed": latency_table,
    "alone": alone_table,
}


def tls_table(result: Result) -> Table:
    """Who has which library, what was measured, and what each picks when it may."""
    table = Table(title="TLS", title_justify="left")
    for heading in ("peer", "library", "picks by itself", "measured with"):
        table.add_column(heading)
    for peer, told in result.get("tls", {}).items():
        measured = {
            f"{s['version']} {s['suite']}"
            for row in result["rows"]
            for s in good(row["samples"].get(peer, []))
            if "suite" in s
        }
        picks = told.get("picks") or f"[red]{told.get('error')}[/]"
        table.add_row(peer, told["openssl"] or "?", picks, ", ".join(sorted(measured)) or "-", style=style(peer))
    return table


# --- sentences ---


def spreads_touch(ours: list[float], theirs: list[float]) -> bool:
    return min(ours) <= max(theirs) and min(theirs) <= max(ours)


def comparable(figure: str, ours: Samples, theirs: Samples) -> bool:
    """Rates and latencies say nothing about two servers when the load decided one of them."""
    return figure in ("cpu_us", "private_bytes") or not (is_capped(ours) or is_capped(theirs))


def behind(row: dict[str, Any], own: str, peer: str) -> Iterable[str]:
    unit, ours, theirs = row.get("unit", "message"), *(row["samples"].get(name, []) for name in (own, peer))
    for figure, (name, sign) in BEHIND.items():
        mine, other = values(ours, figure), values(theirs, figure)
        if not mine or not other or not comparable(figure, ours, theirs):
            continue
        a, b = median(mine), median(other)
        if (a - b) * sign <= 0:
            continue
        far = f"{a - b:.0f} bytes" if figure == "private_bytes" else in_percent(abs(a / b - 1))
        yield f"{name.format(plural(unit))} {far} {'more' if sign > 0 else 'fewer'}{' (the spreads overlap)' if spreads_touch(mine, other) else ''}"


def in_percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1 %"


def compared(row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """(ours, theirs): the first of ours with everybody's, and who is set beside whom."""
    own = next((peer for peer in (OURS, REDIS_SLOTS, PIPE) if peer in row["samples"]), OURS)
    pairs = [(own, peer) for peer in row["samples"] if peer not in OUR_OWN and peer not in SPEAK_HTTP]
    yield from dict.fromkeys([*pairs, *map(tuple, row.get("beside", ()))])


def sentences(result: Result) -> list[str]:
    """Every row in which a peer's median is better than ours."""
    said = []
    for row in result["rows"]:
        for own, peer in compared(row):
            if worse := list(behind(row, own, peer)):
                said.append(f"{row['title']}: {own} is behind {peer}: {', '.join(worse)}.")
    return said


def print_goals(console: Console, medians: Medians, goals: Iterable[Goal]) -> None:
    measured = [(goal, value) for goal in goals if (value := goal.value(medians)) is not None]
    if not measured:
        return
    table = Table(title="goals", title_justify="left")
    for heading in ("goal", "measured", "at most", ""):
        table.add_column(heading, justify="left" if heading == "goal" else "right")
    for goal, value in measured:
        table.add_row(
            goal.text,
            f"{value:,.2f}",
            f"{goal.at_most:,.2f}",
            "met" if value <= goal.at_most else "[bold red]missed[/]",
        )
    console.print(table)


def print_missing(console: Console, result: Result) -> None:
    absent: dict[str, list[str]] = {}
    for name, peer in result["peers"].items():
        if peer["missing"]:
            absent.setdefault(peer["missing"], []).append(name)
    for why, (first, *others) in absent.items():
        names = ", ".join((f"{first} ({result['peers'][first]['what']})", *others))
        console.print(f"[yellow]missing:[/] {names}: {escape(why)}", highlight=False)
    for row in result["rows"]:
        for peer, samples in row["samples"].items():
            for error in errors(samples):
                failed = sum(s.get("error") == error for s in samples)
                console.print(
                    f"[red]failed:[/] {peer}, {row['title']}, {failed} of {len(samples)}: {escape(error)}",
                    highlight=False,
                    markup=True,
                )


def print_report(console: Console, result: Result, goals: Iterable[Goal] = ()) -> None:
    for row in result["rows"]:
        console.print(TABLES.get(row["mode"], cpu_table)(row))
        if (beside := beside_table(row)).rows:
            console.print(beside)
    if result.get("tls"):
        console.print(tls_table(result))
    print_goals(console, medians_of(result), goals)
    print_missing(console, result)
    console.print(
        f"[dim]{result['cores']['words']}; medians of {result['plan']['rounds']} interleaved rounds, (smallest..largest)[/dim]",
        highlight=False,
    )
    if not OUR_OWN & {p for row in result["rows"] for p, s in row["samples"].items() if good(s)}:
        console.print(f"{OURS} was not measured.")
        return
    said = sentences(result)
    console.print(f"[bold]Where {OURS} is behind:[/]" if said else f"{OURS} is behind nobody in this run.")
    for sentence in said:
        console.print(f"  - {sentence}", highlight=False)
