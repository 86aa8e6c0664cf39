"""connecting: from a value of `tls=` to a Config, for a client, a server or an upgrade.

Owns which kind of Config a value leads to, and that upgrades with the same options share one. A user's own
`ssl.SSLContext` is used as it is and never changed.
Promises that whatever is wrong is refused at the call, by an error that names the option.
"""

from __future__ import annotations

import ssl

from .cache import Cache
from .config import ClientConfig, Config, ContextConfig, ServerConfig, server_config
from .options import TLSOption
from .settings import check_role, options_of, reject_options, server_name_of, server_settings

_upgrades: Cache[ServerConfig] = Cache()


def read_client(value: TLSOption, hostname: str | None) -> Config:
    """For an outgoing connection. hostname: what it is made to, if that is a name."""
    if isinstance(value, ssl.SSLContext):
        check_role(value, ssl.PROTOCOL_TLS_SERVER, "a server's", "a client")
        return ContextConfig(value, server_name_of(None, hostname, required=value.check_hostname))
    options = options_of("tls", value)
    reject_options("a client", options, ("sni", "request_cert"))
    return ClientConfig(options, server_name_of(options.server_name, hostname, required=options.reject_unauthorized))


def read_server(value: TLSOption) -> Config:
    """For accepted connections."""
    if isinstance(value, ssl.SSLContext):
        check_role(value, ssl.PROTOCOL_TLS_CLIENT, "a client's", "a server")
        return ContextConfig(value, None)
    return server_config(server_settings("tls", value))


def read_server_upgrade(value: TLSOption) -> Config:
    """As `read_server`. Upgrades with the same options share a Config, and with it their sessions."""
    if isinstance(value, ssl.SSLContext):
        return read_server(value)
    settings = server_settings("tls", value)
    return _upgrades.get(settings.digest if settings.is_cacheable else None, lambda: server_config(settings))
