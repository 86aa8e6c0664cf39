"""contexts: from `TLSOptions` to an `ssl.SSLContext`.

Owns what is set in a context, by means of the standard library, so that both engines (see `tls_engine_info`) are
configured alike; and which contexts of clients are shared (see cache).
Promises that a wrong option is refused by an error that names it. Does not know connections (see config).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from .. import _tls
from ..checks import boolean, integer, text
from .alpn import alpn_names
from .cache import Cache, digest_of, is_cacheable
from .errors import naming_option
from .identity import Identity, identity_of, is_root, set_identity
from .memory_file import readable
from .options import TLSOptions
from .pem import PEM, TRUSTED, Materials, load_materials, path_of

DEFAULT_CIPHERS = (
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
    "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+aRSA+AESGCM:@SECLEVEL=2"
)
IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # OpenSSL 1.1.1 has none


Client = tuple[ssl.SSLContext, tuple[bytes, ...]]  # the context, and our certificates as DER
_clients: Cache[Client] = Cache()


def client_context(options: TLSOptions) -> Client:
    """One context for all connections with the same options, so that the system's certificates are read once."""
    materials = load_materials(options)
    digest = digest_of(options, materials) if is_cacheable(options) else None
    return _clients.get(digest, lambda: new_client_context(options, materials))


def new_client_context(options: TLSOptions, materials: Materials) -> Client:
    identity = identity_of(materials, options.passphrase)
    context = context_of(ssl.PROTOCOL_TLS_CLIENT, options, materials, identity)
    if options.reject_unauthorized:
        context.check_hostname = True
    elif not _tls.borrowing:
        context.verify_mode = ssl.CERT_NONE
    return context, () if identity is None else identity.certificates


def context_of(protocol: int, options: TLSOptions, materials: Materials, identity: Identity | None) -> ssl.SSLContext:
    """A new context."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~IGNORE_UNEXPECTED_EOF  # CPython before 3.10.12 and 3.11.4 sets it: a cut would look like an end
    boolean("low_memory_mode", options.low_memory_mode)
    set_versions(context, options)
    set_ciphers(context, options)
    set_identity(context, identity, options.passphrase)
    set_trust(context, materials)
    if options.alpn_protocols is not None:
        context.set_alpn_protocols(alpn_names(options.alpn_protocols))
    if options.secure_options is not None:
        added = integer("secure_options", options.secure_options, 0, 2**63 - 1)
        with without_deprecation_warnings(bool(added & sum(SWITCH_OFF.values()))):
            context.options |= added
        check_versions(context)
    if options.dh_params_file is not None:
        with naming_option("dh_params_file"):
            context.load_dh_params(path_of("dh_params_file", options.dh_params_file))
    if options.keylog_file is not None:
        with naming_option("keylog_file"):
            context.keylog_filename = path_of("keylog_file", options.keylog_file)
    return context


def set_versions(context: ssl.SSLContext, options: TLSOptions) -> None:
    minimum = version("min_version", options.min_version, ssl.TLSVersion.TLSv1_2)
    maximum = version("max_version", options.max_version, ssl.TLSVersion.TLSv1_3)
    if minimum > maximum:
        raise ValueError(f"min_version {minimum.name} is more than max_version {maximum.name}")
    with without_deprecation_warnings(minimum < ssl.TLSVersion.TLSv1_2):
        context.minimum_version, context.maximum_version = minimum, maximum


class Filters:
    """The lock for the filters of warnings, which all threads share.

    Without it two threads that change and restore them at once would leave the wrong ones behind.
    """

    lock = threading.Lock()

    @classmethod
    def renew_lock(cls) -> None:
        """For a child that was forked while another thread held the lock."""
        cls.lock = threading.Lock()


os.register_at_fork(after_in_child=Filters.renew_lock)


@contextlib.contextmanager
def without_deprecation_warnings(quiet: bool) -> Iterator[None]:
    """A user who asks for TLS 1.0 or OP_NO_TLSv1_3 gets no DeprecationWarning. quiet: False leaves the filters alone."""
    if not quiet:
        yield
        return
    with Filters.lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


SWITCH_OFF = {
    ssl.TLSVersion.TLSv1: ssl.OP_NO_TLSv1,
    ssl.TLSVersion.TLSv1_1: ssl.OP_NO_TLSv1_1,
    ssl.TLSVersion.TLSv1_2: ssl.OP_NO_TLSv1_2,
    ssl.TLSVersion.TLSv1_3: ssl.OP_NO_TLSv1_3,
}


def check_versions(context: ssl.SSLContext) -> None:
    minimum, maximum = context.minimum_version, context.maximum_version
    if not any(minimum <= version <= maximum and not context.options & off for version, off in SWITCH_OFF.items()):
        raise ValueError(f"secure_options leaves no version of TLS from {minimum.name} to {maximum.name}")


def version(option: str, value: Any, default: ssl.TLSVersion) -> ssl.TLSVersion:
    known = {str(each.name).replace("_", "."): each for each in ssl.TLSVersion if each > 0 and is_supported(each)}
    if value is None:
        return default
    if isinstance(value, ssl.TLSVersion):
        return version_bound(option, value, default)
    if not isinstance(value, str):
        raise TypeError(f"{option} must be an ssl.TLSVersion or a str, not {type(value).__name__!r}")
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(known)}, not {value!r}")
    return known[value]


def version_bound(option: str, value: ssl.TLSVersion, default: ssl.TLSVersion) -> ssl.TLSVersion:
    """MINIMUM_SUPPORTED and MAXIMUM_SUPPORTED mean the defaults."""
    if value > 0 and not is_supported(value):
        raise ValueError(f"{option}: this OpenSSL has no {value.name}")
    if value > 0:
        return value
    if value == ssl.TLSVersion.MAXIMUM_SUPPORTED:
        return ssl.TLSVersion.TLSv1_3
    if option == "max_version":
        raise ValueError(f"{option} must not be {value.name}, which is older than TLS 1.2")
    return default


def is_supported(version: ssl.TLSVersion) -> bool:
    """Distributions compile old versions out of OpenSSL."""
    return bool(getattr(ssl, f"HAS_{version.name}"))


def set_ciphers(context: ssl.SSLContext, options: TLSOptions) -> None:
    """The default puts AES-128 before AES-256: it is strong enough, and faster."""
    given = text("ciphers", options.ciphers)
    tls12, tls13 = split_ciphers(given if given is not None else DEFAULT_CIPHERS)
    with naming_option("ciphers"):
        if tls12:
            context.set_ciphers(tls12)
        if tls13 and not _tls.set_suites(context, tls13) and given is not None:
            raise NotImplementedError(f"ciphers: {tls13} {_tls.borrowed_alone()}")
    curve = text("ecdh_curve", options.ecdh_curve)
    if curve is not None:
        with naming_option("ecdh_curve"):
            set_curves(ssl.SSLContext(context.protocol) if options.sni and _tls.borrowing else context, curve)


def split_ciphers(names: str) -> tuple[str, str]:
    """The names of TLS 1.2 and earlier, and those of TLS 1.3, which OpenSSL takes by another function."""
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
    """Which certificates are trusted, and which of them are revoked. The system's are used by clients alone.

    Every certificate in `ca` is trusted by itself: a root, an intermediate one, or a peer's own.
    """
    context.verify_flags |= verify_flags_of(context, materials)
    if materials.ca is not None:
        set_authorities(context, materials.ca)
    elif context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if materials.crl is not None:
        lists = b"".join(block.text for block in materials.crl.only())
        with naming_option("crl"), readable(lists) as path:
            context.load_verify_locations(cafile=path)


def verify_flags_of(context: ssl.SSLContext, materials: Materials) -> ssl.VerifyFlags:
    """With PARTIAL_CHAIN a chain ends at the first trusted certificate, a root or not.

    Where only roots are trusted it is left out, which gives the usual errors. With `crl` a chain goes on to a root if one
    is trusted, because OpenSSL finds no list for the last certificate of a chain unless it has issued itself.
    """
    roots = [is_root(block) for block in materials.ca.blocks] if materials.ca is not None else []
    ours = bool(roots) or context.protocol == ssl.PROTOCOL_TLS_SERVER
    if materials.crl is None:
        return ssl.VerifyFlags(0) if ours and all(roots) else ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if any(roots) or not roots:
        return ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def set_authorities(context: ssl.SSLContext, ca: PEM) -> None:
    """OpenSSL reads the trust settings of a TRUSTED CERTIFICATE from a file, not from DER."""
    blocks = ca.blocks
    with naming_option(ca.option):
        if all(block.label != TRUSTED for block in blocks):
            context.load_verify_locations(cadata=b"".join(block.der for block in blocks))
            return
        with readable(b"".join(block.text for block in blocks)) as path:
            context.load_verify_locations(cafile=path)
