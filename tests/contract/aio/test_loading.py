"""A program that does not use asyncio's transports does not load them; the first connection with TLS loads the engine."""

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


FIRST_WITH_TLS = """
import asyncio, ssl, sys

async def answer(reader, writer):
    await reader.read(65536)
    writer.write(b"this is no TLS")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    say("pybuntcp._tls" in sys.modules)
    try:
        await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    except ssl.SSLError as error:
        say(error.reason)
    say("pybuntcp._tls" in sys.modules)
    server.close()

pybuntcp.run(main())
"""


def test_the_first_connection_with_tls_of_a_process_loads_the_engine():
    assert run_program(FIRST_WITH_TLS) == [False, "WRONG_VERSION_NUMBER", True]
