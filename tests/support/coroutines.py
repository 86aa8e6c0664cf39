"""What a coroutine of a test awaits: an event of a Recorder, a peer's job, turns of the loop; and pairs made there.

Owns: waits inside a running asyncio loop, bounded by the loop (`asyncio_loops`) and woken by nothing but the
event awaited, unless they say that they poll. Peers and the kernel are as in `pairs` and `kernel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import pybuntcp

from .kernel import TIMEOUT, pattern
from .loops import GAUGES
from .peers import Job, Peer
from .recorder import Recorder
from .transports import Transport

LOCAL: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}
BLOCK = 1 << 16


def gauges() -> dict[str, int]:
    """The gauges of the running loop that are not at zero."""
    stats = pybuntcp.stats()
    return {name: stats[name] for name in GAUGES if stats[name]}


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


async def nothing_open(timeout: float = TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while gauges():
        assert time.monotonic() < deadline, f"gauges not back at zero: {gauges()}"
        await asyncio.sleep(0.001)


async def done(job: Job) -> Any:
    """What a peer's job gave."""
    return await asyncio.wrap_future(job)


async def turns(count: int = 10) -> None:
    """Turns of the loop: what was ready in the kernel before has been looked at after."""
    for _ in range(count):
        await asyncio.sleep(0)


# ---------------------------------------------------------------- connections


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


async def async_accepted(
    transport: Transport, recorder: Recorder, *, rcvbuf: int | None = None, **options: Any
) -> tuple[Any, Peer]:
    """An accepted socket whose `open` was called, and the peer; the listener has stopped."""
    listener = transport.listen(recorder, **options)
    peer = transport.peer(listener, rcvbuf=rcvbuf)
    await until(lambda: recorder.sockets)
    await done(peer.connected)
    listener.stop()
    return recorder.socket, peer


async def async_connected(
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
    socket, peer = await async_connected(transport, **options)
    try:
        yield socket.reader(**limit), socket, peer
    finally:
        socket.terminate()


async_sides = pytest.mark.parametrize(
    "side", [pytest.param(async_accepted, id="accepted"), pytest.param(async_connected, id="connected")]
)


async def read_exactly(client: socket.socket, size: int) -> bytes:
    """From a raw client, by the host."""
    data = b""
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(client, size - len(data))
        assert chunk, f"end of file after {data!r}"
        data += chunk
    return data


async def async_answers(port: int) -> bool:
    """Whether an echo listener serves a new raw connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"alive?")
        return await read_exactly(client, 6) == b"alive?"


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
    unclosed: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        try:
            yield unclosed
        finally:
            for warning in caught:
                text = str(warning.message)
                if warning.category is ResourceWarning:
                    unclosed.extend(kind for kind in ("Socket", "Listener", "Connecting") if _is_unclosed(text, kind))
                else:
                    raise AssertionError(text)


def _is_unclosed(text: str, kind: str) -> bool:
    return text.startswith(("unclosed <pybuntcp." + kind, "unclosed <" + kind))


@contextlib.contextmanager
def loop_reports() -> Iterator[list[dict[str, Any]]]:
    """The contexts that the running loop's exception handler is given meanwhile."""
    loop = asyncio.get_running_loop()
    before, reports = loop.get_exception_handler(), []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield reports
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
