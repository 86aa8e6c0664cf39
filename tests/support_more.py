"""More of the test harness: reports that nobody caught, programs in a process of their own, addresses that do not answer.

Owns: what the tests of handlers, connecting, listening and the process need beyond `support`. Everything here is bounded
in time as there, and takes itself down.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import TIMEOUT, descriptors
from support import unraisable as unraisable
from support_programs import end_family

import pybuntcp

TESTS = Path(__file__).parent
PATIENCE = 2 * TIMEOUT  # with a program, which starts an interpreter first


def ignore(socket: Any, *args: Any) -> None:
    """A handler that does nothing."""


QUIET = {"data": ignore}

# What a socket tells of itself and nobody can set: `Socket`'s properties but `data`.
PROPERTIES = (
    "pending",
    "bytes_written",
    "bytes_read",
    "ready_state",
    "listener",
    "remote_address",
    "remote_port",
    "remote_family",
    "local_address",
    "local_port",
    "local_family",
)


def in_thread(function: Callable[[], Any], name: str = "another") -> Any:
    """What `function` returned or raised in a thread of its own."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call, name=name)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    return outcome[0]


# ---------------------------------------------------------------- exceptions on their roads


class Boom(Exception):
    """What is raised where a test wants something raised."""


def raising(error: BaseException) -> Callable[..., None]:
    """A handler that raises this very object."""

    def handler(*args: Any) -> None:
        raise error

    return handler


def chain(error: BaseException | None) -> list[BaseException]:
    """The error, what it was raised from or while handling, and so on."""
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


# ---------------------------------------------------------------- addresses


@contextlib.contextmanager
def raw_tcp(host: str, port: int = 0, backlog: int = 64) -> Iterator[socket.socket]:
    """A raw TCP listener of one family alone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.settimeout(TIMEOUT)
        yield sock


@contextlib.contextmanager
def bound_not_listening(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses connections and that nobody else is given meanwhile."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A listener whose port gives SYNs no answer: nobody accepts from it and its queue is full."""
    with raw_tcp(host, port, backlog=0) as listener, contextlib.ExitStack() as queued:
        for patience in (TIMEOUT, *[0.1] * 15):  # the queue has room for the first, however late its answer
            client = queued.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            if not select.select([], [client], [], patience)[1]:
                yield listener
                return
        pytest.skip("the kernel answers SYNs to a full queue")


Opener = Callable[..., contextlib.AbstractContextManager[socket.socket]]


@contextlib.contextmanager
def one_port_of_both_families(six: Opener = raw_tcp, four: Opener = raw_tcp) -> Iterator[int]:
    """A port number that ::1 and 127.0.0.1 share; `raw_tcp` answers there and `black_hole` does not."""
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            port = port_of(stack.enter_context(four("127.0.0.1")))
            try:
                stack.enter_context(six("::1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield port
            return
    pytest.skip("no port was free in both families")


def port_of(sock: socket.socket) -> int:
    """The local port of a raw socket."""
    return sock.getsockname()[1]


def has_ipv6() -> bool:
    """Whether ::1 can be used here."""
    try:
        with raw_tcp("::1"):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a facility of Linux")


# ---------------------------------------------------------------- limits


@contextlib.contextmanager
def room_for_descriptors(count: int) -> Iterator[None]:
    """At least `count` descriptors for this process, if the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of descriptors is {hard}, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------- programs


class Program:
    """Python source running in a process of its own, which talks in lines on stdout; killed in `close`.

    In the source `say(thing)` prints one line of JSON; `support` and `support_more` can be imported.
    """

    PROLOGUE = """
        import json, os, signal, socket, sys, time
        import pybuntcp
        def say(thing):
            print(json.dumps(thing), flush=True)
    """

    def __init__(self, source: str, *args: Any) -> None:
        code = textwrap.dedent(self.PROLOGUE) + textwrap.dedent(source)
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._unread = b""

    def hear(self, timeout: float = PATIENCE) -> Any:
        """The next thing it says."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.process.stdout], [], [], left)[0]
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                self._fail("ended" if ready else f"was silent for {timeout} s")
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def signal(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = PATIENCE, status: int = 0) -> list[Any]:
        """Wait for its end; what else it said."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._fail(f"still ran after {timeout} s")
        text = err.decode(errors="replace")
        assert self.process.returncode == status, f"exit status {self.process.returncode}: {text}"
        return [json.loads(line) for line in (self._unread + out).splitlines()]

    def _fail(self, what: str) -> None:
        _, err = end_family(self.process)
        pytest.fail(f"the program {what}; it wrote: {err.decode(errors='replace')[-2000:]}")

    def close(self) -> None:
        end_family(self.process)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def run_program(source: str, *args: Any, timeout: float = PATIENCE, status: int = 0) -> list[Any]:
    """What the program said until it ended by itself with this exit status."""
    with Program(source, *args) as program:
        return program.finish(timeout, status)


# ---------------------------------------------------------------- listeners and connects


ECHO = {"data": lambda socket, chunk: socket.write(chunk)}


def quiet_listener(**options: Any) -> Any:
    """A listener whose handlers do nothing, unless `socket=` says otherwise."""
    return pybuntcp.listen(**{"socket": QUIET, **options})


def refusal(**options: Any) -> Any:
    """The OSError of a listen that must fail, after a look that it left nothing open."""
    before = descriptors()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - who asks says which one
        quiet_listener(**options)
    assert descriptors() == before
    return caught.value


def told(error: Any) -> tuple[Any, ...]:
    """What every error of ours carries."""
    return error.errno, error.code, error.syscall, error.address, error.port


def answers(loop: Any, transport: Any, listener: Any) -> bool:
    """Whether this echo listener serves a new connection."""
    peer = transport.peer(listener)
    peer.send(b"alive?")
    return loop.wait(peer.recv_exactly(6)) == b"alive?"


def connect(recorder: Any, **options: Any) -> Any:
    """`pybuntcp.connect` with a Recorder's handlers."""
    return pybuntcp.connect(socket=recorder.handlers, **options)


def finished(loop: Any, connecting: Any) -> tuple[Any, Any]:
    """The awaitable's outcome as (socket, None) or (None, error), once the loop has nothing left to do."""
    loop.run()
    assert connecting.done()
    error = connecting.exception()
    return (None, error) if error is not None else (connecting.result(), None)


def dialled(port: int) -> socket.socket:
    """A raw client of a port of 127.0.0.1."""
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def local_pair(loop: Any, transport: Any, server: Any, client: Any, **options: Any) -> tuple[Any, Any, Any]:
    """A listener and its first connection, both ends ours: (listener, accepted socket, client socket).

    `server` and `client` are Recorders; `options` go to `listen`.
    """
    listener = transport.listen(server, **options)
    transport.connect(client, listener)
    loop.run_until(lambda: server.sockets and client.sockets)
    return listener, server.sockets[-1], client.sockets[-1]
