"""Programs that tests start and end: the examples, and the tools they are driven with.

Owns: processes. Promises that each listens on loopback alone, on a port the system picked, is
waited for by what it prints and not by time, is ended by its own pid, and that a traceback of an
example fails the test. Knows command lines; does not know what is tested.
"""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import TIMEOUT
from support.programs import HOST, end_family, free_port, installed, tool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MEGABYTE = 1 << 20


def example_module(name: str) -> Any:
    """An example as a module; it finds the others where it lies itself."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(EXAMPLES))
    return loaded


class Service:
    """A running program. Used as a context: ended with SIGINT at exit, and looked at for tracebacks."""

    port = 0

    def __init__(self, *command: str | Path, env: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()) -> None:
        self.name = Path(command[-1] if command[0] == sys.executable else command[0]).name
        self._said = b""
        self._process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_line(self, part: str) -> str:
        """Read on until a line holds `part`; that line. EOFError if the program ends before."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + TIMEOUT
        searched = 0
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while True:
                *lines, _ = self._said[searched:].split(b"\n")
                for line in lines:
                    if part in line.decode():
                        return line.decode()
                    searched += len(line) + 1
                assert selector.select(max(deadline - time.monotonic(), 0)), f"waited for {part!r} of {self}"
                got = os.read(fd, 65536)
                if not got:
                    raise EOFError(f"{self} ended without {part!r}")
                self._said += got

    def stop(self) -> str:
        """End it as Ctrl-C does; all it said. One that does not end within bounds is killed, and fails."""
        if self._process.returncode is None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            try:
                rest, _ = self._process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                end_family(self._process)
                raise AssertionError(f"{self} did not end at SIGINT") from None
            self._said += rest
        return self._said.decode(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exception: object) -> None:
        said = self.stop()
        assert "Traceback" not in said, f"{self.name}:\n{said}"

    def __str__(self) -> str:
        return f"{self.name}: {self._said.decode(errors='replace')[-2000:]}"


def example(name: str, *arguments: str) -> Service:
    """Start examples/`name` and wait until it listens."""
    return listening(Service(sys.executable, EXAMPLES / name, *arguments), name)


def installed_example(name: str, folder: Path, *arguments: str) -> Service:
    """The same of a package that was built and installed into `folder`."""
    return listening(Service(sys.executable, "-m", name, *arguments, env={"PYTHONPATH": os.fspath(folder)}), name)


IMPATIENT = """
import contextlib, importlib, sys, pybuntcp
with contextlib.suppress(KeyboardInterrupt), pybuntcp.listen(socket=importlib.import_module(sys.argv[1]).handlers(), unix=sys.argv[2], linger_timeout=0.2):
    print("listening on", sys.argv[2], flush=True)
    pybuntcp.run()
"""


def impatient_example(name: str, folder: Path, path: Path) -> Service:
    """Its `handlers()` on a unix socket, by a server that does not keep clients who are gone for long."""
    command = (sys.executable, "-c", IMPATIENT, name, path)
    return listening(Service(*command, env={"PYTHONPATH": os.fspath(folder)}), name)


def listening(program: Service, name: str) -> Service:
    """It, when it listens, and with its port."""
    program.name = name
    try:
        where = program.wait_for_line("listening on ").removeprefix("listening on ")
    except BaseException:
        program.stop()
        raise
    if where.startswith(HOST):
        program.port = int(where.rpartition(":")[2])
    return program


def output_of(*command: str | Path, stdin: bytes = b"") -> str:
    """What a tool prints, on both its outputs; it must succeed."""
    done = subprocess.run(
        [os.fspath(part) for part in command],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{said}"
    return said


def redis_server(folder: Path, *more: str) -> Service:
    """A real redis-server. It cannot pick its port itself: a free one is tried, and another if it is gone."""
    path = tool("redis-server")
    for _ in range(5):
        port = free_port()
        options = ("--bind", HOST, "--port", str(port), "--save", "", "--dir", os.fspath(folder), *more)
        program = Service(path, *options)
        try:
            program.wait_for_line("Ready to accept connections")
        except EOFError:
            program.stop()
            continue
        program.port = port
        return program
    raise AssertionError("redis-server does not start")


NGINX = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off; sendfile on;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen {host}:{port}; root {folder}; }}
}}
"""


def file_server(folder: Path) -> Service:
    """nginx, or Python's own server without it, giving the files of `folder` over HTTP.

    nginx takes over listening sockets named in $NGINX (how it upgrades itself), so that the system
    picks the port and connections are taken from the first moment. As root it would give up its
    rights, and with them the sight of `folder`.
    """
    path = installed("nginx")
    if path is None:
        return python_file_server(folder)
    with socket.create_server((HOST, 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        config = folder / "nginx.conf"
        user = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(user=user, folder=folder, host=HOST, port=port))
        command = (path, "-e", "stderr", "-p", folder, "-c", config)
        program = Service(*command, env={"NGINX": f"{fd};"}, pass_fds=(fd,))
    program.port = port
    return program


def python_file_server(folder: Path) -> Service:
    program = Service(sys.executable, "-m", "http.server", "0", "--bind", HOST, "--directory", folder)
    program.port = int(program.wait_for_line("Serving HTTP").partition(" port ")[2].split()[0])
    return program


def peak_memory(program: Service) -> int:
    """The most bytes it ever had in memory (VmHWM); skips the test where that cannot be told."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the address sanitizer keeps what was freed")
    status = Path(f"/proc/{program.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if "VmHWM" not in fields:
        pytest.skip("this kernel does not tell VmHWM")
    return int(fields["VmHWM"].split()[0]) * 1024
