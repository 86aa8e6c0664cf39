"""The command line: listen, say where, serve until Ctrl-C.

    python -m cython_redis --port 6380      then:  redis-cli -p 6380

All Python there is: what happens on the connections is in `_server`, and runs without it.
"""

from __future__ import annotations

import argparse

import pybuntcp

from . import handlers


def main() -> None:
    """Serve on a port or a unix socket."""
    parser = argparse.ArgumentParser(prog="cython_redis", description="A small Redis server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6380, help="0 lets the system choose")
    parser.add_argument("--unix", metavar="PATH", help="listen on a unix socket instead")
    options = parser.parse_args()
    if options.unix:
        listener = pybuntcp.listen(socket=handlers(), unix=options.unix)
    else:
        listener = pybuntcp.listen(socket=handlers(), hostname=options.host, port=options.port)
    with listener:
        print("listening on", listener.unix or f"{listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
