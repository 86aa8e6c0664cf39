"""Real servers with a folder of their own: redis-server and PostgreSQL. Each is a `Dialogue`, and skips its test where it is missing.

Owns: how they are started, on loopback and on a unix socket. Neither can pick a port itself, so a free one is tried, and another
if it is gone. PostgreSQL does not run as root: its cluster belongs to somebody else then. Does not know who talks to them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .programs import HOST, Dialogue, environment, free_port, tool
from .tls import SERVER

SETTINGS = {
    "listen_addresses": HOST,
    "fsync": "off",
    "autovacuum": "off",
    "shared_buffers": "1MB",
    "max_connections": "20",
}


def redis_server(folder: Path, port: int = 0, *, tls: bool = False) -> Dialogue:
    """It keeps nothing on the disk. Its unix socket is `redis` in the folder. With `tls` its port is for TLS."""
    path = tool("redis-server")
    secured: tuple[str | Path, ...] = ()
    if tls:
        cert, key = identity_files(folder)
        secured = ("--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")

    def begin(port: int) -> Dialogue:
        ports = ("--port", "0", "--tls-port", str(port)) if tls else ("--port", str(port))
        where = ("--bind", HOST, *ports, "--unixsocket", folder / "redis")
        return Dialogue(path, *where, *secured, "--save", "", "--dir", folder)

    return listening(begin, "Ready to accept connections", port)


@contextlib.contextmanager
def postgres_server(prepare: Callable[[Path, str | None], None] | None = None, **settings: Any) -> Iterator[Dialogue]:
    """A server with a new cluster, whose user `postgres` needs no password; its unix sockets are in `folder`, which it has.

    prepare: called with the folder that the cluster is in, and with the user that the server runs as, None: this one.
    """
    initdb, postgres = binary("initdb"), binary("postgres")
    folder = Path(tempfile.mkdtemp(prefix="pybuntcp-"))  # short, for the unix socket, and readable by that user
    user = "nobody" if os.geteuid() == 0 else None
    try:
        if user is not None:
            shutil.chown(folder, user)
        made = [initdb, "-D", folder / "data", "-U", "postgres", "-A", "trust"]
        made += ["--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(made, user=user, cwd=folder, env=environment(), check=True, capture_output=True, timeout=60)
        if prepare is not None:
            prepare(folder, user)
        all_settings = {"unix_socket_directories": folder, **SETTINGS, **settings}
        given = [part for name, value in all_settings.items() for part in ("-c", f"{name}={value}")]

        def begin(port: int) -> Dialogue:
            return Dialogue(postgres, "-D", folder / "data", "-p", str(port), *given, user=user, cwd=folder)

        with listening(begin, "ready to accept connections") as program:
            program.folder = folder
            try:
                yield program
            finally:
                os.kill(program.pid, signal.SIGINT)  # at SIGTERM it would wait for its clients' queries
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def identity_files(folder: Path, user: str | None = None) -> tuple[Path, Path]:
    """The certificate and the key of the tests' server, in files that this user may read."""
    files = folder / "cert.pem", folder / "key.pem"
    for path, content in zip(files, (SERVER.cert, SERVER.key), strict=True):
        path.write_bytes(content)
        path.chmod(0o600)
        if user is not None:
            shutil.chown(path, user)
    return files


def listening(begin: Callable[[int], Dialogue], ready: str, port: int = 0) -> Dialogue:
    """The program, when it has said that it is ready, with its port."""
    for _ in range(5):
        chosen = port or free_port()
        program = begin(chosen)
        try:
            program.hear(ready).result()
        except EOFError:
            program.stop()
            continue
        program.port = chosen
        return program
    raise AssertionError("the server does not start")


def binary(name: str) -> str:
    """Debian keeps it apart, by version: the newest. POSTGRESQL is another such folder, as for `tests/peers/install.sh`."""
    found = Path(os.environ.get("POSTGRESQL", "/usr/lib/postgresql")).glob(f"*/bin/{name}")
    newest = max(found, key=lambda path: float(path.parts[-3]), default=None)
    return str(newest) if newest else tool(name)
