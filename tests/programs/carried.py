"""That the connections of a library are ours, in plain text and over TLS: the class of its transports, and what the loop's counters say."""

from __future__ import annotations

from typing import Any

import pytest

import pybuntcp
from pybuntcp import _aio

MIB = 1 << 20

plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def is_ours(transport: Any, tls: bool = False) -> bool:
    return isinstance(transport, _aio.SSLTransport if tls else _aio.SocketTransport)


def carried(received: int = 0, sent: int = 0) -> bool:
    """Have sockets of the running loop carried at least so many bytes?"""
    stats = pybuntcp.stats()
    return stats["bytes_read"] >= max(received, 1) and stats["bytes_written"] >= max(sent, 1)
