"""A program that does not use asyncio's transports does not load them."""

from __future__ import annotations

import pytest
from support.programs import run_program

WING = "[name for name in ('pybuntcp.aio', 'pybuntcp._aio') if name in sys.modules]"


@pytest.mark.parametrize(
    "program",
    [
        "",
        "listener = pybuntcp.listen(hostname='127.0.0.1', port=0, socket={'data': len}); listener.stop(); pybuntcp.run()",
        "import asyncio; loop = asyncio.new_event_loop(); loop.run_until_complete(asyncio.sleep(0)); loop.close()",
    ],
    ids=["imported", "a listener", "a loop of asyncio's"],
)
def test_a_program_without_an_event_loop_of_ours_does_not_load_the_transports(program):
    assert run_program(f"import sys\n{program}\nsay({WING})") == [[]]


@pytest.mark.parametrize("program", ["pybuntcp.new_event_loop().close()", "pybuntcp.run(asyncio.sleep(0))"])
def test_an_event_loop_of_ours_loads_them(program):
    assert run_program(f"import asyncio, sys\n{program}\nsay({WING})") == [["pybuntcp.aio", "pybuntcp._aio"]]
