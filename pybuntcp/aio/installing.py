"""installing: replaces the methods for connections of an event loop with ours.

    async def main():
        with pybuntcp.aio.install():
            ...     # loop.create_connection, asyncio.start_server, aiohttp, asyncpg: all on pybuntcp's sockets

A library calls methods of the loop that runs. `install` gives a loop attributes with the names of these methods; its class
stays as it is, and so do all other loops. `uninstall` takes them away again. Connections and servers that were made
meanwhile stay what they are.

Owns which methods these are.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .connections import Connections
from .stand_in import REPLACED, StandIn, stand_in_for

METHODS = (
    *("create_connection", "create_unix_connection", "create_server", "create_unix_server", "connect_accepted_socket"),
    *("start_tls", "sendfile"),
    *("sock_recv", "sock_recv_into", "sock_sendall", "sock_sendfile", "stop"),  # these send first what was written
    "_ensure_fd_no_transport",  # what the standard library's loop asks before it watches a descriptor
)


class Installed:
    """What `install` returns: a context manager, whose exit calls `uninstall()`. It may also be used without `with`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: bool) -> None:
        self.loop = loop
        """The event loop whose methods were replaced."""
        self._changed = changed

    def uninstall(self) -> None:
        """Restore the loop's own methods, if this call of `install` has replaced them. Later calls do nothing."""
        if self._changed:
            self._changed = False
            uninstall(self.loop)

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *error: object) -> None:
        self.uninstall()


def install(loop: asyncio.AbstractEventLoop | None = None) -> Installed:
    """Make the methods of an event loop, asyncio's own or uvloop's, open connections and servers on pybuntcp's sockets.

    loop: by default the running one. Its other methods, and what is open already, stay as they are. Calling it again does
    nothing, and so does calling it for a loop of `new_event_loop`.

    Errors: RuntimeError without a loop; TypeError for a loop whose methods cannot be replaced.
    """
    loop = asyncio.get_running_loop() if loop is None else loop
    if isinstance(loop, Connections) or is_installed(loop):
        return Installed(loop, False)
    _check_has_attributes(loop)
    _replace_methods(loop, stand_in_for(loop))
    return Installed(loop, True)


def uninstall(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Restore an event loop's own methods. loop: by default the running one. Without `install` it does nothing."""
    loop = asyncio.get_running_loop() if loop is None else loop
    if not is_installed(loop):
        return
    stand_in_for(loop).installed.clear()
    attributes = vars(loop)
    before = attributes.pop(REPLACED)
    for name in METHODS:
        attributes.pop(name, None)
    attributes.update(before)


def is_installed(loop: asyncio.AbstractEventLoop) -> bool:
    """True if `install` has replaced the methods of this loop."""
    return REPLACED in getattr(loop, "__dict__", ())


def _check_has_attributes(loop: Any) -> None:
    if not hasattr(loop, "create_connection"):
        raise TypeError(f"install(): an event loop is wanted, not {loop!r}")
    if not hasattr(loop, "__dict__"):
        raise TypeError(
            f"install(): the methods of {loop!r} cannot be replaced, since an instance of {type(loop).__qualname__} has no "
            "__dict__. Make the loop of a subclass of it, or call pybuntcp.aio.create_connection and its like"
        )


def _replace_methods(loop: asyncio.AbstractEventLoop, stand_in: StandIn) -> None:
    """The stand-in does not keep the loop alive, so these attributes make no garbage of it."""
    attributes, names = vars(loop), [name for name in METHODS if hasattr(loop, name)]
    attributes[REPLACED] = {name: attributes[name] for name in names if name in attributes}
    for name in names:
        attributes[name] = getattr(stand_in, name)
    stand_in.installed.update(names)
