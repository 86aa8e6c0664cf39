"""The peer `redis-server`: Redis itself, keeping nothing on disk. It owns the options and nothing else."""

from __future__ import annotations

import os

from becoming import become, free_port, parse

if __name__ == "__main__":
    arguments = parse(__doc__.splitlines()[0], "resp")
    port = free_port(arguments.host)
    options = {
        "bind": arguments.host,
        "port": str(port),
        "save": "",
        "appendonly": "no",
        "logfile": os.devnull,
        "daemonize": "no",
    }
    flat = (part for name, value in options.items() for part in (f"--{name}", value))
    become(arguments.host, port, "redis-server", *flat)
