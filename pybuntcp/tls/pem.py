"""pem: PEM, as users give it, from memory or files.

Owns the reading of an option's PEM: which blocks it contains, and under which name ("key", "key_file", "key[1]") an
error speaks of each; and the path by which OpenSSL reads a key.
Promises that no key is written to a disk: what was given in memory stays there, and what was given as a file is read
from that file.
Does not know which certificate belongs to which key (see identity), nor which certificates are trusted (see contexts).
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .certificate import first_element
from .errors import naming_option
from .memory_file import memory_path
from .options import TLSOptions

BEGIN = re.compile(rb"^-----BEGIN ([^\r\n]+?)-----[ \t\r]*$", re.MULTILINE)
BLOCK = re.compile(rb"^-----BEGIN ([^\r\n]+?)-----[ \t\r]*$(.*?)^-----END \1-----", re.MULTILINE | re.DOTALL)
CERTIFICATE, KEY, CRL = "CERTIFICATE", "PRIVATE KEY", "X509 CRL"
TRUSTED = "TRUSTED CERTIFICATE"
LABELS = {CERTIFICATE: (CERTIFICATE, "X509 CERTIFICATE", TRUSTED), CRL: (CRL,)}


@dataclass(frozen=True)
class Part:
    """One value of an option. Its repr shows no key."""

    name: str  # "key", "key_file" or "key[1]"
    pem: bytes = field(repr=False)
    path: str | None  # of the file that it was read from


@dataclass(frozen=True)
class Block:
    """One PEM block. `body` is what stands between the lines BEGIN and END."""

    part: Part
    label: str
    body: bytes = field(repr=False)

    @property
    def text(self) -> bytes:
        label = self.label.encode()
        return b"-----BEGIN " + label + b"-----" + self.body + b"-----END " + label + b"-----\n"

    @functools.cached_property
    def der(self) -> bytes:
        """Without the trust settings that OpenSSL appends to a TRUSTED CERTIFICATE."""
        try:
            return first_element(binascii.a2b_base64(self.body))
        except binascii.Error as error:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{self.part.name}: {error} ({self.label})") from None


@dataclass(frozen=True)
class PEM:
    """All values of an option."""

    option: str
    what: str  # CERTIFICATE, KEY or CRL: what each part must contain
    parts: tuple[Part, ...]

    @functools.cached_property
    def blocks(self) -> list[Block]:
        """The blocks of kind `what`, in order, at least one in each part. Other blocks are skipped."""
        return [block for part in self.parts for block in blocks_of(part, self.what)]

    def only(self) -> list[Block]:
        """As `blocks`, but other blocks are refused."""
        for part in self.parts:
            for label in labels_of(part):
                if not is_kind(label, self.what):
                    message = f"{part.name}: a {label} is in it, which is no {self.what}"
                    raise ssl.SSLError(ssl.SSL_ERROR_SSL, message)
        return self.blocks


def labels_of(part: Part) -> list[str]:
    return [label.decode("ascii", "replace") for label in BEGIN.findall(part.pem)]


def is_kind(label: str, what: str) -> bool:
    return label.endswith(KEY) if what == KEY else label in LABELS[what]


def blocks_of(part: Part, what: str) -> list[Block]:
    begun = sum(is_kind(label, what) for label in labels_of(part))
    found = [Block(part, label.decode("ascii", "replace"), body) for label, body in BLOCK.findall(part.pem)]
    found = [block for block in found if is_kind(block.label, what)]
    if begun == 0:
        raise nothing_found(part, what)
    if begun != len(found):
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{part.name}: a {what} in it has no end")
    return found


def nothing_found(part: Part, what: str) -> ssl.SSLError:
    hint = "PEM is expected; a path is given as a pathlib.Path"
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f"{part.name}: no {what} is in it ({hint})")


# ---------------------------------------------------------------------------- from options


@dataclass(frozen=True)
class Materials:
    """All PEM of `TLSOptions`. It is read once, because files may change meanwhile."""

    cert: PEM | None
    key: PEM | None
    ca: PEM | None
    crl: PEM | None


def load_materials(options: TLSOptions) -> Materials:
    return Materials(
        cert=load_pem("cert", CERTIFICATE, options.cert, options.cert_file),
        key=load_pem("key", KEY, options.key, options.key_file),
        ca=load_pem("ca", CERTIFICATE, options.ca, options.ca_file),
        crl=load_pem("crl", CRL, options.crl),
    )


def load_pem(option: str, what: str, value: Any, path: Any = None) -> PEM | None:
    """The PEM of `value`, or of the file `path`."""
    if value is not None and path is not None:
        raise TypeError(f"{option} and {option}_file exclude each other")
    if value is None and path is None:
        return None
    if path is not None:
        option = f"{option}_file"
        parts = [Part(option, read_file(option, path), path_of(option, path))]
    else:
        parts = parts_of(option, value if isinstance(value, (list, tuple)) else [value])
    for part in parts:
        if what.encode() not in part.pem:
            raise nothing_found(part, what)
    return PEM(option, what, tuple(parts))


def parts_of(option: str, values: Sequence[Any]) -> list[Part]:
    if not values:
        raise ValueError(f"{option} is an empty list")
    names = [f"{option}[{number}]" if len(values) > 1 else option for number in range(len(values))]
    return list(map(part_of, names, values))


def part_of(name: str, value: Any) -> Part:
    if isinstance(value, Path):
        return Part(name, read_file(name, value), os.fspath(value))
    if isinstance(value, str):
        with naming_option(name):
            return Part(name, value.encode(), None)
    try:
        return Part(name, bytes(memoryview(value)), None)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be PEM as str or bytes, a Path, or a list of those, not {kind!r}") from None


def read_file(option: str, path: Any) -> bytes:
    with naming_option(option):
        return Path(path_of(option, path)).read_bytes()


def path_of(option: str, path: Any) -> str:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{option} must be a path, not {type(path).__name__!r}")
    return os.fsdecode(path)


# ---------------------------------------------------------------------------- to OpenSSL


@contextlib.contextmanager
def readable_key(key: Block) -> Iterator[str]:
    """A path by which a key can be read. Without /proc it is that of the file that the key came from, or an error."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(memory_path(key.text))
        except OSError as error:
            if key.part.path is None or len(blocks_of(key.part, KEY)) != 1:
                advice = "give each key as a file of its own (key_file, or pathlib.Path)"
                raise NotImplementedError(f"{key.part.name}: {error}; {advice}") from None
            path = key.part.path
        yield path
