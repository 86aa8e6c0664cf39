"""`stats()["longest_turn"]`: the seconds in which a loop served nothing else. Each test has a loop that nothing has run in before."""

from __future__ import annotations

import asyncio

from support import LATE, spin
from support.asyncio_loops import on_every_loop
from support.threads import in_thread

import pybuntcp
from pybuntcp import call_later, call_soon

BUSY, WAIT = 0.05, 0.3
CLOCK = 0.002  # the loop's clock counts milliseconds


def is_busy_time(seconds: float) -> bool:
    return BUSY - CLOCK <= seconds < BUSY + LATE


def test_the_longest_turn_is_that_of_a_callback_that_was_busy_and_not_of_a_wait():
    def program():
        call_later(WAIT, int)
        before = pybuntcp.stats()["longest_turn"]
        pybuntcp.run()
        waited = pybuntcp.stats()["longest_turn"]
        call_soon(spin, BUSY)
        pybuntcp.run()
        return before, waited, pybuntcp.stats()["longest_turn"]

    before, waited, busy = in_thread(program)
    assert before == 0
    assert waited < WAIT - CLOCK
    assert is_busy_time(busy)


@on_every_loop
async def test_inside_asyncio_the_longest_turn_is_that_of_our_callbacks():
    done = asyncio.Event()
    call_soon(spin, BUSY)
    call_later(2 * BUSY, done.set)
    await done.wait()
    assert is_busy_time(pybuntcp.stats()["longest_turn"])
