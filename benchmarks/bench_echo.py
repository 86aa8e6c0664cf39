"""echo: what does one small message cost? 100 bytes there and back on 50 connections, one in flight on each."""

from __future__ import annotations

from harness.peers import LIMIT, OURS
from harness.rows import Goal, Medians, Question, Row

ECHO_50 = Row("echo-50", "echo, 100 B, 50 connections")


def over_limit(medians: Medians) -> float | None:
    return medians.get("echo-50", {}).get(OURS, {}).get("ratio")


def user_time(medians: Medians) -> float | None:
    return medians.get("echo-50", {}).get(OURS, {}).get("user_us")


QUESTION = Question(
    name="echo",
    about="100-byte messages, 50 connections, one message in flight on each",
    rows=(ECHO_50,),
    quick=(ECHO_50,),
    goals=(
        Goal(f"echo: server CPU a message, times {LIMIT}", over_limit, 1.08),
        Goal("echo: user CPU a message, us", user_time, 0.45),
    ),
)
