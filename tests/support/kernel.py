"""What the kernel knows of a connection: bytes unread and unsent, resets, segments, descriptors.

Owns: every question that has no event and is therefore asked of the kernel, bounded in time, and
`pattern`, the bytes that show when one is lost or moved. Knows sockets, raw or of pybuntcp, by
their descriptor alone. Nothing here changes a connection but `shrink_send_buffer`, or the process
but `descriptor_limit`.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import resource
import select
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SLOWER = float(os.environ.get("PYBUNTCP_SLOWER") or 1)  # how many times slower an emulated machine is
TIMEOUT = 10.0 * SLOWER  # seconds; every wait of the harness ends after it


def wait_for(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> None:
    """Poll something that has no event (kernel state), bounded."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.0005)


@contextlib.contextmanager
def raw(sock: Any) -> Iterator[socket.socket]:
    """The raw socket under a pybuntcp socket (or listener): a duplicate, closed on exit."""
    fd = sock.fileno() if hasattr(sock, "fileno") else sock.fd
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        yield duplicate


def shrink_send_buffer(sock: Any, size: int = 32768) -> None:
    """Give a pybuntcp socket a small kernel send buffer, so that writes soon come up short. Not the
    smallest: below a few segments TCP waits for delayed acknowledgements, 40 ms each."""
    with raw(sock) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def unread_bytes(sock: socket.socket) -> int:
    """FIONREAD: bytes that wait in the kernel to be read."""
    return _ioctl_int(sock, termios.FIONREAD)


def unsent_bytes(sock: socket.socket) -> int:
    """SIOCOUTQ: bytes the kernel took and the peer's side has not (TCP: not acknowledged)."""
    return _ioctl_int(sock, termios.TIOCOUTQ)


def _ioctl_int(sock: socket.socket, request: int) -> int:
    value = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), request, value)
    return value[0]


def hung_up(sock: Any) -> bool:
    """Whether the kernel knows that the other end has finished or reset."""
    mask = getattr(select, "POLLRDHUP", 0)
    with raw(sock) as duplicate:
        poll = select.poll()
        poll.register(duplicate, mask)
        return any(poll.poll(0))


def was_reset(sock: Any) -> bool:
    """Whether the kernel holds an error for this socket; does not consume it."""
    with raw(sock) as duplicate:
        poll = select.poll()
        poll.register(duplicate, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))


def data_segments_received(sock: socket.socket) -> int:
    """TCP_INFO tcpi_data_segs_in: segments with payload that arrived at this end."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    if len(info) < 156:
        pytest.skip("the system gives a part of TCP_INFO only")  # qemu-user, which emulates a processor: four bytes
    return struct.unpack_from("I", info, 152)[0]  # linux/tcp.h, since 4.6


def descriptors() -> dict[int, str]:
    """Open descriptors of this process and what they are."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found: dict[int, str] = {}
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # the one listdir itself had open
            found[int(name)] = os.readlink(f"{folder}/{name}") if "proc" in folder else ""
    return found


@contextlib.contextmanager
def descriptor_limit(count: int) -> Iterator[None]:
    """At least `count` descriptors for this process, if the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of descriptors is {hard}, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pattern(size: int) -> bytes:
    """`size` bytes in which every position is recognisable: lost or reordered bytes show."""
    global _pattern
    if len(_pattern) < size:
        words = array.array("I", range(size // 4 + 1))
        if sys.byteorder == "little":
            words.byteswap()
        _pattern = words.tobytes()
    return _pattern[:size]


_pattern = b""
