"""A server and a load as context managers: started on their core, ended by their own pid, whatever happens between.

Promises: nothing waits for ever (each wait has its seconds and an error that says what was waited for, with the last words of the process); after `with`, the process is gone.
It does not know: what is measured between two lines.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from typing import Any

from harness.machine import on_core

START_SECONDS = 15.0
DEBUG_SWITCHES = ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONPROFILEIMPORTTIME", "PYTHONTRACEMALLOC", "PYTHONMALLOC")


class MeasurementError(Exception):
    """This figure could not be had; the message says why."""


class Child:
    """One process that speaks in lines."""

    def __init__(self, name: str, command: list[str], core: int | frozenset[int] | None) -> None:
        self.name, self.command, self.core = name, command, core

    def __enter__(self) -> Child:
        environment = {k: v for k, v in os.environ.items() if k not in DEBUG_SWITCHES}
        self._errors = tempfile.TemporaryFile()  # closed in __exit__
        self._kept = b""
        with on_core(self.core):
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env=environment,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            assert stream is not None
            stream.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def read_line(self, seconds: float) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._kept:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise MeasurementError(f"{self.name} was silent for {seconds:.0f} s ({self.last_words()})")
                got = os.read(self.process.stdout.fileno(), 65536)
                if not got:
                    raise MeasurementError(f"{self.name} ended: {self.last_words()}")
                self._kept += got
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise MeasurementError(f"{self.name} ended: {self.last_words()}") from None


class Server(Child):
    """A peer, ready: `port` is where it listens."""

    port: int

    def __enter__(self) -> Server:
        super().__enter__()
        try:
            word, _, where = self.read_line(START_SECONDS).partition(" ")
            if word != "LISTENING":
                raise MeasurementError(f"{self.name} did not say LISTENING")
            self.port = int(where)
        except BaseException:
            self.__exit__()
            raise
        return self


class Load(Child):
    """The generator."""

    def __enter__(self) -> Load:
        super().__enter__()
        return self

    def await_event(self, event: str, seconds: float) -> dict[str, Any]:
        """Its next line, which must be `event`."""
        said: dict[str, Any] = json.loads(self.read_line(seconds))
        if said.get("event") != event:
            raise MeasurementError(f"the load said {said.get('event')}, not {event}")
        return said
