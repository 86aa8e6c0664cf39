"""How a peer is made of a server in servers/: with a C compiler, a Python, Bun or Node. It is asked for its version, and says why it cannot run here.

It does not know: which peers there are, what they can.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass

from harness.build import HERE, CannotBuildError, compile_program
from harness.machine import first_line
from harness.names import ANY_MODE, ASKED, CHURN, LAYERS, OVER_TLS, SERIES, TLS_FOLDER

SAYS_OPENSSL = "import ssl; print(ssl.OPENSSL_VERSION)"


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
        secured = ["--tls", str(TLS_FOLDER)] if mode in OVER_TLS else []
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
        return None, last[-1] if last else f"cannot import {module}"
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
