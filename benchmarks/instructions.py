"""instructions: how many instructions of its own does a server of ours execute for a message? Counted by valgrind's callgrind, and held to stored figures.

    python benchmarks/instructions.py                      # count, compare with instructions.json
    python benchmarks/instructions.py --case echo tls-echo # these
    python benchmarks/instructions.py --store              # what is counted is the figure from now on
    python benchmarks/instructions.py --profile echo       # which functions they are in

Owns: the cases, the stored figures beside it, and when two figures may be compared.
Promises: a figure is the difference of two runs of one server, of few and of many messages, so start-up and end do not count; one connection with one message in flight
makes each turn of the loop carry one message, so it hardly varies. More than 5 % above what is stored is a failure (exit code 1). No valgrind: exit code 2.
It does not know: the kernel's part, cache misses, time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import names, tls
from harness.build import HERE, CannotBuildError, compile_program
from harness.foreign_loads import redis_benchmark
from harness.machine import first_line
from harness.peers import all_peers
from harness.processes import Load, MeasurementError, Server
from harness.questions import Row
from harness.runtimes import Peer
from rich.console import Console
from rich.table import Table

from pybuntcp import _core

Facts = dict[str, Any]
STORED = HERE / "instructions.json"
TOLERANCE = 0.05
FEW, MANY = 500, 3000
SLOWER = 8  # patience: a server under valgrind takes seconds to start
ANSWER_SECONDS = 120.0
TOP = 30
# all of a server's environment: another one moves what is in memory, and with that figures by up to one per cent
SETTLED = ("PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1", "LC_ALL=C.UTF-8")
NEEDED = ("LD_LIBRARY_PATH",)


@dataclass(frozen=True)
class Case:
    """A server, and what is asked of it: its `mode`, or a command of redis-benchmark."""

    peer: str
    mode: str
    command: str = ""

    @property
    def tls(self) -> bool:
        return self.mode in names.TLS


CASES = {
    "echo": Case(names.OURS, "echo"),
    "echo-slots": Case(names.SLOTS, "echo"),
    "echo-native": Case(names.EMBEDDED["native"], "echo"),
    "aio-echo": Case(names.PROTOCOL["native"], "echo"),
    "aio-five": Case(names.PROTOCOL["native"], "five"),
    "aio-streams": Case(names.STREAMS["native"], "aio-streams"),
    "five-handler": Case(names.OURS, "five"),
    "five-sink": Case(names.SINK, "five"),
    "tls-echo": Case(names.OURS, "tls"),
    "resp-slots": Case(names.REDIS_SLOTS, "resp", "set"),
}


@dataclass(frozen=True)
class Count:
    """What came of a case: a figure, or why there is none. `failed`: it should have been there."""

    figure: float | None = None
    why: str = ""
    failed: bool = False


# --- what a figure depends on ---


def facts() -> Facts:
    """Of this interpreter, what was compiled for it, and what counts."""
    return {
        "python": platform.python_version() + ("t" if "t" in sys.abiflags else ""),
        "optimised": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "architecture": platform.machine(),
        "compiler": compiler_of(Path(_core.__file__)),
        "openssl": " ".join(ssl.OPENSSL_VERSION.split()[:2]),
        "valgrind": (first_line("valgrind", "--version") or "").removeprefix("valgrind-"),
    }


def compiler_of(extension: Path) -> str:
    """As compilers write it into what they compile."""
    found = re.search(rb"GCC: \([^)]*\) ([\d.]+)|(clang) version ([\d.]+)", extension.read_bytes())
    if found is None:
        return "an unknown compiler"
    return f"clang {found[3].decode()}" if found[2] else f"gcc {found[1].decode()}"


def platform_words(of: Facts) -> str:
    """What must be alike before two figures are compared."""
    minor = re.sub(r"^(\d+\.\d+)[^t]*", r"\1", of["python"])
    made = "optimised" if of["optimised"] else "not optimised"
    return f"CPython {minor} ({made}) on {of['architecture']}, {of['compiler'].split('.')[0]}"


def refusal(stored: Facts, here: Facts, over_tls: bool) -> str:
    """Why a stored figure says nothing about one counted here; "" = it does."""
    then, now = platform_words(stored), platform_words(here)
    if then == now and over_tls:
        then, now = stored["openssl"], here["openssl"]
    return "" if then == now else f"not compared: stored for {then}, this is {now}"


# --- comparing and storing ---


def read_stored() -> Facts | None:
    return json.loads(STORED.read_text()) if STORED.exists() else None


def stored_figure(stored: Facts | None, name: str) -> float | None:
    return None if stored is None else stored["instructions"].get(name)


def why_not_compared(name: str, count: Count, stored: Facts | None, here: Facts) -> str:
    """ "" = there are two figures, and they may be compared."""
    if count.figure is None:
        return f"not counted: {count.why}"
    if stored is None or stored_figure(stored, name) is None:
        return "not compared: no figure is stored (--store)"
    return refusal(stored, here, CASES[name].tls)


def change_of(name: str, count: Count, stored: Facts | None, here: Facts) -> float | None:
    """0.01 = one per cent more than is stored; None = not compared."""
    figure = stored_figure(stored, name)
    if figure is None or count.figure is None or why_not_compared(name, count, stored, here):
        return None
    return count.figure / figure - 1


def verdict(name: str, change: float) -> str:
    """In words, if there is something to say."""
    again = f"python benchmarks/instructions.py --store --case {name}"
    if change > TOLERANCE:
        return f"{name}: {change:+.1%}, more than {TOLERANCE:.0%} above the stored figure. If that is meant: {again}"
    if change < -TOLERANCE:
        return f"{name}: {change:+.1%}: the stored figure is old. To hold what was won: {again}"
    return ""


def judge(counts: dict[str, Count], stored: Facts | None, here: Facts) -> tuple[list[str], list[str]]:
    """Failures, and what else is to be said; in words."""
    failures, notes = [f"{name}: {count.why}" for name, count in counts.items() if count.failed], []
    for name, count in counts.items():
        change = change_of(name, count, stored, here)
        if change is None:
            notes += [] if count.failed else [f"{name}: {why_not_compared(name, count, stored, here)}"]
        elif said := verdict(name, change):
            (failures if change > 0 else notes).append(said)
    return failures, notes


def merged(counts: dict[str, Count], stored: Facts | None, here: Facts, all_cases: bool) -> Facts:
    """What is to be stored. Figures of two platforms are never in one file."""
    reason = "" if stored is None else refusal(stored, here, over_tls=True)
    if reason and not all_cases:
        raise SystemExit(f"not stored: {reason.removeprefix('not compared: ')}; store all cases, without --case")
    figures = {} if stored is None or reason else dict(stored["instructions"])
    figures |= {name: round(count.figure, 1) for name, count in counts.items() if count.figure is not None}
    return {**here, "instructions": {name: figures[name] for name in CASES if name in figures}}


# --- counting ---


@dataclass(frozen=True)
class Means:
    """The servers and the loads, built. `plain` and `sealed`: the loads' commands; `no_tls`: why the second is missing."""

    peers: dict[str, Peer]
    plain: tuple[str, ...]
    sealed: tuple[str, ...] = ()
    no_tls: str = ""


def prepare(python: str) -> Means:
    """All that is compiled, before anything runs."""
    able, plain = {peer.name: peer for peer in all_peers(python)}, (str(compile_program("load/load.c")),)
    try:
        tls.prepare(python)
        options = ("--openssl", tls.libssl(python), "--suite", tls.PINNED)
        return Means(able, plain, (str(compile_program("load/tls_load.c")), *options))
    except (CannotBuildError, OSError) as error:
        return Means(able, plain, no_tls=str(error))


class CountedServer(Server):
    """A server under valgrind: it needs longer for everything."""

    def read_line(self, seconds: float) -> str:
        return super().read_line(seconds * SLOWER)

    def end(self) -> None:
        """Callgrind writes its file when the server ends, in an orderly way or not."""
        self.process.terminate()
        try:
            self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"{self.name} did not end") from None


def counted_command(case: Case, means: Means, dump: Path) -> list[str]:
    """`env` becomes valgrind, and that the server, with one pid."""
    needed = [f"{name}={os.environ[name]}" for name in NEEDED if name in os.environ]
    callgrind = (shutil.which("valgrind") or "valgrind", "--tool=callgrind", f"--callgrind-out-file={dump}")
    return ["env", "-i", *SETTLED, *needed, *callgrind, *means.peers[case.peer].start_command(case.mode)]


def run_server(case: Case, means: Means, messages: int, dump: Path) -> int:
    """One server from its start to its end, callgrind's account in `dump`: how many messages it answered."""
    with CountedServer(case.peer, counted_command(case, means, dump), None) as server:
        answered = (ask_requests if case.command else ask_messages)(case, means, server.port, messages)
        server.end()
    return answered


def ask_messages(case: Case, means: Means, port: int, messages: int) -> int:
    """The load warms up with as many messages as it measures; both are the server's."""
    asked = {"mode": "echo", "port": port, "connections": 1, "messages": messages}
    command = [*(means.sealed if case.tls else means.plain), *tls.options(asked)]
    with Load("load", command, None) as load:
        load.await_event("ready", ANSWER_SECONDS)
        load.say("measure")
        return messages + int(load.await_event("done", ANSWER_SECONDS)["messages"])


def ask_requests(case: Case, means: Means, port: int, messages: int) -> int:
    """By redis-benchmark, one after the other."""
    row = Row("instructions", "instructions", mode="resp", connections=1, depth=1, command=case.command)
    return int(redis_benchmark(row, port, messages, None)["messages"])


def total_of(dump: Path) -> int:
    """All instructions of a run."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(errors="replace"), re.MULTILINE)
    if found is None:
        raise MeasurementError("callgrind wrote no total")
    return int(found[1])


def twice(case: Case, means: Means, few: int, many: int, folder: Path) -> tuple[Path, Path, int]:
    """Both accounts, and by how many messages they differ."""
    less, more = folder / "few", folder / "many"
    fewer = run_server(case, means, few, less)
    return less, more, run_server(case, means, many, more) - fewer


def why_missing(case: Case, means: Means) -> str:
    if case.command and shutil.which("redis-benchmark") is None:
        return "no redis-benchmark"
    return means.peers[case.peer].missing or (means.no_tls if case.tls else "")


def count_case(name: str, means: Means, few: int = FEW, many: int = MANY) -> Count:
    """Instructions a message."""
    case = CASES[name]
    if missing := why_missing(case, means):
        return Count(why=missing)
    with tempfile.TemporaryDirectory() as folder:
        try:
            less, more, messages = twice(case, means, few, many, Path(folder))
            return Count((total_of(more) - total_of(less)) / messages)
        except (MeasurementError, OSError, subprocess.TimeoutExpired) as error:
            return Count(why=str(error), failed=True)


def count_all(names: Iterable[str], means: Means) -> dict[str, Count]:
    """As many at a time as there are cores: instructions do not depend on who else runs."""
    names = list(names)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(names, pool.map(lambda name: count_case(name, means), names), strict=True))


# --- where they are ---


FUNCTION = re.compile(r"\s*([\d,]+) \([\d. ]+%\)\s+(?:.*:)?([^\s:']+)\S*(?: \[(?:.*/)?([^/\]]*)\])?$")


def by_function(said: str) -> Counter[str]:
    """callgrind_annotate's table: instructions of each function itself, what is inlined in it and its recursion with it."""
    counted: Counter[str] = Counter()
    for found in filter(None, map(FUNCTION.match, said.splitlines())):
        name = f"{found[2]} in {found[3]}" if found[2].startswith("0x") else found[2]
        counted[name] += int(found[1].replace(",", ""))
    return counted


def annotate(dump: Path) -> str:
    asked = ["callgrind_annotate", "--inclusive=no", "--threshold=100", "--auto=no", str(dump)]
    return subprocess.run(asked, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout


def profile(name: str, means: Means) -> list[tuple[str, float]]:
    """Function, instructions a message; most first."""
    case = CASES[name]
    if missing := why_missing(case, means):
        raise MeasurementError(missing)
    with tempfile.TemporaryDirectory() as folder:
        less, more, messages = twice(case, means, FEW, MANY, Path(folder))
        counted = by_function(annotate(more))
        counted.subtract(by_function(annotate(less)))
    return [(function, count / messages) for function, count in counted.most_common()]


def print_profile(console: Console, name: str, functions: list[tuple[str, float]]) -> None:
    total = sum(count for _, count in functions)
    table = Table(title=f"{name}: instructions a message, {total:,.0f} in all")
    for column, side in (("instructions", "right"), ("share", "right"), ("function", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for function, count in functions[:TOP]:
        table.add_row(f"{count:,.1f}", f"{count / total:.1%}", function)
    console.print(table)
    console.print(
        "An address instead of a name: the library is stripped (ours: --config-settings=install.strip=false)."
    )


# --- the command ---


def print_counts(console: Console, counts: dict[str, Count], stored: Facts | None, here: Facts) -> None:
    table = Table(title="user instructions a message")
    for column in ("case", "counted", "stored", "change"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, count in counts.items():
        change = change_of(name, count, stored, here)
        style = "red" if count.failed or (change or 0) > TOLERANCE else None
        table.add_row(
            name,
            *(("-" if figure is None else f"{figure:,.0f}") for figure in (count.figure, stored_figure(stored, name))),
            "-" if change is None else f"{change:+.2%}",
            style=style,
        )
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="User instructions per message of pybuntcp's own servers (callgrind).")
    parser.add_argument("--case", nargs="+", choices=list(CASES), metavar="NAME", help=f"{', '.join(CASES)} (all)")
    parser.add_argument("--store", action="store_true", help=f"write what is counted into {STORED.name}")
    parser.add_argument("--profile", choices=list(CASES), metavar="CASE", help="the functions with most instructions")
    return parser.parse_args()


def report(console: Console, counts: dict[str, Count], stored: Facts | None, here: Facts) -> int:
    """What is to be said, and the exit code."""
    failures, notes = judge(counts, stored, here)
    for words in notes:
        console.print(words, highlight=False, markup=False)
    for words in failures:
        console.print(words, style="red", highlight=False, markup=False)
    return 1 if failures else 0


def store(console: Console, result: Facts) -> int:
    STORED.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"stored: {os.path.relpath(STORED)}: {platform_words(result)}, {result['openssl']}", highlight=False)
    return 0


def count_and_report(console: Console, arguments: argparse.Namespace, means: Means) -> int:
    stored, here = read_stored(), facts()
    counts = count_all(arguments.case or list(CASES), means)
    print_counts(console, counts, stored, here)
    if arguments.store and not any(count.failed for count in counts.values()):
        return store(console, merged(counts, stored, here, arguments.case is None))
    return report(console, counts, stored, here)


def main() -> int:
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if first_line("valgrind", "--version") is None:
        console.print("Nothing is counted: no valgrind on the path (apt-get install valgrind).")
        return 2
    try:
        means = prepare(sys.executable)
        if not arguments.profile:
            return count_and_report(console, arguments, means)
        print_profile(console, arguments.profile, profile(arguments.profile, means))
    except (CannotBuildError, MeasurementError) as error:
        console.print(f"Nothing is counted: {error}", style="red", highlight=False, markup=False)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
