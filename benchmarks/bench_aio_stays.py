"""aio_stays: what do our transports cost in a loop that stays? `pybuntcp.aio.install(loop)` in stock asyncio and in uvloop, each beside the transports that the loop has itself: the plain rows of bench_aio.py.

Over TLS the same peers are in bench_aio_tls.py. Ratios are to uvloop; the second is to the loop's own transports.
"""

from __future__ import annotations

import bench_aio
from harness.goals import times
from harness.names import PROTOCOL, STAYING, STREAMS
from harness.questions import Goal, Question

ROWS = ((bench_aio.FIFTY, PROTOCOL), (bench_aio.FIVE, PROTOCOL), (bench_aio.READS, STREAMS))

QUESTION = Question(
    name="aio_stays",
    about="pybuntcp's transports in uvloop and in asyncio's loop, beside their own: echo, five writes, streams",
    rows=tuple(row for row, _ in ROWS),
    quick=(),
    goals=tuple(
        Goal(f"{row.title}: CPU in {host}, times its own", times(row, peers[loop], peers[host]), 1.0)
        for row, peers in ROWS
        for loop, host in STAYING.items()
    ),
)
