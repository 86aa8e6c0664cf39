"""Small handlers that tests of any topic give to `socket=`, and what exceptions of handlers are made and recognised by.

Owns: functions and mappings without a state of their own. A handler that remembers is `recorder.Recorder`; one that is
`async def` is in `async_handlers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def ignore(*args: Any) -> None:
    """A handler that does nothing."""


def echo(socket: Any, chunk: Any) -> None:
    """A `data` handler that writes what it was given."""
    socket.write(chunk)


QUIET = {"data": ignore}
ECHO = {"data": echo}

# The read-only properties of a `Socket`: all but `data`.
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


def error_fields(error: Any) -> tuple[Any, ...]:
    """What every error of ours carries."""
    return error.errno, error.code, error.syscall, error.address, error.port
