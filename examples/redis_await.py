"""A pipelining Redis client for coroutines, and a `main` that shows it on a real server.

    redis-server --port 6379
    python examples/redis_await.py --port 6379 --loop uvloop

The counterpart of redis_client.py, which has callbacks and the protocol itself; that is imported from there.

Owns the order of things: one task reads, and adds each reply to the batch of commands that has waited
longest. A task that stops waiting (a timeout, a cancellation) leaves its batch in its place, so that the replies of
the others do not shift. Promises that every `await` here ends with the reply, with the RedisError that the
server answered, or with the OSError that ended the connection. Does not reconnect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from redis_client import RedisError, Reply, ReplyParser, encode

import pybuntcp

Command = tuple[str | bytes | int, ...]


# --- the client ----------------------------------------------------------------------------------


class Batch:
    """Commands that were sent together, and their replies so far."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.replies: list[Reply] = []
        self.whole: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()


class Redis:
    """One connection, for any number of tasks.

        async with Redis("127.0.0.1", 6379) as redis:
            await redis.command("SET", "greeting", "hello")

    timeout: seconds that connecting may take, and the last replies at the end of the `async with`. For
    one command there is `asyncio.wait_for`.
    """

    def __init__(self, hostname: str, port: int, timeout: float = 10.0) -> None:
        self._hostname = hostname
        self._port = port
        self._timeout = timeout
        self._waiting: deque[Batch] = deque()
        self._lost: OSError | None = None

    async def __aenter__(self) -> Redis:
        """Connect. OSError (also TimeoutError, socket.gaierror) if that fails."""
        socket = await pybuntcp.connect(
            hostname=self._hostname, port=self._port, timeout=self._timeout, linger_timeout=self._timeout
        )
        self._sink = socket.sink()
        self._reading = asyncio.create_task(self._read(socket))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """The replies under way still arrive, unless it is an exception that leaves."""
        try:
            if kind is None:
                with contextlib.suppress(OSError, RedisError, asyncio.TimeoutError):
                    await asyncio.wait_for(self.command("QUIT"), self._timeout)
        finally:
            self._sink.socket.close()
            await self._reading

    async def command(self, *arguments: str | bytes | int) -> Reply:
        """Send a command; its reply. An error that the server answers is raised."""
        (reply,) = await self.pipeline([arguments])
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def pipeline(self, commands: Iterable[Command]) -> list[Reply]:
        """Send commands together; their replies, errors that the server answers among them.

        What several tasks send in one turn of the loop leaves together too: that is the sink's doing.
        """
        requests = [encode(command) for command in commands]
        if not requests:
            return []
        while self._sink.full:  # the server is behind: wait, and let nothing pile up
            await self._sink.drain()
        if self._lost is not None:
            raise ConnectionError("the connection is lost") from self._lost
        self._sink.write(b"".join(requests))
        batch = Batch(len(requests))  # from here to the `await` no other task runs: the order is the one of the bytes
        self._waiting.append(batch)
        return await batch.whole

    # What the one task does that reads.

    async def _read(self, socket: pybuntcp.Socket[None]) -> None:
        """Hand out replies until the connection ends; `async with` waits until it is closed."""
        async with socket:
            reader = socket.reader()
            parser = ReplyParser()
            lost: OSError = ConnectionError("the connection was closed")
            try:
                while chunk := await reader.read(65536):
                    for reply in parser.feed(chunk):
                        self._received(reply)
            except OSError as error:
                lost = error
            except ValueError as error:
                lost = ConnectionError(f"the server does not speak RESP: {error}")
            finally:
                self._lose(lost)

    def _received(self, reply: Reply) -> None:
        if not self._waiting:
            raise ValueError(f"a reply to nothing: {reply!r}")
        batch = self._waiting[0]
        batch.replies.append(reply)
        if len(batch.replies) == batch.size:
            self._waiting.popleft()
            if not batch.whole.done():  # cancelled: no task waits for it any more
                batch.whole.set_result(batch.replies)

    def _lose(self, error: OSError) -> None:
        """Every task that still waits gets the error."""
        self._lost = error
        while self._waiting:
            batch = self._waiting.popleft()
            if not batch.whole.done():
                batch.whole.set_exception(error)


# --- a demonstration -----------------------------------------------------------------------------


async def show(redis: Redis, *arguments: str | bytes | int) -> None:
    """Print a command and its reply."""
    try:
        print(*arguments, "->", repr(await redis.command(*arguments)))
    except RedisError as error:
        print(*arguments, "-> raises", repr(error))


async def visit(redis: Redis, visitor: int) -> None:
    """What each of several tasks does."""
    for _ in range(10):
        await redis.command("INCR", "example:visits")
    await redis.command("SADD", "example:visitors", visitor)


async def demonstrate(hostname: str, port: int) -> None:
    async with Redis(hostname, port) as redis:
        await show(redis, "SET", "example:greeting", "hello")
        await show(redis, "GET", "example:greeting")
        await show(redis, "INCR", "example:greeting")

        print("a pipeline:", await redis.pipeline([("SET", "example:visits", 41), ("INCR", "example:visits"), ("NO",)]))

        await asyncio.gather(*[visit(redis, visitor) for visitor in range(20)])
        print("20 tasks on one connection:")
        await show(redis, "GET", "example:visits")
        await show(redis, "SCARD", "example:visitors")

        try:
            await asyncio.wait_for(redis.command("BLPOP", "example:nothing", 1), 0.1)
        except asyncio.TimeoutError:
            print("BLPOP timed out; its reply, when it comes, is nobody else's:")
        await show(redis, "DEL", "example:greeting", "example:visits", "example:visitors")


def runner(loop: str) -> Callable[[Coroutine[Any, Any, None]], None]:
    """`asyncio.run`, or what does the same on another loop."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run
    return pybuntcp.run if loop == "pybuntcp" else asyncio.run


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk to a Redis server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "pybuntcp"], default="asyncio")
    options = parser.parse_args()
    runner(options.loop)(demonstrate(options.host, options.port))


if __name__ == "__main__":
    main()
