"""loops: what does another event loop around ours cost? The echo of bench_echo.py on 1 and on 50 busy connections: pybuntcp alone, on its native loop, inside uvloop and inside asyncio's loop,
each beside the Protocols of that loop; then the same written with `await`, beside asyncio's streams on the same loop; and what a program costs while its connections are idle.

All ratios come from the same rounds. The first is to pybuntcp alone, the second to what the loop has of its own; `pybuntcp-protocol` tells what the native loop costs asyncio's transports.
"""

from __future__ import annotations

from harness.goals import figure_of
from harness.names import ASYNC, EMBEDDED, EVENT_LOOPS, OURS, PROTOCOL, READER, STREAMS
from harness.questions import Goal, Question, Row

BESIDE_PROTOCOLS = (
    *((EMBEDDED[loop], PROTOCOL[loop]) for loop in EVENT_LOOPS),
    (PROTOCOL["native"], PROTOCOL["asyncio"]),
)
BESIDE_STREAMS = tuple((ours[loop], STREAMS[loop]) for ours in (READER, ASYNC) for loop in EVENT_LOOPS)
MOST = {"native": 1.04, "uvloop": 1.06, "asyncio": 1.2}  # times pybuntcp alone, at 50 busy connections


def connections(count: int) -> str:
    return f"{count} connection{'s' * (count > 1)}"


def callbacks(count: int) -> Row:
    title = f"echo, 100 B, {connections(count)}, handlers inside event loops"
    return Row(f"loops-{count}", title, connections=count, among="loops", against=OURS, beside=BESIDE_PROTOCOLS)


def awaits(count: int) -> Row:
    title = f"echo, 100 B, {connections(count)}, with await"
    return Row(f"awaits-{count}", title, connections=count, among="awaits", against=OURS, beside=BESIDE_STREAMS)


LOOPS_1, LOOPS_50, AWAITS_1, AWAITS_50 = callbacks(1), callbacks(50), awaits(1), awaits(50)
IDLE = Row(
    "loops-idle", "100 idle connections, after one echo", mode="wakeups", connections=100, touch=True, among="loops"
)


QUESTION = Question(
    name="loops",
    about="the echo inside event loops, beside their Protocols and streams; CPU while idle",
    rows=(LOOPS_1, LOOPS_50, AWAITS_1, AWAITS_50, IDLE),
    quick=(),
    goals=(
        *(
            Goal(
                f"loops, {loop}: server CPU a message, times pybuntcp alone",
                figure_of(LOOPS_50, EMBEDDED[loop], "ratio"),
                most,
            )
            for loop, most in MOST.items()
        ),
        *(
            Goal(
                f"loops, {loop}, {connections(row.connections)}: server CPU a message, times {PROTOCOL[loop]}'s Protocol",
                figure_of(row, EMBEDDED[loop], "beside"),
                1.0,
            )
            for row in (LOOPS_1, LOOPS_50)
            for loop in MOST
        ),
        *(
            Goal(
                f"loops, {loop}: server CPU a message with reader(), times {STREAMS[loop]}",
                figure_of(AWAITS_50, READER[loop], "beside"),
                1 / 1.5,
            )
            for loop in MOST
        ),
        *(
            Goal(
                f"loops, {loop}, 100 idle connections: server CPU, ms",
                figure_of(IDLE, EMBEDDED[loop], "idle_cpu_ms"),
                0.0,
            )
            for loop in MOST
        ),
    ),
)
