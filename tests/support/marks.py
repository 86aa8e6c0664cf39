"""What a machine may lack: the marks that skip a test there."""

from __future__ import annotations

import fcntl
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

SIOCOUTQNSD, SO_PEERNAME = 0x894B, 28  # of Linux

mended_in_3_11 = pytest.mark.skipif(
    (3, 11) <= sys.version_info < (3, 11, 7), reason="asyncio and ssl of the first releases of Python 3.11 differ here"
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a facility of Linux")


def _unsent(tcp: socket.socket, unix: socket.socket) -> Any:
    return fcntl.ioctl(tcp, SIOCOUTQNSD, bytes(4))


def _peer_name(tcp: socket.socket, unix: socket.socket) -> Any:
    return unix.getsockopt(socket.SOL_SOCKET, SO_PEERNAME, 2)


def _answers(ask: Callable[[socket.socket, socket.socket], Any]) -> bool:
    unix, peer = socket.socketpair()
    with socket.socket() as tcp, unix, peer:
        try:
            ask(tcp, unix)
        except OSError:
            return False
    return True


# Linux answers both; qemu-user, which emulates a processor, does not pass these questions on to the kernel
counts_unsent = pytest.mark.skipif(
    not _answers(_unsent), reason="the system does not tell what a peer has not acknowledged"
)
names_lost_peers = pytest.mark.skipif(
    not _answers(_peer_name), reason="the system does not name the peer of a connection that was reset"
)
