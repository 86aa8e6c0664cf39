"""What a process has used, in the kernel's own words.

Promises: CPU is the sum of all living threads' run time (schedstat, nanoseconds). Its division into user and system comes from the ticks of /proc/<pid>/stat, which are samples:
right over a window of seconds, coarse over less. A wake-up is a voluntary context switch: a thread had waited, and waits again.
Memory is what the process has for itself (Private_*), its share (Pss) and what it maps (Rss), in bytes.
It does not know: kernel memory (socket buffers), which belongs to no process.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cpu:
    """Since the process began, or between two readings."""

    total_ns: int
    waited_ns: int  # ready to run while somebody else had the core
    user_ticks: int
    system_ticks: int

    def since(self, before: Cpu) -> Cpu:
        return Cpu(
            self.total_ns - before.total_ns,
            self.waited_ns - before.waited_ns,
            self.user_ticks - before.user_ticks,
            self.system_ticks - before.system_ticks,
        )

    @property
    def user_share(self) -> float:
        ticks = self.user_ticks + self.system_ticks
        return self.user_ticks / ticks if ticks else 0.0


def read_cpu(pid: int) -> Cpu:
    """Exact when no thread of it runs at this moment: a running thread's time is brought up to date at the next tick only."""
    total = waited = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            ran, stood = (task / "schedstat").read_text().split()[:2]
        except OSError:  # the thread has ended since
            continue
        total += int(ran)
        waited += int(stood)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cpu(total, waited, int(fields[11]), int(fields[12]))


def read_family(pid: int) -> int:
    """Nanoseconds that it and its living descendants have run."""
    total = read_cpu(pid).total_ns
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended since
            total += sum(read_family(int(child)) for child in (task / "children").read_text().split())
    return total


def read_threads(pid: int) -> dict[int, int]:
    """Nanoseconds that each living thread has run."""
    ran = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended since
            ran[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return ran


def read_wakeups(pid: int) -> int:
    """How often its living threads have gone to wait, since they began."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended since
            fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            count += int(fields["voluntary_ctxt_switches"])
    return count


def read_memory(pid: int) -> dict[str, int]:
    """private, pss, rss in bytes."""
    kib: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0])
    private = kib.get("Private_Clean", 0) + kib.get("Private_Dirty", 0)
    return {"private": private * 1024, "pss": kib.get("Pss", 0) * 1024, "rss": kib.get("Rss", 0) * 1024}


def count_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
