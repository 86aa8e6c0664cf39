"""cache: which contexts are shared, and how an existing one is found.

A context costs as much as one to ten handshakes, so connections whose options are alike share one. Alike means alike in
content: files are read each time, and a file that has changed makes another context.
Owns the digest of all that a context is made of, and the store of the last few. Does not know how one is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .options import NAMES, TLSOptions
from .pem import Materials, read_file

PER_CONNECTION = ("server_name", "session")  # not part of a context
MATERIALS = ("key", "cert", "ca", "crl", "key_file", "cert_file", "ca_file")  # digested as Materials
DIGESTED_APART = (*PER_CONNECTION, *MATERIALS, "dh_params_file", "sni")
CAPACITY = 32

Made = TypeVar("Made")


class Cache(Generic[Made]):
    """The last few objects, by the digest of what each was made of.

    All threads share it. There is no lock: a child that is forked while another thread holds it could never take it.
    Instead each step is atomic by itself.
    """

    def __init__(self) -> None:
        self.kept: dict[bytes, Made] = {}  # in order of use, the latest last

    def get(self, digest: bytes | None, make: Callable[[], Made]) -> Made:
        """The object that was made of this, or a new one. digest: None for what cannot be cached."""
        if digest is None:
            return make()
        found = self.kept.get(digest)
        if found is None:
            found = make()
        self.keep(digest, found)
        return found

    def keep(self, digest: bytes, made: Made) -> None:
        self.kept.pop(digest, None)
        self.kept[digest] = made
        for oldest in list(self.kept)[:-CAPACITY]:
            self.kept.pop(oldest, None)


def is_cacheable(options: TLSOptions) -> bool:
    """True if the digest covers every option, and no file is written to."""
    return options.keylog_file is None and all(map(is_constant, values_of(options).values()))


def values_of(options: TLSOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in NAMES if name not in DIGESTED_APART}


def digest_of(options: TLSOptions, materials: Materials) -> bytes:
    """Covers all that a context is made of, files included."""
    made = hashlib.sha256(repr(values_of(options)).encode("utf-8", "surrogatepass"))
    if options.dh_params_file is not None:
        made.update(hashlib.sha256(read_file("dh_params_file", options.dh_params_file)).digest())
    for pem in (materials.cert, materials.key, materials.ca, materials.crl):
        made.update(repr(None if pem is None else [(part.name, len(part.pem)) for part in pem.parts]).encode())
        for part in pem.parts if pem is not None else ():
            made.update(part.pem)
    return made.digest()


def is_constant(value: Any) -> bool:
    """True if the repr of a value shows all of it."""
    if isinstance(value, (list, tuple)):
        return all(isinstance(each, (str, bytes)) for each in value)
    return value is None or isinstance(value, (str, bytes, int))
