"""limits: our options that asyncio's servers take.

    await loop.create_server(factory, host, port, max_connections=1000, idle_timeout=60)

They are options of `pybuntcp.listen`, and mean the same: what they limit, the listener does. No other event loop knows
them. asyncio's own options stay asyncio's: `backlog`, `reuse_port`, and since Python 3.13 `keep_alive`, a bool.
Owns which options these are, and how the listener of such a server is made.
"""

from __future__ import annotations

import os
from typing import Any

from pybuntcp import _core
from pybuntcp.options import ListenOptions

LIMITS = ("max_connections", "idle_timeout", "read_timeout", "linger_timeout", "no_delay")


def take_limits(options: dict[str, Any]) -> dict[str, Any]:
    """Take ours out of the keyword options of a call. Errors: TypeError or ValueError that names one, as of `listen`."""
    limits = {name: options.pop(name) for name in LIMITS if name in options}
    if limits:
        listen_options([-1], limits)
    return limits


def listen_options(fds: list[int], limits: dict[str, Any]) -> ListenOptions:
    """Those of `listen` for these descriptors, the others as by default."""
    return ListenOptions(**limits, fd=fds[0], fds=fds)


def listen_on_sockets(handlers: Any, socks: list[Any], limits: dict[str, Any]) -> _core.Listener:
    """One listener for all sockets of a server. Each stays its owner's: the listener has descriptors of its own."""
    fds: list[int] = []
    try:
        for sock in socks:
            fds.append(os.dup(sock.fileno()))
        return _core.listen_on(handlers, listen_options(fds, limits))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
