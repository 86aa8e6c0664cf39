"""fanout: what does one delivery cost when a message goes to everybody? One connection sends 200 bytes, 100 others get them; then the same with one more that never reads.

Each server may hold 64 KiB for one that does not read, and leaves out what would pass that; 8 MiB are published before anything is measured, so that it does. The next message is sent when all that read have the last one, so nothing is left out for them.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.names import OURS
from harness.questions import Goal, Medians, Question, Row

ALL_READ, ONE_STALLED = (
    Row(key, f"fan-out, 200 B to 100 connections{words}", "fanout", 100, 200, stalled=stalled, unit="delivery")
    for key, words, stalled in (("fanout", "", 0), ("fanout-stalled", ", one more stalled", 1))
)


def times(figure: str) -> Callable[[Medians], float | None]:
    def value(medians: Medians) -> float | None:
        stalled, free = (medians.get(row.key, {}).get(OURS, {}).get(figure) for row in (ONE_STALLED, ALL_READ))
        return stalled / free if stalled and free else None

    return value


QUESTION = Question(
    name="fanout",
    about="one message to 100 connections, without and with one that never reads",
    rows=(ALL_READ, ONE_STALLED),
    quick=(ONE_STALLED,),
    goals=(Goal("fan-out: server CPU a delivery with a stalled reader, times without", times("cpu_us"), 1.1),),
)
