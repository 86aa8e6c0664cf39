"""A TCP proxy: what a client sends goes to one upstream server, and what that answers goes back.

    python examples/proxy.py --port 8080 --to example.org:80

Promises, in both directions: bytes in order and unchanged; backpressure (a side that does not take
what it is sent makes the proxy stop reading the other, so a connection never holds more than one
chunk and one `high_water_mark`); half-close (a side may end and still receive); a reset on one side
is a reset on the other.
"""

from __future__ import annotations

import argparse
from typing import Any

import pybuntcp


class Side:
    """One of the two connections of a pair; its `socket.data`."""

    def __init__(self, other: pybuntcp.Socket[Side]) -> None:
        self.other = other  # the socket that gets what is read here
        self.unsent = memoryview(b"")  # read at the other side, not yet taken by this one


class Relay:
    """What both sides do with bytes, ends and resets."""

    binary_type = "memoryview"  # chunks are only passed on: no need to copy them

    def data(self, socket: pybuntcp.Socket[Side], chunk: memoryview) -> None:
        pass_on(socket, socket.data.other, chunk)

    def drain(self, socket: pybuntcp.Socket[Side]) -> None:
        """This side takes bytes again: send it the rest, and read on at the other side."""
        side = socket.data
        rest, side.unsent = side.unsent, memoryview(b"")
        side.other.resume()
        pass_on(side.other, socket, rest)

    def end(self, socket: pybuntcp.Socket[Side]) -> None:
        """This side has ended: pass that on to the other, which may go on sending for as long as it likes."""
        socket.data.other.shutdown()

    def close(self, socket: pybuntcp.Socket[Side], error: BaseException | None) -> None:
        """An orderly close follows an end each way, which were passed on. A reset is passed on here."""
        if error is not None:
            socket.data.other.terminate()


class Upstream(Relay):
    """The connection that the proxy made; `socket.data` is the client until it opens."""

    def open(self, socket: pybuntcp.Socket[Any]) -> None:
        client = socket.data
        socket.data, client.data = Side(client), Side(socket)
        client.resume()

    def connect_error(self, socket: pybuntcp.Socket[Any], error: OSError) -> None:
        print(f"no connection to the upstream server: {error}", flush=True)
        socket.data.terminate()


class Downstream(Relay):
    """The client's connection. It opens paused: nothing is read before the upstream server is there."""

    def __init__(self, hostname: str, port: int) -> None:
        self.hostname = hostname
        self.port = port
        self.upstream = pybuntcp.Handlers(Upstream())

    def open(self, socket: pybuntcp.Socket[Side]) -> None:
        pybuntcp.connect(
            socket=self.upstream,
            hostname=self.hostname,
            port=self.port,
            data=socket,
            timeout=10,
            allow_half_open=True,
        )


def pass_on(source: pybuntcp.Socket[Side], target: pybuntcp.Socket[Side], chunk: memoryview) -> None:
    """Write to `target`; what it does not take waits for its drain, and `source` with it."""
    taken = target.write(chunk)
    if 0 <= taken < len(chunk):  # -1: target is gone, and its close resets source
        target.data.unsent = chunk[taken:]
        source.pause()


def address(text: str) -> tuple[str, int]:
    """`host:port`; an IPv6 address is in brackets."""
    hostname, _, port = text.rpartition(":")
    if not hostname:
        raise ValueError(text)
    return hostname, int(port)


def main() -> None:
    """Listen, say where, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A TCP proxy in front of one server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose")
    parser.add_argument("--to", type=address, required=True, metavar="HOST:PORT", help="the upstream server")
    options = parser.parse_args()
    with pybuntcp.listen(
        socket=Downstream(*options.to),
        hostname=options.host,
        port=options.port,
        allow_half_open=True,
        pause_on_connect=True,
    ) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
