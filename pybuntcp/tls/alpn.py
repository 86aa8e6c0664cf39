"""alpn: names of application protocols (ALPN, RFC 7301), as users give them and as they are sent.

Promises a TypeError or ValueError that names `alpn_protocols`. Imports nothing of this package.
"""

from __future__ import annotations

from typing import Any


def alpn_names(value: Any) -> list[str]:
    """Names, from a list of them or from their wire format."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        names = names_from_wire(bytes(value))
    elif isinstance(value, (list, tuple)) and all(isinstance(name, (str, bytes)) for name in value):
        names = [name.encode() if isinstance(name, str) else name for name in value]
    else:
        raise TypeError(f"alpn_protocols must be a list of str or bytes, or bytes in wire format, not {value!r}")
    for name in names:
        if not 0 < len(name) < 256 or not name.isascii():
            raise ValueError(f"alpn_protocols: a name has 1..255 bytes of ASCII, not {name!r}")
    return [name.decode("ascii") for name in names]


def names_from_wire(wire: bytes) -> list[bytes]:
    names = []
    while wire:
        size = wire[0]
        if size == 0 or len(wire) <= size:
            raise ValueError("alpn_protocols: these bytes are not in wire format (a length before each name)")
        names.append(wire[1 : size + 1])
        wire = wire[size + 1 :]
    return names


def wire_format(protocols: Any) -> bytes:
    """The names, with a length before each. None: no bytes."""
    return b"".join(bytes([len(name)]) + name.encode() for name in alpn_names(protocols or ()))
