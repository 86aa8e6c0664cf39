"""tls_echo: what does a message cost over TLS? 100 bytes, 1 KiB and 64 KiB there and back on 50 connections, one in flight on each; and 100 bytes that are answered with fifty writes of 20 bytes.

All ratios are to pybuntcp; the report says which OpenSSL each has, what was negotiated, and what each picks by itself.
"""

from __future__ import annotations

from harness.goals import times, times_the_best
from harness.names import OURS
from harness.questions import Goal, Question, Row


def echo(key: str, size: int, words: str) -> Row:
    return Row(key, f"TLS echo, {words}, 50 connections", size=size, tls="1.3", against=OURS)


SMALL, MIDDLE, LARGE = (
    echo("tls-100", 100, "100 B"),
    echo("tls-1k", 1024, "1 KiB"),
    echo("tls-64k", 65536, "64 KiB"),
)
FIFTY = Row(
    "tls-fifty", "TLS, 100 B answered with 50 writes of 20 B, 50 connections", tls="1.3", pieces=True, against=OURS
)
ROWS = (SMALL, MIDDLE, LARGE, FIFTY)

PYTHON_PEERS = ("uvloop", "asyncio", "aiofastnet", "aiofastnet-uvloop")
QUESTION = Question(
    name="tls_echo",
    about="echo over TLS: 100 B, 1 KiB, 64 KiB, and fifty small writes a message; 50 connections",
    rows=ROWS,
    quick=(SMALL, FIFTY),
    goals=(
        Goal("TLS, 100 B: server CPU, times aiofastnet-uvloop", times(SMALL, OURS, "aiofastnet-uvloop"), 1 / 1.25),
        Goal("TLS, 1 KiB: server CPU, times aiofastnet-uvloop", times(MIDDLE, OURS, "aiofastnet-uvloop"), 1 / 1.25),
        Goal("TLS, 64 KiB: server CPU, times aiofastnet-uvloop", times(LARGE, OURS, "aiofastnet-uvloop"), 1 / 1.1),
        Goal("TLS, 100 B: server CPU, times bun", times(SMALL, OURS, "bun"), 1.0),
        Goal("TLS, 1 KiB: server CPU, times bun", times(MIDDLE, OURS, "bun"), 1.0),
        Goal(
            "TLS, fifty writes: server CPU, times the best Python peer",
            times_the_best(FIFTY, OURS, PYTHON_PEERS, best_by="ratio"),
            1 / 5,
        ),
    ),
)
