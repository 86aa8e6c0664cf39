"""tls_flood: do open connections suffer when strangers shake hands? 50 connections with 2,000 messages of 100 bytes a second between them, alone, and while 200 clients do nothing but full handshakes.

Messages are due at a fixed rate whatever has come back, and latency counts from then: a server that stands still is charged for all it delays (no coordinated omission). The flood
runs only when the messages leave the load's core alone (SCHED_IDLE), so that it is the server that keeps them waiting. How many handshakes it got done is in the table: who refuses work is quick.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.names import OURS
from harness.questions import Goal, Medians, Question, Row

CALM = Row("tls-calm", "TLS, 2,000 messages/s on 50 connections", "fixed", tls="1.3", rate=2000, against=OURS)
FLOOD = Row(
    "tls-flood",
    "TLS, 2,000 messages/s on 50 connections, 200 clients shaking hands",
    "fixed",
    tls="1.3",
    rate=2000,
    flood=200,
    against=OURS,
)


def times_calm(peer: str, figure: str) -> Callable[[Medians], float | None]:
    def value(medians: Medians) -> float | None:
        flood, calm = (medians.get(row.key, {}).get(peer, {}).get(figure) for row in (FLOOD, CALM))
        return flood / calm if flood and calm else None

    return value


QUESTION = Question(
    name="tls_flood",
    about="latency of open TLS connections at a fixed rate, without and with a flood of handshakes",
    rows=(CALM, FLOOD),
    quick=(FLOOD,),
    goals=(Goal("flood of handshakes: p99 of open connections, times without", times_calm(OURS, "p99_us"), 2.0),),
)
