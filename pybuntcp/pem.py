"""pem: keys and certificates, as users give them and as `ssl` takes them.

Owns the reading of what is PEM, in memory, in a file or in several; the way in for what is in memory, since the `ssl`
module takes keys from files alone; names of protocols; and that an error says which option it is about.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .options import TLSOptions

PIPE_MOST = 65536
BEGIN = re.compile(rb"^-----BEGIN ([^\r\n]+?)-----[ \t\r]*$", re.MULTILINE)
BLOCK = re.compile(rb"^-----BEGIN ([^\r\n]+?)-----[ \t\r]*$(.*?)^-----END \1-----", re.MULTILINE | re.DOTALL)
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
CRL = "X509 CRL"


@dataclass(frozen=True)
class PEM:
    """What an option gave, as one PEM text, under the name that it was given by."""

    option: str
    pem: bytes

    def certificates(self) -> list[bytes]:
        """As DER; at least one."""
        found = CERTIFICATE.findall(self.pem)
        if not found:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{self.option}: a certificate in it has no end")
        with naming(self.option):
            return [ssl.PEM_cert_to_DER_cert(each.decode("ascii")) for each in found]

    def lists(self) -> bytes:
        """Lists of revoked certificates, and nothing else: OpenSSL would believe a certificate that is among them."""
        for label in BEGIN.findall(self.pem):
            if label != CRL.encode():
                words = f"{self.option}: a {label.decode('ascii', 'replace')} is in it, which is no {CRL}"
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, words)
        found = BLOCK.findall(self.pem)
        if len(found) != len(BEGIN.findall(self.pem)) or not found:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{self.option}: a list of revoked certificates in it has no end")
        return b"".join(armoured(CRL.encode(), body) for _, body in found)


def armoured(label: bytes, body: bytes) -> bytes:
    return b"-----BEGIN " + label + b"-----" + body + b"-----END " + label + b"-----\n"


def material(option: str, what: str, value: Any, path: Any = None) -> PEM | None:
    """`value`, or what is in the file `path`. `what`: what every part of it must contain, as PEM names it."""
    if value is not None and path is not None:
        raise TypeError(f"{option} and {option}_file exclude each other")
    if path is not None:
        option, parts = f"{option}_file", [contents(f"{option}_file", path)]
    elif value is None:
        return None
    else:
        parts = [part_of(option, part) for part in (value if isinstance(value, (list, tuple)) else [value])]
    if not parts:
        raise ValueError(f"{option} is an empty list")
    for part in parts:
        if what.encode() not in part:
            hint = "PEM is expected; a path is given as a pathlib.Path"
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{option}: no {what} is in it ({hint})")
    return PEM(option, b"\n".join(parts))


def part_of(option: str, value: Any) -> bytes:
    if isinstance(value, Path):
        return contents(option, value)
    if isinstance(value, str):
        with naming(option):
            return value.encode()
    try:
        return bytes(memoryview(value))
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{option} must be PEM as str or bytes, a Path, or a list of those, not {kind!r}") from None


def contents(option: str, path: Any) -> bytes:
    with naming(option):
        return Path(path_of(option, path)).read_bytes()


def path_of(option: str, path: Any) -> str:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{option} must be a path, not {type(path).__name__!r}")
    return os.fsdecode(path)


@dataclass(frozen=True)
class Identity:
    cert: PEM
    key: PEM
    own: bytes  # the certificate, DER


def identity_of(options: TLSOptions) -> Identity | None:
    """Our certificate and its key; both or none."""
    cert = material("cert", "CERTIFICATE", options.cert, options.cert_file)
    key = material("key", "PRIVATE KEY", options.key, options.key_file)
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ValueError("key and cert go together: " + ("cert" if cert is None else "key") + " is missing")
    return Identity(cert, key, cert.certificates()[0])


def set_identity(context: ssl.SSLContext, options: TLSOptions, identity: Identity | None) -> None:
    passphrase = Passphrase(options.passphrase)
    if identity is None:
        return
    cert, key = identity.cert, identity.key
    with nameless(cert.pem) as cert_path, nameless(key.pem) as key_path:
        try:
            context.load_cert_chain(cert_path, key_path, passphrase)
        except ssl.SSLError as error:
            mismatch = "KEY_VALUES_MISMATCH" in str(error)
            both = f"{key.option} {{}} {cert.option}"
            option = both.format("and") if mismatch else "passphrase" if passphrase.asked else both.format("or")
            raise renamed(error, option) from None
        except ValueError as error:
            raise ValueError(f"passphrase: {error}") from None


class Passphrase:
    """Asked only for a key that is encrypted; OpenSSL would ask the terminal."""

    def __init__(self, value: Any) -> None:
        if value is not None and not isinstance(value, (str, bytes, bytearray)):
            raise TypeError(f"passphrase must be a str or bytes, not {type(value).__name__!r}")
        self.value = value
        self.asked = False

    def __call__(self) -> Any:
        self.asked = True
        if self.value is None:
            raise ValueError("required, since the key is encrypted")
        return self.value


@contextlib.contextmanager
def nameless(data: bytes) -> Iterator[str]:
    """A path under which the bytes can be read while this lasts: memory, and no file."""
    if hasattr(os, "memfd_create"):
        reader = os.memfd_create("pybuntcp", os.MFD_CLOEXEC)
        writer = os.dup(reader)
        path = f"/proc/self/fd/{reader}"
    else:
        reader, writer = os.pipe()
        path = f"/dev/fd/{reader}"
        if len(data) > PIPE_MOST:
            raise ValueError(f"more than {PIPE_MOST} bytes of PEM; give its path")
    try:
        with open(writer, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.close(reader)


@contextlib.contextmanager
def naming(option: str) -> Iterator[None]:
    """Errors say which option they are about."""
    try:
        yield
    except ssl.SSLError as error:
        raise renamed(error, option) from None
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror} ({option})", error.filename) from None
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{option}: {error}") from None


def renamed(error: ssl.SSLError, option: str) -> ssl.SSLError:
    """Some have no `library` and no `reason`, nor a number."""
    number = error.errno if error.errno is not None else ssl.SSL_ERROR_SSL
    words = error.strerror or (error.args[-1] if error.args else error)
    named = type(error)(number, f"{option}: {words}")
    for name in ("library", "reason"):
        setattr(named, name, getattr(error, name, None))
    return named


def alpn_names(value: Any) -> list[str]:
    """Names, from a list of them or from their wire format."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        names = wire_names(bytes(value))
    elif isinstance(value, (list, tuple)) and all(isinstance(name, (str, bytes)) for name in value):
        names = [name.encode() if isinstance(name, str) else name for name in value]
    else:
        raise TypeError(f"alpn_protocols must be a list of str or bytes, or bytes in wire format, not {value!r}")
    for name in names:
        if not 0 < len(name) < 256 or not name.isascii():
            raise ValueError(f"alpn_protocols: a name has 1..255 bytes of ASCII, not {name!r}")
    return [name.decode("ascii") for name in names]


def wire_names(wire: bytes) -> list[bytes]:
    names = []
    while wire:
        size = wire[0]
        if size == 0 or len(wire) <= size:
            raise ValueError("alpn_protocols: these bytes are not in wire format (a length before each name)")
        names.append(wire[1 : size + 1])
        wire = wire[size + 1 :]
    return names
