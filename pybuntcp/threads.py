"""threads: one port, several cores.

Owns `listen_threads`: N threads, each with a loop and a listener of its own on the same port
(SO_REUSEPORT); the kernel gives each connection to one of them, which serves it to its end.

A thread gets its commands over a socket pair, whose far end its loop watches like any other
connection. Nothing else is shared between the loops but the handlers.

Promises: all of them listen, or none; after Ctrl-C `wait` returns only when all have stopped. A forked child has none
of these threads: a command that it sends does not reach those of its parent.
Does not know what the handlers do. Handlers run in parallel only where they do not hold the GIL: in slots (see
docs/cython.md), or on a free-threaded interpreter.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from . import _core
from .api import connect, listen, run
from .checks import integer

STOP, CLOSE = b"s", b"c"
THREADS_MAX = 1024


class ListenerThreads:
    """Listeners on one port, each in a thread of its own; made by `listen_threads`.

    `with threads:` calls `stop(True)` and `wait()` on exit; a program that never calls `stop` does not end, because
    the threads go on. All methods may be called from any thread.
    """

    _workers: list[_Worker]
    _ended: threading.Event
    _process: int

    def __init__(self) -> None:
        raise TypeError("threads are made by listen_threads()")

    @property
    def port(self) -> int:
        """The port they share."""
        return self._workers[0].listener.port or 0

    @property
    def hostname(self) -> str | Any | None:
        """The option as it was given: one name, or a list or tuple of them."""
        return self._workers[0].listener.hostname

    @property
    def connections(self) -> int:
        """Sockets open now, of all threads."""
        return sum(worker.listener.connections for worker in self._workers)

    def stats(self) -> list[dict[str, float]]:
        """The counters of each thread, in a dict each: `Listener.loop_stats()` and `Listener.stats()` in one.

        A thread's loop has one open socket more than its listener has connections, because the thread gets its commands
        over a socket.
        """
        return [{**worker.listener.loop_stats(), **worker.listener.stats()} for worker in self._workers]

    def stop(self, close_active_connections: bool = False) -> None:
        """As `Listener.stop`, in every thread, soon. Each thread ends when its last socket has closed. Idempotent.

        In a forked child, which has none of the threads, it does nothing.
        """
        for worker in self._workers:
            worker.command(CLOSE if close_active_connections else STOP)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every thread has ended, for at most `timeout` seconds. Returns whether they have.

        Ctrl-C here, or a handler's KeyboardInterrupt or SystemExit in any thread, stops them all, open sockets
        included, and is raised when they have ended. In a forked child, which has none of them: True, at once.
        """
        if isinstance(timeout, bool):
            raise TypeError("timeout must be a number of seconds or None, not 'bool'")
        if os.getpid() != self._process:
            return True
        try:
            if not self._ended.wait(timeout):
                return False
        except KeyboardInterrupt:
            self.stop(True)
            self._ended.wait()
            raise
        for worker in self._workers:
            worker.thread.join()
            if worker.failure is not None:
                raise worker.failure
        return True

    def __enter__(self) -> ListenerThreads:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(True)
        self.wait()

    def __repr__(self) -> str:
        return f"<pybuntcp.ListenerThreads {len(self._workers)} on {self.hostname} port {self.port}>"


class _Worker:
    """One thread, its listener, and the near end of the socket pair over which it gets commands."""

    listener: _core.Listener
    listening = False
    failure: BaseException | None = None
    _process: int  # that started it: a forked child has copies of the socket pair, and of locks that were held

    def __init__(self, number: int, ended: Callable[[_Worker], None]) -> None:
        self.control, self._far = socket.socketpair()
        self.control.setblocking(False)
        self.thread = threading.Thread(target=self._serve, name=f"pybuntcp-{number}")
        self._ended = ended
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._started = threading.Event()

    def start(self, options: dict[str, Any], setup: Callable[[_core.Listener], object] | None) -> None:
        """Listen in the thread. An exception of that is raised here."""
        self._options, self._setup = options, setup
        self.thread.start()
        self._started.wait()
        if not self.listening:
            assert self.failure is not None
            raise self.failure

    def command(self, what: bytes) -> None:
        """A command may be lost when the socket's buffer is full, but then it has enough of them already."""
        if os.getpid() != self._process:
            return
        with self._lock, contextlib.suppress(OSError):
            self.control.send(what)

    def _serve(self) -> None:
        try:
            self._listen()
            self.listening = True
            self._started.set()
            run()
        except BaseException as error:
            self.failure = error
        self._leave()
        self._started.set()

    def _listen(self) -> None:
        self.listener = listen(**self._options)
        try:
            connect(fd=self._far.detach(), socket={"open": lambda far: far.unref(), "data": self._obey})
            if self._setup is not None:
                self._setup(self.listener)
        except BaseException:
            self.listener.stop()
            raise

    def _obey(self, far: _core.Socket[Any], commands: bytes) -> None:
        self.listener.stop(CLOSE in commands)

    def _leave(self) -> None:
        """The thread ends, and its loop with it."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self.control.close()
            self._far.close()
        self._ended(self)


def listen_threads(
    count: int | None = None,
    /,
    *,
    setup: Callable[[_core.Listener], object] | None = None,
    **options: Any,
) -> ListenerThreads:
    """Listen on one port with `count` threads, each with a loop of its own; they serve at once.

    count: None = the number of cores this process may use, or that of PYTHON_CPU_COUNT or `-X cpu_count`. setup: called
    in each thread with its `Listener` before anything is accepted, to `reload` it with handlers, or give it `data`, of
    its own. The other options are those of `listen`; `reuse_port` is implied, and `unix`, `fd` and `exclusive` cannot be
    used. A `port` of 0 is picked once, for all threads.

    The kernel picks a connection's thread by its addresses and ports (Linux; elsewhere one thread may get all), and the
    connection stays there. All threads share the handlers; locking whatever else they share is up to the handlers.

    Errors: as `listen`, and those of `setup`; then no thread is left. RuntimeError where gevent or eventlet has
    replaced threads by greenlets, because each would wait for the first for ever. Source: SO_REUSEPORT in socket(7);
    one process for each core in Bun.
    """
    refused = [name for name in ("unix", "fd", "exclusive") if options.get(name)]
    if refused:
        raise TypeError(f"{refused[0]} does not go with threads: they share a port")
    count = usable_cores() if count is None else integer("count", count, 1, THREADS_MAX)
    refuse_greenlets()
    options["socket"] = _core.compile_handlers(_core.either(options.get("socket"), options.pop("handlers", None)))
    return _start(count, options | {"reuse_port": True}, setup)


def _start(count: int, options: dict[str, Any], setup: Callable[[_core.Listener], object] | None) -> ListenerThreads:
    threads = ListenerThreads.__new__(ListenerThreads)
    threads._workers, threads._ended, threads._process = [], threading.Event(), os.getpid()
    alive = count

    def ended(worker: _Worker) -> None:
        nonlocal alive
        with lock:
            alive -= 1
            if alive == 0:
                threads._ended.set()
        if worker.failure is not None:
            threads.stop(True)

    lock = threading.Lock()
    try:
        for number in range(count):
            worker = _Worker(number, ended)
            threads._workers.append(worker)
            worker.start(options, setup)
            options["port"] = worker.listener.port
    except BaseException:
        threads.stop(True)
        for worker in threads._workers:
            if worker.thread.ident is not None:
                worker.thread.join()
        raise
    if any(worker.failure is not None for worker in threads._workers):
        threads.stop(True)  # a thread that failed early has stopped only those that had started by then
    return threads


def usable_cores() -> int:
    """The number of cores to use: a setting, as Python 3.13 reads it, or else the cores this process may run on."""
    if sys.version_info >= (3, 13):
        return min(os.process_cpu_count() or 1, THREADS_MAX)
    setting = sys._xoptions.get("cpu_count") or (
        not sys.flags.ignore_environment and os.environ.get("PYTHON_CPU_COUNT")
    )
    if isinstance(setting, str) and setting.isascii() and setting.isdigit() and int(setting) > 0:
        return min(int(setting), THREADS_MAX)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse_greenlets() -> None:
    """RuntimeError if `threading` makes greenlets. Neither package is imported here."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        by = "gevent's monkey patch (gevent.monkey.patch_all, patch_thread)"
    elif eventlet is not None and eventlet.is_monkey_patched("thread"):
        by = "eventlet's monkey patch (eventlet.monkey_patch)"
    else:
        return
    raise RuntimeError(
        f"listen_threads() needs threads of the system, and {by} has put greenlets in their place: "
        "leave threads out of the patch (thread=False), or use listen() in processes of their own"
    )
