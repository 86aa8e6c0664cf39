"""The one command: asks the questions of every peer it can start, in interleaved rounds, shows tables, writes a result file.

    python benchmarks/run.py                  all questions
    python benchmarks/run.py echo five        these
    python benchmarks/run.py --quick          less than two minutes, for a look only
    python benchmarks/run.py --show FILE      the tables of a result file again; --plots FOLDER, --page PAGE ...: plots, or the tables of Markdown pages, made of it

Promises: a round asks every peer before the next round begins, in an order that turns each time; all figures of all rounds are in the file; it ends by itself.
It does not know: how a row is measured (harness/measure.py), who the peers are (harness/peers.py), what is asked (bench_*.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bench_aio
import bench_aio_programs
import bench_aio_stays
import bench_aio_tls
import bench_churn
import bench_connections
import bench_echo
import bench_fanout
import bench_five
import bench_http
import bench_idle
import bench_latency
import bench_layers
import bench_loops
import bench_pipelining
import bench_proxy
import bench_resp
import bench_scheduling
import bench_sizes
import bench_threads
import bench_throughput
import bench_tls_echo
import bench_tls_flood
import bench_tls_handshake
import bench_tls_idle
from harness import machine, tls
from harness.build import HERE, CannotBuildError, compile_program
from harness.foreign_loads import missing_generator
from harness.markdown import PageError, fill
from harness.measure import measure
from harness.names import LEFT_OUT_WHEN_QUICK
from harness.peers import all_peers
from harness.plots import can_draw, draw
from harness.questions import Goal, Plan, Question, Row
from harness.report import Result, print_report
from harness.runtimes import Peer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

QUESTIONS = {
    q.name: q
    for q in (
        bench_echo.QUESTION,
        bench_five.QUESTION,
        bench_layers.QUESTION,
        bench_connections.QUESTION,
        bench_sizes.QUESTION,
        bench_pipelining.QUESTION,
        bench_throughput.QUESTION,
        bench_fanout.QUESTION,
        bench_latency.QUESTION,
        bench_churn.QUESTION,
        bench_idle.QUESTION,
        bench_resp.QUESTION,
        bench_http.QUESTION,
        bench_proxy.QUESTION,
        bench_threads.QUESTION,
        bench_loops.QUESTION,
        bench_aio.QUESTION,
        bench_aio_programs.QUESTION,
        bench_aio_tls.QUESTION,
        bench_aio_stays.QUESTION,
        bench_scheduling.QUESTION,
        bench_tls_echo.QUESTION,
        bench_tls_handshake.QUESTION,
        bench_tls_idle.QUESTION,
        bench_tls_flood.QUESTION,
    )
}
STEADY_MODES = ("idle", "wakeups")
STEADY_ROUNDS = 2  # these hardly vary; more rounds would only take time
QUICK = (1, 0.1, 0.25)  # rounds, and seconds before and in the window
FULL = (5, 0.4, 2.0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Benchmarks of pybuntcp and its peers: server CPU per message, messages/s, latency, memory. Loopback only.",
        epilog="questions: " + "; ".join(f"{q.name}: {q.about}" for q in QUESTIONS.values()),
    )
    parser.add_argument("questions", nargs="*", metavar="question", help=f"{', '.join(QUESTIONS)} (all)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round, fewer rows and peers, under two minutes: for a look, not for quoting",
    )
    parser.add_argument("--rounds", type=int, default=None, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=float, default=None, help="measured window of a sample (2.0)")
    parser.add_argument("--warmup", type=float, default=None, help="before the window (0.4)")
    parser.add_argument("--peers", default=None, help="only these, by name, with commas")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the Python peers (this one)")
    parser.add_argument(
        "--suite",
        default=tls.PINNED,
        help=f"the one TLS 1.3 suite on offer ({tls.PINNED}); any: all, in OpenSSL's order",
    )
    parser.add_argument("--output", type=Path, default=None, help="result file (benchmarks/results/<time>.json)")
    parser.add_argument(
        "--show",
        type=Path,
        nargs="+",
        default=None,
        metavar="FILE",
        help="print the tables of a result file and stop; rows of further files take the place of the first one's",
    )
    parser.add_argument(
        "--plots", type=Path, default=None, metavar="FOLDER", help="where the plots go (beside the result file)"
    )
    parser.add_argument(
        "--page",
        type=Path,
        nargs="+",
        default=None,
        metavar="PAGE",
        help="with --show: fill the tables of these Markdown pages",
    )
    arguments = parser.parse_args()
    if arguments.page is not None and arguments.show is None:
        parser.error("--page needs --show FILE")
    if unknown := [q for q in arguments.questions if q not in QUESTIONS]:
        parser.error(f"no question {', '.join(unknown)}: there are {', '.join(QUESTIONS)}")
    for name in ("rounds", "seconds"):
        if (value := getattr(arguments, name)) is not None and value <= 0:
            parser.error(f"--{name} must be more than 0")
    return arguments


def chosen_questions(arguments: argparse.Namespace) -> list[Question]:
    return [QUESTIONS[name] for name in (dict.fromkeys(arguments.questions) or QUESTIONS)]


def chosen_rows(arguments: argparse.Namespace) -> list[Row]:
    """Each row once, even when two questions need it."""
    rows = [row for q in chosen_questions(arguments) for row in (q.quick if arguments.quick else q.rows)]
    return list({row.key: row for row in rows}.values())


def say_what_is_left_out(console: Console, arguments: argparse.Namespace) -> None:
    """A quick look asks less; what, is said."""
    if not arguments.quick:
        return
    asked = {row.key for row in chosen_rows(arguments)}
    rows = [row.title for q in chosen_questions(arguments) for row in q.rows if row.key not in asked]
    peers = [] if arguments.peers else sorted(LEFT_OUT_WHEN_QUICK)
    console.print(
        f"[dim]--quick leaves out the peers {', '.join(peers) or 'none'}; the rows {'; '.join(dict.fromkeys(rows)) or 'none'}[/dim]",
        highlight=False,
    )


def able_rows(console: Console, rows: list[Row], python: str) -> tuple[list[Row], str]:
    """Those that can be measured here, and the libssl for those over TLS; "" = there are none."""
    for row in rows:
        if missing := missing_generator(row):
            console.print(f"[red]Not measured:[/] {row.title}: no {missing}", highlight=False)
    rows = [row for row in rows if not missing_generator(row)]
    if not any(row.tls for row in rows):
        return rows, ""
    try:
        tls.prepare(python)
    except (CannotBuildError, OSError) as error:
        console.print(f"[red]Nothing is measured over TLS:[/] {error}")
        return [row for row in rows if not row.tls], ""
    return rows, tls.libssl(python)


def chosen_peers(arguments: argparse.Namespace) -> list[Peer]:
    peers = all_peers(arguments.python)
    if arguments.peers is None:
        return [p for p in peers if p.name not in LEFT_OUT_WHEN_QUICK] if arguments.quick else peers
    wanted = arguments.peers.split(",")
    if unknown := set(wanted) - {p.name for p in peers}:
        raise SystemExit(f"no peer {', '.join(sorted(unknown))}: there are {', '.join(p.name for p in peers)}")
    return [p for p in peers if p.name in wanted]


def make_plan(arguments: argparse.Namespace, libssl: str) -> Plan:
    rounds, warmup, seconds = QUICK if arguments.quick else FULL
    return Plan(
        rounds=rounds if arguments.rounds is None else arguments.rounds,
        warmup=warmup if arguments.warmup is None else arguments.warmup,
        seconds=seconds if arguments.seconds is None else arguments.seconds,
        cores=machine.share_out_cores(),
        libssl=libssl,
        suite=None if arguments.suite == "any" else arguments.suite,
    )


def schedule(rows: list[Row], peers: list[Peer], plan: Plan, quick: bool) -> Iterator[tuple[int, Row, Peer]]:
    """Round by round; within a row the peers follow each other at once, forwards and backwards in turn."""
    for number in range(plan.rounds):
        for row in rows:
            if row.mode in STEADY_MODES and number >= (1 if quick else STEADY_ROUNDS):
                continue
            able = [p for p in peers if not p.missing and row.server_mode in p.modes]
            for peer in able if number % 2 == 0 else reversed(able):
                yield number, row, peer


def run(
    console: Console, rows: list[Row], peers: list[Peer], plan: Plan, quick: bool
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All samples: row -> peer -> one a round."""
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {
        row.key: {p.name: [] for p in peers if not p.missing and row.server_mode in p.modes} for row in rows
    }
    steps = list(schedule(rows, peers, plan, quick))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=2, transient=True) as progress:
        task = progress.add_task("starting", total=len(steps))
        for number, row, peer in steps:
            progress.update(task, description=f"round {number + 1}/{plan.rounds}  {row.title}  [bold]{peer.name}[/]")
            samples[row.key][peer.name].append({"round": number, **measure(row, peer, plan)})
            progress.advance(task)
    return samples


def as_result(
    rows: list[Row],
    peers: list[Peer],
    plan: Plan,
    told: dict[str, dict[str, Any]],
    samples: dict[str, dict[str, list[dict[str, Any]]]],
    facts: machine.Facts,
    took: float,
) -> Result:
    return {
        "format": 1,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "took_seconds": round(took, 1),
        "machine": facts,
        "cores": {"server": plan.cores.server, "load": plan.cores.load, "words": plan.cores.describe()},
        "plan": {"rounds": plan.rounds, "warmup": plan.warmup, "seconds": plan.seconds, "suite": plan.suite},
        "peers": {p.name: {"what": p.what, "version": p.version, "missing": p.missing} for p in peers},
        "tls": told,
        "rows": [{**dataclasses.asdict(row), "samples": samples[row.key]} for row in rows],
    }


def write_result(result: Result, path: Path | None) -> Path:
    target = path or HERE / "results" / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    return target


def merged(results: list[Result]) -> Result:
    """The first, with the rows that later runs have measured again in their place; rows that nobody asks any more are left out."""
    known = {row.key for q in QUESTIONS.values() for row in (*q.rows, *q.quick)}
    result, later = results[0], results[1:]
    for run in later:
        rows = {row["key"]: row for row in (*result["rows"], *run["rows"])}
        result["rows"] = [row for row in rows.values() if row["key"] in known]
        for table in ("peers", "tls"):  # what peers said of themselves
            result[table] = {**result.get(table, {}), **run.get(table, {})}
        told = {
            "finished": run["finished"],
            "commit": run["machine"]["commit"],
            "rows": [r["key"] for r in run["rows"]],
        }
        result.setdefault("later", []).append(told)
    return result


def show(console: Console, arguments: argparse.Namespace) -> None:
    """An old result: its tables, or plots, or a page filled with it."""
    result = merged([json.loads(path.read_text()) for path in arguments.show])
    goals = [g for q in QUESTIONS.values() for g in q.goals]
    if arguments.page is not None:
        fill_pages(console, arguments.page, result, goals)
    if arguments.plots is not None:
        save_plots(console, result, arguments.plots)
    if arguments.page is None and arguments.plots is None:
        print_report(console, result, goals)


def fill_pages(console: Console, pages: list[Path], result: Result, goals: list[Goal]) -> None:
    """All of them, and which rows are on none."""
    try:
        unused = [fill(page, result, goals) for page in pages]
    except PageError as error:
        raise SystemExit(str(error)) from None
    nowhere = [key for key in unused[0] if all(key in keys for keys in unused)]
    where = f"; rows not on {'it' if len(pages) == 1 else 'them'}: {', '.join(nowhere)}" if nowhere else ""
    filled = f"{', '.join(str(page) for page in pages)} {'is' if len(pages) == 1 else 'are'} filled"
    console.print(filled + where, highlight=False, soft_wrap=True)


def save_plots(console: Console, result: Result, folder: Path) -> None:
    draw(result, folder, QUESTIONS.values())
    words = f"plots: {os.path.relpath(folder)}" if can_draw() else "no plots: matplotlib is not installed"
    console.print(f"[dim]{words}[/dim]", highlight=False)


def main() -> int:
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    if arguments.show is not None:
        show(console, arguments)
        return 0
    try:
        compile_program("load/load.c")
    except CannotBuildError as error:
        console.print(f"[red]The load generator cannot be built:[/] {error}")
        return 1
    rows, libssl = able_rows(console, chosen_rows(arguments), arguments.python)
    if not rows:
        return 1
    plan, peers = make_plan(arguments, libssl), chosen_peers(arguments)
    if plan.cores.load is not None:
        os.sched_setaffinity(0, {plan.cores.load})  # this process keeps off the server's core
    began, facts = time.monotonic(), machine.facts(HERE.parent)  # now: what is measured, not what is there when it ends
    secured = [p for p in peers if any(row.tls and row.server_mode in p.modes for row in rows)]
    told = tls.ask_all(secured, plan) if libssl else {}
    samples = run(console, rows, peers, plan, arguments.quick)
    result = as_result(rows, peers, plan, told, samples, facts, time.monotonic() - began)
    path = write_result(result, arguments.output)
    print_report(console, result, [g for q in chosen_questions(arguments) for g in q.goals])
    say_what_is_left_out(console, arguments)
    save_plots(console, result, arguments.plots or path.with_suffix(""))
    console.print(
        f"[dim]{result['took_seconds']} s; every round's figures: {os.path.relpath(path)}[/dim]", highlight=False
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
