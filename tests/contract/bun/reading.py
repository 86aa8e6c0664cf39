"""Pausing, and what is told at resume. The same scenarios for Bun: reading.ts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import actor, main, scenario

import pybuntcp


def resumed_later(say: Callable[[Any], None]) -> None:
    """Logs of one paused connection; a second one, started after the first has said its all, resumes it."""
    log = actor("server")
    first: list[Any] = []

    def opened(socket: Any) -> None:
        if not first:
            first.append(socket)
            socket.pause()

    def said(socket: Any, chunk: bytes) -> None:
        if socket is first[0]:
            log(f"data {chunk.decode()}")
            return
        log("resumed")
        first[0].resume()
        socket.end()
        server.stop()

    def ended(socket: Any) -> None:
        if socket is first[0]:
            log("end")

    def closed(socket: Any, error: Any) -> None:
        if socket is first[0]:
            log(f"close {error.code}" if error else "close")

    def dial(opened: Callable[[Any], None]) -> None:
        quiet = {"open": opened, "data": lambda socket, chunk: None}
        pybuntcp.connect(hostname="127.0.0.1", port=server.port, socket=quiet)

    def say_then_dial(socket: Any) -> None:
        say(socket)
        dial(lambda probe: probe.write("now"))

    table = {"open": opened, "data": said, "end": ended, "close": closed}
    server = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table)
    dial(say_then_dial)


@scenario
def paused_while_the_peer_ends(folder: str) -> None:
    def say(socket: Any) -> None:
        socket.write("bye")
        socket.shutdown()

    resumed_later(say)


@scenario
def paused_while_the_peer_resets(folder: str) -> None:
    def say(socket: Any) -> None:
        socket.write("bye")
        socket.flush()
        socket.terminate()

    resumed_later(say)


if __name__ == "__main__":
    main()
