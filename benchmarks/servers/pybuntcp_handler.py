"""The peer `pybuntcp`: Python handlers on pybuntcp's own loop, written as the first page of its documentation would.

Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
`data` may ignore what `write` returns because no question here keeps more bytes in flight than `high_water_mark`, so nothing can be refused;
the load compares every byte, so a loss would be an error and never a good figure.
It does not know: anything private of pybuntcp.
"""

from __future__ import annotations

from protocol_echo import BACKLOG, PIECE, parse_arguments, raise_descriptor_limit

import pybuntcp


def echo(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """What comes in goes out with one write."""
    socket.write(chunk)


def five(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """What comes in goes out in pieces of 20 bytes."""
    write = socket.write
    for at in range(0, len(chunk), PIECE):
        write(chunk[at : at + PIECE])


def main() -> None:
    """Listen, say so, serve until ended."""
    arguments = parse_arguments("Echo with pybuntcp's Python handlers.")
    raise_descriptor_limit()
    handlers = {"data": five if arguments.mode == "five" else echo}
    if arguments.unix is not None:
        listener = pybuntcp.listen(socket=handlers, unix=arguments.unix, backlog=BACKLOG)
        where = arguments.unix
    else:
        listener = pybuntcp.listen(socket=handlers, hostname=arguments.host, port=arguments.port, backlog=BACKLOG)
        where = str(listener.port)
    print(f"LISTENING {where}", flush=True)
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        listener.stop(True)


if __name__ == "__main__":
    main()
