"""scheduling: what does an event loop cost that has no sockets? `sleep(0)`, a chain of `call_soon`, timers that are cancelled, tasks one after the other, and 50,000 in a `gather`: CPU for each.

The program that does it is what is measured; it has a core for itself. Ratios are to uvloop.
"""

from __future__ import annotations

from harness.goals import times
from harness.names import SCHEDULING, ours_beside
from harness.questions import Goal, Question, Row


def work(key: str, title: str, unit: str) -> Row:
    beside = ours_beside(SCHEDULING)
    return Row(key, title, "alone", 0, 0, among=key, against=SCHEDULING["uvloop"], beside=beside, unit=unit)


ROWS = (
    work("sleeps", "asyncio.sleep(0) in one task", "sleep"),
    work("calls", "call_soon, each callback by the one before it", "call"),
    work("timers", "call_later and cancel, 1,000 open at a time", "timer"),
    work("tasks", "create_task and await, one after the other", "task"),
    work("gather", "gather of 50,000", "task"),
)

QUESTION = Question(
    name="scheduling",
    about="event loops without sockets: sleep(0), call_soon, cancelled timers, tasks, gather",
    rows=ROWS,
    quick=ROWS[:1],
    goals=tuple(
        Goal(f"{row.title}: CPU, times uvloop", times(row, SCHEDULING["native"], SCHEDULING["uvloop"]), 1.0)
        for row in ROWS
    ),
)
