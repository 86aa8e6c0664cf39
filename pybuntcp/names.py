"""names: host names as the network knows them.

Owns the one rule by which a name that is not ASCII becomes one that is: UTS 46, non-transitional, by the package
`idna`, which is optional. What is looked up, what a client asks for (SNI), what a certificate must be for, and the keys
of `sni` all go through here, so that no two of them can be different names.
Promises a ValueError that names the option. ASCII is taken as it is given, "xn--" included; who compares names does
so without regard to case. Knows no sockets, and no addresses but by their colon.
"""

from __future__ import annotations

import re

DOTS = re.compile("[.\u3002\uff0e\uff61]")  # the full stops of UTS 46, section 2.3
LETTERS = re.compile(r"[a-z0-9-]+")  # of a label that was not ASCII, when it is
LABEL_MOST = 63  # RFC 1035, section 2.3.4


def to_ascii(option: str, name: str) -> str:
    """To be looked up: a final dot says that the name is complete, and stays."""
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


def of_peer(option: str, name: str) -> str:
    """To be asked for and checked: without a final dot; of an address neither brackets nor zone."""
    name = name.strip("[]")
    if ":" in name:
        return name.partition("%")[0]  # the zone of an address says nothing to the peer
    found = to_ascii(option, name).removesuffix(".")
    for label in found.split("."):
        if not label:
            raise ValueError(f"{option}: a name has no empty label: {name!r}")
        if len(label) > LABEL_MOST:
            raise ValueError(f"{option}: a label of a name has at most {LABEL_MOST} characters: {name!r}")
    return found


def of_host(option: str, name: str) -> str:
    """As `of_peer`, to be compared: a key of `sni`."""
    return of_peer(option, name).lower()
