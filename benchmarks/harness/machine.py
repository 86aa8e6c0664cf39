"""The machine: what it is (for the result file) and how its cores are shared out.

Promises: facts are read, never guessed; a fact that cannot be read is None. With two or more cores the server has the first and the load the second, the runner
stays with the load; children inherit the core from the thread that starts them. It does not know what runs on a core.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Facts = dict[str, object]


@dataclass(frozen=True)
class Cores:
    """Which core does what; None = wherever the scheduler likes."""

    server: int | None
    load: int | None

    @property
    def all(self) -> frozenset[int] | None:
        """For a server that has several."""
        return None if self.server is None or self.load is None else frozenset({self.server, self.load})

    def describe(self) -> str:
        if self.server is None:
            return "one core only: server and load share it, so messages/s and latency mean little"
        return f"server on core {self.server}, load on core {self.load}"


def share_out_cores() -> Cores:
    """The first two cores this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) >= 2 else Cores(None, None)


@contextlib.contextmanager
def on_core(core: int | frozenset[int] | None) -> Iterator[None]:
    """What is started inside inherits `core`, or any of several, from this thread."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} if isinstance(core, int) else core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def first_line(*command: str) -> str | None:
    """The first line a program prints, None if it cannot be asked."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def read_text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def cpu_model() -> str | None:
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None


def memory_kib() -> int | None:
    for line in (read_text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal"):
            return int(line.split()[1])
    return None


def commit(folder: Path) -> Facts | None:
    """Which source this was, and whether it had been changed since."""
    revision = first_line("git", "--no-optional-locks", "-C", str(folder), "rev-parse", "HEAD")
    if revision is None:
        return None
    return {
        "revision": revision,
        "changed": first_line(
            "git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"
        )
        is not None,
    }


def facts(folder: Path) -> Facts:
    """All that somebody who repeats the run will want to compare."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_kib": memory_kib(),
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "governor": read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": "hypervisor" in (read_text("/proc/cpuinfo") or ""),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "compiler": first_line(os.environ.get("CC", "cc"), "--version"),
        "commit": commit(folder),
    }
