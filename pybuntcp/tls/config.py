"""config: the object from which the engine makes connections, and which decides about the peer of each.

Owns `Config` and its kinds: of a user's own `ssl.SSLContext`, and of `TLSOptions` for a client and for a server. The
engine calls `prepare` when a connection was made, and `settled` when its handshake is done (see _tls.pyx); a server's
engine also reads `protocols`, `curve`, `limits`, `hosts` and `host`.
Promises that a user's own context is never changed. Does not read values of `tls=` (see settings).
"""

from __future__ import annotations

import ssl
from typing import Any

from .. import _tls
from ..checks import boolean, text
from .alpn import wire_format
from .certificate import certificate_as_dict
from .contexts import client_context, context_of
from .errors import naming_option
from .identity import identity_of
from .options import TLSOptions
from .settings import ServerSettings
from .verdict import verdict_of


class Config:
    """What connections are made of, and what is asked of each."""

    context: ssl.SSLContext
    server_name: str | None = None
    check_hostname = True  # the peer's certificate must be for the name
    certificates: tuple[bytes, ...] = ()  # our own, as DER

    def prepare(self, connection: Any) -> None:
        """A connection was made, and has not begun its handshake."""

    def settled(self, connection: Any) -> None:
        """Its handshake is done: note the verdict on the peer. An error raised here ends the connection."""
        if connection.request_cert:
            connection.authorization_error = verdict_of(connection)
            connection.authorized = connection.authorization_error is None
        if connection.reject_unauthorized and connection.authorization_error is not None:
            raise connection.authorization_error

    def own_certificate(self) -> dict[str, Any] | None:
        """Called where OpenSSL cannot be asked for it."""
        if len(self.certificates) > 1:
            raise NotImplementedError(f"get_certificate with several certificates {_tls.borrowed_alone()}")
        return certificate_as_dict(self.certificates[0]) if self.certificates else None


class ContextConfig(Config):
    """A user's own context."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self.context, self.server_name, self.check_hostname = context, server_name, context.check_hostname

    def prepare(self, connection: Any) -> None:
        connection.request_cert = self.context.verify_mode != ssl.CERT_NONE
        connection.reject_unauthorized = self.context.verify_mode == ssl.CERT_REQUIRED

    def settled(self, connection: Any) -> None:
        """Unless the context requires a certificate, a peer that shows none has done nothing wrong."""
        if connection.reject_unauthorized or connection.has_peer_certificate():
            super().settled(connection)

    def own_certificate(self) -> dict[str, Any] | None:
        raise NotImplementedError(f"get_certificate of an ssl.SSLContext {_tls.borrowed_alone()}")


class StandardConfig(Config):
    """A context that decides alone about the peer, as in the standard library; or what wraps connections as one does."""

    def __init__(self, context: Any, server_name: str | None) -> None:
        self.context, self.server_name = context, server_name

    def settled(self, connection: Any) -> None:
        pass


class OptionsConfig(Config):
    """Of `TLSOptions`."""

    def __init__(self, options: TLSOptions) -> None:
        self.reject_unauthorized = boolean("reject_unauthorized", options.reject_unauthorized)
        self.request_cert = boolean("request_cert", options.request_cert)
        text("server_name", options.server_name)

    def prepare(self, connection: Any) -> None:
        connection.request_cert, connection.reject_unauthorized = self.request_cert, self.reject_unauthorized


class ClientConfig(OptionsConfig):
    """The peer is always verified. With `reject_unauthorized` False the verdict is only noted."""

    def __init__(self, options: TLSOptions, server_name: str | None) -> None:
        super().__init__(options)
        self.request_cert = True
        self.context, self.certificates = client_context(options)
        self.server_name = server_name
        self.session = options.session
        if self.session is not None:
            _tls.check_session(self.session)

    def prepare(self, connection: Any) -> None:
        super().prepare(connection)
        if self.session is not None:
            connection.set_session(self.session)
        if not self.reject_unauthorized and connection.borrowed:
            connection.set_verify(True, False)
            if self.server_name is not None:
                connection.check_name(self.server_name)


class ServerConfig(OptionsConfig):
    """Of a server, or of one name in its `sni`."""

    def __init__(self, settings: ServerSettings) -> None:
        options = settings.options
        super().__init__(options)
        identity = identity_of(settings.materials, options.passphrase)
        if identity is None:
            raise ValueError("a server needs key and cert")
        self.certificates = identity.certificates
        self.context = context_of(ssl.PROTOCOL_TLS_SERVER, options, settings.materials, identity)
        self.context.num_tickets = 1  # enough for one later connection; each costs 6 % of a handshake
        if self.request_cert:
            self.context.verify_mode = ssl.CERT_REQUIRED
            if not self.reject_unauthorized and not _tls.borrowing:
                raise NotImplementedError(f"request_cert without reject_unauthorized {_tls.borrowed_alone()}")
        self.protocols = wire_format(options.alpn_protocols)
        _tls.choose_protocol(self)
        self.curve = options.ecdh_curve
        self.limits = limits_of(self.context, self.curve)
        self.session_id_context = settings.digest
        self.hosts = {name: host_config(name, host) for name, host in settings.hosts.items()}
        _tls.choose_by_name(self)

    def prepare(self, connection: Any) -> None:
        if not connection.verify_mode_set:
            super().prepare(connection)
        if connection.borrowed:
            connection.set_verify(connection.request_cert, connection.reject_unauthorized)
            connection.set_session_id_context(self.session_id_context)

    def host(self, name: str) -> ServerConfig:
        """The configuration for a client that asks for this name."""
        name = name.lower().removesuffix(".")
        return self.hosts.get(name) or self.hosts.get("*." + name.partition(".")[2]) or self


def server_config(settings: ServerSettings) -> ServerConfig:
    """Of a listener or an upgrade."""
    config = ServerConfig(settings)
    refuse_unsatisfiable(settings)
    for name, host in settings.hosts.items():
        with naming_option(f"sni[{name!r}]"):
            refuse_unsatisfiable(host)
    return config


def host_config(name: str, settings: ServerSettings) -> ServerConfig:
    with naming_option(f"sni[{name!r}]"):
        return ServerConfig(settings)


def refuse_unsatisfiable(settings: ServerSettings) -> None:
    options = settings.options
    if options.request_cert and options.reject_unauthorized and settings.materials.ca is None:
        raise ValueError("request_cert needs ca: without it no client's certificate is accepted")


def limits_of(context: ssl.SSLContext, curve: str | None) -> dict[str, Any]:
    """What the standard library cannot change when a client asks for a name."""
    return {
        "min_version": context.minimum_version,
        "max_version": context.maximum_version,
        "secure_options": context.options,
        "ecdh_curve": curve,
    }
