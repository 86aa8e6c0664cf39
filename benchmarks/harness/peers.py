"""Who answers: one `Peer` for each server in servers/, with its command, its version, and the reason when it cannot run here.

Promises: a missing peer is in the list and says why; nobody is left out silently. Adding a peer is a file in servers/ and an entry in `all_peers`.
It does not know: what is asked of them, how they are measured.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build import HERE, CannotBuildError, compile_extension, compile_program, install_package
from harness.machine import first_line
from harness.names import (
    AIO,
    ANY_MODE,
    ASKED,
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
    SERIES,
    SINK,
    SLOTS,
    STREAMS,
    THREADS,
    TLS,
    TLS_FOLDER,
    TRANSPORTS,
)

SAYS_OPENSSL = "import ssl; print(ssl.OPENSSL_VERSION)"
SAYS_ENGINE = "import pybuntcp; i = pybuntcp.tls_engine_info(); print(i['openssl'] + ', engine ' + i['engine'], i['reason'] or '')"
CANNOT: frozenset[tuple[str, str]] = frozenset()  # (loop, program)
FORCE_FALLBACK = ("env", "PYBUNTCP_TLS_ENGINE=stdlib")


@dataclass(frozen=True)
class Peer:
    """A server program. `command` lacks only `--mode ... --host ... --port ...`."""

    name: str
    what: str
    command: tuple[str, ...] = ()
    version: str | None = None
    missing: str | None = None
    options: tuple[str, ...] = ()
    modes: frozenset[str] = ANY_MODE
    openssl: tuple[str, ...] = ()  # a command that says which library it does TLS with

    def start_command(self, mode: str, threads: int = 0, upstream: int = 0) -> list[str]:
        behind = ["--upstream", str(upstream)] if upstream else []
        several = ["--threads", str(threads)] if threads else []
        secured = ["--tls", str(TLS_FOLDER)] if mode in TLS else []
        return [
            *self.command,
            "--mode",
            ASKED.get(mode, "echo"),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            *self.options,
            *behind,
            *several,
            *secured,
        ]


def server(file: str) -> str:
    return str(HERE / "servers" / file)


def c_peer(name: str, what: str, options: tuple[str, ...] = (), modes: frozenset[str] = ANY_MODE) -> Peer:
    try:
        program = compile_program("servers/c_epoll.c")
    except CannotBuildError as error:
        return Peer(name, what, missing=str(error), options=options, modes=modes)
    return Peer(
        name, what, (str(program),), first_line(os.environ.get("CC", "cc"), "--version"), options=options, modes=modes
    )


def libuv_peer(name: str, what: str) -> Peer:
    """Needs the libuv that was built with pybuntcp in this work tree."""
    modes = frozenset({"echo"}) | CHURN | SERIES | LAYERS
    built = sorted(HERE.parent.glob("build/cp*/libuv/libuv.a"), key=lambda file: file.stat().st_mtime)
    if not built:
        return Peer(name, what, missing="no libuv.a under build/: install pybuntcp from this work tree", modes=modes)
    try:
        program = compile_program("servers/c_libuv.c", (f"-I{HERE.parent / 'vendor/libuv/include'}", str(built[-1])))
    except CannotBuildError as error:
        return Peer(name, what, missing=str(error), modes=modes)
    return Peer(name, what, (str(program),), first_line(os.environ.get("CC", "cc"), "--version"), modes=modes)


def python_peer(
    name: str,
    what: str,
    file: str,
    python: str,
    module: str,
    version: str,
    options: tuple[str, ...] = (),
    modes: frozenset[str] = ANY_MODE,
    says: str = SAYS_OPENSSL,
    before: tuple[str, ...] = (),
) -> Peer:
    """A peer that is a Python module; it is asked for its version in the interpreter that will run it."""
    said, missing = ask_version(python, module, version)
    command = () if missing else (*before, python, server(file))
    return Peer(name, what, command, said, missing, options, modes, (*before, python, "-I", "-c", says))


@functools.cache
def ask_version(python: str, module: str, version: str) -> tuple[str | None, str | None]:
    """What it says, or why it cannot."""
    question = f"import {module}; print({version})"
    try:
        done = subprocess.run(
            [python, "-c", question], capture_output=True, text=True, timeout=30, check=False, cwd=HERE / "servers"
        )  # as the server will see it
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{python}: {error}"
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()
        return None, f"cannot import {module}: {last[-1] if last else 'no message'}"
    return done.stdout.strip(), None


def find_bun() -> str | None:
    """BUN alone if that is set, else ours, which tests/peers/install.sh installs, else that in PATH."""
    ours = str(HERE.parent / "build" / "peers" / "node_modules" / ".bin" / "bun")
    candidates = [os.environ["BUN"]] if "BUN" in os.environ else [ours, shutil.which("bun")]
    return next((c for c in candidates if c and os.access(c, os.X_OK)), None)


def bun_peer(name: str, what: str, options: tuple[str, ...] = (), modes: frozenset[str] = ANY_MODE) -> Peer:
    bun = find_bun()
    if bun is None:
        return Peer(
            name,
            what,
            missing="no bun (`make peers` installs it, if there is npm)",
            options=options,
            modes=modes,
        )
    said = (bun, "-e", "console.log('BoringSSL', process.versions.boringssl)")
    command = (bun, "run", server("bun_echo.ts"))
    return Peer(name, what, command, first_line(bun, "--version"), options=options, modes=modes, openssl=said)


def node_peer(name: str, what: str, file: str, modes: frozenset[str]) -> Peer:
    version = first_line("node", "--version")
    said = ("node", "-p", "'OpenSSL ' + process.versions.openssl")
    missing = None if version else "no node on the path"
    return Peer(name, what, ("node", server(file)), version, missing, modes=modes, openssl=said)


def slots_peer(python: str, version: str) -> Peer:
    """C functions as handlers: they are compiled for the interpreter that will run them."""
    what = "Cython slots on pybuntcp: no GIL, no objects"
    try:
        options = ("--slots", str(compile_extension("servers/slots/slots_echo.pyx", python)))
    except (CannotBuildError, OSError, subprocess.TimeoutExpired) as error:
        return Peer(SLOTS, what, missing=str(error))
    modes = ANY_MODE | CHURN | THREADS | SERIES | LAYERS | {"tls"}
    return python_peer(
        SLOTS, what, "pybuntcp_handler.py", python, "pybuntcp", version, options=options, modes=modes, says=SAYS_ENGINE
    )


def redis_peers(python: str, version: str) -> list[Peer]:
    """The RESP servers: Redis, and this project's examples."""
    redis = first_line("redis-server", "--version")
    missing = None if redis else "no redis-server"
    what = "the example in Cython slots"
    try:
        options = ("--package", str(install_package("examples/cython_redis", python)))
        slots = python_peer(REDIS_SLOTS, what, "pybuntcp_examples.py", python, "pybuntcp", version, options, RESP)
    except (CannotBuildError, OSError, subprocess.TimeoutExpired) as error:
        slots = Peer(REDIS_SLOTS, what, missing=str(error), modes=RESP)
    return [
        Peer(REDIS, "Redis itself", (python, server("redis_server.py")), redis, missing, modes=RESP),
        slots,
        python_peer(
            REDIS_PYTHON, "the example in Python", "pybuntcp_examples.py", python, "pybuntcp", version, modes=RESP
        ),
    ]


def http_peers(python: str, version: str) -> list[Peer]:
    """Servers that speak all of HTTP, beside those that answer each blank line."""
    nginx = first_line("sh", "-c", "nginx -v 2>&1")
    bun = bun_peer("bun-http", "Bun.serve", modes=HTTP)
    return [
        python_peer(
            HTTP_EXAMPLE, "the example in Python", "pybuntcp_examples.py", python, "pybuntcp", version, modes=HTTP
        ),
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


def proxy_peers(python: str, version: str) -> list[Peer]:
    """TCP proxies: ours by `pipe` and by handlers, Protocols on two loops, and two that are made for it."""
    module, no_nginx = stream_module()
    haproxy, nginx = first_line("haproxy", "-v"), first_line("sh", "-c", "nginx -v 2>&1")
    foreign = (python, server("foreign_proxies.py"), "--program")
    loops = {"uvloop": ("uvloop", "uvloop.__version__"), "asyncio": ("platform", "platform.python_version()")}

    def own(name: str, what: str, *options: str) -> Peer:
        return python_peer(name, what, "pybuntcp_proxy.py", python, "pybuntcp", version, options, PROXY)

    return [
        own(PIPE, "a proxy by socket.pipe"),
        own(RELAY, "the same by Python handlers", "--handlers"),
        *(
            python_peer(
                f"{loop}-proxy",
                f"a proxy of two Protocols, event loop {loop}",
                "protocol_proxy.py",
                python,
                *loops[loop],
                ("--loop", loop),
                PROXY,
            )
            for loop in loops
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


def loop_peers(loop: str, python: str, ours: str) -> list[Peer]:
    """pybuntcp inside one asyncio event loop."""
    joined = ("pybuntcp, uvloop", f"{ours}, 'uvloop', uvloop.__version__") if loop == "uvloop" else ("pybuntcp", ours)
    chosen = ("--loop", loop)

    def inside(name: str, what: str, modes: frozenset[str], *form: str) -> Peer:
        what = f"pybuntcp, event loop {loop}, {what}"
        return python_peer(name, what, "pybuntcp_asyncio.py", python, *joined, (*chosen, *form), modes)

    return [
        inside(EMBEDDED[loop], "Python handlers", LOOPS | LAYERS | (AIO if loop == "native" else frozenset())),
        inside(READER[loop], "socket.reader()", AWAITS | (LAYERS if loop == "native" else frozenset()), "--reader"),
        inside(ASYNC[loop], "async def handlers", AWAITS, "--async-handlers"),
    ]


def transport_peers(loop: str, python: str, ours: str) -> list[Peer]:
    """asyncio programs on one event loop: streams, a BufferedProtocol, and those of others. The plain Protocols are in `all_peers`."""
    modules = {
        "native": ("pybuntcp", ours),
        "uvloop": ("uvloop", "uvloop.__version__"),
        "asyncio": ("platform", "platform.python_version()"),
        "aiofastnet": ("aiofastnet", "aiofastnet.__version__"),
        "aiofastnet-uvloop": ("aiofastnet, uvloop", "aiofastnet.__version__, 'uvloop', uvloop.__version__"),
        "rloop": ("rloop", "rloop.__version__"),
    }
    module, version = modules[loop]

    def program(name: str, what: str, file: str, modes: frozenset[str], *needs: str) -> Peer:
        imported, said = ", ".join((module, *needs)), ", ".join((version, *(f"'{n}', {n}.__version__" for n in needs)))
        return python_peer(
            name, f"{what}, event loop {loop}", file, python, imported, said, ("--loop", loop), modes=modes
        )

    servers = [
        program(
            PROGRAMS[name][loop], f"{name} and a tiny application", "asyncio_http.py", frozenset({f"aio-{name}"}), name
        )
        for name in ("uvicorn", "aiohttp")
        if (loop, name) not in CANNOT
    ]
    clients = [
        program(PROGRAMS[name][loop], f"{name} as a client", "asyncio_clients.py", frozenset({f"aio-{name}"}), module)
        for name, module in (("redis-py", "redis"), ("asyncpg", "asyncpg"))
        if (loop, name) not in CANNOT
    ]
    streams = frozenset({"aio-streams", "aio-exactly"}) | (AWAITS | {"echo"} if loop in EVENT_LOOPS else frozenset())
    buffered = frozenset({"aio-buffered"}) | ({"echo", "upload", "tls"} if loop in EVENT_LOOPS else frozenset())
    return [
        program(STREAMS[loop], "asyncio's streams", "asyncio_streams.py", streams),
        program(BUFFERED[loop], "asyncio.BufferedProtocol", "asyncio_buffered.py", buffered),
        *servers,
        *clients,
    ]


def all_peers(python: str) -> list[Peer]:
    """Everybody, in the order of the tables; the limit first."""
    ours = "pybuntcp.__version__, 'libuv', pybuntcp.libuv_version"
    return [
        c_peer(LIMIT, "bare C on epoll: one read, one write", modes=MANY | CHURN | THREADS | SERIES | LAYERS),
        libuv_peer("c-libuv", "bare C on libuv: one read, one uv_try_write"),
        c_peer("c-epoll-gathered", "the same, pieces gathered by hand", options=("--gather",), modes=FIVE_ONLY),
        python_peer(
            OURS,
            "Python handlers on pybuntcp",
            "pybuntcp_handler.py",
            python,
            "pybuntcp",
            ours,
            modes=MANY | CHURN | THREADS | LOOPS | AWAITS | TLS | SERIES | LAYERS | AIO,
            says=SAYS_ENGINE,
        ),
        python_peer(
            FALLBACK,
            "the same, TLS by the standard library's objects",
            "pybuntcp_handler.py",
            python,
            "pybuntcp",
            ours,
            modes=TLS,
            says=SAYS_ENGINE,
            before=FORCE_FALLBACK,
        ),
        python_peer(
            SINK,
            "the same, pieces into a SocketSink",
            "pybuntcp_handler.py",
            python,
            "pybuntcp",
            ours,
            options=("--sink",),
            modes=FIVE_ONLY | LAYERS,
        ),
        slots_peer(python, ours),
        *(peer for loop in EVENT_LOOPS for peer in loop_peers(loop, python, ours)),
        python_peer(
            PROTOCOL["native"],
            "asyncio.Protocol on pybuntcp's transports",
            "pybuntcp_protocol.py",
            python,
            "pybuntcp",
            ours,
            modes=MANY | CHURN | LOOPS | TLS | SERIES | AIO,
        ),
        python_peer(
            PROTOCOL["uvloop"],
            "asyncio.Protocol on uvloop",
            "uvloop_protocol.py",
            python,
            "uvloop",
            "uvloop.__version__",
            modes=MANY | CHURN | LOOPS | TLS | SERIES | AIO,
        ),
        python_peer(
            PROTOCOL["asyncio"],
            "asyncio.Protocol on the standard loop",
            "asyncio_protocol.py",
            python,
            "platform",
            "platform.python_version()",
            modes=MANY | CHURN | LOOPS | TLS | SERIES | AIO,
        ),
        *(peer for loop in TRANSPORTS for peer in transport_peers(loop, python, ours)),
        python_peer(
            "rloop",
            "asyncio.Protocol on rloop",
            "rloop_protocol.py",
            python,
            "rloop",
            "rloop.__version__",
            modes=MANY
            | SERIES
            | (
                AIO - {"aio-churn"}
            ),  # nor CHURN: 0.5 tells the Protocol that the connection is lost, and leaves it open
        ),
        python_peer(
            "gevent",
            "a greenlet a connection",
            "gevent_echo.py",
            python,
            "gevent",
            "gevent.__version__",
            modes=ANY_MODE | CHURN,
        ),
        python_peer(
            "aiofastnet",
            "asyncio.Protocol, aiofastnet's transports on the standard loop",
            "aiofastnet_protocol.py",
            python,
            "aiofastnet",
            "aiofastnet.__version__",
            modes=MANY | CHURN | TLS | AIO,
        ),
        python_peer(
            "aiofastnet-uvloop",
            "asyncio.Protocol, aiofastnet's transports on uvloop",
            "aiofastnet_protocol.py",
            python,
            "aiofastnet, uvloop",
            "aiofastnet.__version__, 'uvloop', uvloop.__version__",
            options=("--uvloop",),
            modes=MANY | CHURN | TLS | SERIES | AIO,
        ),
        bun_peer("bun", "Bun.listen", modes=MANY | CHURN | TLS | SERIES),
        bun_peer(
            "bun-sink",
            "Bun.listen with an ArrayBufferSink",
            options=("--sink",),
            modes=FIVE_ONLY | {"tls-fifty"},
        ),
        node_peer("node", "Node's net and tls", "node_echo.mjs", MANY | CHURN | TLS | SERIES),
        *redis_peers(python, ours),
        *http_peers(python, ours),
        *proxy_peers(python, ours),
    ]
