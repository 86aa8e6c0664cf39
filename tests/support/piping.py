"""Connections that are piped, seen from their peers.

Owns: `piped`, one connection into another, and `proxied`, two into each other. The peer that sends is `sender`, the one at
the other end of the target `receiver`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .kernel import shrink_send_buffer
from .pairs import accepted
from .peers import Peer
from .recorder import Recorder


class Piped(NamedTuple):
    source: Any
    sender: Peer
    target: Any
    receiver: Peer
    at_source: Recorder
    at_target: Recorder


def apart(
    loop: Any,
    transport: Any,
    make: Any = Recorder,
    *,
    source: dict[str, Any] | None = None,
    small: bool = False,
    **options: Any,
) -> Piped:
    """Two connections that know nothing of each other. `source`: options of the first one alone, `options` of both.
    `small`: the kernel keeps little of what is on its way to the receiver."""
    at_source, at_target = make(label="source"), make(label="target")
    first, sender = accepted(loop, transport, at_source, **{**options, **(source or {})})
    second, receiver = accepted(loop, transport, at_target, rcvbuf=65536 if small else None, **options)
    if small:
        shrink_send_buffer(second)
    return Piped(first, sender, second, receiver, at_source, at_target)


def piped(loop: Any, transport: Any, make: Any = Recorder, *, end: bool = True, **options: Any) -> Piped:
    pair = apart(loop, transport, make, **options)
    pair.source.pipe(pair.target, end=end)
    return pair


def proxied(loop: Any, transport: Any, make: Any = Recorder, **options: Any) -> Piped:
    pair = piped(loop, transport, make, **options)
    pair.target.pipe(pair.source)
    return pair
