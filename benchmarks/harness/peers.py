"""Who answers: one `Peer` for each server in servers/, with its command, its version, and the reason when it cannot run here.

Promises: a missing peer is in the list and says why; nobody is left out silently. Adding a peer is a file in servers/ and an entry in `all_peers`.
It does not know: how a program of a kind is found and started (runtimes.py), what is asked of them, how they are measured.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from harness.build import CannotBuildError, compile_extension, install_package
from harness.machine import first_line
from harness.names import (
    AIO,
    AIO_HTTPS,
    AIO_STAYS,
    AIO_TLS,
    ANY_MODE,
    ASYNC,
    AWAITS,
    BUFFERED,
    CHURN,
    EMBEDDED,
    EVENT_LOOPS,
    FALLBACK,
    FIVE_ONLY,
    HTTP,
    HTTP_EXAMPLE,
    LAYERS,
    LIMIT,
    LOOPS,
    MANY,
    OURS,
    PIPE,
    PROGRAMS,
    PROTOCOL,
    PROXY,
    READER,
    REDIS,
    REDIS_PYTHON,
    REDIS_SLOTS,
    RELAY,
    RESP,
    SCHEDULES,
    SCHEDULING,
    SERIES,
    SINK,
    SLOTS,
    STAYING,
    STREAMS,
    THREADS,
    TLS,
    TRANSPORTS,
    WHOLE_LOOPS,
)
from harness.runtimes import SAYS_OPENSSL, Peer, bun_peer, c_peer, libuv_peer, node_peer, python_peer, server

SAYS_ENGINE = "import pybuntcp; i = pybuntcp.tls_engine_info(); print(i['openssl'] + ', engine ' + i['engine'], i['reason'] or '')"
FORCE_FALLBACK = ("env", "PYBUNTCP_TLS_ENGINE=stdlib")
OUR_VERSION = "pybuntcp.__version__, 'libuv', pybuntcp.libuv_version"
LOOP_MODULES = {  # event loop -> what is imported for it, and what says its version
    "native": ("pybuntcp", OUR_VERSION),
    "uvloop": ("uvloop", "uvloop.__version__"),
    "asyncio": ("platform", "platform.python_version()"),
    "aiofastnet": ("aiofastnet", "aiofastnet.__version__"),
    "aiofastnet-uvloop": ("aiofastnet, uvloop", "aiofastnet.__version__, 'uvloop', uvloop.__version__"),
    "rloop": ("rloop", "rloop.__version__"),
    "zuvloop": ("zuvloop, importlib.metadata as metadata", "metadata.version('zuvloop')"),
    "rsloop": ("rsloop", "rsloop.__version__"),
    "installed-uvloop": (
        "pybuntcp.aio, uvloop",
        f"pybuntcp.aio.install and {OUR_VERSION}, 'uvloop', uvloop.__version__",
    ),
    "installed-asyncio": ("pybuntcp.aio", f"pybuntcp.aio.install and {OUR_VERSION}"),
}
LOOP_WORDS = {
    "native": "pybuntcp's transports",
    "asyncio": "the standard loop",
    "zuvloop": "zuvloop, which is for Python 3.14 and later",
    "rsloop": "rsloop, whose wheels are for glibc 2.39 and later",
    "aiofastnet": "aiofastnet's transports on the standard loop",
    "aiofastnet-uvloop": "aiofastnet's transports on uvloop",
    "installed-uvloop": "uvloop with pybuntcp's transports in place of its own",
    "installed-asyncio": "the standard loop with pybuntcp's transports in place of its own",
}


def our_peer(
    name: str,
    what: str,
    file: str,
    python: str,
    modes: frozenset[str],
    options: tuple[str, ...] = (),
    says: str = SAYS_OPENSSL,
    before: tuple[str, ...] = (),
) -> Peer:
    """A server on pybuntcp."""
    return python_peer(name, what, file, python, "pybuntcp", OUR_VERSION, options, modes, says, before)


def slots_peer(python: str) -> Peer:
    """C functions as handlers: they are compiled for the interpreter that will run them."""
    what = "Cython slots on pybuntcp: no GIL, no objects"
    try:
        options = ("--slots", str(compile_extension("servers/slots/slots_echo.pyx", python)))
    except (CannotBuildError, OSError, subprocess.TimeoutExpired) as error:
        return Peer(SLOTS, what, missing=str(error))
    modes = ANY_MODE | CHURN | THREADS | SERIES | LAYERS | {"tls"}
    return our_peer(SLOTS, what, "pybuntcp_handler.py", python, modes, options, says=SAYS_ENGINE)


def redis_peers(python: str) -> list[Peer]:
    """The RESP servers: Redis, and this project's examples."""
    redis = first_line("redis-server", "--version")
    missing = None if redis else "no redis-server"
    what = "the example in Cython slots"
    try:
        options = ("--package", str(install_package("examples/cython_redis", python)))
        slots = our_peer(REDIS_SLOTS, what, "pybuntcp_examples.py", python, RESP, options)
    except (CannotBuildError, OSError, subprocess.TimeoutExpired) as error:
        slots = Peer(REDIS_SLOTS, what, missing=str(error), modes=RESP)
    return [
        Peer(REDIS, "Redis itself", (python, server("redis_server.py")), redis, missing, modes=RESP),
        slots,
        our_peer(REDIS_PYTHON, "the example in Python", "pybuntcp_examples.py", python, RESP),
    ]


def http_peers(python: str) -> list[Peer]:
    """Servers that speak all of HTTP, beside those that answer each blank line."""
    nginx = first_line("sh", "-c", "nginx -v 2>&1")
    bun = bun_peer("bun-http", "Bun.serve", modes=HTTP)
    return [
        our_peer(HTTP_EXAMPLE, "the example in Python", "pybuntcp_examples.py", python, HTTP),
        Peer(
            "nginx",
            "nginx, one process",
            (python, server("nginx_server.py")),
            nginx,
            None if nginx else "no nginx",
            modes=HTTP,
        ),
        replace(bun, command=(*bun.command[:-1], server("bun_http.ts"))) if bun.command else bun,
        node_peer("node-http", "Node's http server", "node_http.mjs", HTTP),
    ]


def stream_module() -> tuple[str, str | None]:
    """The file of nginx's module for TCP ("" if it is compiled in), or why there is none."""
    nginx = shutil.which("nginx")
    if nginx is None:
        return "", "no nginx"
    given = subprocess.run([nginx, "-V"], capture_output=True, text=True, timeout=30, check=False).stderr.split()
    if "--with-stream" in given:
        return "", None
    folder = next((word.partition("=")[2] for word in given if word.startswith("--modules-path=")), "")
    file = Path(folder, "ngx_stream_module.so")
    return str(file), None if folder and file.exists() else "nginx has no stream module (libnginx-mod-stream)"


def proxy_peers(python: str) -> list[Peer]:
    """TCP proxies: ours by `pipe` and by handlers, Protocols on two loops, and two that are made for it."""
    module, no_nginx = stream_module()
    haproxy, nginx = first_line("haproxy", "-v"), first_line("sh", "-c", "nginx -v 2>&1")
    foreign = (python, server("foreign_proxies.py"), "--program")
    return [
        our_peer(PIPE, "a proxy by socket.pipe", "pybuntcp_proxy.py", python, PROXY),
        our_peer(RELAY, "the same by Python handlers", "pybuntcp_proxy.py", python, PROXY, ("--handlers",)),
        *(
            python_peer(
                f"{loop}-proxy",
                f"a proxy of two Protocols, event loop {loop}",
                "protocol_proxy.py",
                python,
                *LOOP_MODULES[loop],
                ("--loop", loop),
                PROXY,
            )
            for loop in ("uvloop", "asyncio")
        ),
        Peer(
            "haproxy",
            "HAProxy, mode tcp, one thread",
            (*foreign, "haproxy"),
            haproxy,
            None if haproxy else "no haproxy",
            modes=PROXY,
        ),
        Peer(
            "nginx-stream",
            "nginx's stream proxy, one process",
            (*foreign, "nginx"),
            nginx,
            no_nginx,
            ("--module", module) if module else (),
            PROXY,
        ),
    ]


def loop_peers(loop: str, python: str) -> list[Peer]:
    """pybuntcp inside one asyncio event loop."""
    joined = ("pybuntcp", OUR_VERSION)
    if loop == "uvloop":
        joined = ("pybuntcp, uvloop", f"{OUR_VERSION}, 'uvloop', uvloop.__version__")

    def inside(name: str, what: str, modes: frozenset[str], *form: str) -> Peer:
        what = f"pybuntcp, event loop {loop}, {what}"
        return python_peer(name, what, "pybuntcp_asyncio.py", python, *joined, ("--loop", loop, *form), modes)

    return [
        inside(EMBEDDED[loop], "Python handlers", LOOPS | LAYERS | (AIO if loop == "native" else frozenset())),
        inside(READER[loop], "socket.reader()", AWAITS | (LAYERS if loop == "native" else frozenset()), "--reader"),
        inside(ASYNC[loop], "async def handlers", AWAITS, "--async-handlers"),
    ]


FURTHER = {  # what a Protocol on that loop is asked beside what all are
    **dict.fromkeys(EVENT_LOOPS, CHURN | LOOPS | TLS | SERIES),
    "aiofastnet": CHURN | TLS,
    "aiofastnet-uvloop": CHURN | TLS | SERIES,
    "rloop": SERIES,
}
# rloop 0.5 has no TLS; it tells a Protocol that the connection is lost, and leaves it open
CANNOT = {"rloop": AIO_TLS | {AIO_HTTPS, "aio-churn"}}


def protocol_peers(python: str) -> list[Peer]:
    """An asyncio.Protocol on each event loop."""

    def modes_on(loop: str) -> frozenset[str]:
        if loop in STAYING:
            return AIO_STAYS | AIO_TLS
        return (MANY | AIO | AIO_TLS | FURTHER.get(loop, frozenset())) - CANNOT.get(loop, frozenset())

    def on(loop: str) -> Peer:
        modes = modes_on(loop)
        what, options = f"asyncio.Protocol on {LOOP_WORDS.get(loop, loop)}", ("--loop", loop)
        return python_peer(PROTOCOL[loop], what, "asyncio_protocol.py", python, *LOOP_MODULES[loop], options, modes)

    return [on(loop) for loop in TRANSPORTS]


def scheduling_peers(python: str) -> list[Peer]:
    """Each event loop without sockets."""
    return [
        python_peer(
            SCHEDULING[loop],
            f"{LOOP_WORDS.get(loop, loop)}, without sockets",
            "asyncio_scheduling.py",
            python,
            *LOOP_MODULES[loop],
            ("--loop", loop),
            SCHEDULES,
        )
        for loop in WHOLE_LOOPS
    ]


def transport_peers(loop: str, python: str) -> list[Peer]:
    """Other asyncio programs on one event loop: streams, a BufferedProtocol, and those of others."""
    module, version = LOOP_MODULES[loop]

    def program(name: str, what: str, file: str, modes: frozenset[str], *needs: str) -> Peer:
        imported, said = ", ".join((module, *needs)), ", ".join((version, *(f"'{n}', {n}.__version__" for n in needs)))
        what = f"{what}, on {LOOP_WORDS.get(loop, loop)}"
        able = modes - CANNOT.get(loop, frozenset())
        return python_peer(name, what, file, python, imported, said, ("--loop", loop), modes=able)

    def program_of_others(name: str, what: str, file: str, needs: str, *more: str) -> Peer:
        return program(PROGRAMS[name][loop], f"{name} {what}", file, frozenset({f"aio-{name}", *more}), needs)

    if loop in STAYING:
        return [
            program(STREAMS[loop], "asyncio's streams", "asyncio_streams.py", frozenset({"aio-streams"})),
            program(
                PROGRAMS["uvicorn"][loop],
                "uvicorn and a tiny application",
                "asyncio_http.py",
                frozenset({AIO_HTTPS}),
                "uvicorn",
            ),
        ]
    streams = frozenset({"aio-streams", "aio-exactly"}) | (AWAITS | {"echo"} if loop in EVENT_LOOPS else frozenset())
    buffered = frozenset({"aio-buffered"}) | ({"echo", "upload", "tls"} if loop in EVENT_LOOPS else frozenset())
    return [
        program(STREAMS[loop], "asyncio's streams", "asyncio_streams.py", streams),
        program(BUFFERED[loop], "asyncio.BufferedProtocol", "asyncio_buffered.py", buffered),
        program_of_others("uvicorn", "and a tiny application", "asyncio_http.py", "uvicorn", AIO_HTTPS),
        program_of_others("aiohttp", "and a tiny application", "asyncio_http.py", "aiohttp"),
        program_of_others("redis-py", "as a client", "asyncio_clients.py", "redis"),
        program_of_others("asyncpg", "as a client", "asyncio_clients.py", "asyncpg"),
    ]


def all_peers(python: str) -> list[Peer]:
    """Everybody, in the order of the tables; the limit first."""
    return [
        c_peer(LIMIT, "bare C on epoll: one read, one write", modes=MANY | CHURN | THREADS | SERIES | LAYERS),
        libuv_peer("c-libuv", "bare C on libuv: one read, one uv_try_write"),
        c_peer("c-epoll-gathered", "the same, pieces gathered by hand", options=("--gather",), modes=FIVE_ONLY),
        our_peer(
            OURS,
            "Python handlers on pybuntcp",
            "pybuntcp_handler.py",
            python,
            MANY | CHURN | THREADS | LOOPS | AWAITS | TLS | SERIES | LAYERS | AIO | AIO_TLS,
            says=SAYS_ENGINE,
        ),
        our_peer(
            FALLBACK,
            "the same, TLS by the standard library's objects",
            "pybuntcp_handler.py",
            python,
            TLS,
            says=SAYS_ENGINE,
            before=FORCE_FALLBACK,
        ),
        our_peer(
            SINK,
            "the same, pieces into a SocketSink",
            "pybuntcp_handler.py",
            python,
            FIVE_ONLY | LAYERS,
            ("--sink",),
        ),
        slots_peer(python),
        *(peer for loop in EVENT_LOOPS for peer in loop_peers(loop, python)),
        *protocol_peers(python),
        *(peer for loop in TRANSPORTS for peer in transport_peers(loop, python)),
        *scheduling_peers(python),
        python_peer(
            "gevent",
            "a greenlet a connection",
            "gevent_echo.py",
            python,
            "gevent",
            "gevent.__version__",
            modes=ANY_MODE | CHURN,
        ),
        bun_peer("bun", "Bun.listen", modes=MANY | CHURN | TLS | SERIES),
        bun_peer(
            "bun-sink",
            "Bun.listen with an ArrayBufferSink",
            options=("--sink",),
            modes=FIVE_ONLY | {"tls-fifty"},
        ),
        node_peer("node", "Node's net and tls", "node_echo.mjs", MANY | CHURN | TLS | SERIES),
        *redis_peers(python),
        *http_peers(python),
        *proxy_peers(python),
    ]
