"""reader: the way into this package, for api.py and the core.

Owns three functions, from a value of `tls=` to a Config. They import the rest of the package, and with it `ssl`, only
when a connection has TLS.
Promises a TypeError, ValueError, ssl.SSLError or OSError that names the option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config


def read_tls(value: Any, server: bool, hostname: str | None) -> Config | None:
    """For a listener or an outgoing connection to `hostname`. None and False mean no TLS."""
    if value is None or value is False:
        return None
    from .connecting import read_client, read_server

    return read_server(value) if server else read_client(value, hostname)


def read_upgrade(value: Any, server: bool, hostname: str | None) -> Config:
    """For `upgrade_tls`. hostname: what the connection was made to, if that was a name."""
    if value is None or value is False:
        raise TypeError("tls is required")
    from .connecting import read_client, read_server_upgrade

    return read_server_upgrade(value) if server else read_client(value, hostname)


def read_in_place(value: Any, server: bool, hostname: str | None) -> Config:
    """For `tls_prepare` of the C API: as `read_upgrade`, but a context decides alone, with the name as it is given."""
    if not hasattr(value, "wrap_bio"):
        return read_upgrade(value, server, hostname)
    from .config import StandardConfig

    return StandardConfig(value, None if server else hostname)
