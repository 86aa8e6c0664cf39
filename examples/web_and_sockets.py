"""Publish and subscribe in one asyncio loop, over two protocols: lines on TCP by pybuntcp, HTTP by aiohttp.

    pip install aiohttp uvloop
    python examples/web_and_sockets.py --port 7002 --http-port 8080 --loop uvloop

    nc 127.0.0.1 7002                                    then type  sub news  or  pub news hello
    curl -N http://127.0.0.1:8080/channels/news          what is published, as server-sent events
    curl -d hello http://127.0.0.1:8080/channels/news    publish
    curl http://127.0.0.1:8080/status                    how many publish, subscribe, were too slow

`pybuntcp.listen` is called while the loop runs, and that is all: any asyncio loop will do. The handlers of
the lines are plain functions, the HTTP ones coroutines, and both work on the same objects without a lock.

Owns the rule for slow subscribers: publishing never waits, what one subscriber may hold unsent is `--limit`,
and a subscriber that would pass it is dropped, over either protocol. Keeps no messages. SIGINT and SIGTERM end it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

from aiohttp import web

import pybuntcp

LONGEST = 4096  # characters of a message
PATIENCE = 2.0  # seconds that connections have to take their last bytes when the program ends


# --- what both doors share -----------------------------------------------------------------------

Subscriber: TypeAlias = "LineSubscriber | EventStream"


class Channels:
    """Who subscribes to what. Knows no door.

    Of a subscriber it knows that `send` never waits, and raises BufferError if it is too far behind and
    OSError if it is gone; and that `drop` ends it at once.
    """

    def __init__(self) -> None:
        self.subscribers: dict[str, dict[Subscriber, None]] = {}  # each a set that keeps the order
        self.published = 0
        self.dropped = 0

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        check(channel)
        self.subscribers.setdefault(channel, {})[subscriber] = None

    def leave(self, subscriber: Subscriber) -> None:
        """Out of all channels; those that are empty then are forgotten."""
        for members in self.subscribers.values():
            members.pop(subscriber, None)
        self.subscribers = {channel: members for channel, members in self.subscribers.items() if members}

    def drop(self, subscriber: Subscriber) -> None:
        self.dropped += 1
        self.leave(subscriber)
        subscriber.drop()

    def publish(self, channel: str, text: str) -> int:
        """To all who subscribe now; how many that was. None of them waits for another."""
        check(channel, text)
        self.published += 1
        reached = 0
        for subscriber in tuple(self.subscribers.get(channel, ())):
            try:
                subscriber.send(channel, text)
                reached += 1
            except BufferError:
                self.drop(subscriber)
            except OSError:
                self.leave(subscriber)
        return reached


def check(channel: str, text: str = "") -> None:
    """ValueError for what cannot be a channel or a message."""
    if not re.fullmatch(r"[\w.-]{1,50}", channel):
        raise ValueError("a channel is 1 to 50 letters, digits, and -_.")
    if len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"a message is one line of at most {LONGEST} characters")


# --- the door of lines: pybuntcp -----------------------------------------------------------------


class LineSubscriber:
    """One connection; its `socket.data`. All that is sent to it goes through its sink, which keeps the order."""

    def __init__(self, socket: pybuntcp.Socket[LineSubscriber], limit: int) -> None:
        self.socket = socket
        self.sink = socket.sink(limit=limit)
        self.line = b""  # received, and not yet ended by a newline

    def send(self, channel: str, text: str) -> None:
        self.sink.write(f"message {channel} {text}\n")

    def drop(self) -> None:
        self.socket.terminate()


class LineDoor:
    """The handlers, shared by all connections."""

    def __init__(self, channels: Channels, limit: int) -> None:
        self.channels = channels
        self.limit = limit

    def open(self, socket: pybuntcp.Socket[LineSubscriber]) -> None:
        socket.data = LineSubscriber(socket, self.limit)

    def data(self, socket: pybuntcp.Socket[LineSubscriber], chunk: bytes) -> None:
        client = socket.data
        *lines, client.line = (client.line + chunk).split(b"\n")
        try:
            for line in lines:
                client.sink.write(self.answer(client, line.decode("utf-8", "replace").removesuffix("\r")) + "\n")
        except BufferError:  # it asks, and does not read what it is answered
            self.channels.drop(client)
        except OSError:
            pass  # dropped, by a message it published itself
        if len(client.line) > 5 * LONGEST:  # more than any line that could be understood
            self.channels.drop(client)

    def close(self, socket: pybuntcp.Socket[LineSubscriber], error: OSError | None) -> None:
        self.channels.leave(socket.data)

    def answer(self, client: LineSubscriber, line: str) -> str:
        """Do what a line says; what is said to that."""
        command, _, arguments = line.partition(" ")
        channel, _, text = arguments.partition(" ")
        try:
            if command == "sub":
                self.channels.subscribe(channel, client)
                return "ok"
            if command == "pub":
                return f"ok {self.channels.publish(channel, text)}"
        except ValueError as error:
            return f"error {error}"
        return "error there are: sub CHANNEL, pub CHANNEL TEXT"


# --- the door of HTTP: aiohttp -------------------------------------------------------------------


class EventStream:
    """A response that does not end: events gather here until `serve` has sent those before them."""

    def __init__(self, request: web.Request, limit: int) -> None:
        self.request = request
        self.limit = limit
        self.unsent = bytearray()
        self.ended = False
        self.news = asyncio.Event()

    def send(self, channel: str, text: str) -> None:
        event = f"data: {text}\n\n".encode()
        if len(self.unsent) + len(event) > self.limit:
            raise BufferError(f"{len(self.unsent)} bytes are unsent")
        self.unsent += event
        self.news.set()

    def drop(self) -> None:
        """Its handler is cancelled when the connection is gone: see `website`."""
        if self.request.transport is not None:
            self.request.transport.abort()

    def end(self) -> None:
        self.ended = True
        self.news.set()

    async def serve(self) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(self.request)
        assert self.request.transport is not None
        self.request.transport.set_write_buffer_limits(0)  # `drain` waits until the kernel has it all
        while self.unsent or not self.ended:
            await self.news.wait()
            self.news.clear()
            events = bytes(self.unsent)
            await response.write(events)
            await self.request.writer.drain()
            del self.unsent[: len(events)]
        return response


class HttpDoor:
    """The routes."""

    def __init__(self, channels: Channels, limit: int, lines: pybuntcp.Listener) -> None:
        self.channels = channels
        self.limit = limit
        self.lines = lines  # the other door
        self.streams: dict[Any, EventStream] = {}  # by the tasks that serve them

    async def status(self, request: web.Request) -> web.Response:
        subscribers = {channel: len(members) for channel, members in self.channels.subscribers.items()}
        facts = {"subscribers": subscribers, "published": self.channels.published, "dropped": self.channels.dropped}
        lines = list(self.lines.sockets())
        unsent = sum(line.pending for line in lines) + sum(len(stream.unsent) for stream in self.streams.values())
        return web.json_response({**facts, "lines": len(lines), "unsent": unsent})

    async def publish(self, request: web.Request) -> web.Response:
        text = (await request.read()).decode("utf-8", "replace")
        try:
            return web.json_response({"reached": self.channels.publish(request.match_info["channel"], text)})
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        stream = EventStream(request, self.limit)
        try:
            self.channels.subscribe(request.match_info["channel"], stream)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        task = asyncio.current_task()
        self.streams[task] = stream
        try:
            return await stream.serve()
        finally:
            del self.streams[task]
            self.channels.leave(stream)

    async def end_streams(self, application: web.Application) -> None:
        """The server waits for responses under way, and these would not end by themselves."""
        streams = dict(self.streams)
        for stream in streams.values():
            stream.end()
        if streams:
            _, late = await asyncio.wait(streams, timeout=PATIENCE)
            for task in late:
                streams[task].drop()


@contextlib.asynccontextmanager
async def website(door: HttpDoor, host: str, port: int) -> AsyncIterator[int]:
    """Serve it; the port. Who disconnects has their handler cancelled."""
    application = web.Application()
    application.router.add_get("/status", door.status)
    application.router.add_get("/channels/{channel}", door.subscribe)
    application.router.add_post("/channels/{channel}", door.publish)
    application.on_shutdown.append(door.end_streams)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=PATIENCE)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# --- both in one loop ----------------------------------------------------------------------------


async def serve(options: argparse.Namespace) -> None:
    """Open both doors, say where, and close them when a signal comes."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    channels = Channels()
    lines = LineDoor(channels, options.limit)
    async with (
        pybuntcp.listen(socket=lines, hostname=options.host, port=options.port, linger_timeout=PATIENCE) as listener,
        website(HttpDoor(channels, options.limit, listener), options.host, options.http_port) as http_port,
    ):
        print(f"listening on {listener.hostname}:{listener.port}")
        print(f"serving http://{options.host}:{http_port}/", flush=True)
        await stopped.wait()


def runner(loop: str) -> Callable[[Coroutine[Any, Any, None]], None]:
    """`asyncio.run`, or what does the same on another loop."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run
    return pybuntcp.run if loop == "pybuntcp" else asyncio.run


def main() -> None:
    parser = argparse.ArgumentParser(description="Publish and subscribe, over TCP lines and HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="for lines; 0 lets the system choose")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--limit", type=int, default=1 << 20, help="bytes that one subscriber may hold unsent")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "pybuntcp"], default="asyncio")
    options = parser.parse_args()
    if options.limit < 65536:
        parser.error("a limit of at least 65536 bytes")
    with contextlib.suppress(KeyboardInterrupt):  # before the signal has its handler
        runner(options.loop)(serve(options))
    print("stopped")


if __name__ == "__main__":
    main()
