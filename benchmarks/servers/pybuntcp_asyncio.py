"""The peers `pybuntcp-<loop>`, `pybuntcp-<loop>-reader`, `pybuntcp-<loop>-async`: pybuntcp inside an asyncio program, on the loop of choice.

Promises: the protocol of this folder (README.md, "A peer is a file"), `five` for plain handlers only: prints `LISTENING <port or path>` when ready and serves until it is ended.
Plain handlers are those of pybuntcp_handler.py, the same functions. With `--async-handlers` the same `data` is `async def`, a task for each chunk.
With `--reader` each connection is one task that awaits its chunks, and what the socket does not take it waits for in a sink: as bounded as streams with `drain()`.
It does not know: anything private of pybuntcp, nor how it is joined to the loop.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import make_parser, serve_with
from pybuntcp_handler import handlers_for, listen_as_told

import pybuntcp

READ_SIZE = 65536


async def async_echo(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """As `echo` of pybuntcp_handler.py, in a task."""
    socket.write(chunk)


async def echo_with_reader(socket: pybuntcp.Socket) -> None:
    """One connection, until its end."""
    reader = socket.reader()
    while chunk := await reader.read(READ_SIZE):
        taken = socket.write(chunk)
        if 0 <= taken < len(chunk):
            await write_rest(socket, chunk[taken:])


async def write_rest(socket: pybuntcp.Socket, rest: bytes) -> None:
    """What `write` did not take, and wait until the kernel has it."""
    sink = socket.sink()
    sink.write(rest)
    await sink.drain()


def chosen_handlers(arguments: argparse.Namespace) -> Any:
    if arguments.reader:
        return {"open": echo_with_reader}
    if arguments.async_handlers:
        return {"data": async_echo}
    return handlers_for(arguments.mode, sink=False, slots=None)


async def serve(arguments: argparse.Namespace) -> None:
    """Listen, say so, serve for ever."""
    with listen_as_told(chosen_handlers(arguments), arguments):
        await asyncio.get_running_loop().create_future()  # never set


def main() -> None:
    """In the loop that is asked for."""
    parser = make_parser("Echo with pybuntcp inside an asyncio event loop.", tls=True)
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--reader", action="store_true", help="a task for each connection, with socket.reader()")
    forms.add_argument("--async-handlers", action="store_true", help="`async def data`, a task for each chunk")
    arguments = parser.parse_args()
    if arguments.mode != "echo" and (arguments.reader or arguments.async_handlers):
        parser.error(f"--mode {arguments.mode} is for plain handlers")
    serve_with(factory_of(arguments.loop), arguments, serve)


if __name__ == "__main__":
    main()
