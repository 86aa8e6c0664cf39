"""The peer `gevent`: a greenlet for each connection, blocking calls, on gevent's loop (libev, or what it chooses).

Promises: the protocol of this folder (README.md, "A peer is a file"), for `echo` and `five`: prints `LISTENING <port>` when ready and serves until it is ended.
"""

from __future__ import annotations

import socket

import gevent.server
from protocol_echo import BACKLOG, PIECE, make_parser, raise_descriptor_limit

READ_SIZE = 65536


def echo(connection: socket.socket, _: object) -> None:
    """Until its end."""
    while chunk := connection.recv(READ_SIZE):
        connection.sendall(chunk)


def five(connection: socket.socket, _: object) -> None:
    """In pieces of 20 bytes."""
    while chunk := connection.recv(READ_SIZE):
        for at in range(0, len(chunk), PIECE):
            connection.sendall(chunk[at : at + PIECE])


def serve(connection: socket.socket, address: object, answer: object) -> None:
    """TCP_NODELAY as everybody here has it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert callable(answer)
    answer(connection, address)


def main() -> None:
    """Listen, say so, serve until ended."""
    arguments = make_parser("Echo on gevent.", modes=("echo", "five")).parse_args()
    raise_descriptor_limit()
    answer = {"echo": echo, "five": five}[arguments.mode]
    server = gevent.server.StreamServer(
        (arguments.host, arguments.port),
        lambda connection, address: serve(connection, address, answer),
        backlog=BACKLOG,
    )
    server.start()
    print(f"LISTENING {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
