"""latency: how long does a message take when it does not wait for others? 100 bytes at a fixed rate on 50 connections, 10,000 and 20,000 a second, the same for everybody.

Messages are due whatever has come back, and latency counts from then: a server that stands still is charged for all it delays (no coordinated omission).
"""

from __future__ import annotations

from harness.names import LIMIT
from harness.questions import Question, Row


def fixed(rate: int) -> Row:
    title = f"{rate:,} messages/s of 100 B on 50 connections"
    return Row(f"latency-{rate}", title, "fixed", rate=rate, among="series", against=LIMIT)


ROWS = (fixed(10_000), fixed(20_000))
QUESTION = Question(name="latency", about="latency percentiles at fixed rates", rows=ROWS, quick=ROWS[1:])
