"""Asyncio loops as hosts: made by the test itself, run within a bound, closed with nothing left open.

Owns: the kinds of loop (`HOSTS`, and `GUESTS`: those that are not ours, in which a loop of ours is a guest),
`host_run`, and waits inside a host that nothing but the event awaited wakes. `host_run` ends with a look at
the gauges of the loop it ran: the leak check after each test sees the thread's own loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import socket
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from support import GAUGES, TIMEOUT, Recorder
from support_more import in_thread

import pybuntcp

LOCAL: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}

no_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
_uvloop = pytest.param("uvloop", marks=no_uvloop)
GUESTS = pytest.mark.parametrize("host", ["asyncio", _uvloop])
HOSTS = pytest.mark.parametrize("host", ["asyncio", _uvloop, "native"])


def new_host(kind: str) -> asyncio.AbstractEventLoop:
    """A new loop of this kind, not the thread's current one."""
    if kind == "native":
        return pybuntcp.new_event_loop()
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def run_of(kind: str) -> Callable[..., Any]:
    """What a program calls to run a coroutine on such a loop: `asyncio.run` and its like."""
    if kind == "native":
        return pybuntcp.run
    if kind == "uvloop":
        import uvloop

        return uvloop.run
    return asyncio.run


def host_run(kind: str, function: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """The result of a coroutine function in a new loop, which is closed; everything it opened must be closed by then."""
    with host_loop(kind) as loop:
        return run_in(loop, lambda: _and_empty(function), timeout)


@contextlib.contextmanager
def host_loop(kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed at the end."""
    loop = new_host(kind)
    try:
        yield loop
    finally:
        close_host(loop)


def run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """One `run_until_complete`, bounded."""

    async def bounded() -> Any:
        return await asyncio.wait_for(function(), timeout)

    return loop.run_until_complete(bounded())


def close_host(loop: asyncio.AbstractEventLoop) -> None:
    """What `asyncio.run` does at its end: tasks cancelled, the executor ended, the loop closed."""
    if loop.is_closed():
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=TIMEOUT))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _and_empty(function: Callable[[], Awaitable[Any]]) -> Any:
    result = await function()
    await seen(lambda: not gauges(), "gauges at zero")
    return result


def gauges() -> dict[str, int]:
    """The gauges of the running loop that are not at zero."""
    stats = pybuntcp.stats()
    return {name: stats[name] for name in GAUGES if stats[name]}


def in_a_thread_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """A test that closes a loop under open sockets: the guest goes with it, and in the main thread that may be the
    loop of `run()`, with the descriptors that the leak check counts."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        outcome = in_thread(lambda: test(*args, **options))
        if isinstance(outcome, BaseException):
            raise outcome

    return run


# ---------------------------------------------------------------- waiting


async def until(condition: Callable[[], Any]) -> None:
    """Until the condition holds; it is looked at after each event of a Recorder, and nothing else wakes the loop for it."""
    held = asyncio.get_running_loop().create_future()

    def look() -> None:
        if not held.done() and condition():
            held.set_result(None)

    _looks.append(look)
    Recorder.after_event = _look_all
    try:
        look()
        await held
    finally:
        _looks.remove(look)
        if not _looks:
            Recorder.after_event = None


_looks: list[Callable[[], None]] = []


def _look_all() -> None:
    for look in list(_looks):
        look()


async def seen(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> None:
    """Poll what has no event (kernel state, gauges), bounded. It keeps the host awake: not for tests of wake-ups."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}: {gauges()}"
        await asyncio.sleep(0.001)


# ---------------------------------------------------------------- connections


def echo(socket: Any, chunk: Any) -> None:
    """A `data` handler."""
    socket.write(chunk)


async def connection(server: Recorder, client: Recorder, **options: Any) -> tuple[Any, Any, Any]:
    """A listener and its next connection, both ends ours: (listener, accepted socket, client socket)."""
    listener = pybuntcp.listen(socket=server.handlers, **{**LOCAL, **options})
    there = len(server.sockets)
    connected = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=client.handlers)
    await until(lambda: len(server.sockets) > there)
    return listener, server.sockets[-1], connected


async def dialled_by(listener: Any, recorder: Recorder) -> tuple[Any, socket.socket]:
    """A raw client of a listener: (accepted socket, the client, not blocking)."""
    there = len(recorder.sockets)
    client = socket.create_connection(("127.0.0.1", listener.port), timeout=TIMEOUT)
    client.setblocking(False)
    await until(lambda: len(recorder.sockets) > there)
    return recorder.sockets[-1], client


async def read_exactly(client: socket.socket, size: int) -> bytes:
    """From a raw client, by the host."""
    data = b""
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(client, size - len(data))
        assert chunk, f"end of file after {data!r}"
        data += chunk
    return data


async def answers(port: int) -> bool:
    """Whether an echo listener serves a new raw connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"alive?")
        return await read_exactly(client, 6) == b"alive?"


# ---------------------------------------------------------------- what the kernel and the warnings tell


def watched_backends() -> int:
    """Epoll instances of this process that another one watches: a guest's, by its host's."""
    epolls = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "eventpoll" in os.readlink(f"/proc/self/fd/{name}"):
                epolls.add(int(name))
    return sum(target in epolls for epoll in epolls for target in _targets(epoll))


def _targets(epoll: int) -> list[int]:
    with open(f"/proc/self/fdinfo/{epoll}") as file:
        return [int(line.split()[1]) for line in file if line.startswith("tfd:")]


@contextlib.contextmanager
def unclosed() -> Iterator[list[str]]:
    """What was warned of as unclosed meanwhile, and was ours, by the type's name."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        try:
            yield told
        finally:
            for warning in caught:
                text = str(warning.message)
                if warning.category is ResourceWarning:
                    told.extend(kind for kind in ("Socket", "Listener", "Connecting") if _is_unclosed(text, kind))
                else:
                    raise AssertionError(text)


def _is_unclosed(text: str, kind: str) -> bool:
    return text.startswith(("unclosed <pybuntcp." + kind, "unclosed <" + kind))
