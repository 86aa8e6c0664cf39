"""What Redis servers are sent by tests, and what comes back: raw bytes, and redis-benchmark.

Knows RESP as far as it is the same for all requests; does not know commands, nor which server answers.
"""

from __future__ import annotations

import csv
import io
import socket

from programs import HOST, output_of, tool
from support import TIMEOUT

SENTINEL = b"the end of the replies"


def resp(*words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def connected(program):
    sock = socket.create_connection((HOST, program.port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def replies_to(program, pieces, sentinel=True):
    """All bytes answered, up to the sentinel or the end of the connection.

    A server that closes with a request of ours unread makes the kernel send a reset instead of a FIN:
    which of the two it is depends on how our pieces met, and says nothing about the server.
    """
    expected = b"$%d\r\n%b\r\n" % (len(SENTINEL), SENTINEL)
    answered = b""
    with connected(program) as sock:
        for piece in (*pieces, resp("ECHO", SENTINEL)) if sentinel else pieces:
            try:
                sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        while not answered.endswith(expected):
            try:
                chunk = sock.recv(65536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return answered + b"<end>"
            answered += chunk
    return answered.removesuffix(expected)


def benchmark(server, *arguments):
    """Requests a second by name; what is no row of figures fails."""
    options = ("-h", HOST, "-p", str(server.port), "-P", "16", "-c", "50", "-n", "20000", "--csv")
    said = output_of(tool("redis-benchmark"), *options, *arguments)
    assert "ERR" not in said
    assert "WARN" not in said
    return {row["test"]: float(row["rps"]) for row in csv.DictReader(io.StringIO(said))}
