"""The peers `pybuntcp-streams`, `<loop>-streams`: asyncio's StreamReader and StreamWriter on a loop of choice, as Python's documentation writes it.

Promises: the protocol of this folder (README.md, "A peer is a file"), for `echo`, and `exactly`, which reads record by record: prints `LISTENING <port or path>` when ready and serves until it is ended.
It waits for `drain()` after each write, so a peer that does not read cannot fill its memory.
It does not know: which loop it runs on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import BACKLOG, make_parser, serve_with

READ_SIZE = 65536
RECORD = 100  # of `exactly`


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until its end."""
    while chunk := await reader.read(READ_SIZE):
        writer.write(chunk)
        await writer.drain()
    writer.close()


async def echo_records(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same, record by record."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            writer.write(await reader.readexactly(RECORD))
            await writer.drain()
    writer.close()


SERVING = {"echo": echo, "exactly": echo_records}


async def serve(arguments: argparse.Namespace) -> None:
    """Listen, say so, serve for ever."""
    if arguments.unix is not None:
        server = await asyncio.start_unix_server(SERVING[arguments.mode], arguments.unix, backlog=BACKLOG)
        where = arguments.unix
    else:
        server = await asyncio.start_server(SERVING[arguments.mode], arguments.host, arguments.port, backlog=BACKLOG)
        where = server.sockets[0].getsockname()[1]
    print(f"LISTENING {where}", flush=True)
    await asyncio.get_running_loop().create_future()  # never set; rloop 0.5 stops accepting in serve_forever()


def main() -> None:
    """On the loop that is asked for."""
    parser = make_parser("Echo on asyncio's streams.", modes=tuple(SERVING))
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    arguments = parser.parse_args()
    serve_with(factory_of(arguments.loop), arguments, serve)


if __name__ == "__main__":
    main()
