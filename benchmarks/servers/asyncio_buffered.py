"""The peers `pybuntcp-buffered` and `<loop>-buffered`: asyncio.BufferedProtocol, which reads into memory of its own, on a loop of choice. It owns the choice and nothing else."""

from __future__ import annotations

import functools

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import BUFFERED, make_parser, serve, serve_with

if __name__ == "__main__":
    parser = make_parser("Echo with asyncio.BufferedProtocol.", modes=tuple(BUFFERED), tls=True)
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    arguments = parser.parse_args()
    serve_with(factory_of(arguments.loop), arguments, functools.partial(serve, protocols=BUFFERED))
