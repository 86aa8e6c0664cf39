"""That the connections of a library are ours: the class of its transports, and what the loop's counters say."""

from __future__ import annotations

from typing import Any

import pybuntcp
from pybuntcp import _aio

MIB = 1 << 20


def is_ours(transport: Any) -> bool:
    return isinstance(transport, _aio.SocketTransport)


def is_ours_with_tls(transport: Any) -> bool:
    return isinstance(transport, _aio.SSLTransport)


def carried(received: int = 0, sent: int = 0) -> bool:
    """Have sockets of the running loop carried at least so many bytes?"""
    stats = pybuntcp.stats()
    return stats["bytes_read"] >= max(received, 1) and stats["bytes_written"] >= max(sent, 1)
