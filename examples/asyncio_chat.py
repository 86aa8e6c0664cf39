"""A chat that is an asyncio program from end to end: streams, tasks, `start_server`. The loop that it runs on is one line.

    python examples/asyncio_chat.py --port 7003 --loop pybuntcp      then, in several terminals:  nc 127.0.0.1 7003

A line is said to everybody else. `--loop asyncio` and `--loop uvloop` run the same program on those loops; on pybuntcp's its
connections are made of pybuntcp's sockets. `/who` tells who is here, and what they are connected by.

Owns the rule for slow readers: nobody waits for them. Who has more than `--limit` bytes unsent is dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pybuntcp

LONGEST = 1000  # bytes of a line
PATIENCE = 2.0  # seconds that connections have to take their last lines when the program ends


class Chat:
    """Who is here."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.writers: dict[str, asyncio.StreamWriter] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.guests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        self.guests += 1
        name = f"guest{self.guests}"
        self.writers[name] = writer
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.tell(name, f"* you are {name}")
        self.tell_others(name, f"* {name} came in")
        try:
            while line := await reader.readline():
                self.hear(name, line.decode("utf-8", "replace").rstrip("\r\n"))
        except (ConnectionError, ValueError):  # reset, or dropped; or a line without an end
            pass
        finally:
            del self.writers[name]
            self.tell_others(name, f"* {name} has left")
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.tasks.discard(task)

    async def end(self) -> None:
        """Close all connections. Who does not take the last lines is dropped."""
        writers = list(self.writers.values())
        for writer in writers:
            writer.close()
        if self.tasks and (await asyncio.wait(self.tasks, timeout=PATIENCE))[1]:
            for writer in writers:
                writer.transport.abort()
            await asyncio.wait(self.tasks)

    def hear(self, name: str, line: str) -> None:
        if line == "/who":
            kind = type(self.writers[name].transport)
            self.tell(name, f"* {' '.join(self.writers)}, by {kind.__module__}.{kind.__name__}")
        else:
            self.tell_others(name, f"{name}: {line}")

    def tell_others(self, name: str, text: str) -> None:
        for other in list(self.writers):
            if other != name:
                self.tell(other, text)

    def tell(self, name: str, text: str) -> None:
        """Never waits. Lines of one step of a task leave together on pybuntcp's loop."""
        writer = self.writers[name]
        if writer.is_closing():
            return
        writer.write(f"{text}\n".encode())
        if writer.transport.get_write_buffer_size() > self.limit:
            writer.transport.abort()  # its reader sees the end


async def run(options: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    chat = Chat(options.limit)
    server = await asyncio.start_server(chat.serve, options.host, options.port, limit=LONGEST)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()[:2]), flush=True)
    await stopped.wait()
    server.close()
    await chat.end()


def runner(loop: str) -> Callable[[Coroutine[Any, Any, None]], None]:
    """`asyncio.run`, or what does the same on another loop."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run
    return pybuntcp.run if loop == "pybuntcp" else asyncio.run  # the one line


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat of asyncio's streams.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--limit", type=int, default=1 << 20, help="bytes that one reader may have unsent")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "pybuntcp"], default="pybuntcp")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):  # before the signal has its handler
        runner(options.loop)(run(options))
    print("stopped")


if __name__ == "__main__":
    main()
