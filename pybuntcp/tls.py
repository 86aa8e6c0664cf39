"""tls: from what users give as `tls=` to what the engine makes connections of.

Owns the making of `ssl.SSLContext`s from `TLSOptions`, by the standard library, so that both engines (see
`tls_engine_info`) are configured alike; and the `Config`, which knows what a connection is made of, what is asked of
its peer, and what that answered. A user's own context is used as it is and never changed.
Promises that what is wrong is refused at the call, by an error that names the option.
"""

from __future__ import annotations

import difflib
import hashlib
import ssl
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from . import _tls
from .options import TLSOption, TLSOptions, boolean, integer
from .pem import CRL, Identity, alpn_names, identity_of, material, nameless, naming, path_of, set_identity

DEFAULT_CIPHERS = (
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
    "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:@SECLEVEL=2"
)
NAMES = tuple(field.name for field in fields(TLSOptions))
OF_A_CONNECTION = ("server_name", "session")
FILES = ("key_file", "cert_file", "ca_file", "dh_params_file", "keylog_file")
CONTEXTS_KEPT = 32
HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH

_contexts: dict[bytes, tuple[ssl.SSLContext, bytes | None]] = {}  # the one used last comes last


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
    options = options_of("tls", value)
    unfit("a server", options, ("session",))
    return ServerConfig(options)


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


def text(option: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str, not {type(value).__name__!r}")
    if value is not None and (not value or "\0" in value):
        raise ValueError(f"{option} must not be empty and have no NUL character, not {value!r}")
    return value


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
    found = found.strip("[]")
    if ":" in found:
        found = found.partition("%")[0]  # the zone of an address says nothing to the peer
    with naming("server_name"):
        if found.startswith("."):
            raise ValueError(f"a name does not begin with a dot: {found!r}")
        found.encode("idna")
    return found


# ---------------------------------------------------------------------------- contexts


def context_of(protocol: int, options: TLSOptions, identity: Identity | None) -> ssl.SSLContext:
    """A context of ours."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.options |= ssl.OP_NO_RENEGOTIATION
    boolean("low_memory_mode", options.low_memory_mode)
    set_versions(context, options)
    set_suites(context, options)
    set_identity(context, options, identity)
    set_trust(context, options)
    if options.alpn_protocols is not None:
        context.set_alpn_protocols(alpn_names(options.alpn_protocols))
    if options.secure_options is not None:
        added = integer("secure_options", options.secure_options, 0, 2**63 - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # OP_NO_TLSv1_3 does what it says
            context.options |= added
    if options.dh_params_file is not None:
        with naming("dh_params_file"):
            context.load_dh_params(path_of("dh_params_file", options.dh_params_file))
    if options.keylog_file is not None:
        with naming("keylog_file"):
            context.keylog_filename = path_of("keylog_file", options.keylog_file)
    return context


def client_context(options: TLSOptions) -> tuple[ssl.SSLContext, bytes | None]:
    """And our certificate. One for all connections that are asked for alike: it costs as much as a handshake, or ten.

    What is in files may change, and is read each time; what the system trusts is read once.
    """
    given = {name: getattr(options, name) for name in NAMES if name not in OF_A_CONNECTION}
    if not all(map(is_constant, given.values())) or any(given[name] for name in FILES):
        return new_client_context(options)
    digest = hashlib.sha256(repr(given).encode("utf-8", "surrogatepass")).digest()
    found = _contexts.get(digest) or new_client_context(options)
    keep_context(digest, found)
    return found


def keep_context(digest: bytes, found: tuple[ssl.SSLContext, bytes | None]) -> None:
    """Every thread's clients share them: each step here is one that no other thread can be in the middle of.

    Not a lock, which a child that is forked meanwhile would find taken for ever.
    """
    _contexts.pop(digest, None)
    _contexts[digest] = found
    for oldest in list(_contexts)[:-CONTEXTS_KEPT]:
        _contexts.pop(oldest, None)


def is_constant(value: Any) -> bool:
    """Does its repr say all of it?"""
    if isinstance(value, (list, tuple)):
        return all(isinstance(each, (str, bytes)) for each in value)
    return value is None or isinstance(value, (str, bytes, int))


def new_client_context(options: TLSOptions) -> tuple[ssl.SSLContext, bytes | None]:
    identity = identity_of(options)
    context = context_of(ssl.PROTOCOL_TLS_CLIENT, options, identity)
    if options.reject_unauthorized:
        context.check_hostname = True
    elif not _tls.borrowing:
        context.verify_mode = ssl.CERT_NONE
    return context, None if identity is None else identity.own


def set_versions(context: ssl.SSLContext, options: TLSOptions) -> None:
    least = version("min_version", options.min_version, ssl.TLSVersion.TLSv1_2)
    most = version("max_version", options.max_version, ssl.TLSVersion.TLSv1_3)
    if least > most:
        raise ValueError(f"min_version {least.name} is more than max_version {most.name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # whoever asks for TLS 1.0 knows
        context.minimum_version, context.maximum_version = least, most


def version(option: str, value: Any, default: ssl.TLSVersion) -> ssl.TLSVersion:
    known = {str(each.name).replace("_", "."): each for each in ssl.TLSVersion if each > 0}
    if value is None:
        return default
    if isinstance(value, ssl.TLSVersion):
        return value if value > 0 else default  # MINIMUM_SUPPORTED, MAXIMUM_SUPPORTED
    if not isinstance(value, str):
        raise TypeError(f"{option} must be an ssl.TLSVersion or a str, not {type(value).__name__!r}")
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(known)}, not {value!r}")
    return known[value]


def set_suites(context: ssl.SSLContext, options: TLSOptions) -> None:
    """AES-128 before AES-256, unless told otherwise: as strong as is needed, and faster."""
    given = text("ciphers", options.ciphers)
    old, new = suites(given if given is not None else DEFAULT_CIPHERS)
    with naming("ciphers"):
        if old:
            context.set_ciphers(old)
        if new and not _tls.set_suites(context, new) and given is not None:
            raise NotImplementedError(f"ciphers: {new} {_tls.borrowed_alone()}")
    curve = text("ecdh_curve", options.ecdh_curve)
    if curve is not None:
        with naming("ecdh_curve"):
            set_curves(ssl.SSLContext(context.protocol) if options.sni and _tls.borrowing else context, curve)


def suites(names: str) -> tuple[str, str]:
    """Those of TLS 1.2, and those of TLS 1.3."""
    every = [name for name in names.replace(",", ":").split(":") if name]
    return (
        ":".join(name for name in every if not name.startswith("TLS_")),
        ":".join(name for name in every if name.startswith("TLS_")),
    )


def set_curves(context: ssl.SSLContext, names: str) -> None:
    if _tls.set_groups(context, names):
        return
    if ":" in names:
        raise NotImplementedError(f"ecdh_curve: more than one {_tls.borrowed_alone()}")
    context.set_ecdh_curve(names)


def set_trust(context: ssl.SSLContext, options: TLSOptions) -> None:
    """Whose certificates are believed. What the system trusts is for checking servers alone."""
    ca = material("ca", "CERTIFICATE", options.ca, options.ca_file)
    crl = material("crl", CRL, options.crl)
    if ca is not None:
        ca.certificates()
        with naming(ca.option):
            context.load_verify_locations(cadata=ca.pem.decode("ascii", "replace"))
    elif context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if crl is not None:
        with naming("crl"), nameless(crl.lists()) as path:
            context.load_verify_locations(cafile=path)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


# ---------------------------------------------------------------------------- for the engine


class Config:
    """What connections are made of, and what is asked of each; see _tls/engine.pyx."""

    context: ssl.SSLContext
    server_name: str | None = None
    named = True  # is the peer's certificate checked for the name?
    own: bytes | None = None  # our certificate, DER

    def prepare(self, secured: Any) -> None:
        """A connection was made, and has not begun."""

    def settled(self, secured: Any) -> None:
        """Its handshake is done: note whom it is with. Raises to refuse."""
        if secured.asking:
            secured.authorization_error = verdict_of(secured)
            secured.authorized = secured.authorization_error is None
        if secured.refusing and secured.authorization_error is not None:
            raise secured.authorization_error

    def own_certificate(self) -> dict[str, Any] | None:
        """Where OpenSSL cannot be asked for it."""
        return None if self.own is None else certificate_as_dict(self.own)


class UsersConfig(Config):
    """A user's own context."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self.context, self.server_name, self.named = context, server_name, context.check_hostname

    def prepare(self, secured: Any) -> None:
        secured.asking = self.context.verify_mode != ssl.CERT_NONE
        secured.refusing = self.context.verify_mode == ssl.CERT_REQUIRED

    def settled(self, secured: Any) -> None:
        """Where it does not refuse, a peer that shows no certificate has done nothing wrong."""
        if secured.refusing or secured.has_peer_certificate():
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
        secured.asking, secured.refusing = self.asking, self.refusing


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

    def __init__(self, options: TLSOptions) -> None:
        super().__init__(options)
        identity = identity_of(options)
        if identity is None:
            raise ValueError("a server needs key and cert")
        self.own = identity.own
        self.context = context_of(ssl.PROTOCOL_TLS_SERVER, options, identity)
        self.context.num_tickets = 1  # for one connection that follows; each costs 6 % of a handshake
        if self.asking:
            self.context.verify_mode = ssl.CERT_REQUIRED
            if not self.refusing and not _tls.borrowing:
                raise NotImplementedError(f"request_cert without reject_unauthorized {_tls.borrowed_alone()}")
        self.curve = options.ecdh_curve
        self.limits = limits_of(self.context, self.curve)
        self.session_id_context = hashlib.sha256(repr(options).encode("utf-8", "replace")).digest()
        self.hosts = hosts_of(options.sni)
        _tls.choose_by_name(self)

    def prepare(self, secured: Any) -> None:
        if not secured.decided:
            super().prepare(secured)
        if secured.borrowed:
            secured.set_verify(secured.asking, secured.refusing)
            secured.set_session_id_context(self.session_id_context)

    def host(self, name: str) -> ServerConfig:
        """Whose certificate a client gets that asks for this name."""
        name = name.lower().rstrip(".")
        return self.hosts.get(name) or self.hosts.get("*." + name.partition(".")[2]) or self


def limits_of(context: ssl.SSLContext, curve: str | None) -> dict[str, Any]:
    """What the standard library cannot change with the name that a client asks for."""
    return {
        "min_version": context.minimum_version,
        "max_version": context.maximum_version,
        "secure_options": context.options,
        "ecdh_curve": curve,
    }


def hosts_of(sni: Any) -> dict[str, ServerConfig]:
    if sni is None:
        return {}
    if not isinstance(sni, Mapping):
        raise TypeError(f"sni must be a mapping of names to options, not {type(sni).__name__!r}")
    hosts = {}
    for name, value in sni.items():
        with naming(f"sni[{name!r}]"):
            options = options_of("the options", value)
            unfit("a name in sni", options, ("sni", "session"))
            hosts[str(text("a name", name)).lower().rstrip(".")] = ServerConfig(options)
    return hosts


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
    if code == 0 and secured.config.named and secured.expected is not None and secured.object.session_reused:
        code, message = (0, "") if secured.is_for(secured.expected) else (HOSTNAME_MISMATCH, "Hostname mismatch")
    if code == 0:
        return None
    error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def certificate_as_dict(raw: bytes) -> dict[str, Any]:
    """The shape that `ssl` gives to a peer's certificate, and "raw". It has no public way for any other."""
    from _ssl import _test_decode_cert  # type: ignore[attr-defined]

    with nameless(ssl.DER_cert_to_PEM_cert(raw).encode()) as path:
        return {**_test_decode_cert(path), "raw": raw}
