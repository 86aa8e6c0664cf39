"""What turns a server of this folder into a program that is not ours and that takes no port 0: it becomes that program, so that its accounts are the program's.

Promises: `LISTENING <port>` when the program answers, said by a child that ends at once. It does not know which program.
"""

from __future__ import annotations

import argparse
import os
import socket
import time


def parse(description: str, mode: str) -> argparse.Namespace:
    """What such a peer was told."""
    return make_parser(description, mode).parse_args()


def make_parser(description: str, mode: str) -> argparse.ArgumentParser:
    """The command line of such a peer: one mode, a port that the system picks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=[mode], required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, choices=[0], required=True)
    return parser


def free_port(host: str) -> int:
    """One that was free a moment ago."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def announce(host: str, port: int) -> None:
    """Say the line when it answers; without it the runner's own patience ends."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection((host, port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)  # it has no way to say so
            continue
        os.write(1, f"LISTENING {port}\n".encode())
        return


def become(host: str, port: int, *command: str) -> None:
    """Does not come back."""
    if os.fork() == 0:
        announce(host, port)
        os._exit(0)
    os.execlp(command[0], *command)
