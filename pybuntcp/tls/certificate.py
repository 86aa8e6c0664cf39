"""certificate: what a certificate contains, read from its DER.

Owns the few steps through DER (X.690) that lead to a certificate's issuer, subject and kind of key, and the shape in
which users get a certificate, which is that of `SSLSocket.getpeercert`.
Does not verify anything. Imports memory_file alone of this package, so the engine `_tls` may use it.
"""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple

from .memory_file import readable

VERSION_TAG = 0xA0  # of the field `version`, which may be absent


class Facts(NamedTuple):
    """Of a certificate (RFC 5280, section 4.1), each as DER."""

    issuer: bytes
    subject: bytes
    key_type: bytes  # the identifier of its key's algorithm


def read_facts(certificate: bytes) -> Facts:
    """ValueError: this is no certificate."""
    try:
        fields = elements(elements(certificate, 1)[0], 7)
        _, _, issuer, _, subject, key = fields[1:7] if fields[0][0] == VERSION_TAG else fields[:6]
        return Facts(issuer, subject, elements(elements(key)[0])[0])
    except (IndexError, ValueError):
        raise ValueError("a CERTIFICATE in it is none") from None


def elements(der: bytes, maximum: int | None = None) -> list[bytes]:
    """The elements inside a constructed one, or the first few of them."""
    at = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    found: list[bytes] = []
    while at < len(der) and len(found) != maximum:
        found.append(first_element(der[at:]))
        at += len(found[-1])
    return found


def first_element(der: bytes) -> bytes:
    """The first element of DER. What is not DER is returned whole, for OpenSSL to refuse."""
    if len(der) < 2 or der[1] == 0x80:
        return der
    if der[1] < 0x80:
        return der[: 2 + der[1]]
    count = der[1] & 0x7F
    return der[: 2 + count + int.from_bytes(der[2 : 2 + count], "big")]


def certificate_as_dict(raw: bytes) -> dict[str, Any]:
    """What `ssl` would return for a peer's certificate, and "raw".

    The standard library decodes any other certificate only by this function, which its own tests use.
    """
    from _ssl import _test_decode_cert  # type: ignore[attr-defined]

    with readable(ssl.DER_cert_to_PEM_cert(raw).encode()) as path:
        return {**_test_decode_cert(path), "raw": raw}
