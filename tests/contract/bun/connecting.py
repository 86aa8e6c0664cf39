"""Failing connects: who is told, when, and with what. The same scenarios for Bun: connecting.ts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import actor, attempt, logging, main, scenario

import pybuntcp


def connect(options: dict[str, Any], *, without: tuple[str, ...] = (), **extra: Callable[..., Any]) -> None:
    """Connects with logging handlers and logs what the awaitable gives, and when connect() itself returned."""
    log = actor("client")
    awaited = actor("awaited")
    connecting = pybuntcp.connect(socket=logging("client", without=without, **extra), **options)
    log("connect returned")
    pybuntcp.run()
    error = connecting.exception()
    awaited("a socket" if error is None else getattr(error, "code", None) or str(error))


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens any more."""
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
    listener.stop(True)
    return listener.port


@scenario
def refused(folder: str) -> None:
    connect({"hostname": "127.0.0.1", "port": free_port()})


@scenario
def refused_without_a_connect_error_handler(folder: str) -> None:
    connect({"hostname": "127.0.0.1", "port": free_port()}, without=("connect_error",))


@scenario
def the_error_of_a_refused_connect(folder: str) -> None:
    log = actor("error")

    def failed(socket: Any, error: Any) -> None:
        log(f"code {error.code}")
        log(f"syscall {error.syscall}")
        log(f"errno {abs(error.errno)}")

    connect({"hostname": "127.0.0.1", "port": free_port()}, connect_error=failed)


@scenario
def sign_and_address_of_a_refused_connect(folder: str) -> None:
    log = actor("error")
    port = free_port()

    def failed(socket: Any, error: Any) -> None:
        log("errno positive" if error.errno > 0 else "errno negative")
        log(f"address {error.address or 'none'}")
        log(f"port {'right' if error.port == port else 'none'}")

    connect({"hostname": "127.0.0.1", "port": port}, connect_error=failed)


@scenario
def a_unix_path_where_nothing_is(folder: str) -> None:
    connect({"unix": f"{folder}/nothing"})


@scenario
def a_bad_descriptor(folder: str) -> None:
    connect({"fd": 987654})


@scenario
def connect_error_raises(folder: str) -> None:
    def failed(socket: Any, error: Any) -> None:
        raise RuntimeError("from the handler")

    connect({"hostname": "127.0.0.1", "port": free_port()}, connect_error=failed)


@scenario
def the_socket_in_connect_error(folder: str) -> None:
    log = actor("socket")

    def failed(socket: Any, error: Any) -> None:
        log(f"ready state {int(socket.ready_state)}")
        attempt(log, "write", lambda: socket.write("x"))
        attempt(log, "end", socket.end)
        log(f"data {socket.data}")

    connect({"hostname": "127.0.0.1", "port": free_port(), "data": "mine"}, connect_error=failed)


@scenario
def wrong_options(folder: str) -> None:
    log = actor("connect")

    def wrong(name: str, **options: Any) -> None:
        attempt(log, name, lambda: pybuntcp.connect(socket={"data": print}, **options))

    wrong("no address")
    wrong("no port", hostname="127.0.0.1")
    wrong("port as an object", hostname="127.0.0.1", port={})
    wrong("unix as a number", unix=5)
    wrong("fd as text", fd="5")


if __name__ == "__main__":
    main()
