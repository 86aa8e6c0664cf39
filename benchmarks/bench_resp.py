"""resp: what does one request to a key-value server cost? GET and SET by `redis-benchmark`, 16 requests in a pipeline and one by one, 50 connections.

The generator is not ours, and redis-server is the peer: both servers keep the values in memory and nothing on disk.
"""

from __future__ import annotations

from harness.goals import times
from harness.names import REDIS, REDIS_SLOTS
from harness.questions import Goal, Question, Row


def row(command: str, depth: int) -> Row:
    title = f"{command.upper()} by redis-benchmark, {depth} in a pipeline, 50 connections"
    return Row(f"resp-{command}-{depth}", title, mode="resp", command=command, depth=depth)


ROWS = tuple(row(command, depth) for depth in (16, 1) for command in ("get", "set"))


QUESTION = Question(
    name="resp",
    about="GET and SET by redis-benchmark, beside redis-server",
    rows=ROWS,
    quick=ROWS[:1],
    goals=tuple(
        Goal(
            f"{row.title}: server CPU, times redis-server's",
            times(row, REDIS_SLOTS, REDIS),
            1 / 1.5 if row.depth > 1 else 1.0,
        )
        for row in ROWS
    ),
)
