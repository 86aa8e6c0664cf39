"""echo: what does one small message cost? 100 bytes there and back on 50 connections, one in flight on each."""

from __future__ import annotations

from collections.abc import Callable

from harness.names import LIMIT, OURS, SLOTS
from harness.questions import Goal, Medians, Question, Row

ECHO_50 = Row("echo-50", "echo, 100 B, 50 connections")


def figure(peer: str, name: str) -> Callable[[Medians], float | None]:
    return lambda medians: medians.get("echo-50", {}).get(peer, {}).get(name)


QUESTION = Question(
    name="echo",
    about="100-byte messages, 50 connections, one message in flight on each",
    rows=(ECHO_50,),
    quick=(ECHO_50,),
    goals=(
        Goal(f"echo: server CPU a message, times {LIMIT}", figure(OURS, "ratio"), 1.05),
        Goal("echo: user CPU a message, us", figure(OURS, "user_us"), 0.45),
        Goal(f"echo in slots: server CPU a message, times {LIMIT}", figure(SLOTS, "ratio"), 1.02),
        Goal("echo in slots: user CPU a message, us", figure(SLOTS, "user_us"), 0.25),
    ),
)
