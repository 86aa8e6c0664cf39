"""options: what `listen` and `connect` are asked for, checked before any I/O.

Owns one dataclass for each call, with every option in the shape the core takes: numbers in
range, names as str with what is looked up beside (see names), "for ever" as infinity; and `TLSOptions`, whose
options tls.py checks.
Promises a TypeError or ValueError that names the option. Knows no sockets.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from .names import to_ascii

if TYPE_CHECKING:
    import ssl  # a program without TLS does not import it

FOREVER = math.inf


@dataclass(frozen=True)
class Place:
    """Where to listen or connect: exactly one of hostname and port, unix, fd."""

    hostname: str | None
    host: bytes | None  # hostname as the resolver takes it
    port: int | None
    unix: str | None
    fd: int | None

    @classmethod
    def read(cls, hostname: Any, port: Any, unix: Any, fd: Any) -> Place:
        given = [name for name, value in (("hostname", hostname), ("unix", unix), ("fd", fd)) if value is not None]
        if len(given) > 1:
            raise TypeError(f"{' and '.join(given)} exclude each other: give one of them")
        if not given:
            raise TypeError("one of hostname (with port), unix or fd is required")
        if hostname is not None and port is None:
            raise TypeError("port is required with hostname")
        if hostname is None and port is not None:
            raise TypeError(f"port goes with hostname, not with {given[0]}")
        return cls(
            hostname=hostname,
            host=None if hostname is None else host("hostname", hostname),
            port=None if port is None else integer("port", port, 0, 65535),
            unix=None if unix is None else unix_path(unix),
            fd=None if fd is None else integer("fd", fd, -1, 2**31 - 1),
        )

    @property
    def address(self) -> str | None:
        """What an error names."""
        return self.unix if self.unix is not None else self.hostname


@dataclass(frozen=True)
class Common(Place):
    """What `listen` and `connect` share."""

    data: Any
    no_delay: bool
    keep_alive: int | None
    high_water_mark: int
    tls: Any
    idle_timeout: float
    handshake_timeout: float
    linger_timeout: float
    allow_half_open: bool
    pause_on_connect: bool


@dataclass(frozen=True)
class ListenOptions(Common):
    ipv6_only: bool
    reuse_port: bool
    backlog: int
    max_connections: int | None
    unlink: bool


@dataclass(frozen=True)
class ConnectOptions(Common):
    timeout: float
    local: bytes | None
    local_port: int


Material = str | bytes | bytearray | memoryview | Path
"""PEM as text or bytes, or the path of a file with it."""


@dataclass(frozen=True)
class TLSOptions:
    """The options of `tls=`; a mapping with the same keys will do. Source: Bun's `tls` option.

    key, cert: our private key and our certificate, with what leads to its root behind it. Required on a server. Lists of
    an RSA and an ECDSA one, in any order, are two identities; a peer is shown what it can verify.
    ca: what the peer's certificate must lead to, or be; None = what the system trusts. crl: lists of revoked
    certificates, and nothing else. Each is PEM (str, bytes or buffer), a `pathlib.Path`, or a list of those. passphrase: of an encrypted key.
    key_file, cert_file, ca_file, dh_params_file: paths instead.

    server_name: what a client asks for and what the certificate must be for; None = the host connected to. A final dot
    is no part of it; what is not ASCII is asked for and checked as IDNA's A-label. On a server it says nothing.
    request_cert: a server asks clients for a certificate, which needs ca. reject_unauthorized: a peer whose
    certificate does not verify is refused; False is the only way to accept one (`Socket.authorized` tells).

    alpn_protocols: names (str or bytes), in order of preference, or their wire format as bytes. ciphers: OpenSSL's
    list; names of TLS 1.3 suites may be among them. ecdh_curve: one name, or several with colons.
    min_version, max_version: `ssl.TLSVersion` or "TLSv1.2"; at least 1.2 unless asked for. secure_options: `ssl.OP_*`
    to add. session: bytes of `Socket.get_session`, to resume. keylog_file: path for the keys, for Wireshark.
    low_memory_mode: accepted, and always on. sni: on a server, `{name: TLSOptions}`; a name may begin with "*.". What an
    entry does not say has its default there, whatever the listener says for itself.

    Errors, at the call: TypeError, ValueError and ssl.SSLError naming the option; FileNotFoundError.
    """

    key: Material | Sequence[Material] | None = field(default=None, repr=False)
    cert: Material | Sequence[Material] | None = field(default=None, repr=False)  # the key may be in it, too
    ca: Material | Sequence[Material] | None = None
    crl: Material | Sequence[Material] | None = None
    passphrase: str | bytes | None = field(default=None, repr=False)
    key_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    ca_file: str | os.PathLike[str] | None = None
    dh_params_file: str | os.PathLike[str] | None = None
    server_name: str | None = None
    request_cert: bool = False
    reject_unauthorized: bool = True
    alpn_protocols: Sequence[str | bytes] | bytes | None = None
    ciphers: str | None = None
    ecdh_curve: str | None = None
    min_version: ssl.TLSVersion | str | None = None
    max_version: ssl.TLSVersion | str | None = None
    secure_options: int | None = None
    session: bytes | None = field(default=None, repr=False)
    keylog_file: str | os.PathLike[str] | None = None
    low_memory_mode: bool = True
    sni: Mapping[str, Any] | None = field(default=None, repr=False)


TLSOption = Union[Mapping[str, Any], TLSOptions, "ssl.SSLContext", bool, None]
"""`TLSOptions`, a mapping with the same keys, True (all defaults) or an `ssl.SSLContext`; None and False: plain."""


def read_listen(given: dict[str, Any]) -> ListenOptions:
    """Check the options of `listen`."""
    boolean("exclusive", given["exclusive"])
    if given["exclusive"] and given["reuse_port"]:
        raise ValueError("exclusive and reuse_port exclude each other")
    most = given["max_connections"]
    return ListenOptions(
        **read_common(given, server=True),
        pause_on_connect=boolean("pause_on_connect", given["pause_on_connect"]),
        ipv6_only=boolean("ipv6_only", given["ipv6_only"]),
        reuse_port=boolean("reuse_port", given["reuse_port"]),
        backlog=integer("backlog", given["backlog"], 0, 2**31 - 1),
        max_connections=None if most is None else integer("max_connections", most, 1, 2**63 - 1),
        unlink=boolean("unlink", given["unlink"]),
    )


def read_connect(given: dict[str, Any]) -> ConnectOptions:
    """Check the options of `connect`."""
    local = given["local_address"]
    local_port = integer("local_port", given["local_port"], 0, 65535)
    if (local is not None or local_port) and given["hostname"] is None:
        raise TypeError("local_address and local_port go with hostname")
    return ConnectOptions(
        **read_common(given, server=False),
        pause_on_connect=given["socket"] is None,
        timeout=seconds("timeout", given["timeout"]),
        local=None if local is None else local_host(local),
        local_port=local_port,
    )


def read_common(given: dict[str, Any], *, server: bool) -> dict[str, Any]:
    place = Place.read(given["hostname"], given["port"], given["unix"], given["fd"])
    idle = given["idle_timeout"]
    if idle is not None and seconds("idle_timeout", idle) == 0:
        raise ValueError("idle_timeout must be more than 0 seconds, or None for ever")
    return {
        **vars(place),
        "data": given["data"],
        "tls": read_tls(given["tls"], server, place.hostname),
        "no_delay": boolean("no_delay", given["no_delay"]),
        "keep_alive": keep_alive(given["keep_alive"]),
        "high_water_mark": integer("high_water_mark", given["high_water_mark"], 0, 2**62),
        "idle_timeout": seconds("idle_timeout", idle),
        "handshake_timeout": seconds("handshake_timeout", given["handshake_timeout"]),
        "linger_timeout": seconds("linger_timeout", given["linger_timeout"]),
        "allow_half_open": boolean("allow_half_open", given["allow_half_open"]),
    }


def read_upgrade(value: Any, server: bool, hostname: str | None) -> Any:
    """As `read_tls`, of `upgrade_tls`. hostname: what the connection was made to, if it was made to a name."""
    if value is None or value is False:
        raise TypeError("tls is required")
    from .tls import read_client, read_server_upgrade

    return read_server_upgrade(value) if server else read_client(value, hostname)


def read_tls(value: Any, server: bool, hostname: str | None) -> Any:
    """What an engine makes connections of; None: no TLS. A program without TLS never imports `ssl`."""
    if value is None or value is False:
        return None
    from .tls import read_client, read_server

    return read_server(value) if server else read_client(value, hostname)


def host(option: str, value: Any) -> bytes:
    """A host name, as it is looked up, or an IP literal; brackets around an IPv6 literal are taken off."""
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a str, not {type(value).__name__!r}")
    if "\0" in value:
        raise ValueError(f"{option} must not contain a NUL character")
    if value.startswith("[") and value.endswith("]") and ":" in value:
        value = value[1:-1]
    if not value:
        raise ValueError(f"{option} must not be empty")
    try:
        return (value if ":" in value else to_ascii(option, value)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{option} is not a valid name: {error}") from error


def local_host(value: Any) -> bytes:
    import ipaddress

    literal = host("local_address", value)
    try:
        ipaddress.ip_address(literal.decode())
    except ValueError:
        raise ValueError(f"local_address must be an IP literal, not {value!r}") from None
    return literal


def unix_path(value: Any) -> str:
    """A socket file's path, or an abstract name (leading NUL, Linux)."""
    if isinstance(value, (bytes, os.PathLike)):
        value = os.fsdecode(value)
    if not isinstance(value, str):
        raise TypeError(f"unix must be a str or path, not {type(value).__name__!r}")
    if not value.rstrip("\0"):
        raise ValueError("unix must not be empty")
    if "\0" in value and not value.startswith("\0"):
        raise ValueError("unix: a path must not contain a NUL character")
    return value


def integer(option: str, value: Any, least: int, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{option} must be an integer, not {type(value).__name__!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{option} must be in {least}..{most}, not {number}")
    return number


def boolean(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{option} must be a bool, not {type(value).__name__!r}")
    return value


def text(option: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str, not {type(value).__name__!r}")
    if value is not None and (not value or "\0" in value):
        raise ValueError(f"{option} must not be empty and have no NUL character, not {value!r}")
    return value


def seconds(option: str, value: Any) -> float:
    """Seconds as a float; None is for ever."""
    if value is None:
        return FOREVER
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{option} must be a number of seconds or None, not {type(value).__name__!r}")
    try:
        number = float(value)
    except TypeError:
        raise TypeError(f"{option} must be a number of seconds or None, not {type(value).__name__!r}") from None
    if not number >= 0:
        raise ValueError(f"{option} must not be negative or NaN, not {value!r}")
    return number


def keep_alive(value: Any) -> int | None:
    """Seconds idle before the first probe, rounded up as the kernel counts."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise TypeError("keep_alive must be a number of seconds or None, not 'bool'")
    number = seconds("keep_alive", value)
    if not 0 < number <= 32767:
        raise ValueError(f"keep_alive must be more than 0 and at most 32767 seconds, not {value!r}")
    return math.ceil(number)
