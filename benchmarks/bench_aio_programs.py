"""aio_programs: what do other people's asyncio programs cost on our event loop? uvicorn and aiohttp asked by wrk, redis-py and asyncpg as clients, on all event loops.

Of the clients the client's CPU is measured: of a redis-server or a PostgreSQL on the load's core it is asked nothing. Ratios are to uvloop.
"""

from __future__ import annotations

from harness.goals import figure_of
from harness.names import PROGRAMS, ours_beside
from harness.questions import Goal, Question, Row

MOST = {"uvicorn": 0.93, "aiohttp": 0.97, "redis-py": 0.97, "asyncpg": 0.97}  # times uvloop


def program(name: str, title: str, **more: object) -> Row:
    peers = PROGRAMS[name]
    among, beside = f"aio-{name}", ours_beside(peers)
    return Row(f"aio-{name}", title, among=among, against=peers["uvloop"], beside=beside, **more)  # type: ignore[arg-type]


UVICORN = program("uvicorn", "uvicorn (httptools), GET / by wrk, 50 connections", mode="http", unit="request")
ROWS = (
    UVICORN,
    program("aiohttp", "aiohttp's server, GET / by wrk, 50 connections", mode="http", unit="request"),
    program(
        "redis-py",
        "redis-py, GETs in pipelines of 16, 10 connections",
        mode="client",
        connections=10,
        unit="request",
        behind="resp",
    ),
    program(
        "asyncpg", "asyncpg, select 1, 10 connections", mode="client", connections=10, unit="query", behind="postgres"
    ),
)


def goal(row: Row) -> Goal:
    name = row.key.removeprefix("aio-")
    return Goal(f"{row.title}: CPU, times uvloop", figure_of(row, PROGRAMS[name]["native"], "ratio"), MOST[name])


QUESTION = Question(
    name="aio_programs",
    about="uvicorn, aiohttp, redis-py and asyncpg on all event loops",
    rows=ROWS,
    quick=ROWS[:1],
    goals=tuple(goal(row) for row in ROWS),
)
