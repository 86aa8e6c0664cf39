"""options: the options of `listen` and `connect`, checked before any I/O.

Owns one class for each call. It is made of the options as users give them; once it is made, each attribute has the
shape that the core takes: numbers in range, seconds as float with "for ever" as infinity, names ready for the resolver.
Promises a TypeError or ValueError that names the option. An object is made in api.py and not changed afterwards.
Does not know sockets, nor the options of `tls=`: api.py sets `tls` to what the package `tls` made of them.
They are no dataclasses, because those would import `inspect`, which takes longer than all of this package.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from .checks import boolean, integer, keep_alive_seconds, owner_ids, positive_seconds, seconds, unix_path
from .names import ip_literal, resolver_name

if TYPE_CHECKING:
    from .tls.config import Config  # a program without TLS does not import it


class Endpoint:
    """Where to listen or connect: exactly one of hostname and port, unix, fd."""

    hostname: str | list[str] | tuple[str, ...] | None = None
    port: int | None = None
    unix: str | PathLike[str] | None = None
    fd: int | None = None
    host: bytes | None = None  # `hostname` as the resolver takes it

    def __init__(self, **given: Any) -> None:
        """given: the options of the call; what is not given is as by default."""
        vars(self).update(given)
        self.check()

    def check(self) -> None:
        if (self.hostname is None) + (self.unix is None) + (self.fd is None) != 2:
            raise self.not_one()
        if (self.hostname is None) != (self.port is None):
            raise self.wrong_port()
        if self.hostname is not None:
            self.check_hostname()
            self.port = integer("port", self.port, 0, 65535)
        elif self.unix is not None:
            self.unix = unix_path(self.unix)
        else:
            self.check_fd()

    def check_fd(self) -> None:
        self.fd = integer("fd", self.fd, -1, 2**31 - 1)

    def check_hostname(self) -> None:
        self.host = resolver_name("hostname", self.hostname)

    def given(self) -> list[str]:
        return [name for name in ("hostname", "unix", "fd") if getattr(self, name) is not None]

    def not_one(self) -> TypeError:
        if given := self.given():
            return TypeError(f"{' and '.join(given)} exclude each other: give one of them")
        return TypeError("one of hostname (with port), unix or fd is required")

    def wrong_port(self) -> TypeError:
        if self.port is None:
            return TypeError("port is required with hostname")
        return TypeError(f"port goes with hostname, not with {self.given()[0]}")


class SocketOptions(Endpoint):
    """What `listen` and `connect` share."""

    data: Any = None
    no_delay: bool = True
    keep_alive: float | None = None
    high_water_mark: int = 65536
    idle_timeout: float | None = None
    read_timeout: float | None = None
    handshake_timeout: float | None = 10.0
    linger_timeout: float | None = 30.0
    slow_handler: float | None = None
    allow_half_open: bool = False
    pause_on_connect: bool = False
    tls: Config | None = None  # None: no TLS

    def check(self) -> None:
        super().check()
        self.idle_timeout = positive_seconds("idle_timeout", self.idle_timeout)
        self.read_timeout = positive_seconds("read_timeout", self.read_timeout)
        boolean("no_delay", self.no_delay)
        self.keep_alive = keep_alive_seconds(self.keep_alive)
        self.high_water_mark = integer("high_water_mark", self.high_water_mark, 0, 2**62)
        self.handshake_timeout = seconds("handshake_timeout", self.handshake_timeout)
        self.linger_timeout = seconds("linger_timeout", self.linger_timeout)
        self.slow_handler = positive_seconds("slow_handler", self.slow_handler)
        boolean("allow_half_open", self.allow_half_open)
        boolean("pause_on_connect", self.pause_on_connect)


class ListenOptions(SocketOptions):
    """Those of `listen`; with `fds`, those of a server of asyncio's, which has made several descriptors (aio/limits)."""

    fds: list[int]  # `fd` alone, unless they are given
    hosts: list[tuple[str, bytes]]  # of `hostname`: each as given, and as the resolver takes it
    exclusive: bool = False
    reuse_port: bool = False
    ipv6_only: bool = False
    backlog: int = 512
    max_connections: int | None = None
    unlink: bool = True
    mode: int | None = None
    owner: Any = None  # in the end a uid and a gid, of which one may be -1: unchanged

    def check(self) -> None:
        boolean("exclusive", self.exclusive)
        if self.exclusive and self.reuse_port:
            raise ValueError("exclusive and reuse_port exclude each other")
        super().check()
        boolean("ipv6_only", self.ipv6_only)
        boolean("reuse_port", self.reuse_port)
        self.backlog = integer("backlog", self.backlog, 0, 2**31 - 1)
        if self.max_connections is not None:
            self.max_connections = integer("max_connections", self.max_connections, 1, 2**63 - 1)
        boolean("unlink", self.unlink)
        self.check_permissions()

    def check_fd(self) -> None:
        super().check_fd()
        vars(self).setdefault("fds", [self.fd])

    def check_permissions(self) -> None:
        for name in ("mode", "owner"):
            if getattr(self, name) is not None and (not isinstance(self.unix, str) or self.unix.startswith("\0")):
                raise TypeError(f"{name} goes with the path of a unix socket")
        if self.mode is not None:
            self.mode = integer("mode", self.mode, 0, 0o777)
        if self.owner is not None:
            self.owner = owner_ids(self.owner)

    def check_hostname(self) -> None:
        """One name, or a list or tuple of names; `hostname` is a copy of what was given."""
        names = self.hostname if isinstance(self.hostname, (list, tuple)) else [self.hostname]
        if not names:
            raise ValueError("hostname must not be an empty list")
        self.hosts = [(str(name), resolver_name("hostname", name)) for name in names]
        if isinstance(self.hostname, list):
            self.hostname = list(self.hostname)


class ConnectOptions(SocketOptions):
    timeout: float | None = None
    local_address: str | None = None
    local_port: int = 0
    local: bytes | None = None  # `local_address`, checked

    def check(self) -> None:
        self.local_port = integer("local_port", self.local_port, 0, 65535)
        if (self.local_address is not None or self.local_port) and self.hostname is None:
            raise TypeError("local_address and local_port go with hostname")
        super().check()
        self.timeout = seconds("timeout", self.timeout)
        if self.local_address is not None:
            self.local = ip_literal("local_address", self.local_address)
