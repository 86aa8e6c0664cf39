"""options: asyncio's options of connections and servers, and ours, as type checkers should know them.

No part of this is used when a program runs: what an option means, and which of them this Python has, asyncio says itself.
"""

from __future__ import annotations

import socket
import ssl as stdlib_ssl
from typing import TypedDict

SSL = bool | stdlib_ssl.SSLContext | None


class TLSOptions(TypedDict, total=False):
    """Of every connection and server."""

    ssl: SSL
    ssl_handshake_timeout: float | None
    ssl_shutdown_timeout: float | None  # Python 3.11 and later


class UnixConnectionOptions(TLSOptions, total=False):
    """Of `create_unix_connection`."""

    sock: socket.socket | None
    server_hostname: str | None


class ConnectionOptions(UnixConnectionOptions, total=False):
    """Of `create_connection`."""

    family: int
    proto: int
    flags: int
    local_addr: tuple[str, int] | None
    happy_eyeballs_delay: float | None
    interleave: int | None
    all_errors: bool  # Python 3.12 and later


class Limits(TypedDict, total=False):
    """Ours: see `pybuntcp.listen`."""

    max_connections: int | None
    idle_timeout: float | None
    read_timeout: float | None
    linger_timeout: float | None
    no_delay: bool


class UnixServerOptions(TLSOptions, Limits, total=False):
    """Of `create_unix_server`."""

    sock: socket.socket | None
    backlog: int
    start_serving: bool
    cleanup_socket: bool  # Python 3.13 and later


class ServerOptions(TLSOptions, Limits, total=False):
    """Of `create_server`."""

    sock: socket.socket | None
    backlog: int
    start_serving: bool
    family: int
    flags: int
    reuse_address: bool | None
    reuse_port: bool | None
    keep_alive: bool | None  # Python 3.13 and later
