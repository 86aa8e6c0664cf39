"""idle: what does a connection cost while nothing happens? Memory of the server's process for each of 5,000 open connections: just accepted, and after one echo.

The slope between 500 and 5,500 connections, so that the server's own size and first-time costs do not count. The kernel's part (socket buffers) is the same for everybody.
"""

from __future__ import annotations

from harness.goals import figure_of
from harness.names import OURS, SLOTS
from harness.questions import Goal, Question, Row

ACCEPTED = Row("idle", "memory of an idle connection, just accepted", mode="idle", base=500, connections=5000)
TOUCHED = Row(
    "idle-used", "memory of an idle connection, after one echo", mode="idle", base=500, connections=5000, touch=True
)


QUESTION = Question(
    name="idle",
    about="memory of the process for each idle connection",
    rows=(ACCEPTED, TOUCHED),
    quick=(TOUCHED,),
    goals=(
        Goal("idle: bytes a connection, after one echo", figure_of(TOUCHED, OURS, "private_bytes"), 360.0),
        Goal(
            "idle: bytes a connection served by slots, after one echo",
            figure_of(TOUCHED, SLOTS, "private_bytes"),
            290.0,
        ),
    ),
)
