"""contexts: the `ssl.SSLContext`s that are made of `TLSOptions`.

Owns what is set in them, by the standard library, so that both engines (see `tls_engine_info`) are configured alike;
and which of them are kept: one costs as much as a handshake, or ten, so that connections that are asked for alike share
it. Alike means by content: what is in files is read each time, and a file that has changed makes another context.
Promises that what is wrong is refused by an error that names the option. Does not know connections (see tls.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Generic, TypeVar

from . import _tls
from .identity import Identity, identity_of, is_root, set_identity
from .options import TLSOptions, boolean, integer, text
from .pem import PEM, TRUSTED, Materials, alpn_names, contents, materials_of, naming, path_of, readable

DEFAULT_CIPHERS = (
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
    "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+aRSA+AESGCM:@SECLEVEL=2"
)
NAMES = tuple(field.name for field in fields(TLSOptions))
OF_A_CONNECTION = ("server_name", "session")
READ = ("key", "cert", "ca", "crl", "key_file", "cert_file", "ca_file")  # as Materials
APART = (*OF_A_CONNECTION, *READ, "dh_params_file", "sni")
KEPT = 32

Kept = TypeVar("Kept")


# ---------------------------------------------------------------------------- what is kept


class Cache(Generic[Kept]):
    """The last few of what was made, by the digest of what it was made of.

    Every thread's connections share it: each step here is one that no other thread can be in the middle of. There is no
    lock, which a child that is forked meanwhile would find taken for ever.
    """

    def __init__(self) -> None:
        self.kept: dict[bytes, Kept] = {}  # the one used last comes last

    def get(self, digest: bytes | None, make: Callable[[], Kept]) -> Kept:
        """What was made of this, or is made now. digest: None = it cannot be known again."""
        if digest is None:
            return make()
        found = self.kept.get(digest)
        if found is None:
            found = make()
        self.keep(digest, found)
        return found

    def keep(self, digest: bytes, made: Kept) -> None:
        self.kept.pop(digest, None)
        self.kept[digest] = made
        for oldest in list(self.kept)[:-KEPT]:
            self.kept.pop(oldest, None)


def can_be_kept(options: TLSOptions) -> bool:
    """Does the digest say all of it, and is no file of it written to?"""
    return options.keylog_file is None and all(map(is_constant, words_of(options).values()))


def words_of(options: TLSOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in NAMES if name not in APART}


def digest_of(options: TLSOptions, materials: Materials) -> bytes:
    """Of all that a context is made of, files included."""
    made = hashlib.sha256(repr(words_of(options)).encode("utf-8", "surrogatepass"))
    if options.dh_params_file is not None:
        made.update(hashlib.sha256(contents("dh_params_file", options.dh_params_file)).digest())
    for pem in (materials.cert, materials.key, materials.ca, materials.crl):
        made.update(repr(None if pem is None else [(part.name, len(part.pem)) for part in pem.parts]).encode())
        for part in pem.parts if pem is not None else ():
            made.update(part.pem)
    return made.digest()


def is_constant(value: Any) -> bool:
    """Does its repr say all of it?"""
    if isinstance(value, (list, tuple)):
        return all(isinstance(each, (str, bytes)) for each in value)
    return value is None or isinstance(value, (str, bytes, int))


# ---------------------------------------------------------------------------- contexts


Client = tuple[ssl.SSLContext, tuple[bytes, ...]]  # and our certificates
_clients: Cache[Client] = Cache()


def client_context(options: TLSOptions) -> Client:
    """One for all connections that are asked for alike. What the system trusts is read once."""
    materials = materials_of(options)
    digest = digest_of(options, materials) if can_be_kept(options) else None
    return _clients.get(digest, lambda: new_client_context(options, materials))


def new_client_context(options: TLSOptions, materials: Materials) -> Client:
    identity = identity_of(materials, options.passphrase)
    context = context_of(ssl.PROTOCOL_TLS_CLIENT, options, materials, identity)
    if options.reject_unauthorized:
        context.check_hostname = True
    elif not _tls.borrowing:
        context.verify_mode = ssl.CERT_NONE
    return context, () if identity is None else identity.own


def context_of(protocol: int, options: TLSOptions, materials: Materials, identity: Identity | None) -> ssl.SSLContext:
    """A context of ours."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.options |= ssl.OP_NO_RENEGOTIATION
    boolean("low_memory_mode", options.low_memory_mode)
    set_versions(context, options)
    set_suites(context, options)
    set_identity(context, identity, options.passphrase)
    set_trust(context, materials)
    if options.alpn_protocols is not None:
        context.set_alpn_protocols(alpn_names(options.alpn_protocols))
    if options.secure_options is not None:
        added = integer("secure_options", options.secure_options, 0, 2**63 - 1)
        with without_warnings(bool(added & sum(OFF.values()))):
            context.options |= added
        check_versions(context)
    if options.dh_params_file is not None:
        with naming("dh_params_file"):
            context.load_dh_params(path_of("dh_params_file", options.dh_params_file))
    if options.keylog_file is not None:
        with naming("keylog_file"):
            context.keylog_filename = path_of("keylog_file", options.keylog_file)
    return context


def set_versions(context: ssl.SSLContext, options: TLSOptions) -> None:
    least = version("min_version", options.min_version, ssl.TLSVersion.TLSv1_2)
    most = version("max_version", options.max_version, ssl.TLSVersion.TLSv1_3)
    if least > most:
        raise ValueError(f"min_version {least.name} is more than max_version {most.name}")
    with without_warnings(least < ssl.TLSVersion.TLSv1_2):
        context.minimum_version, context.maximum_version = least, most


class Filters:
    """Warnings' filters are the process's: of two threads that change them at once, one would leave the other's behind."""

    lock = threading.Lock()

    @classmethod
    def renew(cls) -> None:
        """In a child that was forked while another thread had it."""
        cls.lock = threading.Lock()


os.register_at_fork(after_in_child=Filters.renew)


@contextlib.contextmanager
def without_warnings(quiet: bool) -> Iterator[None]:
    """Whoever asks for TLS 1.0, or says OP_NO_TLSv1_3, knows, and is not warned. Who does not changes no filter."""
    if not quiet:
        yield
        return
    with Filters.lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


OFF = {
    ssl.TLSVersion.TLSv1: ssl.OP_NO_TLSv1,
    ssl.TLSVersion.TLSv1_1: ssl.OP_NO_TLSv1_1,
    ssl.TLSVersion.TLSv1_2: ssl.OP_NO_TLSv1_2,
    ssl.TLSVersion.TLSv1_3: ssl.OP_NO_TLSv1_3,
}


def check_versions(context: ssl.SSLContext) -> None:
    least, most = context.minimum_version, context.maximum_version
    if not any(least <= version <= most and not context.options & off for version, off in OFF.items()):
        raise ValueError(f"secure_options leaves no version of TLS from {least.name} to {most.name}")


def version(option: str, value: Any, default: ssl.TLSVersion) -> ssl.TLSVersion:
    known = {str(each.name).replace("_", "."): each for each in ssl.TLSVersion if each > 0 and is_there(each)}
    if value is None:
        return default
    if isinstance(value, ssl.TLSVersion):
        return boundary(option, value, default)
    if not isinstance(value, str):
        raise TypeError(f"{option} must be an ssl.TLSVersion or a str, not {type(value).__name__!r}")
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(known)}, not {value!r}")
    return known[value]


def boundary(option: str, value: ssl.TLSVersion, default: ssl.TLSVersion) -> ssl.TLSVersion:
    """MINIMUM_SUPPORTED and MAXIMUM_SUPPORTED are what is by default least and most."""
    if value > 0 and not is_there(value):
        raise ValueError(f"{option}: this OpenSSL has no {value.name}")
    if value > 0:
        return value
    if value == ssl.TLSVersion.MAXIMUM_SUPPORTED:
        return ssl.TLSVersion.TLSv1_3
    if option == "max_version":
        raise ValueError(f"{option} must not be {value.name}, which is older than TLS 1.2")
    return default


def is_there(version: ssl.TLSVersion) -> bool:
    """Distributions leave out what is broken."""
    return bool(getattr(ssl, f"HAS_{version.name}"))


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


def set_trust(context: ssl.SSLContext, materials: Materials) -> None:
    """Whose certificates are believed, and which of them not. What the system trusts is for checking servers alone.

    Each certificate in `ca` is one that is believed, an intermediate one or a peer's own as well as a root.
    """
    context.verify_flags |= checks_of(context, materials)
    if materials.ca is not None:
        set_authorities(context, materials.ca)
    elif context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if materials.crl is not None:
        lists = b"".join(block.text for block in materials.crl.only())
        with naming("crl"), readable(lists) as path:
            context.load_verify_locations(cafile=path)


def checks_of(context: ssl.SSLContext, materials: Materials) -> ssl.VerifyFlags:
    """A chain ends at the first certificate that is believed, whatever it is; where roots alone are, there is no need to
    ask for that, and errors are the usual ones. With `crl` a chain goes on to a root, if one is believed: OpenSSL finds
    no list for the last certificate of a chain unless that has issued itself."""
    roots = [is_root(block) for block in materials.ca.blocks] if materials.ca is not None else []
    ours = bool(roots) or context.protocol == ssl.PROTOCOL_TLS_SERVER
    if materials.crl is None:
        return ssl.VerifyFlags(0) if ours and all(roots) else ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if any(roots) or not roots:
        return ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def set_authorities(context: ssl.SSLContext, ca: PEM) -> None:
    """What is noted behind a TRUSTED CERTIFICATE, for what it is trusted, is read from files alone."""
    blocks = ca.blocks
    with naming(ca.option):
        if all(block.label != TRUSTED for block in blocks):
            context.load_verify_locations(cadata=b"".join(block.der for block in blocks))
            return
        with readable(b"".join(block.text for block in blocks)) as path:
            context.load_verify_locations(cafile=path)
