"""The peer `redis-server`: Redis itself, keeping nothing on disk, on a port that the system picks.

Promises: the protocol of this folder: `LISTENING <port>` when it answers. This process becomes redis-server, so that its accounts are
redis-server's; a child that ends at once says the line.
"""

from __future__ import annotations

import argparse
import os
import socket
import time


def free_port(host: str) -> int:
    """redis-server takes no 0 for "pick one"."""
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
            time.sleep(0.02)  # it has no way to tell
            continue
        os.write(1, f"LISTENING {port}\n".encode())
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=["resp"], required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, choices=[0], required=True)
    arguments = parser.parse_args()
    port = free_port(arguments.host)
    if os.fork() == 0:
        announce(arguments.host, port)
        os._exit(0)
    options = {
        "bind": arguments.host,
        "port": port,
        "save": "",
        "appendonly": "no",
        "logfile": os.devnull,
        "daemonize": "no",
    }
    os.execlp(
        "redis-server", "redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))
    )


if __name__ == "__main__":
    main()
