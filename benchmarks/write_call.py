"""write_call: what does one call cost that only gathers? A 20-byte write in one process, no load, no other peer.

    python benchmarks/write_call.py [--rounds N]

Owns: one figure a verb, in nanoseconds of this thread's CPU, the interpreter's loop around the call included, and the same loop around `len` to compare.
Promises: every byte is sent and counted on the other end of a real socket pair, outside the time taken; rounds are interleaved; medians with their spread.
It does not know: what the system call at the end of a turn costs (see the question `five`).
"""

from __future__ import annotations

import argparse
import socket as stdlib_socket
import time
from collections.abc import Callable
from statistics import median

from rich.console import Console
from rich.table import Table

import pybuntcp

PIECE = b"x" * 20
CALLS = 700  # stays under every mark: nothing but gathering is timed
REPEATS = 60


def timed(call: Callable[[bytes], object]) -> int:
    """Nanoseconds of this thread's CPU for CALLS calls. There is no system call in them, so nearly all of it is user time."""
    before = time.thread_time_ns()
    for _ in range(CALLS):
        call(PIECE)
    return time.thread_time_ns() - before


def receive(theirs: stdlib_socket.socket, size: int) -> None:
    while size:
        size -= len(theirs.recv(size))


def sent(took: int, flush: Callable[[], object], theirs: stdlib_socket.socket) -> int:
    """What was gathered goes out and is taken from the other end; `took` again."""
    flush()
    receive(theirs, CALLS * len(PIECE))
    return took


def written(socket: pybuntcp.Socket, theirs: stdlib_socket.socket) -> int:
    return sent(timed(socket.write), socket.flush, theirs)


def sunk(socket: pybuntcp.Socket, theirs: stdlib_socket.socket) -> int:
    sink = socket.sink()
    return sent(timed(sink.write), sink.flush, theirs)


def stored(socket: pybuntcp.Socket, theirs: stdlib_socket.socket) -> int:
    sink = pybuntcp.ArrayBufferSink()
    sink.start(stream=True, high_water_mark=65536)
    took = timed(sink.write)
    socket.write(sink.flush())
    return sent(took, socket.flush, theirs)


def loop_alone(socket: pybuntcp.Socket, theirs: stdlib_socket.socket) -> int:
    return timed(len)


WAYS = {
    "len, for the loop itself": loop_alone,
    "Socket.write in a handler": written,
    "SocketSink.write": sunk,
    "ArrayBufferSink.write": stored,
}


def ask(socket: pybuntcp.Socket, theirs: stdlib_socket.socket, rounds: int) -> dict[str, list[float]]:
    """Nanoseconds a call, a figure a round."""
    figures: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            took = sum(way(socket, theirs) for _ in range(REPEATS))
            figures[name].append(took / (CALLS * REPEATS))
    return figures


def main() -> None:
    """Ask, in turns, in the handler of a connection, and print."""
    parser = argparse.ArgumentParser(description="CPU of one gathered 20-byte write.")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    figures: dict[str, list[float]] = {}
    ours, theirs = stdlib_socket.socketpair()

    def opened(socket: pybuntcp.Socket) -> None:
        figures.update(ask(socket, theirs, rounds))
        socket.terminate()

    pybuntcp.connect(socket={"open": opened, "data": print}, fd=ours.detach())
    pybuntcp.run()
    table = Table(title=f"one 20-byte write, ns of CPU; medians of {rounds} rounds (smallest..largest)")
    table.add_column("call")
    table.add_column("ns", justify="right")
    for name, all_of_it in figures.items():
        table.add_row(name, f"{median(all_of_it):.0f} ({min(all_of_it):.0f}..{max(all_of_it):.0f})")
    Console().print(table)


if __name__ == "__main__":
    main()
