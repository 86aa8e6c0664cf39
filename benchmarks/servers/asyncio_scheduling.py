"""The peers `<loop>-scheduling`: what an event loop does without any socket, on a loop of choice. The program itself is what is measured.

Promises: the conversation of load/load.c: one line of JSON when it is warm, one when it has worked for `--seconds`; what it counts has happened.
`sleeps`: `asyncio.sleep(0)` in one task. `calls`: a callback that calls `call_soon` with itself. `timers`: `call_later`, and each cancelled before it is due.
`tasks`: a task that does nothing, made and awaited, one after the other. `gather`: 50,000 of them at a time.
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

BATCH = 1000  # between two looks at the clock
TOGETHER = 50_000
TIMEOUT = 60.0  # seconds; no timer is due while this runs
Work = Callable[[], Awaitable[int]]  # how often it was done


async def nothing() -> None:
    """What a task runs."""


async def sleeps() -> int:
    for _ in range(BATCH):
        await asyncio.sleep(0)
    return BATCH


async def calls() -> int:
    """A chain: each callback is called in a turn of its own."""
    call_soon, ended = asyncio.get_running_loop().call_soon, asyncio.get_running_loop().create_future()
    called = 0

    def call() -> None:
        nonlocal called
        called += 1
        if called < BATCH:
            call_soon(call)
        else:
            ended.set_result(called)

    call_soon(call)
    return await ended


def late() -> None:
    raise AssertionError("a timer that was cancelled is due")


async def timers() -> int:
    """As timeouts are: all of the same length, some of them open at a time, none of them ever due."""
    call_later = asyncio.get_running_loop().call_later
    handles = [call_later(TIMEOUT, late) for _ in range(BATCH)]
    for handle in handles:
        handle.cancel()
    await asyncio.sleep(0)
    return len(handles)


async def tasks() -> int:
    create_task = asyncio.get_running_loop().create_task
    for _ in range(BATCH):
        await create_task(nothing())
    return BATCH


async def gather() -> int:
    return len(await asyncio.gather(*(nothing() for _ in range(TOGETHER))))


WORKS: dict[str, Work] = {"sleeps": sleeps, "calls": calls, "timers": timers, "tasks": tasks, "gather": gather}


async def work_for(seconds: float, work: Work) -> tuple[int, float]:
    """How often, and how long it took in the end."""
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        count += await work()
    return count, took


async def run(arguments: argparse.Namespace) -> None:
    """Warm up, say so, wait for the word, work, tell."""
    work = WORKS[arguments.mode]
    await work_for(arguments.warmup, work)
    print(json.dumps({"event": "ready"}), flush=True)
    if not sys.stdin.readline():
        return
    count, seconds = await work_for(arguments.seconds, work)
    figures = {"messages": count, "seconds": seconds, "rate": count / seconds}
    print(json.dumps({"event": "done", **figures}), flush=True)
    sys.stdin.readline()


def main() -> None:
    """On the loop that is asked for."""
    parser = make_parser("An asyncio event loop without sockets.", modes=tuple(WORKS))
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    parser.add_argument("--warmup", type=float, default=0.2)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    serve_with(factory_of(arguments.loop), arguments, run)


if __name__ == "__main__":
    main()
