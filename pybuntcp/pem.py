"""pem: what is PEM, as users give it, and the way in for it.

Owns the reading of PEM in memory, in a file or in several, under the name that it was given by; the places from which
OpenSSL reads it, since the `ssl` module takes keys and lists of revoked certificates from files alone; names of
protocols; and that an error says which option it is about.
Promises that no key is put on a disk: what was given in memory stays there, and what was given as a file is read from it.
Does not know which certificate belongs to which key (see identity.py), nor what is believed (see contexts.py).
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .options import TLSOptions

PIPE_MOST = 65536
BEGIN = re.compile(rb"^-----BEGIN ([^\r\n]+?)-----[ \t\r]*$", re.MULTILINE)
BLOCK = re.compile(rb"^-----BEGIN ([^\r\n]+?)-----[ \t\r]*$(.*?)^-----END \1-----", re.MULTILINE | re.DOTALL)
CERTIFICATE, KEY, CRL = "CERTIFICATE", "PRIVATE KEY", "X509 CRL"
TRUSTED = "TRUSTED CERTIFICATE"
LABELS = {CERTIFICATE: (CERTIFICATE, "X509 CERTIFICATE", TRUSTED), CRL: (CRL,)}


@dataclass(frozen=True)
class Part:
    """One of what an option gave. Whoever prints it prints no key."""

    name: str  # "key", "key_file" or "key[1]"
    pem: bytes = field(repr=False)
    path: str | None  # of the file that it came from


@dataclass(frozen=True)
class Block:
    """What is between a BEGIN and its END, and both."""

    part: Part
    label: str
    body: bytes = field(repr=False)

    @property
    def text(self) -> bytes:
        label = self.label.encode()
        return b"-----BEGIN " + label + b"-----" + self.body + b"-----END " + label + b"-----\n"

    @functools.cached_property
    def der(self) -> bytes:
        """Without what OpenSSL notes behind a TRUSTED CERTIFICATE."""
        try:
            return first_element(binascii.a2b_base64(self.body))
        except binascii.Error as error:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{self.part.name}: {error} ({self.label})") from None


def first_element(der: bytes) -> bytes:
    """Of DER; all of it, for OpenSSL to judge, if it is none."""
    if len(der) < 2 or der[1] == 0x80:
        return der
    if der[1] < 0x80:
        return der[: 2 + der[1]]
    count = der[1] & 0x7F
    return der[: 2 + count + int.from_bytes(der[2 : 2 + count], "big")]


@dataclass(frozen=True)
class PEM:
    """What an option gave, under the name that it was given by."""

    option: str
    what: str  # what each part must contain
    parts: tuple[Part, ...]

    @functools.cached_property
    def blocks(self) -> list[Block]:
        """What was asked for, in order: at least one in each part. What else is there is let pass."""
        return [block for part in self.parts for block in blocks_of(part, self.what)]

    def only(self) -> list[Block]:
        """As `blocks`, but that what else is there is refused."""
        for part in self.parts:
            for label in labels_of(part):
                if not is_one(label, self.what):
                    words = f"{part.name}: a {label} is in it, which is no {self.what}"
                    raise ssl.SSLError(ssl.SSL_ERROR_SSL, words)
        return self.blocks


def labels_of(part: Part) -> list[str]:
    return [label.decode("ascii", "replace") for label in BEGIN.findall(part.pem)]


def is_one(label: str, what: str) -> bool:
    return label.endswith(KEY) if what == KEY else label in LABELS[what]


def blocks_of(part: Part, what: str) -> list[Block]:
    begun = sum(is_one(label, what) for label in labels_of(part))
    found = [Block(part, label.decode("ascii", "replace"), body) for label, body in BLOCK.findall(part.pem)]
    found = [block for block in found if is_one(block.label, what)]
    if begun == 0:
        raise nothing_in(part, what)
    if begun != len(found):
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{part.name}: a {what} in it has no end")
    return found


def nothing_in(part: Part, what: str) -> ssl.SSLError:
    hint = "PEM is expected; a path is given as a pathlib.Path"
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f"{part.name}: no {what} is in it ({hint})")


# ---------------------------------------------------------------------------- what is given


@dataclass(frozen=True)
class Materials:
    """All that options give as PEM, read once: files may change."""

    cert: PEM | None
    key: PEM | None
    ca: PEM | None
    crl: PEM | None


def materials_of(options: TLSOptions) -> Materials:
    return Materials(
        cert=material("cert", CERTIFICATE, options.cert, options.cert_file),
        key=material("key", KEY, options.key, options.key_file),
        ca=material("ca", CERTIFICATE, options.ca, options.ca_file),
        crl=material("crl", CRL, options.crl),
    )


def material(option: str, what: str, value: Any, path: Any = None) -> PEM | None:
    """`value`, or what is in the file `path`."""
    if value is not None and path is not None:
        raise TypeError(f"{option} and {option}_file exclude each other")
    if value is None and path is None:
        return None
    if path is not None:
        option = f"{option}_file"
        parts = [Part(option, contents(option, path), path_of(option, path))]
    else:
        parts = parts_of(option, value if isinstance(value, (list, tuple)) else [value])
    for part in parts:
        if what.encode() not in part.pem:
            raise nothing_in(part, what)
    return PEM(option, what, tuple(parts))


def parts_of(option: str, values: Sequence[Any]) -> list[Part]:
    if not values:
        raise ValueError(f"{option} is an empty list")
    names = [f"{option}[{number}]" if len(values) > 1 else option for number in range(len(values))]
    return list(map(part_of, names, values))


def part_of(name: str, value: Any) -> Part:
    if isinstance(value, Path):
        return Part(name, contents(name, value), os.fspath(value))
    if isinstance(value, str):
        with naming(name):
            return Part(name, value.encode(), None)
    try:
        return Part(name, bytes(memoryview(value)), None)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be PEM as str or bytes, a Path, or a list of those, not {kind!r}") from None


def contents(option: str, path: Any) -> bytes:
    with naming(option):
        return Path(path_of(option, path)).read_bytes()


def path_of(option: str, path: Any) -> str:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{option} must be a path, not {type(path).__name__!r}")
    return os.fsdecode(path)


# ---------------------------------------------------------------------------- where OpenSSL reads it


@contextlib.contextmanager
def nameless(data: bytes) -> Iterator[str]:
    """A path under which the bytes can be read while this lasts: memory, and no file. OSError: there is no such path."""
    reader, file, path = memory_end()
    try:
        with file:
            if not os.path.exists(path):
                raise OSError(f"memory has no path without /proc ({path} is not there)")
            if not hasattr(os, "memfd_create") and len(data) > PIPE_MOST:
                raise OSError(f"more than {PIPE_MOST} bytes of PEM; give its path")
            file.write(data)
        yield path
    finally:
        os.close(reader)


def memory_end() -> tuple[int, IO[bytes], str]:
    """A descriptor to read, a file to write, and the path of the first."""
    if hasattr(os, "memfd_create"):
        reader = os.memfd_create("pybuntcp", os.MFD_CLOEXEC)
        return reader, open(reader, "wb", closefd=False), f"/proc/self/fd/{reader}"
    reader, writer = os.pipe()
    return reader, open(writer, "wb"), f"/dev/fd/{reader}"


@contextlib.contextmanager
def readable(public: bytes) -> Iterator[str]:
    """A path under which what is no secret can be read while this lasts: in memory, or without /proc in a file that
    nobody else may read, and that is gone afterwards."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(nameless(public))
        except OSError as error:
            path = stack.enter_context(temporary(public, error))
        yield path


@contextlib.contextmanager
def temporary(data: bytes, why: OSError) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="pybuntcp-"))
            file.write(data)
            file.flush()
        except OSError as error:
            raise OSError(f"{why}, and no file can be made in its place: {error}") from None
        yield file.name


@contextlib.contextmanager
def readable_key(key: Block) -> Iterator[str]:
    """As `readable`, of a secret: without /proc it is read from the file that it came from, and from no other."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(nameless(key.text))
        except OSError as error:
            if key.part.path is None or len(blocks_of(key.part, KEY)) != 1:
                advice = "give each key as a file of its own (key_file, or pathlib.Path)"
                raise NotImplementedError(f"{key.part.name}: {error}; {advice}") from None
            path = key.part.path
        yield path


# ---------------------------------------------------------------------------- errors


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


# ---------------------------------------------------------------------------- protocols


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
