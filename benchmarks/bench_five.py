"""five: what do many small writes cost? Five 20-byte writes for each 100-byte message, one message in flight on each connection, then fifty.

With one in flight the reading dominates; with fifty a server that makes one system call a write shows it.
"""

from __future__ import annotations

from harness.goals import figure_of, times
from harness.names import OURS, SINK
from harness.questions import Goal, Question, Row

SINGLE = Row("five-1", "five 20-byte writes a message, 50 connections, 1 in flight", mode="five")
PIPELINED = Row("five-50", "five 20-byte writes a message, 50 connections, 50 in flight", mode="five", depth=50)

QUESTION = Question(
    name="five",
    about="five 20-byte writes for each 100-byte message",
    rows=(SINGLE, PIPELINED),
    quick=(PIPELINED,),
    goals=(
        Goal("five: server CPU a message, times uvloop, 50 in flight", times(PIPELINED, OURS, "uvloop"), 1 / 3),
        Goal("five: server CPU a message, sink against Bun's sink, 1 in flight", times(SINGLE, SINK, "bun-sink"), 1.0),
        Goal("five: server CPU a message with the sink, us, 50 in flight", figure_of(PIPELINED, SINK, "cpu_us"), 1.0),
    ),
)
