"""five: what do many small writes cost? Five 20-byte writes for each 100-byte message, one message in flight on each connection, then fifty.

With one in flight the reading dominates; with fifty a server that makes one system call a write shows it.
"""

from __future__ import annotations

from harness.names import OURS, SINK
from harness.questions import Goal, Medians, Question, Row

SINGLE = Row("five-1", "five 20-byte writes a message, 50 connections, 1 in flight", mode="five")
PIPELINED = Row("five-50", "five 20-byte writes a message, 50 connections, 50 in flight", mode="five", depth=50)


def against_uvloop(medians: Medians) -> float | None:
    row = medians.get("five-50", {})
    if OURS not in row or "uvloop" not in row:
        return None
    return row[OURS]["cpu_us"] / row["uvloop"]["cpu_us"]


def against_bun(medians: Medians) -> float | None:
    """Each with its sink."""
    row = medians.get("five-1", {})
    if SINK not in row or "bun-sink" not in row:
        return None
    return row[SINK]["cpu_us"] / row["bun-sink"]["cpu_us"]


def pipelined(medians: Medians) -> float | None:
    return medians.get("five-50", {}).get(SINK, {}).get("cpu_us")


QUESTION = Question(
    name="five",
    about="five 20-byte writes for each 100-byte message",
    rows=(SINGLE, PIPELINED),
    quick=(PIPELINED,),
    goals=(
        Goal("five: server CPU a message, times uvloop, 50 in flight", against_uvloop, 1 / 3),
        Goal("five: server CPU a message, sink against Bun's sink, 1 in flight", against_bun, 1.0),
        Goal("five: server CPU a message with the sink, us, 50 in flight", pipelined, 1.0),
    ),
)
