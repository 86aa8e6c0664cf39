"""names: host names as the network knows them.

Owns the one rule by which a name that is not ASCII becomes ASCII: UTS 46, non-transitional, by the optional package
`idna`. The resolver, SNI, the check of a certificate and the keys of `sni` all take their names from here, so that two
of them never mean different hosts by one name.
Promises a ValueError that names the option. ASCII is taken as it is given, "xn--" included; code that compares names
ignores case. Knows no sockets, and recognises an address only by its colon. Imports nothing of this package.
"""

from __future__ import annotations

import re
from typing import Any

DOTS = re.compile("[.\u3002\uff0e\uff61]")  # the full stops of UTS 46, section 2.3
LETTERS = re.compile(r"[a-z0-9-]+")  # what the ASCII form of a non-ASCII label may contain
LABEL_MAX = 63  # RFC 1035, section 2.3.4


def resolver_name(option: str, value: Any) -> bytes:
    """A host name as the resolver takes it, or an IP literal. Brackets around an IPv6 literal are removed."""
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a str, not {type(value).__name__!r}")
    if "\0" in value:
        raise ValueError(f"{option} must not contain a NUL character")
    if value.startswith("[") and value.endswith("]") and ":" in value:
        value = value[1:-1]
    if not value:
        raise ValueError(f"{option} must not be empty")
    try:
        return (value if ":" in value else to_ascii(option, value)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{option} is not a valid name: {error}") from error


def ip_literal(option: str, value: Any) -> bytes:
    """An IP address in text form; a name is refused."""
    import ipaddress

    literal = resolver_name(option, value)
    try:
        ipaddress.ip_address(literal.decode())
    except ValueError:
        raise ValueError(f"{option} must be an IP literal, not {value!r}") from None
    return literal


def to_ascii(option: str, name: str) -> str:
    """A final dot stays: it tells the resolver that the name is complete."""
    if name.isascii():
        return name
    labels = DOTS.split(name)
    if "" in labels[:-1]:
        raise ValueError(f"{option}: a name has no empty label: {name!r}")
    return ".".join(label if label.isascii() else label_to_ascii(option, label) for label in labels)


def label_to_ascii(option: str, label: str) -> str:
    try:
        import idna
    except ImportError:
        why = "needs the package idna, as the extra pybuntcp[idna] installs it"
        raise ValueError(f"{option}: a name that is not ASCII {why}: {label!r}") from None
    try:
        mapped = idna.uts46_remap(label, True, False)
        found = mapped if LETTERS.fullmatch(mapped) else idna.alabel(mapped).decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{option}: no such name can exist: {label!r}: {error}") from None
    if not LETTERS.fullmatch(found):
        raise ValueError(f"{option}: no such name can exist: {label!r}")
    return found


def peer_name(option: str, name: str) -> str:
    """The name for SNI and for the check of the peer's certificate.

    A name has no final dot, an address no brackets and no zone.
    """
    name = name.strip("[]")
    if ":" in name:
        return name.partition("%")[0]  # the zone of an address means nothing to the peer
    found = to_ascii(option, name).removesuffix(".")
    for label in found.split("."):
        if not label:
            raise ValueError(f"{option}: a name has no empty label: {name!r}")
        if len(label) > LABEL_MAX:
            raise ValueError(f"{option}: a label of a name has at most {LABEL_MAX} characters: {name!r}")
    return found


def sni_key(option: str, name: str) -> str:
    """As `peer_name`, in lower case: a key of the option `sni`, which is compared with what clients ask for."""
    return peer_name(option, name).lower()
