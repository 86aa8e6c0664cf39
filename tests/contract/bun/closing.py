"""Ending, closing, resetting, stopping: who is told what, and when. The same scenarios for Bun: closing.ts."""

from __future__ import annotations

from typing import Any

from harness import actor, attempt, dial, main, once, scenario

import pybuntcp

MANY = 16 * 1024 * 1024


@scenario
def end_after_an_echo(folder: str) -> None:
    log = actor("client")
    server = once(data=lambda socket, chunk: socket.write(chunk))
    dial(
        server,
        open=lambda socket: socket.write("ping"),
        data=lambda socket, chunk: attempt(log, "end", lambda: socket.end("bye")),
    )


@scenario
def peer_answers_in_its_end_handler(folder: str) -> None:
    server = once(end=lambda socket: socket.write("late"))
    dial(server, open=lambda socket: socket.end("bye"))


@scenario
def end_with_more_than_the_kernel_takes(folder: str) -> None:
    log, verdict = actor("client"), actor("server")

    def close(socket: Any, error: Any) -> None:
        verdict("received all" if socket.bytes_read == MANY else "received a part")
        server.stop()

    quiet = {"data": lambda socket, chunk: None, "close": close}
    server = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=quiet)
    dial(server, open=lambda socket: log("end took all" if socket.end(bytes(MANY)) == MANY else "end took a part"))


@scenario
def tail_written_in_the_end_handler(folder: str) -> None:
    log = actor("client")
    server = once(end=lambda socket: socket.write(bytes(MANY)), options={"high_water_mark": MANY})
    client = {
        "open": lambda socket: socket.shutdown(),
        "data": lambda socket, chunk: None,
        "close": lambda socket, error: log("received all" if socket.bytes_read == MANY else "received a part"),
    }
    pybuntcp.connect(hostname="127.0.0.1", port=server.port, socket=client)


@scenario
def close_after_a_write(folder: str) -> None:
    log = actor("client")

    def opened(socket: Any) -> None:
        socket.write("bye")
        attempt(log, "close", socket.close)

    dial(once(), open=opened)


@scenario
def terminate(folder: str) -> None:
    log = actor("client")
    server = once(open=lambda socket: socket.write("hello"))
    dial(server, data=lambda socket, chunk: attempt(log, "terminate", socket.terminate))


@scenario
def verbs_after_close(folder: str) -> None:
    log = actor("client")

    def closed(socket: Any, error: Any) -> None:
        attempt(log, "write", lambda: socket.write("x"))
        for verb in ("end", "close", "terminate", "shutdown", "pause"):
            attempt(log, verb, getattr(socket, verb))

    server = once(without=("end",), open=lambda socket: socket.end("x"))
    dial(server, close=closed)


@scenario
def shutdown_then_the_peer_ends(folder: str) -> None:
    log = actor("client")

    def opened(socket: Any) -> None:
        socket.shutdown()
        attempt(log, "write", lambda: socket.write("x"))

    server = once(end=lambda socket: socket.write("answer"))
    dial(server, open=opened)


@scenario
def shutdown_of_the_reading_half(folder: str) -> None:
    log = actor("client")
    clients: list[Any] = []

    def opened(socket: Any) -> None:
        clients.append(socket)
        socket.shutdown(True)
        attempt(log, "write", lambda: socket.write("heard"))

    def said(socket: Any, chunk: bytes) -> None:
        socket.end("unheard")
        clients[0].end()

    server = once(data=said)
    dial(server, open=opened)


@scenario
def half_open_with_an_end_handler(folder: str) -> None:
    server = once(end=lambda socket: socket.end("answer"), options={"allow_half_open": True})
    dial(server, open=lambda socket: socket.shutdown())


@scenario
def half_open_without_an_end_handler(folder: str) -> None:
    log = actor("server")
    kept: list[Any] = []

    def said(socket: Any, chunk: bytes) -> None:
        attempt(log, "write to the half-open one", lambda: kept[0].write("x"))
        for one in kept:
            one.terminate()
        server.stop()

    def opened(socket: Any) -> None:
        # The second connection starts after the first one's FIN has left: its bytes arrive when that FIN has been read.
        socket.shutdown()
        pybuntcp.connect(hostname="127.0.0.1", port=server.port, socket=probe)

    server = pybuntcp.listen(
        hostname="127.0.0.1", port=0, allow_half_open=True, socket={"open": kept.append, "data": said}
    )
    probe = {"open": lambda socket: socket.write("now"), "data": lambda socket, chunk: None}
    dial(server, without=("data", "close"), open=opened)


@scenario
def ready_states(folder: str) -> None:
    log = actor("states")

    def opened(socket: Any) -> None:
        log(f"open {int(socket.ready_state)}")
        socket.shutdown()
        log(f"after shutdown {int(socket.ready_state)}")

    dial(once(), open=opened, close=lambda socket, error: log(f"in close {int(socket.ready_state)}"))


@scenario
def addresses_after_close(folder: str) -> None:
    log = actor("addresses")

    def closed(socket: Any, error: Any) -> None:
        log(f"remote address {socket.remote_address or 'none'}")
        log(f"remote port {'right' if socket.remote_port == server.port else 'none'}")
        log(f"local address {socket.local_address or 'none'}")

    server = once(open=lambda socket: socket.end("x"))
    dial(server, close=closed)


@scenario
def stop_leaves_connections_alone(folder: str) -> None:
    server = once(open=lambda socket: server.stop(), data=lambda socket, chunk: socket.end(chunk))
    dial(server, open=lambda socket: socket.write("still here"))


@scenario
def stop_true_closes_them(folder: str) -> None:
    log = actor("server")

    def said(socket: Any, chunk: bytes) -> None:
        server.stop(True)
        log("stop returned")

    server = once(data=said)
    dial(server, open=lambda socket: socket.write("x"))


if __name__ == "__main__":
    main()
