"""What `make demo` shows: our echo server under a real load from another process, beside asyncio's (and uvloop's where it is installed), in about fifteen seconds.

Ours is the echo that README.md begins with: it loses nothing, and a client that does not read has to wait.
Promises: measures here and now, prints what it measured and nothing else; needs Python, a C compiler and rich; ends by itself.
It does not know: anything that run.py does not; for figures worth quoting use run.py.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import replace
from statistics import median
from typing import Any

from bench_echo import ECHO_50
from bench_five import PIPELINED
from harness import machine
from harness.build import CannotBuildError, compile_program
from harness.measure import measure
from harness.names import OURS
from harness.peers import all_peers
from harness.questions import Plan, Row
from harness.runtimes import Peer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

SHOWN = (OURS, "asyncio", "uvloop")
ROWS = (ECHO_50, PIPELINED)
ROUNDS = 2
Samples = dict[str, list[dict[str, Any]]]


def collect(console: Console, peers: list[Peer], plan: Plan) -> dict[str, Samples]:
    """row -> peer -> samples, with the rate of the last one beside the bar."""
    samples: dict[str, Samples] = {row.key: {p.name: [] for p in peers} for row in ROWS}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task("", total=ROUNDS * len(ROWS) * len(peers), last="")
        for number in range(ROUNDS):
            for row in ROWS:
                for peer in peers if number % 2 == 0 else reversed(peers):
                    progress.update(task, description=f"[bold]{peer.name}[/]: {row.title}")
                    sample = measure(row, peer, plan)
                    samples[row.key][peer.name].append(sample)
                    progress.update(
                        task,
                        advance=1,
                        last="failed" if "error" in sample else f"{peer.name} {sample['rate']:,.0f} messages/s",
                    )
        progress.update(task, description="measured", last="")
    return samples


def table_of(row: Row, samples: Samples) -> Table:
    table = Table(title=row.title, title_justify="left")
    table.add_column("server")
    for heading in ("messages/s", "server CPU us/message", "p50 us", "p99 us"):
        table.add_column(heading, justify="right")
    for name, taken in samples.items():
        good = [s for s in taken if "error" not in s]
        if not good:
            table.add_row(name, taken[0]["error"] if taken else "-", style="red")
            continue
        figures = (
            f"{median(s[key] for s in good):,.{digits}f}"
            for key, digits in (("rate", 0), ("cpu_us", 2), ("p50_us", 0), ("p99_us", 0))
        )
        table.add_row(name, *figures, style="bold" if name == OURS else None)
    return table


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 120)
    if platform.system() != "Linux":
        console.print("The demo reads the kernel's accounts and loads with epoll: Linux only.")
        return 1
    try:
        compile_program("load/load.c")
    except CannotBuildError as error:
        console.print(f"[red]The load generator cannot be built:[/] {error}")
        return 1
    known = {p.name: p for p in all_peers(sys.executable)}
    known[OURS] = replace(known[OURS], options=("--patient",))
    peers = [known[name] for name in SHOWN if not known[name].missing]
    cores = machine.share_out_cores()
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    samples = collect(console, peers, Plan(ROUNDS, 0.2, 0.7, cores))
    for row in ROWS:
        console.print(table_of(row, samples[row.key]))
    console.print(
        f"[dim]{cores.describe()}; medians of {ROUNDS} short rounds: a look, not a benchmark (benchmarks/run.py is)[/dim]",
        highlight=False,
    )
    for name in SHOWN:
        if known[name].missing:
            console.print(f"[yellow]missing:[/] {name}: {known[name].missing}", highlight=False)
    ours = [s for row in ROWS for s in samples[row.key].get(OURS, [])]
    return 0 if ours and not any("error" in s for s in ours) else 1


if __name__ == "__main__":
    raise SystemExit(main())
