"""api: `listen`, `connect`, `run` and `new_event_loop`, with their options spelled out.

Owns the signatures and their documentation. This is the one place that joins the options of a call (options), which
are checked there, with what `tls=` leads to (tls); the core does the work. It also gives the core the two functions by
which `Listener.reload` and `Socket.upgrade_tls` read `tls=`, and the one that judges short writes, so that no extension
imports a module of the facade.
"""

from __future__ import annotations

from collections.abc import Coroutine
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _core
from .checks import seconds
from .options import ConnectOptions, ListenOptions
from .runner import run_coroutine
from .short_writes import ShortWriteWarning, is_unnoticed, show_by_default
from .tls.reader import read_in_place, read_tls, read_upgrade
from .typed import HandlersLike

if TYPE_CHECKING:  # what a program does not use, it does not import
    import asyncio

    from .tls.options import TLSOption

Result = TypeVar("Result")

_core.set_tls_readers(read_tls, read_upgrade, read_in_place)
_core.short_write_register(is_unnoticed, ShortWriteWarning)
show_by_default()


def listen(
    *,
    socket: HandlersLike | None = None,
    handlers: HandlersLike | None = None,
    hostname: str | list[str] | tuple[str, ...] | None = None,
    port: int | None = None,
    unix: str | PathLike[str] | None = None,
    fd: int | None = None,
    data: Any = None,
    tls: TLSOption = None,
    exclusive: bool = False,
    reuse_port: bool = False,
    ipv6_only: bool = False,
    allow_half_open: bool = False,
    pause_on_connect: bool = False,
    backlog: int = 512,
    no_delay: bool = True,
    keep_alive: float | None = None,
    high_water_mark: int = 65536,
    idle_timeout: float | None = None,
    read_timeout: float | None = None,
    handshake_timeout: float | None = 10.0,
    linger_timeout: float | None = 30.0,
    slow_handler: float | None = None,
    max_connections: int | None = None,
    unlink: bool = True,
    mode: int | None = None,
    owner: str | int | tuple[str | int | None, str | int | None] | None = None,
) -> _core.Listener:
    """Listen for stream connections; all of them share one set of handlers.

    socket, handlers: the handlers, see `Handlers`; these are two names of one option, and one of them is required.
    hostname, port: where to listen. A name with several addresses, as `localhost`, listens on all of them, and a list
    of names and addresses is accepted. "::" takes IPv4 too unless `ipv6_only`. Port 0 picks a free one, which
    `listener.port` returns.
    unix: a path in place of them; a leading NUL makes it abstract.
    fd: a listening descriptor in place of them, which the listener adopts: it closes it, and child programs do not
    inherit it.

    data: the first value of `socket.data` of every accepted socket, by reference.
    tls: `TLSOptions`, a mapping with the same keys, or an `ssl.SSLContext`; None = plain.
    exclusive, reuse_port: share the port with other listeners (SO_REUSEPORT) or, the default, do not.
    allow_half_open: stay writable after the peer's end. pause_on_connect: open paused.
    backlog: connections the kernel keeps waiting. no_delay: TCP_NODELAY.
    keep_alive: seconds idle before the kernel probes; None = off.
    high_water_mark: bytes one socket may hold unsent; 0 = Bun's literal mode, nothing is buffered.
    idle_timeout, read_timeout, handshake_timeout, linger_timeout: seconds; None = for ever. The time of `read_timeout`
    is one in which nothing is received.
    slow_handler: seconds; a handler that takes longer is logged by the logger "pybuntcp"; None = not measured.
    max_connections: accepting pauses at this number.
    unlink: remove the file of `unix` at stop and at exit, if it is still the one made here; False: never, for a
    program that hands the socket over to another. A file that a killed process left behind at that path is replaced.
    mode, owner: the permissions of the file, for example 0o660, and its owner: "user", "user:group", ":group", a uid,
    or a pair of user and group. Both are set before anybody can connect; None: as the system makes it.

    Errors: TypeError or ValueError naming a wrong option, before any I/O; OSError with
    `errno`, `code`, `syscall`, `address`, `port`; `socket.gaierror` for a name.

    Source: `Bun.listen`. Bun: closes the port's file by path, spins at the descriptor limit.
    """
    socket = _core.either(socket, handlers)
    options = ListenOptions(
        hostname=hostname,
        port=port,
        unix=unix,
        fd=fd,
        data=data,
        exclusive=exclusive,
        reuse_port=reuse_port,
        ipv6_only=ipv6_only,
        allow_half_open=allow_half_open,
        pause_on_connect=pause_on_connect,
        backlog=backlog,
        no_delay=no_delay,
        keep_alive=keep_alive,
        high_water_mark=high_water_mark,
        idle_timeout=idle_timeout,
        read_timeout=read_timeout,
        handshake_timeout=handshake_timeout,
        linger_timeout=linger_timeout,
        slow_handler=slow_handler,
        max_connections=max_connections,
        unlink=unlink,
        mode=mode,
        owner=owner,
    )
    options.tls = read_tls(tls, True, None)
    return _core.listen_on(_core.compile_handlers(socket), options)


def connect(
    *,
    socket: HandlersLike | None = None,
    handlers: HandlersLike | None = None,
    hostname: str | None = None,
    port: int | None = None,
    unix: str | PathLike[str] | None = None,
    fd: int | None = None,
    data: Any = None,
    tls: TLSOption = None,
    allow_half_open: bool = False,
    no_delay: bool = True,
    keep_alive: float | None = None,
    high_water_mark: int = 65536,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    read_timeout: float | None = None,
    handshake_timeout: float | None = 10.0,
    linger_timeout: float | None = 30.0,
    slow_handler: float | None = None,
    local_address: str | None = None,
    local_port: int = 0,
) -> _core.Connecting:
    """Connect: starts at once, and returns a `Connecting` to await, query or cancel.

    All addresses of a name are tried (happy eyeballs). `localhost` reaches whichever family listens. A name that is not
    ASCII needs the extra `pybuntcp[idna]`. Then the loop calls `open(socket)` or `connect_error(socket, error)`, once,
    and never before this call has returned.

    socket, handlers: the handlers; these are two names of one option. None opens paused.
    timeout: seconds for name and connection together; None = for ever.
    local_address, local_port: where to connect from; the address is an IP literal.
    fd: a connected descriptor, which the socket adopts.
    tls: as in `listen`; True or {} = all defaults: the peer's certificate must be valid, and for `hostname`.
    The others are as in `listen`.

    Errors at the call: TypeError or ValueError naming a wrong option. Everything else is an outcome of the attempt:
    OSError with `errno`, `code`, `syscall`, `address`, `port`; `socket.gaierror`; TimeoutError; `ssl.SSLError` for a
    handshake that fails and a peer that is refused.

    Source: `Bun.connect`. Bun: dials all addresses at once, has no timeout and no cancel.
    """
    socket = _core.either(socket, handlers)
    options = ConnectOptions(
        hostname=hostname,
        port=port,
        unix=unix,
        fd=fd,
        data=data,
        allow_half_open=allow_half_open,
        pause_on_connect=socket is None,
        no_delay=no_delay,
        keep_alive=keep_alive,
        high_water_mark=high_water_mark,
        timeout=timeout,
        idle_timeout=idle_timeout,
        read_timeout=read_timeout,
        handshake_timeout=handshake_timeout,
        linger_timeout=linger_timeout,
        slow_handler=slow_handler,
        local_address=local_address,
        local_port=local_port,
    )
    options.tls = read_tls(tls, False, hostname)
    return _core.connect_on(None if socket is None else _core.compile_handlers(socket), options)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An asyncio event loop on which any asyncio program runs: a `pybuntcp.aio.EventLoop`.

    Use it as `asyncio.run(main(), loop_factory=pybuntcp.new_event_loop)`, or by `run(main())`. Its stream connections run
    on pybuntcp's sockets; everything else is the standard library's. `listen` and `connect` work in any other asyncio
    loop as well; this one costs least.
    """
    from .aio import EventLoop

    return EventLoop()


def tls_engine_info() -> dict[str, Any]:
    """Which engine secures connections: `{"engine", "reason", "openssl"}`.

    engine: "borrowed", which works on OpenSSL's connection itself, or "stdlib", the slower fallback
    on `ssl.SSLObject`. reason: why the fallback is used, else None. openssl: the version, which is that
    of the `ssl` module. `PYBUNTCP_TLS_ENGINE=stdlib` in the environment chooses the fallback.
    """
    from . import _tls

    return dict(_tls.engine_info())


@overload
def run(main: None = None, /, *, debug: bool | None = None, timeout: float | None = None) -> None: ...
@overload
def run(main: Coroutine[Any, Any, Result], /, *, debug: bool | None = None, timeout: float | None = None) -> Result: ...
def run(main: Any = None, /, *, debug: bool | None = None, timeout: float | None = None) -> Any:
    """Run this thread's loop until no referenced handle is left; or run a coroutine.

    Listeners, sockets, connection attempts, timers and callables of `threadsafe` are referenced unless `unref()` was
    called.
    Ctrl-C raises KeyboardInterrupt here, also while the loop is idle; a KeyboardInterrupt or
    SystemExit that a handler raises is raised here, too. `run` may be called again afterwards.

    main: a coroutine, which runs as under `asyncio.run`, on a loop of `new_event_loop`; its
    result is returned. debug: asyncio's debug mode.

    timeout: seconds; None = no limit. Without `main`, everything that is open, referenced or not, is served for that long;
    a handler that runs at the end is not interrupted. 0 serves what is ready, once, and does not wait. `run` returns
    earlier when nothing is open any more. With `main`, a coroutine that takes longer is cancelled, and TimeoutError is
    raised, as by `asyncio.wait_for`.

    Errors: RuntimeError inside a handler, or where an asyncio loop runs; TypeError, ValueError naming `timeout`.
    Source: the lifetime of a Bun process; `asyncio.run`.
    """
    limit = None if timeout is None else run_seconds(main, timeout)
    if main is None:
        return _core.run_loop() if limit is None else _core.run_loop(limit)
    if _core.is_running():
        main.close()
        raise RuntimeError("run() was called inside a handler: this thread's loop is running")
    return run_coroutine(main, debug, limit)


def run_seconds(main: Any, timeout: Any) -> float:
    """The checked `timeout`. If it is wrong, the coroutine that nobody will await is closed."""
    try:
        if isinstance(timeout, bool):
            raise TypeError("timeout must be a number of seconds or None, not 'bool'")
        return seconds("timeout", timeout)
    except BaseException:
        if isinstance(main, Coroutine):
            main.close()
        raise
