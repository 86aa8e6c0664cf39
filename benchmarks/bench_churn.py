"""churn: what does a short life cost? Connect, one 100-byte echo, end, wait for the server's end; 50 at a time."""

from __future__ import annotations

from harness.names import OURS
from harness.questions import Goal, Medians, Question, Row

CHURN = Row("churn", "connect + echo + close, 50 at a time", mode="churn", among="churn")


def against_uvloop(medians: Medians) -> float | None:
    row = medians.get("churn", {})
    if OURS not in row or "uvloop" not in row:
        return None
    return row[OURS]["cpu_us"] / row["uvloop"]["cpu_us"]


QUESTION = Question(
    name="churn",
    about="connect, one echo, close",
    rows=(CHURN,),
    quick=(CHURN,),
    goals=(Goal("churn: server CPU a connection, times uvloop", against_uvloop, 1.0),),
)
