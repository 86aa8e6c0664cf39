"""Programs that tests start, talk to and end: Python source, installed tools, servers, other runtimes.

Owns: processes. Promises that each is waited for by what it prints and not by time, that every wait is bounded, and
that a program is ended by its own pid, however its test ends. A `Program` is Python source, which prints JSON; a
`Dialogue` is a command that is a raw peer: its input and output are a socket, so a test says and hears by the verbs that
it has for other peers. Knows command lines; does not know what is tested.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from .kernel import TIMEOUT
from .peers import Job, Peer

HOST = "127.0.0.1"
TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
BUN_VERSION = json.loads((ROOT / "tests" / "peers" / "package.json").read_text())["dependencies"]["bun"]
PATIENCE = 2 * TIMEOUT  # with a program, which starts an interpreter first


class Program:
    """Python source running in a process of its own, which talks in lines on stdout; killed in `close`.

    In the source `say(thing)` prints one line of JSON; `support` can be imported.
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


class Dialogue(Peer):
    """A running program. `say` and `send` write to its input, `shutdown` ends that; what it prints, on both its
    outputs, is read as it comes and heard in order. Verbs return Jobs, as a Peer's do. Used as a context: ended at exit."""

    port = 0

    def __init__(
        self,
        *command: str | Path,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.said = b""  # everything
        self._heard = 0  # of that, as far as a test has waited
        self._silent = False  # it has closed its outputs
        self._news = threading.Condition()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environment(), "PYTHONUNBUFFERED": "1", **(env or {})},
                pass_fds=pass_fds,
                user=user,
                cwd=cwd,
            )
        self._reader = threading.Thread(target=self._read, name=self.name, daemon=True)
        self._reader.start()
        super().__init__(lambda: ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, text: str) -> Job:
        """One line. That it has ended is no failure here: the next `hear` fails then."""
        return self.send(text.encode() + b"\n").ignore()

    def hear(self, part: str) -> Job:
        """Wait until it has printed `part`, after what was heard before; the text up to the end of that."""
        return self.call(self._hear, part.encode())

    def finished(self) -> Job:
        """Wait for its end; what it printed that was not heard before."""
        return self.call(self._finished)

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: it says no last word to anybody."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            with self._news:
                self.said += chunk
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def _hear(self, part: bytes) -> str:
        with self._news:
            there = self._news.wait_for(lambda: part in self.said[self._heard :] or self._silent, TIMEOUT)
            assert there, f"waited for {part!r} of {self}"
            if part not in self.said[self._heard :]:
                raise EOFError(f"{self} ended without {part!r}")
            return self._text_until(self.said.index(part, self._heard) + len(part))

    def _finished(self) -> str:
        with self._news:
            assert self._news.wait_for(lambda: self._silent, TIMEOUT), f"does not end: {self}"
            self._process.wait(TIMEOUT)
            return self._text_until(len(self.said))

    def _text_until(self, end: int) -> str:
        start, self._heard = self._heard, end
        return self.said[start:end].decode(errors="replace")

    def stop(self) -> None:
        """End it, if it has not ended. One that does not go within bounds is killed, and fails."""
        assert self._process.stdout is not None
        try:
            if self._process.poll() is None:
                self._process.terminate()
                try:
                    self._process.wait(TIMEOUT)
                except subprocess.TimeoutExpired:
                    self.kill()
                    raise AssertionError(f"{self} did not end at SIGTERM") from None
        finally:
            self._reader.join(TIMEOUT)
            self._process.stdout.close()
            super().stop()

    def __enter__(self) -> Dialogue:
        return self

    def __str__(self) -> str:
        return f"{self.name}: {self.said.decode(errors='replace')[-2000:]}"


def end_family(process: subprocess.Popen[Any]) -> tuple[Any, Any]:
    """End a program that began a session of its own, with the children it forked, which may hold its outputs open; the
    rest of what it wrote on both."""
    if process.returncode is None:  # it has not been waited for: the number is still its group's
        with contextlib.suppress(PermissionError):  # of macOS, when all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=TIMEOUT)


def environment() -> dict[str, str]:
    """Ours, without the library of a sanitizer: it is not these programs that are looked at."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def installed(name: str) -> str | None:
    """Its path: from PATH, or from the sbin beside a bin of it. Servers lie there, and a user's PATH may not have it."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    beside = [str(Path(folder).with_name("sbin")) for folder in folders if Path(folder).name == "bin"]
    return shutil.which(name, path=os.pathsep.join(folders + beside))


def tool(name: str) -> str:
    """The path of an installed tool; skips the test without it."""
    return installed(name) or pytest.skip(f"{name} is not installed")


@functools.cache
def find_bun() -> tuple[str | None, str]:
    """The Bun that these tests know, or None and why not: BUN alone if that is set, else ours, else that in PATH."""
    ours = str(ROOT / "build" / "peers" / "node_modules" / ".bin" / "bun")  # tests/peers/install.sh puts it there
    candidates = [os.environ["BUN"]] if "BUN" in os.environ else [ours, shutil.which("bun")]
    path = next((candidate for candidate in candidates if candidate and os.access(candidate, os.X_OK)), None)
    if path is None:
        return None, "bun is not installed"
    shown = subprocess.run(
        [path, "--version"], env=environment(), capture_output=True, text=True, timeout=TIMEOUT
    ).stdout.strip()
    return (path, "") if shown == BUN_VERSION else (None, f"the tests know Bun {BUN_VERSION}, {path} is {shown}")


def free_port() -> int:
    """For programs that cannot pick one themselves; start them again if it is gone."""
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]
