"""threads: does a second loop on the same port cost anything, and do both work? The echo of 100 bytes on 200 connections, with one thread and with two.

Server and load share all cores here, so only CPU a message counts, and how the work was split: how far the busiest thread is above an even share.
"""

from __future__ import annotations

from harness.goals import figure_of
from harness.names import LIMIT, SLOTS
from harness.questions import Goal, Medians, Question, Row

ONE, TWO = (
    Row(f"threads-{n}", f"echo, 100 B, 200 connections, {n} thread{'s' * (n > 1)}", connections=200, threads=n)
    for n in (1, 2)
)


def growth_of(peer: str, medians: Medians) -> float | None:
    one, two = (medians.get(row.key, {}).get(peer, {}).get("cpu_us") for row in (ONE, TWO))
    return two / one if one and two else None


def growth(medians: Medians) -> float | None:
    return growth_of(SLOTS, medians)


def growth_over_limit(medians: Medians) -> float | None:
    """What is left of it when the same happens to bare C."""
    ours, limit = growth_of(SLOTS, medians), growth_of(LIMIT, medians)
    return ours / limit if ours and limit else None


QUESTION = Question(
    name="threads",
    about="the same echo with one loop and with two on the port",
    rows=(ONE, TWO),
    quick=(),
    goals=(
        Goal("threads, slots: CPU a message with two, times one", growth, 1.05),
        Goal(f"threads, slots: the same, times {LIMIT}'s", growth_over_limit, 1.05),
        Goal("threads, slots: the busiest thread above an even share", figure_of(TWO, SLOTS, "unevenness"), 0.20),
    ),
)
