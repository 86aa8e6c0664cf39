"""A TCP proxy: what a client sends goes to one upstream server, and what that answers goes back.

    python examples/proxy.py --port 8080 --to example.org:80

Two calls of `pipe` do the work, in the core: no handler is called for a byte. Promises, in both directions: bytes in order
and unchanged; backpressure (a side that does not take what it is sent makes the proxy stop reading the other, so that a
connection holds no more than one `high_water_mark` for each direction); half-close (a side may end and still receive); a
reset on one side is a reset on the other.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import pybuntcp

SILENCE = 300.0  # seconds for which a side that was told of the other's end may say nothing, before it is reset


class Proxy:
    """The handlers of the clients' connections. Nothing is read from one before the upstream server is there."""

    def __init__(self, hostname: str, port: int) -> None:
        self.hostname = hostname
        self.port = port

    async def open(self, client: pybuntcp.Socket[Any]) -> None:
        try:
            upstream = await pybuntcp.connect(
                hostname=self.hostname, port=self.port, timeout=10, linger_timeout=SILENCE
            )
        except OSError as error:
            print(f"no connection to the upstream server: {error}", flush=True)
            client.terminate()
            return
        client.pipe(upstream)
        upstream.pipe(client)


def address(text: str) -> tuple[str, int]:
    """`host:port`; an IPv6 address is in brackets."""
    hostname, _, port = text.rpartition(":")
    if not hostname:
        raise ValueError(text)
    return hostname, int(port)


async def serve(options: argparse.Namespace) -> None:
    """Listen, say where, serve until Ctrl-C."""
    with pybuntcp.listen(
        socket=Proxy(*options.to), hostname=options.host, port=options.port, linger_timeout=SILENCE
    ) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description="A TCP proxy in front of one server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose")
    parser.add_argument("--to", type=address, required=True, metavar="HOST:PORT", help="the upstream server")
    pybuntcp.run(serve(parser.parse_args()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
