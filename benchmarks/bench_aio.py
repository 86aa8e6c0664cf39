"""aio: what do asyncio's transports cost, ours and other people's? The same Protocols on six event loops: 100 bytes on 1, 50 and 10,000 connections, five writes a message, 16 KiB to 4 MiB,
a BufferedProtocol, streams, connections that live for one message, and memory while idle.

Beside them a handler of ours, alone and inside our event loop: what a Protocol costs more. Ratios are to uvloop.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.names import BUFFERED, EMBEDDED, PROTOCOL, STREAMS, ours_beside
from harness.questions import Goal, Medians, Question, Row

KIB = 1 << 10
USER_OBJECT = 48  # bytes of a Protocol of protocol_echo.py: two words, one slot, the collector's header
OURS_BESIDE = ((PROTOCOL["native"], EMBEDDED["native"]), *ours_beside(PROTOCOL))


def protocol(key: str, title: str, among: str = "aio", **more: object) -> Row:
    return Row(key, title, among=among, against="uvloop", beside=OURS_BESIDE, **more)  # type: ignore[arg-type]


def size(kib: int) -> Row:
    words = f"{kib} KiB" if kib < KIB else f"{kib // KIB} MiB"
    return protocol(f"aio-{kib}k", f"Protocol echo of {words}, 8 connections", connections=8, size=kib * KIB)


ONE, FIFTY, MANY = (
    protocol(f"aio-{count}", f"Protocol echo, 100 B, {count:,} connection{'s' * (count > 1)}", connections=count)
    for count in (1, 50, 10_000)
)
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


def times(row: Row, peer: str, other: str, figure: str = "cpu_us") -> Callable[[Medians], float | None]:
    """The figure of one beside that of another: the median of the ratios inside the rounds, if it is known."""

    def value(medians: Medians) -> float | None:
        ours, theirs = (medians.get(row.key, {}).get(name, {}) for name in (peer, other))
        if figure == "cpu_us" and other == row.against and "ratio" in ours:
            return ours["ratio"]
        return ours[figure] / theirs[figure] if ours.get(figure) and theirs.get(figure) else None

    return value


def against_the_best(row: Row) -> Callable[[Medians], float | None]:
    def value(medians: Medians) -> float | None:
        measured = {
            peer: figures["cpu_us"]
            for peer, figures in medians.get(row.key, {}).items()
            if peer in PROTOCOL.values() and "cpu_us" in figures
        }
        ours = measured.pop(PROTOCOL["native"], None)
        return ours / min(measured.values()) if ours and measured else None

    return value


def idle_bytes(medians: Medians) -> float | None:
    found = medians.get(IDLE.key, {}).get(PROTOCOL["native"], {}).get("private_bytes")
    return None if found is None else found - USER_OBJECT


def goal(row: Row, peers: dict[str, str], at_most: float) -> Goal:
    return Goal(f"{row.title}: CPU, times {peers['uvloop']}", times(row, peers["native"], peers["uvloop"]), at_most)


QUESTION = Question(
    name="aio",
    about="asyncio's transports on six event loops: Protocols, BufferedProtocols, streams, short lives, memory",
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
        *(Goal(f"{row.title}: CPU, times the best", against_the_best(row), 1.0) for row in SIZES),
        goal(CHURN, PROTOCOL, 1.0),
        Goal("an idle Protocol connection: bytes beside the user's object", idle_bytes, 700.0),
    ),
)
