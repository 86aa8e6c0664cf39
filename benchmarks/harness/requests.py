"""redis-benchmark as a load: a generator that is not ours.

Promises: bounded in time; figures in the units of the other load. It does not know who answers.
"""

from __future__ import annotations

import csv
import resource
import subprocess
from typing import TYPE_CHECKING, Any

from harness.machine import on_core
from harness.processes import MeasurementError

if TYPE_CHECKING:
    from harness.rows import Row

BOUND_SECONDS = 120.0
BUSY_ABOVE = 0.95


def redis_benchmark(row: Row, port: int, requests: int, core: int | None) -> dict[str, Any]:
    """Ask `requests` times; rate, latency and how busy the generator was."""
    asked = {"-h": "127.0.0.1", "-p": port, "-t": row.command, "-n": requests, "-c": row.connections, "-P": row.depth}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with on_core(core):
        done = subprocess.run(
            ["redis-benchmark", "--csv", *(str(part) for pair in asked.items() for part in pair)],
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
            check=False,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode != 0 or len(lines) < 2:
        raise MeasurementError(f"redis-benchmark: {(done.stderr or done.stdout).strip()[-200:]}")
    (said,) = csv.DictReader(lines)
    seconds = requests / float(said["rps"])
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    share = (user + system) / seconds
    return {
        "messages": requests,
        "seconds": seconds,
        "rate": float(said["rps"]),
        **{f"{name}_us": float(said[f"{name}_latency_ms"]) * 1000 for name in ("p50", "p99", "max")},
        "generator": {"user_s": user, "system_s": system, "share": share, "bottleneck": share > BUSY_ABOVE},
    }
