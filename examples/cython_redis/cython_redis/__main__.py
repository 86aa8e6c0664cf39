"""The command line: listen, say where, serve until Ctrl-C.

    python -m cython_redis --port 6380      then:  redis-cli -p 6380
    python -m cython_redis --threads 4

All Python there is: what happens on the connections is in `_server`, and runs without it.
"""

from __future__ import annotations

import argparse

import pybuntcp

from . import Server


def main() -> None:
    """Serve on a port, with as many threads as asked for, or on a unix socket."""
    parser = argparse.ArgumentParser(prog="cython_redis", description="A small Redis server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6380, help="0 lets the system choose")
    parser.add_argument("--unix", metavar="PATH", help="listen on a unix socket instead")
    parser.add_argument("--threads", type=int, default=1, help="that serve the port; each has connections of its own")
    options = parser.parse_args()
    if options.threads > 1:
        serve_with_threads(options)
    else:
        serve(options)


def serve(options: argparse.Namespace) -> None:
    """In this thread."""
    handlers = Server().handlers()
    if options.unix:
        listener = pybuntcp.listen(socket=handlers, unix=options.unix)
    else:
        listener = pybuntcp.listen(socket=handlers, hostname=options.host, port=options.port)
    with listener:
        print("listening on", listener.unix or f"{listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


def serve_with_threads(options: argparse.Namespace) -> None:
    """In threads of their own, all with the same keys and values, each with handlers for itself."""
    server = Server()
    with pybuntcp.listen_threads(
        options.threads,
        setup=lambda listener: listener.reload(server.handlers()),
        socket=server.handlers(),
        hostname=options.host,
        port=options.port,
        unix=options.unix,
    ) as threads:
        print(f"listening on {threads.hostname}:{threads.port}", flush=True)
        threads.wait()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
