"""echo: what does one small message cost? 100 bytes there and back on 50 connections, one in flight on each."""

from __future__ import annotations

from harness.goals import figure_of
from harness.names import LIMIT, OURS, SLOTS
from harness.questions import Goal, Question, Row

ECHO_50 = Row("echo-50", "echo, 100 B, 50 connections")

QUESTION = Question(
    name="echo",
    about="100-byte messages, 50 connections, one message in flight on each",
    rows=(ECHO_50,),
    quick=(ECHO_50,),
    goals=(
        Goal(f"echo: server CPU a message, times {LIMIT}", figure_of(ECHO_50, OURS, "ratio"), 1.05),
        Goal("echo: user CPU a message, us", figure_of(ECHO_50, OURS, "user_us"), 0.45),
        Goal(f"echo in slots: server CPU a message, times {LIMIT}", figure_of(ECHO_50, SLOTS, "ratio"), 1.02),
        Goal("echo in slots: user CPU a message, us", figure_of(ECHO_50, SLOTS, "user_us"), 0.25),
    ),
)
