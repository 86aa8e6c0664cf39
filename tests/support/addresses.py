"""Addresses: raw listeners, ports that refuse, ports that never answer, and one port in both families.

Owns: raw sockets of the loopback, bound to ports that the kernel picked, and closed at the end of the block. Does not
know pybuntcp.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from .kernel import TIMEOUT


@contextlib.contextmanager
def raw_tcp(host: str, port: int = 0, backlog: int = 64) -> Iterator[socket.socket]:
    """A raw TCP listener of one family alone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.settimeout(TIMEOUT)
        yield sock


@contextlib.contextmanager
def bound_not_listening(host: str = "127.0.0.1", free_at: str | None = None) -> Iterator[int]:
    """A port that refuses connections and that nobody else is given meanwhile; at `free_at` it was found to be free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as refused:
        for _ in range(50):
            sock = refused.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.bind((host, 0))
            if free_at is None or can_be_bound(free_at, port_of(sock)):
                yield port_of(sock)
                return
    pytest.skip("no port was free at both addresses")


def can_be_bound(host: str, port: int) -> bool:
    """Whether nobody uses a port at an address, nor did a short time ago."""
    try:
        with raw_tcp(host, port):
            return True
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False


@contextlib.contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A listener whose port gives SYNs no answer: nobody accepts from it and its queue is full."""
    with raw_tcp(host, port, backlog=0) as listener, contextlib.ExitStack() as queued:
        for patience in (TIMEOUT, *[0.1] * 15):  # the queue has room for the first, however late its answer
            client = queued.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            if not select.select([], [client], [], patience)[1]:
                yield listener
                return
        pytest.skip("the kernel answers SYNs to a full queue")


def own_host(number: int = 1) -> str:
    """An address of the loopback that no other process uses: a port that was freed there is not given to anybody else.

    On Linux there is one for each `number`. Elsewhere the loopback has one address.
    """
    process = os.getpid()
    return f"127.{number}.{process >> 8 & 255}.{process & 255}" if sys.platform == "linux" else "127.0.0.1"


Opener = Callable[..., contextlib.AbstractContextManager[socket.socket]]


@contextlib.contextmanager
def one_port_of_both_families(six: Opener = raw_tcp, four: Opener = raw_tcp) -> Iterator[int]:
    """A port number that ::1 and 127.0.0.1 share; `raw_tcp` answers there and `black_hole` does not."""
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            port = port_of(stack.enter_context(four("127.0.0.1")))
            try:
                stack.enter_context(six("::1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield port
            return
    pytest.skip("no port was free in both families")


def port_of(sock: socket.socket) -> int:
    """The local port of a raw socket."""
    return sock.getsockname()[1]


def dialled(port: int) -> socket.socket:
    """A raw client of a port of 127.0.0.1."""
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def has_ipv6() -> bool:
    """Whether ::1 can be used here."""
    try:
        with raw_tcp("::1"):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")
