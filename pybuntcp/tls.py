"""tls: from what users give as `tls=` to what the engine makes connections of.

Owns the `Config`, which knows what a connection is made of, what is asked of its peer, and what that answered. Its
context is made of `TLSOptions` by contexts.py; a user's own is used as it is and never changed.
Promises that what is wrong is refused at the call, by an error that names the option.
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

from . import _tls
from .contexts import NAMES, Cache, can_be_kept, client_context, context_of, digest_of
from .identity import identity_of
from .names import of_host, of_peer
from .options import TLSOption, TLSOptions, boolean, text
from .pem import Materials, alpn_names, materials_of, naming, readable

HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH
NOT_IN_A_NAME = frozenset("*:/[]@%?# \t\r\n")


# ---------------------------------------------------------------------------- what is given


def read_client(value: TLSOption, host: str | None) -> Config:
    """What the engine makes an outgoing connection of. Errors: as TLSOptions."""
    if isinstance(value, ssl.SSLContext):
        fitting(value, ssl.PROTOCOL_TLS_SERVER, "a server's", "a client")
        return UsersConfig(value, expected_name(value.check_hostname, None, host))
    options = options_of("tls", value)
    unfit("a client", options, ("sni", "request_cert"))
    return ClientConfig(options, expected_name(options.reject_unauthorized, options.server_name, host))


def read_server(value: TLSOption) -> Config:
    """What the engine makes accepted connections of. Errors: as TLSOptions."""
    if isinstance(value, ssl.SSLContext):
        fitting(value, ssl.PROTOCOL_TLS_CLIENT, "a client's", "a server")
        return UsersConfig(value, None)
    return server_config(asked_of("tls", value))


def read_server_upgrade(value: TLSOption) -> Config:
    """As `read_server`, of a connection that is open. Those that are asked for alike share one, and so their sessions."""
    if isinstance(value, ssl.SSLContext):
        return read_server(value)
    asked = asked_of("tls", value)
    return _upgrades.get(asked.digest if asked.can_be_kept else None, lambda: server_config(asked))


@dataclass(frozen=True)
class Asked:
    """What a server is asked for, files read; and under each name of `sni`."""

    options: TLSOptions
    materials: Materials
    hosts: Mapping[str, Asked]

    @property
    def digest(self) -> bytes:
        """Of all of it."""
        every = [digest_of(self.options, self.materials)]
        every += [
            each for name, host in self.hosts.items() for each in (name.encode("utf-8", "surrogatepass"), host.digest)
        ]
        return hashlib.sha256(repr(every).encode()).digest()

    @property
    def can_be_kept(self) -> bool:
        return can_be_kept(self.options) and all(host.can_be_kept for host in self.hosts.values())


def asked_of(where: str, value: Any) -> Asked:
    options = options_of(where, value)
    unfit("a server", options, ("session",))
    return Asked(options, materials_of(options), hosts_of(options.sni))


def hosts_of(sni: Any) -> dict[str, Asked]:
    if sni is None:
        return {}
    if not isinstance(sni, Mapping):
        raise TypeError(f"sni must be a mapping of names to options, not {type(sni).__name__!r}")
    hosts: dict[str, Asked] = {}
    for name, value in sni.items():
        with naming(f"sni[{name!r}]"):
            options = options_of("the options", value)
            unfit("a name in sni", options, ("sni", "session"))
            host = host_name(text("a name", name))
            if host in hosts:
                raise ValueError("this name is there twice")
            hosts[host] = Asked(options, materials_of(options), {})
    return hosts


def host_name(name: Any) -> str:
    """As clients ask for it; what none can ask for is refused."""
    host = of_host("a name", str(name))
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


def fitting(context: ssl.SSLContext, wrong: int, whose: str, end: str) -> None:
    if context.protocol == wrong:
        raise ValueError(f"tls: this is {whose} ssl.SSLContext, which {end} cannot use")


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


def unfit(whose: str, options: TLSOptions, names: Sequence[str]) -> None:
    """Refuse what would silently do nothing."""
    for name in names:
        if getattr(options, name):
            raise ValueError(f"{name} is not an option of {whose}")


def expected_name(checked: bool, name: Any, host: str | None) -> str | None:
    found = text("server_name", name) or host
    if found is None:
        if checked:
            raise ValueError("server_name is required: without a hostname the certificate cannot be checked")
        return None
    return of_peer("server_name", found)


# ---------------------------------------------------------------------------- for the engine


class Config:
    """What connections are made of, and what is asked of each; see _tls/engine.pyx."""

    context: ssl.SSLContext
    server_name: str | None = None
    named = True  # is the peer's certificate checked for the name?
    own: tuple[bytes, ...] = ()  # our certificates, DER

    def prepare(self, secured: Any) -> None:
        """A connection was made, and has not begun."""

    def settled(self, secured: Any) -> None:
        """Its handshake is done: note whom it is with. Raises to refuse."""
        if secured.request_cert:
            secured.authorization_error = verdict_of(secured)
            secured.authorized = secured.authorization_error is None
        if secured.reject_unauthorized and secured.authorization_error is not None:
            raise secured.authorization_error

    def own_certificate(self) -> dict[str, Any] | None:
        """Where OpenSSL cannot be asked for it."""
        if len(self.own) > 1:
            raise NotImplementedError(f"get_certificate with several certificates {_tls.borrowed_alone()}")
        return certificate_as_dict(self.own[0]) if self.own else None


class UsersConfig(Config):
    """A user's own context."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self.context, self.server_name, self.named = context, server_name, context.check_hostname

    def prepare(self, secured: Any) -> None:
        secured.request_cert = self.context.verify_mode != ssl.CERT_NONE
        secured.reject_unauthorized = self.context.verify_mode == ssl.CERT_REQUIRED

    def settled(self, secured: Any) -> None:
        """Where it does not refuse, a peer that shows no certificate has done nothing wrong."""
        if secured.reject_unauthorized or secured.has_peer_certificate():
            super().settled(secured)

    def own_certificate(self) -> dict[str, Any] | None:
        raise NotImplementedError(f"get_certificate of an ssl.SSLContext {_tls.borrowed_alone()}")


class OptionsConfig(Config):
    """Of `TLSOptions`."""

    def __init__(self, options: TLSOptions) -> None:
        self.refusing = boolean("reject_unauthorized", options.reject_unauthorized)
        self.asking = boolean("request_cert", options.request_cert)
        text("server_name", options.server_name)

    def prepare(self, secured: Any) -> None:
        secured.request_cert, secured.reject_unauthorized = self.asking, self.refusing


class ClientConfig(OptionsConfig):
    """Verified, unless `reject_unauthorized` is False: then the verdict is told, and that is all."""

    def __init__(self, options: TLSOptions, server_name: str | None) -> None:
        super().__init__(options)
        self.asking = True
        self.context, self.own = client_context(options)
        self.server_name = server_name
        self.session = options.session
        if self.session is not None:
            _tls.check_session(self.session)

    def prepare(self, secured: Any) -> None:
        super().prepare(secured)
        if self.session is not None:
            secured.set_session(self.session)
        if not self.refusing and secured.borrowed:
            secured.set_verify(True, False)
            if self.server_name is not None:
                secured.check_name(self.server_name)


class ServerConfig(OptionsConfig):
    """With a certificate of its own, and of others under their names (`sni`)."""

    def __init__(self, asked: Asked) -> None:
        options = asked.options
        super().__init__(options)
        identity = identity_of(asked.materials, options.passphrase)
        if identity is None:
            raise ValueError("a server needs key and cert")
        self.own = identity.own
        self.context = context_of(ssl.PROTOCOL_TLS_SERVER, options, asked.materials, identity)
        self.context.num_tickets = 1  # for one connection that follows; each costs 6 % of a handshake
        if self.asking:
            self.context.verify_mode = ssl.CERT_REQUIRED
            if not self.refusing and not _tls.borrowing:
                raise NotImplementedError(f"request_cert without reject_unauthorized {_tls.borrowed_alone()}")
        self.protocols = wire_of(options.alpn_protocols)
        _tls.choose_protocol(self)
        self.curve = options.ecdh_curve
        self.limits = limits_of(self.context, self.curve)
        self.session_id_context = asked.digest
        self.hosts = {name: host_config(name, host) for name, host in asked.hosts.items()}
        _tls.choose_by_name(self)

    def prepare(self, secured: Any) -> None:
        if not secured.verify_mode_set:
            super().prepare(secured)
        if secured.borrowed:
            secured.set_verify(secured.request_cert, secured.reject_unauthorized)
            secured.set_session_id_context(self.session_id_context)

    def host(self, name: str) -> ServerConfig:
        """Whose certificate a client gets that asks for this name."""
        name = name.lower().removesuffix(".")
        return self.hosts.get(name) or self.hosts.get("*." + name.partition(".")[2]) or self


def wire_of(protocols: Any) -> bytes:
    """Names of protocols, a length before each."""
    return b"".join(bytes([len(name)]) + name.encode() for name in alpn_names(protocols or ()))


def server_config(asked: Asked) -> ServerConfig:
    """Of a listener or an upgrade, whose clients can be let in."""
    config = ServerConfig(asked)
    refuse_unsatisfiable(asked)
    for name, host in asked.hosts.items():
        with naming(f"sni[{name!r}]"):
            refuse_unsatisfiable(host)
    return config


def refuse_unsatisfiable(asked: Asked) -> None:
    options = asked.options
    if options.request_cert and options.reject_unauthorized and asked.materials.ca is None:
        raise ValueError("request_cert needs ca: without it no client's certificate is accepted")


def host_config(name: str, asked: Asked) -> ServerConfig:
    with naming(f"sni[{name!r}]"):
        return ServerConfig(asked)


def limits_of(context: ssl.SSLContext, curve: str | None) -> dict[str, Any]:
    """What the standard library cannot change with the name that a client asks for."""
    return {
        "min_version": context.minimum_version,
        "max_version": context.maximum_version,
        "secure_options": context.options,
        "ecdh_curve": curve,
    }


_upgrades: Cache[ServerConfig] = Cache()


# ---------------------------------------------------------------------------- what was found


def verdict_of(secured: Any) -> ssl.SSLError | None:
    """What verification found, that was perhaps not insisted on."""
    if not secured.has_peer_certificate():
        return ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer did not return a certificate")
    if not secured.borrowed:
        if secured.object.context.verify_mode != ssl.CERT_NONE:
            return None
        return ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, "certificate not verified: reject_unauthorized is False")
    code, message = secured.verify_result()
    if code == 0 and secured.config.named and secured.server_hostname is not None and secured.object.session_reused:
        code, message = (0, "") if secured.is_for(secured.server_hostname) else (HOSTNAME_MISMATCH, "Hostname mismatch")
    if code == 0:
        return None
    error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def certificate_as_dict(raw: bytes) -> dict[str, Any]:
    """The shape that `ssl` gives to a peer's certificate, and "raw". It has no public way for any other."""
    from _ssl import _test_decode_cert  # type: ignore[attr-defined]

    with readable(ssl.DER_cert_to_PEM_cert(raw).encode()) as path:
        return {**_test_decode_cert(path), "raw": raw}
