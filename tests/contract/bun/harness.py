"""What the scenarios in this folder share: a log for each actor, handlers that write to it, one JSON object at the end.

A scenario is a function that starts something and returns; the program ends by itself when its sockets are closed, as
any Bun program does. harness.ts is this file in TypeScript: the two say the same, name by name.
Run as: python <topic>.py <scenario> <folder for unix sockets>
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pybuntcp

Log = Callable[[str], None]

BULK = 64  # chunks above this many bytes are not logged: where a stream is cut into chunks is nobody's promise
LOGS: dict[str, list[str]] = {}
UNREFERENCED: set[str] = set()  # gauges that a scenario leaves above zero on purpose
SCENARIOS: dict[str, Callable[[str], None]] = {}


def scenario(function: Callable[[str], None]) -> Callable[[str], None]:
    """Registers a scenario under its function's name."""
    SCENARIOS[function.__name__] = function
    return function


def actor(name: str) -> Log:
    """The log of one actor: what happened to it, in order."""
    return LOGS.setdefault(name, []).append


def failure(error: BaseException) -> str:
    """One line for a raised thing: its class, its code if the kernel gave it one."""
    kind = next((base.__name__ for base in (TypeError, ValueError) if isinstance(error, base)), "Error")
    code = getattr(error, "code", None)
    return f"{kind} {code}" if code else kind


def attempt(log: Log, name: str, call: Callable[[], Any]) -> None:
    """Runs `call` and logs what it gave or how it failed."""
    try:
        result = call()
    except Exception as error:
        log(f"{name} raised {failure(error)}")
    else:
        log(f"{name} gave {'nothing' if result is None else result}")


LINES: dict[str, Callable[..., str]] = {
    "open": lambda: "open",
    "data": lambda chunk: f"data {chunk.decode()}",
    "drain": lambda: "drain",
    "end": lambda: "end",
    "close": lambda error: f"close {error.code}" if error else "close",
    "error": lambda error: f"error {error}",
    "timeout": lambda: "timeout",
    "connect_error": lambda error: f"connect_error {error.code}",
}


def logging(name: str, *, without: tuple[str, ...] = (), **extra: Callable[..., Any]) -> dict[str, Any]:
    """All handlers, each of which logs itself as `name` and then calls what `extra` has for it."""
    log = actor(name)

    def handler(event: str) -> Callable[..., Any]:
        def handle(socket: Any, *arguments: Any) -> None:
            if not (event == "data" and len(arguments[0]) > BULK):
                log(LINES[event](*arguments))
            if event in extra:
                extra[event](socket, *arguments)

        return handle

    return {event: handler(event) for event in LINES if event not in without}


def once(
    *, without: tuple[str, ...] = (), options: dict[str, Any] | None = None, **extra: Callable[..., Any]
) -> pybuntcp.Listener:
    """A listener on a free loopback port that stops when its first connection has closed."""

    def close(socket: Any, error: Any) -> None:
        if "close" in extra:
            extra["close"](socket, error)
        listener.stop()

    table = logging("server", without=without, **{**extra, "close": close})
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table, **(options or {}))
    return listener


def dial(listener: pybuntcp.Listener, *, without: tuple[str, ...] = (), **extra: Callable[..., Any]) -> None:
    """A logging client of that listener."""
    table = logging("client", without=without, **extra)
    pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=table)


def main() -> None:
    name, folder = sys.argv[1:]
    SCENARIOS[name](folder)
    pybuntcp.run()
    print(json.dumps(LOGS))
    gauges = ("open_sockets", "open_listeners", "connecting", "armed_timers", "pending_bytes")
    left = {gauge: count for gauge, count in pybuntcp.stats().items() if gauge in gauges and count}
    assert left.keys() <= UNREFERENCED, f"left behind: {left}"
