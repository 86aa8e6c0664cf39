"""options: `TLSOptions`, what users may say with `tls=`.

Owns the names, types and defaults of the options and their documentation. Checks nothing: that is done where an option
is used (see settings, contexts, identity). Imports `ssl` for the type checker only, and nothing of this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import ssl  # a program without TLS does not import it

Material = str | bytes | bytearray | memoryview | Path
"""PEM as text or bytes, or the path of a file with it."""


@dataclass(frozen=True)
class TLSOptions:
    """The options of `tls=`; a mapping with the same keys is accepted, too. Source: Bun's `tls` option.

    key, cert: our private key, and our certificate followed by those that lead to its root. Required on a server. Lists
    of an RSA and an ECDSA one, in any order, are two identities; each peer gets one that it can verify.
    ca: trusted certificates; the peer's must be one of them, or lead to one; None = those that the system trusts.
    crl: lists of revoked certificates, and nothing else. Each of these is PEM (str, bytes or buffer), a `pathlib.Path`,
    or a list of those. passphrase: that of an encrypted key. key_file, cert_file, ca_file, dh_params_file: paths instead.

    server_name: the name that a client requests, and that the certificate must be for; None = the host connected to. A
    final dot is dropped; a name that is not ASCII is sent and checked as IDNA's A-label. A server ignores it.
    request_cert: a server requests a certificate of its clients, which needs ca. reject_unauthorized: a peer whose
    certificate does not verify is refused; False is the only way to accept one (see `Socket.authorized`).

    alpn_protocols: names (str or bytes), in order of preference, or their wire format as bytes. ciphers: OpenSSL's
    list; names of TLS 1.3 suites may be among them. ecdh_curve: one name, or several with colons.
    min_version, max_version: `ssl.TLSVersion` or a str like "TLSv1.2"; at least 1.2 unless an older one is given.
    secure_options: `ssl.OP_*` to add. session: bytes of `Socket.get_session`, to resume. keylog_file: path of a file to
    which the keys are written, for Wireshark. low_memory_mode: accepted, and always on. sni: on a server,
    `{name: TLSOptions}`; a name may begin with "*.". An option that an entry leaves out has its default there, not the
    listener's value.

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

NAMES = tuple(each.name for each in fields(TLSOptions))
