"""The harness inside asyncio: a coroutine on each kind of loop, bounded; pairs made there; handlers that await.

Owns: `LOOPS` and the decorator `on_every_loop`, which runs an `async def` test on each of them, takes down in the
running loop what its transport made, and fails it if a gauge of that loop is not back at zero, if it took too long, or
if the loop was told of an exception that nobody expected. Peers and the kernel are as in `support`; nothing here waits
without a bound. Does not know what the tests are about.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import inspect
import os
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from support import TIMEOUT, Job, LoopHung, Peer, Recorder, Transport, bring_about, end_everything, pattern
from support_hosts import close_host, gauges, new_host, no_uvloop, until

BLOCK = 1 << 16

LOOPS = {name: functools.partial(new_host, name) for name in ("asyncio", "uvloop", "native")}

_marks = {"uvloop": [no_uvloop]}

each_kind = pytest.mark.parametrize(
    "new_loop", [pytest.param(make, id=name, marks=_marks.get(name, [])) for name, make in LOOPS.items()]
)


def on_every_loop(test: Any = None, *, timeout: float = TIMEOUT) -> Any:
    """An `async def` test, run on each kind of loop; its fixtures are made before and outlive the loop."""
    if test is None:
        return functools.partial(on_every_loop, timeout=timeout)

    @functools.wraps(test)
    def run(new_loop: Any, **fixtures: Any) -> None:
        async def main() -> None:
            try:
                await test(**fixtures)
            finally:
                for fixture in fixtures.values():
                    if isinstance(fixture, Transport):
                        fixture.close()
            await nothing_open()

        run_on(new_loop, main, timeout)

    signature = inspect.signature(test)
    first = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])  # type: ignore[attr-defined]
    return each_kind(run)


def run_on(new_loop: Any, main: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """What `main()` returned, on a new loop, which is closed afterwards and was told of no exception."""
    loop, told = new_loop(), []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    try:
        result = loop.run_until_complete(_bounded(main, timeout))
    except BaseException:
        loop.run_until_complete(_sweep())
        raise
    finally:
        close_host(loop)
    assert told == [], f"the loop's exception handler was called: {told}"
    return result


async def _bounded(main: Callable[[], Awaitable[Any]], timeout: float) -> Any:
    task = asyncio.ensure_future(main())
    await asyncio.wait({task}, timeout=timeout)
    if task.done():
        return task.result()
    stack = [f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in task.get_stack()]
    last = [f"{recorder.label}: {' '.join(recorder.names()[-12:])}" for recorder in Recorder.alive]
    raise LoopHung(f"still in {stack} after {timeout} s; gauges {gauges()}; recorded {last}")


async def _sweep() -> None:
    """After a failed test: end what it left in this loop, so that the next one starts clean."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    end_everything()
    with contextlib.suppress(AssertionError):
        await nothing_open(2.0)


# ---------------------------------------------------------------- waiting


async def done(job: Job) -> Any:
    """What a peer's job gave."""
    return await asyncio.wrap_future(job)


async def turns(count: int = 10) -> None:
    """Turns of the loop: what was ready in the kernel before has been looked at after."""
    for _ in range(count):
        await asyncio.sleep(0)


def stuff(peer: Peer) -> Job:
    """The peer sends `repeated()` until our kernel takes no more; how many bytes. Its socket is left non-blocking."""

    def send() -> int:
        block, sent = pattern(BLOCK), 0
        peer.sock.setblocking(False)
        while select.select([], [peer.sock], [], 0.2)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += peer.sock.send(block[sent % BLOCK :])
        return sent

    return peer.call(send)


def repeated(size: int) -> bytes:
    """What `stuff` sends."""
    return (pattern(BLOCK) * (size // BLOCK + 1))[:size]


async def nothing_open(timeout: float = TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while gauges():
        assert time.monotonic() < deadline, f"gauges not back at zero: {gauges()}"
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def told_to_loop() -> Iterator[list[dict[str, Any]]]:
    """The contexts that the running loop's exception handler is given meanwhile."""
    loop = asyncio.get_running_loop()
    before, told = loop.get_exception_handler(), []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    try:
        yield told
    finally:
        loop.set_exception_handler(before)


@contextlib.contextmanager
def descriptors_untouched(count: int = 16) -> Iterator[None]:
    """Whoever closes, or turns to other use, a descriptor that is not theirs meanwhile, fails the test."""
    with contextlib.ExitStack() as stack:
        mine = [fd for _ in range(count // 2) for fd in _pipe(stack)]
        before = [_identity(fd) for fd in mine]
        yield
        assert [_identity(fd) for fd in mine] == before


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    pair = os.pipe()
    for fd in pair:
        stack.callback(_close_quietly, fd)
    return pair


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _close_quietly(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


# ---------------------------------------------------------------- handlers


class Notes(Recorder):
    """A Recorder whose functions may be `async def`: such a handler is one too, and "/data" is noted at its end."""

    def _handler(self, name: str) -> Callable[..., Any]:
        function = self._functions.get(name)
        if not inspect.iscoroutinefunction(function):
            return super()._handler(name)

        async def handler(socket: Any, *args: Any) -> None:
            self.note(name, socket, *args)
            try:
                await function(socket, *args)
            finally:
                self.note("/" + name, socket)

        handler.__name__ = name
        return handler

    def note(self, name: str, socket: Any, *args: Any) -> None:
        self.events.append((name, socket, args))
        if Recorder.after_event is not None:
            Recorder.after_event()


class Held(Notes):
    """Notes whose handlers of these names are async and wait for `gate`; `functions` are called before they wait."""

    def __init__(self, *names: str, without: tuple[str, ...] = (), **functions: Callable[..., Any]) -> None:
        self.gate = asyncio.Event()

        def holding(name: str) -> Callable[..., Awaitable[None]]:
            async def hold(socket: Any, *args: Any) -> None:
                if name in first:
                    first[name](socket, *args)
                await self.gate.wait()

            return hold

        first = {name: functions.pop(name) for name in names if name in functions}
        super().__init__(without=without, **functions, **{name: holding(name) for name in names})


# ---------------------------------------------------------------- pairs


async def accepted(
    transport: Transport, recorder: Recorder, *, rcvbuf: int | None = None, **options: Any
) -> tuple[Any, Peer]:
    """An accepted socket whose `open` was called, and the peer; the listener has stopped."""
    listener = transport.listen(recorder, **options)
    peer = transport.peer(listener, rcvbuf=rcvbuf)
    await until(lambda: recorder.sockets)
    await done(peer.connected)
    listener.stop()
    return recorder.socket, peer


async def connected(
    transport: Transport, recorder: Any = None, *, rcvbuf: int | None = None, **options: Any
) -> tuple[Any, Peer]:
    """An awaited socket, and the peer; without a recorder it has no handlers and is paused."""
    server = transport.raw_server(rcvbuf=rcvbuf)
    peer = server.accept()
    socket = await transport.connect(recorder, server, **options)
    await done(peer.connected)
    return socket, peer


@contextlib.asynccontextmanager
async def reading(transport: Transport, **options: Any) -> AsyncIterator[tuple[Any, Any, Peer]]:
    """(reader, socket, peer) of a connection without handlers; terminated at the end."""
    limit = {"limit": options.pop("limit")} if "limit" in options else {}
    socket, peer = await connected(transport, **options)
    try:
        yield socket.reader(**limit), socket, peer
    finally:
        socket.terminate()


sides = pytest.mark.parametrize("side", [accepted, connected])


# ---------------------------------------------------------------- async handlers


async def pause(socket: Any, *args: Any) -> None:
    """An async handler that takes a turn."""
    await asyncio.sleep(0)


def raising_later(error: BaseException) -> Callable[..., Awaitable[None]]:
    """An async handler that raises this very object, after a turn."""

    async def handler(*args: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return handler


def provoke(event: str, socket: Any, peer: Peer) -> None:
    """Make this event happen to an open socket, which an async handler may keep busy."""
    if event == "data":
        peer.send(b"x").ignore()
    bring_about(event, socket, peer)


def warm_up() -> None:
    """What a kind of loop opens once for the process and keeps is no leak of the first test that uses it."""
    for name, make in LOOPS.items():
        if name == "uvloop" and importlib.util.find_spec(name) is None:
            continue
        loop = make()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


warm_up()
