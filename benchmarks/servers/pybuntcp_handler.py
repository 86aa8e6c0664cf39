"""The peers `pybuntcp`: Python handlers on pybuntcp's own loop, written as the first page of its documentation would.

Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
`data` may ignore what `write` returns because no question here keeps more bytes in flight than `high_water_mark`, so nothing can be refused;
the load compares every byte, so a loss would be an error and never a good figure. With `--sink` the pieces go into a sink of the socket's. With `--slots FOLDER` the
handlers are the C functions of slots/slots_echo.pyx, compiled there; with `--threads N` as many loops share the port; with `--tls FOLDER` it speaks TLS.
It does not know: anything private of pybuntcp.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from protocol_echo import BACKLOG, PIECE, PIECES, make_parser, raise_descriptor_limit

import pybuntcp


def echo(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """What comes in goes out with one write."""
    socket.write(chunk)


def five(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """What comes in goes out in pieces of 20 bytes."""
    write = socket.write
    for at in range(0, len(chunk), PIECE):
        write(chunk[at : at + PIECE])


def fifty(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """Whatever comes in is answered with fifty pieces of 20 bytes."""
    write = socket.write
    piece = chunk[:PIECE]
    for _ in range(PIECES):
        write(piece)


def join_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink]) -> None:
    """A sink for the life of the connection."""
    socket.data = socket.sink()


def five_in_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink], chunk: bytes) -> None:
    """As `five`, into the sink."""
    write = socket.data.write
    for at in range(0, len(chunk), PIECE):
        write(chunk[at : at + PIECE])


def handlers_for(mode: str, sink: bool, slots: str | None) -> Any:
    if slots is not None:
        sys.path.insert(0, slots)
        import slots_echo

        return slots_echo.handlers(mode == "five")
    if mode != "five":
        return {"data": fifty if mode == "fifty" else echo}
    return {"open": join_sink, "data": five_in_sink} if sink else {"data": five}


def serve_in_threads(count: int, **options: Any) -> None:
    """The same on `count` loops."""
    with pybuntcp.listen_threads(count, **options) as threads:
        print(f"LISTENING {threads.port}", flush=True)
        threads.wait()


def tls_options(folder: str | None) -> dict[str, Any] | None:
    """Nothing but the certificate."""
    return None if folder is None else {"cert": Path(folder) / "cert.pem", "key": Path(folder) / "key.pem"}


def listen_as_told(handlers: Any, arguments: argparse.Namespace) -> pybuntcp.Listener:
    """Where the command line says, and say so."""
    if arguments.unix is not None:
        where: dict[str, Any] = {"unix": arguments.unix}
    else:
        where = {"hostname": arguments.host, "port": arguments.port}
    listener = pybuntcp.listen(socket=handlers, backlog=BACKLOG, tls=tls_options(arguments.tls), **where)
    print(f"LISTENING {arguments.unix or listener.port}", flush=True)
    return listener


def main() -> None:
    """Listen, say so, serve until ended."""
    parser = make_parser("Echo with pybuntcp's Python handlers.", tls=True)
    parser.add_argument("--sink", action="store_true", help="write the pieces into a SocketSink")
    parser.add_argument("--slots", metavar="FOLDER", help="C functions instead: slots_echo, compiled, is in FOLDER")
    parser.add_argument("--threads", type=int, help="as many loops on the port")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    handlers = handlers_for(arguments.mode, arguments.sink, arguments.slots)
    if arguments.threads is not None:
        serve_in_threads(arguments.threads, socket=handlers, hostname=arguments.host, port=0, backlog=BACKLOG)
        return
    listener = listen_as_told(handlers, arguments)
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        listener.stop(True)


if __name__ == "__main__":
    main()
