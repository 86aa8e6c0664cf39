"""The peers `aiofastnet` and `aiofastnet-uvloop`: a loop with aiofastnet's transports under protocol_echo.py. It owns the choice of the loop and nothing else."""

from __future__ import annotations

import asyncio

import aiofastnet
from protocol_echo import make_parser, serve_with


def main() -> None:
    """The standard loop, or with `--uvloop` uvloop's, patched."""
    parser = make_parser("Echo on aiofastnet's transports.", tls=True)
    parser.add_argument("--uvloop", action="store_true", help="on uvloop's loop instead of the standard one")
    arguments = parser.parse_args()
    new_loop = asyncio.new_event_loop
    if arguments.uvloop:
        import uvloop

        new_loop = uvloop.new_event_loop
    serve_with(aiofastnet.loop_factory(new_loop), arguments)


if __name__ == "__main__":
    main()
