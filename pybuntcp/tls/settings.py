"""settings: what a value of `tls=` says, read and checked as far as that needs no context.

Owns how a mapping becomes `TLSOptions`, which options fit which role, and the settings of a server: its options, their
PEM, and the same under each name of `sni`.
Promises a TypeError or ValueError that names the option, and refuses an option that would silently do nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checks import text
from ..names import peer_name, sni_key
from .cache import digest_of, is_cacheable
from .errors import naming_option
from .options import NAMES, TLSOptions
from .pem import Materials, load_materials

NOT_IN_A_NAME = frozenset("*:/[]@%?# \t\r\n")


# ---------------------------------------------------------------------------- options


def options_of(where: str, value: Any) -> TLSOptions:
    if value is True:
        return TLSOptions()
    if isinstance(value, TLSOptions):
        return value
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise TypeError(f"{where} must be True, a mapping, TLSOptions or an ssl.SSLContext, not {kind!r}")
    for name in value:
        if name not in NAMES:
            raise TypeError(f"{where}: no such option: {name!r}{suggestion(name)}")
    return TLSOptions(**value)


def suggestion(name: Any) -> str:
    words = "".join("_" + letter.lower() if letter.isupper() else letter for letter in str(name))
    found = difflib.get_close_matches(words, NAMES, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def reject_options(whose: str, options: TLSOptions, names: Sequence[str]) -> None:
    for name in names:
        if getattr(options, name):
            raise ValueError(f"{name} is not an option of {whose}")


def check_role(context: ssl.SSLContext, wrong: int, whose: str, end: str) -> None:
    if context.protocol == wrong:
        raise ValueError(f"tls: this is {whose} ssl.SSLContext, which {end} cannot use")


def server_name_of(name: Any, hostname: str | None, *, required: bool) -> str | None:
    """The name that a client asks for. required: the peer's certificate will be checked for it."""
    found = text("server_name", name) or hostname
    if found is None:
        if required:
            raise ValueError("server_name is required: without a hostname the certificate cannot be checked")
        return None
    return peer_name("server_name", found)


# ---------------------------------------------------------------------------- of a server


@dataclass(frozen=True)
class ServerSettings:
    """A server's options with their PEM read, and those of each name in `sni`."""

    options: TLSOptions
    materials: Materials
    hosts: Mapping[str, ServerSettings]

    @property
    def digest(self) -> bytes:
        """Covers all of it, the hosts included."""
        parts = [digest_of(self.options, self.materials)]
        parts += [
            each for name, host in self.hosts.items() for each in (name.encode("utf-8", "surrogatepass"), host.digest)
        ]
        return hashlib.sha256(repr(parts).encode()).digest()

    @property
    def is_cacheable(self) -> bool:
        return is_cacheable(self.options) and all(host.is_cacheable for host in self.hosts.values())


def server_settings(where: str, value: Any) -> ServerSettings:
    options = options_of(where, value)
    reject_options("a server", options, ("session",))
    return ServerSettings(options, load_materials(options), hosts_of(options.sni))


def hosts_of(sni: Any) -> dict[str, ServerSettings]:
    if sni is None:
        return {}
    if not isinstance(sni, Mapping):
        raise TypeError(f"sni must be a mapping of names to options, not {type(sni).__name__!r}")
    hosts: dict[str, ServerSettings] = {}
    for name, value in sni.items():
        with naming_option(f"sni[{name!r}]"):
            options = options_of("the options", value)
            reject_options("a name in sni", options, ("sni", "session"))
            host = host_name(text("a name", name))
            if host in hosts:
                raise ValueError("this name is there twice")
            hosts[host] = ServerSettings(options, load_materials(options), {})
    return hosts


def host_name(name: Any) -> str:
    """A key of `sni` as clients ask for it. A key that no client can ask for is refused."""
    host = sni_key("a name", str(name))
    if host == "*":
        raise ValueError("a client that asks for no name of these gets the listener's own certificate")
    if set(host.removeprefix("*.")) & NOT_IN_A_NAME:
        raise ValueError('a name is a host name, without a port; it may begin with "*." for one label')
    if is_address(host):
        raise ValueError("clients ask for names, never for an address (RFC 6066, section 3)")
    return host


def is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False
