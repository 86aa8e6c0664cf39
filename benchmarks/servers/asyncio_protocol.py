"""The peers `pybuntcp-protocol` and `<loop>`: asyncio.Protocol on a loop of choice, under protocol_echo.py. It owns the choice and nothing else."""

from __future__ import annotations

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import make_parser, serve_with

if __name__ == "__main__":
    parser = make_parser("Echo with asyncio.Protocol.", tls=True)
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    arguments = parser.parse_args()
    serve_with(factory_of(arguments.loop), arguments)
