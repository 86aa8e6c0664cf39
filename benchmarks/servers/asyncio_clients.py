"""The peers `<loop>-redis-py`, `<loop>-asyncpg`: a program that asks a database, on a loop of choice. Here the client is what is measured.

Promises: the conversation of load/load.c: one line of JSON when it is warm, one when it has asked for `--seconds`; each answer is compared.
`redis-py`: GETs in pipelines of 16. `asyncpg`: `select 1`, prepared once, one after the other. One task and one connection each of `--connections`.
It does not know: which loop it runs on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import make_parser, serve_with

PIPELINE = 16
VALUE = b"x" * 100
Ask = Callable[[], Awaitable[int]]  # how many answers came


async def redis_py(host: str, port: int) -> Ask:
    import redis.asyncio

    client = redis.asyncio.Redis(host=host, port=port)
    await client.set("key", VALUE)

    async def ask() -> int:
        async with client.pipeline(transaction=False) as pipeline:
            for _ in range(PIPELINE):
                pipeline.get("key")
            answers = await pipeline.execute()
        assert answers == [VALUE] * PIPELINE
        return PIPELINE

    return ask


async def asyncpg(host: str, port: int) -> Ask:
    import asyncpg

    connection = await asyncpg.connect(host=host, port=port, user="postgres", database="postgres", ssl=False)
    statement = await connection.prepare("select 1")

    async def ask() -> int:
        assert await statement.fetchval() == 1
        return 1

    return ask


CLIENTS = {"redis-py": redis_py, "asyncpg": asyncpg}


async def ask_for(seconds: float, ask: Ask, took: list[float]) -> int:
    """One connection: how many answers there were; how long each call took."""
    answers, now = 0, time.perf_counter()
    until = now + seconds
    while now < until:
        answers += await ask()
        began, now = now, time.perf_counter()
        took.append(now - began)
    return answers


async def run(arguments: argparse.Namespace) -> None:
    """Warm up, say so, wait for the word, ask, tell."""
    new = CLIENTS[arguments.mode]
    clients = [await new(arguments.host, arguments.upstream) for _ in range(arguments.connections)]
    await asyncio.gather(*(ask_for(arguments.warmup, ask, []) for ask in clients))
    print(json.dumps({"event": "ready"}), flush=True)
    if not sys.stdin.readline():
        return
    took: list[float] = []
    began = time.perf_counter()
    answers = sum(await asyncio.gather(*(ask_for(arguments.seconds, ask, took) for ask in clients)))
    seconds = time.perf_counter() - began
    took.sort()
    figures = {"messages": answers, "seconds": seconds, "rate": answers / seconds, "max_us": took[-1] * 1e6}
    percentiles = {f"p{name}_us": took[int(len(took) * share)] * 1e6 for name, share in (("50", 0.5), ("99", 0.99))}
    print(json.dumps({"event": "done", **figures, **percentiles}), flush=True)
    sys.stdin.readline()


def main() -> None:
    """On the loop that is asked for."""
    parser = make_parser("A database's client on asyncio.", modes=tuple(CLIENTS))
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    parser.add_argument("--upstream", type=int, required=True, metavar="PORT", help="where the database listens")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--warmup", type=float, default=0.2)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    serve_with(factory_of(arguments.loop), arguments, run)


if __name__ == "__main__":
    main()
