"""Exceptions, reload, data, and what is read from the handlers when. The same scenarios for Bun: handlers.ts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from harness import actor, attempt, dial, logging, main, once, scenario

import pybuntcp


def boom(text: str) -> Callable[..., None]:
    def handler(socket: Any, *arguments: Any) -> None:
        raise RuntimeError(text)

    return handler


def ignore(socket: Any, *arguments: Any) -> None:
    """A handler that does nothing."""


def unhandled() -> None:
    """What reaches nobody: Bun's uncaught exceptions, our sys.unraisablehook."""
    log = actor("unhandled")

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        log(f"{error}, after {error.__context__}" if error.__context__ else str(error))

    sys.unraisablehook = report


def pair(then: Callable[[Any, Any, Any], None], data: Any = None, **handlers: Callable[..., Any]) -> None:
    """Two connections to one listener, named by what they send first; `then` gets both once both have spoken."""
    named: dict[bytes, Any] = {}

    def said(socket: Any, chunk: bytes) -> None:
        named[bytes(chunk)] = socket
        if len(named) == 2:
            then(named[b"one"], named[b"two"], server)

    def dial(name: str) -> None:
        table = {"open": lambda socket: socket.write(name), "data": ignore}
        pybuntcp.connect(hostname="127.0.0.1", port=server.port, socket=table)

    server = pybuntcp.listen(hostname="127.0.0.1", port=0, data=data, socket={"data": said, **handlers})
    dial("one")
    dial("two")


@scenario
def data_raises(folder: str) -> None:
    server = once(data=boom("in data"), error=lambda socket, error: socket.end("sorry"))
    dial(server, without=("end",), open=lambda socket: socket.write("x"))


@scenario
def open_raises(folder: str) -> None:
    dial(once(open=boom("in open")))


@scenario
def open_raises_on_a_client(folder: str) -> None:
    dial(once(), open=boom("in open"))


@scenario
def close_raises(folder: str) -> None:
    server = once(open=lambda socket: socket.end("x"))
    dial(server, without=("end",), close=boom("in close"))


@scenario
def data_raises_without_an_error_handler(folder: str) -> None:
    sys.unraisablehook = lambda unraisable: None
    server = once(without=("error",), data=boom("in data"))
    dial(server, without=("end",), open=lambda socket: socket.end("x"))


@scenario
def error_raises(folder: str) -> None:
    unhandled()
    server = once(data=boom("in data"), error=boom("in error"))
    dial(server, without=("end",), open=lambda socket: socket.end("x"))


@scenario
def reload_of_the_listener(folder: str) -> None:
    log = actor("server")
    turns: list[bytes] = []

    def table(name: str) -> dict[str, Any]:
        def said(socket: Any, chunk: bytes) -> None:
            log(f"{name} {chunk.decode()}")
            socket.write(chunk)

        return {"data": said, "close": lambda socket, error: server.stop()}

    def answered(socket: Any, chunk: bytes) -> None:
        turns.append(chunk)
        if len(turns) == 2:
            socket.close()
            return
        server.reload(table("new"))
        socket.write("b")

    server = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table("old"))
    dial(server, open=lambda socket: socket.write("a"), data=answered)


@scenario
def reload_forgets_what_it_does_not_name(folder: str) -> None:
    bare = {"data": ignore, "close": lambda socket, error: server.stop()}
    server = once(open=lambda socket: server.reload(bare))
    dial(server, without=("end",), open=lambda socket: socket.end("x"))


@scenario
def reload_of_one_accepted_socket(folder: str) -> None:
    chosen: list[Any] = []

    def closed(line: str) -> dict[str, Any]:
        return {"close": lambda socket, error: actor("chosen" if socket in chosen else "sibling")(line)}

    def then(one: Any, two: Any, server: Any) -> None:
        server.stop()
        chosen.append(one)
        one.reload({"data": ignore, **closed("reloaded")})
        one.terminate()
        two.terminate()

    pair(then, **closed("as before"))


@scenario
def reload_with_bare_handlers(folder: str) -> None:
    log = actor("server")

    def opened(socket: Any) -> None:
        attempt(log, "socket.reload", lambda: socket.reload({"data": ignore}))
        server.stop()
        socket.end()

    server = once(open=opened)
    dial(server, without=("end",))


@scenario
def a_bad_reload(folder: str) -> None:
    log = actor("server")

    def opened(socket: Any) -> None:
        attempt(log, "reload", lambda: server.reload({"open": ignore}))
        socket.write("x")

    server = once(open=opened)
    dial(server, without=("end",), data=lambda socket, chunk: socket.end("still the same"))


@scenario
def handlers_are_read_once(folder: str) -> None:
    handlers = logging("server", data=lambda socket, chunk: socket.end(), close=lambda socket, error: server.stop())
    server = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=handlers)
    handlers["data"] = lambda socket, chunk: actor("server")("the changed one")
    dial(server, without=("end",), open=lambda socket: socket.write("x"))


@scenario
def data_is_shared(folder: str) -> None:
    log = actor("server")
    shared = {"name": "shared"}

    def then(one: Any, two: Any, server: Any) -> None:
        server.stop()
        log("the same object" if one.data is shared and two.data is shared else "copies")
        one.data = {"name": "own"}
        log(f"{one.data['name']}, {two.data['name']}")
        one.terminate()
        two.terminate()

    pair(then, data=shared)


@scenario
def wrong_handlers(folder: str) -> None:
    log = actor("listen")

    def listen(socket: Any) -> None:
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=socket).stop()

    attempt(log, "nothing", lambda: listen(None))
    attempt(log, "no data, no drain", lambda: listen({"open": ignore}))
    attempt(log, "not callable", lambda: listen({"data": 5}))
    attempt(log, "absent by null", lambda: listen({"data": ignore, "open": None}))
    attempt(log, "wrong binaryType", lambda: listen({"data": ignore, "binary_type": "string"}))


@scenario
def an_unknown_handler(folder: str) -> None:
    table = {"data": ignore, "on_data": ignore}
    attempt(actor("listen"), "listen", lambda: pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table).stop())


@scenario
def a_timeout(folder: str) -> None:
    log = actor("server")
    server = once(
        open=lambda socket: socket.timeout(1),
        timeout=lambda socket: attempt(log, "write", lambda: socket.write("still open")),
    )
    dial(server, without=("end",), data=lambda socket, chunk: socket.end())


if __name__ == "__main__":
    main()
