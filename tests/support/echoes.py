"""A client of echo servers that is slow: it sends a lot, and reads nothing until the server takes no more.

Owns what it sends, and the small buffers by which a server that holds its memory down makes it wait. Bounded in time.
Knows a port, and nothing of who serves it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from .kernel import TIMEOUT, pattern, unread_bytes, wait_for

HOST = "127.0.0.1"
SENT = pattern(10_240_000)
BUFFER = 65536  # of the kernel: what is on its way, and read by nobody, is then less than SENT


def exchange(port: int) -> tuple[bool, bytes]:
    """Send; read nothing until nothing moves any more; then read all: whether sending had to wait, and what came."""
    with socket.socket() as client:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            client.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        client.settimeout(TIMEOUT)
        client.connect((HOST, port))
        sent: list[int] = []
        sender = threading.Thread(target=send_all, args=(client, sent), daemon=True)
        sender.start()
        wait_until_nothing_moves(client, sent)
        waits = sum(sent) < len(SENT)
        received = bytearray()
        while chunk := client.recv(1 << 18):
            received += chunk
        sender.join(TIMEOUT)
    return waits, bytes(received)


def send_all(client: socket.socket, sent: list[int]) -> None:
    """Send everything in pieces, whose sizes are noted."""
    for at in range(0, len(SENT), BUFFER):
        client.sendall(SENT[at : at + BUFFER])
        sent.append(len(SENT[at : at + BUFFER]))
    client.shutdown(socket.SHUT_WR)


def send_until_it_waits(client: socket.socket) -> None:
    """Send without an end, and without reading, until nothing is taken for half a second."""
    client.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            client.send(SENT[:BUFFER])


def wait_until_nothing_moves(client: socket.socket, sent: list[int]) -> None:
    """Bytes have come back, and for a while no more do and none are taken; or all have been taken."""
    wait_for(lambda: unread_bytes(client), "the first bytes to come back")
    seen = None
    while seen != (now := (unread_bytes(client), len(sent))) and sum(sent) < len(SENT):
        seen = now
        select.select([], [], [], 0.2)
