"""pipelining: what does a message cost when many are on their way? 100 bytes, 50 connections, 1 to 64 in flight on each.

The kernel hands several messages to one read; whoever answers them in one write pays for one.
"""

from __future__ import annotations

from bench_echo import ECHO_50
from harness.questions import Question, Row


def deep(count: int) -> Row:
    title = f"echo, 100 B, 50 connections, {count} in flight on each"
    return Row(f"depth-{count}", title, depth=count, among="series")


ROWS = (ECHO_50, deep(4), deep(16), deep(64))
QUESTION = Question(
    name="pipelining",
    about="100-byte echo with 1 to 64 messages in flight on each connection",
    rows=ROWS,
    quick=(ROWS[2],),
    series="depth",
)
