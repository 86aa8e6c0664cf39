"""Listen, say where, serve until Ctrl-C.

python -m cython_echo --port 7000      then:  nc 127.0.0.1 7000
python -m cython_echo --unix /tmp/echo.sock
"""

from __future__ import annotations

import argparse

import pybuntcp

from .slots import handlers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cython_echo", description="A server that sends everything back.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 lets the system choose")
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
