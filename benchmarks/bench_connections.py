"""connections: does a message cost more when there are more connections? The echo of bench_echo.py on 10 to 10,000, all of them busy.

Part of the growth is the kernel's and the cache's and nobody escapes it: the limit's own growth is the measure.
"""

from __future__ import annotations

from bench_echo import ECHO_50
from harness.names import LIMIT, OURS
from harness.questions import Goal, Medians, Question, Row


def busy(count: int) -> Row:
    return Row(f"echo-{count}", f"echo, 100 B, {count:,} connections", connections=count, among="series")


ROWS = (busy(10), ECHO_50, busy(200), busy(1000), busy(5000), busy(10000))


def growth(medians: Medians, peer: str) -> float | None:
    few, many = (medians.get(row, {}).get(peer, {}).get("cpu_us") for row in ("echo-50", "echo-5000"))
    return many / few if few and many else None


def growth_over_limit(medians: Medians) -> float | None:
    ours, limit = growth(medians, OURS), growth(medians, LIMIT)
    return ours / limit if ours and limit else None


QUESTION = Question(
    name="connections",
    about="the same echo on 10 to 10,000 busy connections",
    rows=ROWS,
    quick=(ECHO_50, busy(5000)),
    goals=(Goal(f"connections: growth from 50 to 5,000, times {LIMIT}'s growth", growth_over_limit, 1.05),),
    series="connections",
)
