"""What write() returns, when drain comes, and a peer that is gone. The same scenarios for Bun: writing.ts."""

from __future__ import annotations

from typing import Any

from harness import actor, attempt, dial, main, once, scenario

MANY = 16 * 1024 * 1024


@scenario
def what_write_returns(folder: str) -> None:
    log = actor("client")

    def opened(socket: Any) -> None:
        attempt(log, "empty", lambda: socket.write(""))
        attempt(log, "text", lambda: socket.write("h\u00e9"))
        attempt(log, "a slice", lambda: socket.write(b"abcd", 1, 2))
        attempt(log, "out of range", lambda: socket.write(b"abcd", 3, 5))
        attempt(log, "nothing", lambda: socket.write(None))
        attempt(log, "a number", lambda: socket.write(5))
        socket.shutdown()
        attempt(log, "after the end", lambda: socket.write("x"))

    dial(once(), open=opened)


@scenario
def an_offset_without_a_length(folder: str) -> None:
    log = actor("client")

    def opened(socket: Any) -> None:
        attempt(log, "write", lambda: socket.write(b"abcd", 2))
        socket.shutdown()

    dial(once(), open=opened)


@scenario
def drain_after_a_short_write(folder: str) -> None:
    log = actor("client")

    def opened(socket: Any) -> None:
        log("short" if socket.write(bytes(MANY)) < MANY else "whole")
        log("nothing more fits" if socket.write("more") == 0 else "more fits")

    dial(once(), open=opened, drain=lambda socket: socket.terminate())


@scenario
def drain_after_pause_and_resume(folder: str) -> None:
    def opened(socket: Any) -> None:
        socket.pause()
        socket.resume()
        socket.write("x")

    server = once(data=lambda socket, chunk: socket.write(chunk))
    dial(server, open=opened, data=lambda socket, chunk: socket.close())


@scenario
def drain_after_the_peers_fin(folder: str) -> None:
    accepted: list[Any] = []
    server = once(open=accepted.append, end=lambda socket: socket.write("answer"), options={"allow_half_open": True})
    dial(server, open=lambda socket: socket.shutdown(), data=lambda socket, chunk: accepted[0].end())


@scenario
def a_large_write_to_a_reset_peer(folder: str) -> None:
    log = actor("server")
    accepted: list[Any] = []

    def said(socket: Any, chunk: bytes) -> None:
        socket.terminate()
        attempt(log, "write", lambda: accepted[0].write(bytes(MANY)))

    server = once(open=accepted.append, data=lambda socket, chunk: socket.write("go"))
    dial(server, open=lambda socket: socket.write("x"), data=said)


@scenario
def bytes_written(folder: str) -> None:
    log = actor("client")

    def opened(socket: Any) -> None:
        socket.write("abc")
        socket.write("h\u00e9")
        socket.flush()
        log(f"written {socket.bytes_written}")
        socket.shutdown()

    dial(once(), open=opened, close=lambda socket, error: log(f"after close {socket.bytes_written}"))


if __name__ == "__main__":
    main()
