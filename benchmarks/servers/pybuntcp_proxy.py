"""The peers `pybuntcp-pipe` and `pybuntcp-relay`: a TCP proxy by `socket.pipe`, and, with `--handlers`, the same by Python handlers; on pybuntcp's asyncio loop.

Promises: the protocol of this folder; bytes in order, backpressure, half-close, and a reset for a reset. It does not know: what is behind it.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from protocol_echo import BACKLOG, make_parser, raise_descriptor_limit

import pybuntcp


class Relay:
    """What both sides do, in Python: `socket.data` is the other side, and what this side has not taken yet."""

    binary_type = "memoryview"

    def open(socket: pybuntcp.Socket[Any]) -> None:  # type: ignore[misc]
        client = socket.data
        socket.data, client.data = [client, b""], [socket, b""]
        client.resume()

    def data(socket: pybuntcp.Socket[Any], chunk: memoryview) -> None:  # type: ignore[misc]
        pass_on(socket, socket.data[0], chunk)

    def drain(socket: pybuntcp.Socket[Any]) -> None:  # type: ignore[misc]
        other, rest = socket.data
        socket.data[1] = b""
        other.resume()
        pass_on(other, socket, rest)

    def end(socket: pybuntcp.Socket[Any]) -> None:  # type: ignore[misc]
        socket.data[0].shutdown()

    def close(socket: pybuntcp.Socket[Any], error: OSError | None) -> None:  # type: ignore[misc]
        if error is not None:
            socket.data[0].terminate()


def pass_on(source: pybuntcp.Socket[Any], target: pybuntcp.Socket[Any], chunk: memoryview) -> None:
    """What `target` does not take waits for its drain, and `source` with it."""
    taken = target.write(chunk)
    if 0 <= taken < len(chunk):
        target.data[1] = chunk[taken:]
        source.pause()


def handlers_for(arguments: argparse.Namespace) -> dict[str, Any]:
    where = {"hostname": arguments.host, "port": arguments.upstream, "allow_half_open": True}

    async def join(client: pybuntcp.Socket[Any]) -> None:
        upstream = await pybuntcp.connect(**where)
        client.pipe(upstream)
        upstream.pipe(client)

    def reach(client: pybuntcp.Socket[Any]) -> None:
        pybuntcp.connect(socket=Relay, data=client, **where)

    if not arguments.handlers:
        return {"open": join}
    shared = ("binary_type", "data", "drain", "end", "close")
    return {"open": reach, **{name: getattr(Relay, name) for name in shared}}


async def serve(arguments: argparse.Namespace) -> None:
    """Listen, say so, serve for ever."""
    listener = pybuntcp.listen(
        socket=handlers_for(arguments),
        hostname=arguments.host,
        port=arguments.port,
        backlog=BACKLOG,
        allow_half_open=True,
        pause_on_connect=arguments.handlers,
    )
    print(f"LISTENING {listener.port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = make_parser("A TCP proxy of pybuntcp's sockets.", modes=("proxy",))
    parser.add_argument("--upstream", type=int, required=True, metavar="PORT")
    parser.add_argument("--handlers", action="store_true", help="bytes go through Python handlers")
    raise_descriptor_limit()
    pybuntcp.run(serve(parser.parse_args()))
