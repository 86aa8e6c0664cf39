"""The peers `pybuntcp-redis`, `pybuntcp-redis-slots` and `pybuntcp-http`: servers of this project's examples, as they are there.

Promises: the protocol of this folder: `LISTENING <port>` when ready. For `resp`, `--package FOLDER` takes examples/cython_redis, built there;
without it, it is examples/redis_server, in Python. For `http` it is examples/http_server.py. It does not know how any of them works.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

from protocol_echo import BACKLOG

import pybuntcp

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def handlers_for(mode: str, package: str | None) -> Any:
    if mode == "http":
        return runpy.run_path(str(EXAMPLES / "http_server.py"))["HttpServer"]()
    if package is None:
        sys.path.insert(0, str(EXAMPLES / "redis_server"))
        return runpy.run_path(str(EXAMPLES / "redis_server" / "__main__.py"))["RedisServer"]()
    sys.path.insert(0, package)
    import cython_redis

    return cython_redis.handlers()


def main() -> None:
    """Listen, say so, serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=["resp", "http"], required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--package", metavar="FOLDER")
    arguments = parser.parse_args()
    handlers = handlers_for(arguments.mode, arguments.package)
    with pybuntcp.listen(socket=handlers, hostname=arguments.host, port=arguments.port, backlog=BACKLOG) as listener:
        print(f"LISTENING {listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    main()
