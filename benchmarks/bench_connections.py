"""connections: does a message cost more when there are more connections? The echo of bench_echo.py on 50 and on 5,000, all of them busy.

Part of the growth is the kernel's and the cache's and nobody escapes it: the limit's own growth is the measure.
"""

from __future__ import annotations

from bench_echo import ECHO_50
from harness.peers import LIMIT, OURS
from harness.rows import Goal, Medians, Question, Row

ECHO_5000 = Row("echo-5000", "echo, 100 B, 5,000 connections", connections=5000)


def growth(medians: Medians, peer: str) -> float | None:
    few, many = (medians.get(row, {}).get(peer, {}).get("cpu_us") for row in ("echo-50", "echo-5000"))
    return many / few if few and many else None


def growth_over_limit(medians: Medians) -> float | None:
    ours, limit = growth(medians, OURS), growth(medians, LIMIT)
    return ours / limit if ours and limit else None


QUESTION = Question(
    name="connections",
    about="the same echo on 50 and on 5,000 busy connections",
    rows=(ECHO_50, ECHO_5000),
    quick=(ECHO_50, ECHO_5000),
    goals=(Goal(f"connections: growth from 50 to 5,000, times {LIMIT}'s growth", growth_over_limit, 1.05),),
)
