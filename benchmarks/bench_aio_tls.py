"""aio_tls: what do asyncio's transports cost over TLS? The same Protocols on all event loops, and in loops that stay with our transports in place of theirs: 100 B, 1 KiB and 64 KiB there and back,
fifty small writes a message, memory while idle, latency of open connections while strangers shake hands, and uvicorn asked by wrk over HTTPS.

The rows are those of tls_echo, tls_idle, tls_flood and aio_programs, asked of other peers. Beside them a handler of ours: what a Protocol costs more. Ratios are to uvloop.
"""

from __future__ import annotations

import dataclasses

import bench_aio_programs
import bench_tls_echo
import bench_tls_flood
import bench_tls_idle
from harness.goals import Value, figure_of, times, times_the_best
from harness.names import AIO_HTTPS, PROGRAMS, PROTOCOL, of_others, ours_beside
from harness.questions import Goal, Question, Row

OURS, OTHERS = PROTOCOL["native"], of_others(PROTOCOL)
UVICORN = PROGRAMS["uvicorn"]
IDLE_AT_MOST = 18 * 1024


def protocol(row: Row, title: str, among: str = "aio-tls") -> Row:
    """That row, of Protocols."""
    beside = ours_beside(PROTOCOL)
    return dataclasses.replace(row, key=f"aio-{row.key}", title=title, among=among, against="uvloop", beside=beside)


SMALL, MIDDLE, LARGE = (
    protocol(row, f"Protocol echo over TLS, {words}, 50 connections")
    for row, words in (
        (bench_tls_echo.SMALL, "100 B"),
        (bench_tls_echo.MIDDLE, "1 KiB"),
        (bench_tls_echo.LARGE, "64 KiB"),
    )
)
FIFTY = protocol(
    bench_tls_echo.FIFTY, "Protocol over TLS, 100 B answered with 50 writes of 20 B, 50 connections", "aio-tls-fifty"
)
IDLE = protocol(bench_tls_idle.LARGE, "memory of an idle Protocol connection over TLS, after one message of 64 KiB")
FLOOD = protocol(
    bench_tls_flood.FLOOD, "Protocol over TLS, 2,000 messages/s on 50 connections, 200 clients shaking hands"
)
HTTPS = dataclasses.replace(
    bench_aio_programs.UVICORN,
    key=AIO_HTTPS,
    title="uvicorn (httptools) over TLS, GET / by wrk, 50 connections",
    among=AIO_HTTPS,
    tls="1.3",
)
ROWS = (SMALL, MIDDLE, FIFTY, LARGE, IDLE, FLOOD, HTTPS)


def best(row: Row, figure: str = "cpu_us", best_by: str = "") -> Value:
    return times_the_best(row, OURS, OTHERS, figure, best_by)


QUESTION = Question(
    name="aio_tls",
    about="asyncio's transports over TLS on all event loops, and in loops that stay: echo, fifty writes, memory, latency under a flood of handshakes, HTTPS",
    rows=ROWS,
    quick=(SMALL, FIFTY),
    goals=(
        Goal(f"{SMALL.title}: CPU, times the best", best(SMALL), 1.0),
        Goal(f"{SMALL.title}: user CPU, times that of the best", best(SMALL, "user_us", "cpu_us"), 0.85),
        Goal(f"{MIDDLE.title}: CPU, times the best", best(MIDDLE), 1.0),
        Goal(f"{MIDDLE.title}: user CPU, times that of the best", best(MIDDLE, "user_us", "cpu_us"), 0.85),
        Goal(f"{FIFTY.title}: CPU, times the best", best(FIFTY), 0.1),
        Goal(f"{LARGE.title}: CPU, times the best", best(LARGE), 1.0),
        Goal(
            "an idle Protocol connection over TLS, after 64 KiB: bytes",
            figure_of(IDLE, OURS, "private_bytes"),
            IDLE_AT_MOST,
        ),
        Goal("flood of handshakes: p99 of open Protocol connections, times the best", best(FLOOD, "p99_us"), 0.5),
        Goal(f"{HTTPS.title}: CPU, times uvloop", times(HTTPS, UVICORN["native"], UVICORN["uvloop"]), 0.92),
    ),
)
