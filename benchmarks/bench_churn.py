"""churn: what does a short life cost? Connect, one 100-byte echo, end, wait for the server's end; 50 at a time."""

from __future__ import annotations

from harness.goals import times
from harness.names import OURS
from harness.questions import Goal, Question, Row

CHURN = Row("churn", "connect + echo + close, 50 at a time", mode="churn", among="churn")

QUESTION = Question(
    name="churn",
    about="connect, one echo, close",
    rows=(CHURN,),
    quick=(CHURN,),
    goals=(Goal("churn: server CPU a connection, times uvloop", times(CHURN, OURS, "uvloop"), 1.0),),
)
