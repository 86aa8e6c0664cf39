"""redis-benchmark and wrk as loads: generators that are not ours.

Promises: bounded in time; figures in the units of the other load. It does not know who answers.
"""

from __future__ import annotations

import csv
import glob
import json
import math
import os
import resource
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from harness.build import HERE
from harness.machine import on_core
from harness.processes import MeasurementError

if TYPE_CHECKING:
    from harness.questions import Row

GENERATORS = {"resp": "redis-benchmark", "http": "wrk"}  # by the mode of a row
DATABASES = {  # by what is behind a client: the program, and the file of servers/ that starts it
    "resp": ("redis-server", "redis_server.py"),
    "postgres": ("postgres", "postgres_server.py"),
}
SERVERS_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), *glob.glob("/usr/lib/postgresql/*/bin")))
BOUND_SECONDS = 120.0
BUSY_ABOVE = 0.95


def missing_generator(row: Row) -> str | None:
    """The program that the row needs as its load, if it is not installed."""
    program = DATABASES[row.behind][0] if row.behind else GENERATORS.get(row.mode)
    return program if program and shutil.which(program, path=SERVERS_PATH) is None else None


def redis_benchmark(row: Row, port: int, requests: int, core: int | None) -> dict[str, Any]:
    """Ask `requests` times; rate, latency and how busy the generator was."""
    asked = {"-h": "127.0.0.1", "-p": port, "-t": row.command, "-n": requests, "-c": row.connections, "-P": row.depth}
    options = (str(part) for pair in asked.items() for part in pair)
    said, user, system = run_on(core, ["redis-benchmark", "--csv", *options])
    lines = [line for line in said.splitlines() if line.startswith('"')]
    if len(lines) < 2:
        raise MeasurementError(f"redis-benchmark: {said.strip()[-200:]}")
    (figures,) = csv.DictReader(lines)
    seconds = requests / float(figures["rps"])
    return {
        "messages": requests,
        "seconds": seconds,
        "rate": float(figures["rps"]),
        **{f"{name}_us": float(figures[f"{name}_latency_ms"]) * 1000 for name in ("p50", "p99", "max")},
        "generator": generator(user, system, seconds),
    }


def wrk(row: Row, port: int, seconds: float, core: int | None) -> dict[str, Any]:
    """Ask for so long, in whole seconds, one at least: wrk knows no others."""
    asked = {"-t": 1, "-c": row.connections, "-d": f"{math.ceil(seconds)}s", "-s": HERE / "load" / "wrk_report.lua"}
    options = (str(part) for pair in asked.items() for part in pair)
    said, user, system = run_on(core, ["wrk", *options, f"{'https' if row.tls else 'http'}://127.0.0.1:{port}/"])
    done: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    if errors := done.pop("errors"):
        raise MeasurementError(f"wrk: {errors} of {done['messages']} requests failed")
    return done | {
        "rate": done["messages"] / done["seconds"],
        "generator": generator(user, system, done["seconds"]),
    }


def run_on(core: int | None, command: list[str]) -> tuple[str, float, float]:
    """What it printed, and the seconds of user and system time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        with on_core(core):
            done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasurementError(f"{command[0]}: {error}") from error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise MeasurementError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


def generator(user: float, system: float, seconds: float) -> dict[str, Any]:
    """As the load of ours says it of itself."""
    share = (user + system) / seconds
    return {"user_s": user, "system_s": system, "share": share, "bottleneck": share > BUSY_ABOVE}
