"""aio: what do asyncio's transports cost, ours and other people's? The same Protocols on all event loops: 100 bytes on 1, 50 and 10,000 connections, five writes a message, 16 KiB to 4 MiB,
a BufferedProtocol, streams, connections that live for one message, and memory while idle.

Beside them a handler of ours, alone and inside our event loop: what a Protocol costs more. Ratios are to uvloop. The rows that bench_aio_stays.py asks, too, are asked of loops that stay with our transports.
"""

from __future__ import annotations

from harness.goals import figure_of, times, times_the_best
from harness.names import BUFFERED, EMBEDDED, PROTOCOL, STREAMS, of_others, ours_beside
from harness.questions import Goal, Medians, Question, Row

KIB = 1 << 10
USER_OBJECT = 48  # bytes of a Protocol of protocol_echo.py: two words, one slot, the collector's header
OURS_BESIDE = ((PROTOCOL["native"], EMBEDDED["native"]), *ours_beside(PROTOCOL))


def protocol(key: str, title: str, among: str = "aio", **more: object) -> Row:
    return Row(key, title, among=among, against="uvloop", beside=OURS_BESIDE, **more)  # type: ignore[arg-type]


def echo(connections: int, among: str = "aio") -> Row:
    title = f"Protocol echo, 100 B, {connections:,} connection{'s' * (connections > 1)}"
    return protocol(f"aio-{connections}", title, among, connections=connections)


def size(kib: int) -> Row:
    words = f"{kib} KiB" if kib < KIB else f"{kib // KIB} MiB"
    return protocol(f"aio-{kib}k", f"Protocol echo of {words}, 8 connections", connections=8, size=kib * KIB)


ONE, FIFTY, MANY = echo(1), echo(50, "aio-50"), echo(10_000)
SIZES = tuple(size(kib) for kib in (16, 64, 256, KIB, 4 * KIB))
MIB = SIZES[3]
FIVE = protocol("aio-five", "Protocol, five 20-byte writes a message, 50 connections", "aio-five", mode="five")
CHURN = protocol("aio-churn", "Protocol, connect + echo + close, 50 at a time", "aio-churn", mode="churn")
IDLE = protocol(
    "aio-idle", "memory of an idle Protocol connection", "aio-idle", mode="idle", base=500, connections=5000
)
BUFFERS = Row(
    "aio-buffered",
    "BufferedProtocol echo, 100 B, 50 connections",
    among="aio-buffered",
    against=BUFFERED["uvloop"],
    beside=ours_beside(BUFFERED),
)
READS, EXACT = (
    Row(
        f"aio-{key}",
        f"streams: {words}, write, drain; 100 B, 50 connections",
        among=f"aio-{key}",
        against=STREAMS["uvloop"],
        beside=ours_beside(STREAMS),
    )
    for key, words in (("streams", "read"), ("exactly", "readexactly"))
)
ROWS = (ONE, FIFTY, MANY, FIVE, BUFFERS, READS, EXACT, *SIZES, CHURN, IDLE)


def idle_bytes(medians: Medians) -> float | None:
    found = figure_of(IDLE, PROTOCOL["native"], "private_bytes")(medians)
    return None if found is None else found - USER_OBJECT


def goal(row: Row, peers: dict[str, str], at_most: float) -> Goal:
    return Goal(f"{row.title}: CPU, times {peers['uvloop']}", times(row, peers["native"], peers["uvloop"]), at_most)


QUESTION = Question(
    name="aio",
    about="asyncio's transports on all event loops: Protocols, BufferedProtocols, streams, short lives, memory",
    rows=ROWS,
    quick=(FIFTY, FIVE, READS),
    goals=(
        goal(FIFTY, PROTOCOL, 0.95),
        Goal(f"{FIFTY.title}: user CPU, times uvloop", times(FIFTY, PROTOCOL["native"], "uvloop", "user_us"), 0.65),
        Goal(
            f"{FIFTY.title}: CPU, times a handler of ours", times(FIFTY, PROTOCOL["native"], EMBEDDED["native"]), 1.10
        ),
        goal(ONE, PROTOCOL, 1.0),
        goal(MANY, PROTOCOL, 1.0),
        goal(FIVE, PROTOCOL, 0.3),
        goal(READS, STREAMS, 0.78),
        goal(EXACT, STREAMS, 0.78),
        *(
            Goal(f"{row.title}: CPU, times the best", times_the_best(row, PROTOCOL["native"], of_others(PROTOCOL)), 1.0)
            for row in SIZES
        ),
        goal(CHURN, PROTOCOL, 1.0),
        Goal("an idle Protocol connection: bytes beside the user's object", idle_bytes, 700.0),
    ),
)
