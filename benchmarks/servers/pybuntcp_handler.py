"""The peer `pybuntcp`: Python handlers on pybuntcp's own loop, written as the first page of its documentation would.

Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
`data` may ignore what `write` returns because no question here keeps more bytes in flight than `high_water_mark`, so nothing can be refused;
the load compares every byte, so a loss would be an error and never a good figure. With `--sink` the pieces go into a sink of the socket's.
It does not know: anything private of pybuntcp.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol_echo import BACKLOG, PIECE, make_parser, raise_descriptor_limit

import pybuntcp


def echo(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """What comes in goes out with one write."""
    socket.write(chunk)


def five(socket: pybuntcp.Socket, chunk: bytes) -> None:
    """What comes in goes out in pieces of 20 bytes."""
    write = socket.write
    for at in range(0, len(chunk), PIECE):
        write(chunk[at : at + PIECE])


def join_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink]) -> None:
    """A sink for the life of the connection."""
    socket.data = socket.sink()


def five_in_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink], chunk: bytes) -> None:
    """As `five`, into the sink."""
    write = socket.data.write
    for at in range(0, len(chunk), PIECE):
        write(chunk[at : at + PIECE])


def handlers_for(mode: str, sink: bool) -> dict[str, Callable[..., None]]:
    if mode != "five":
        return {"data": echo}
    return {"open": join_sink, "data": five_in_sink} if sink else {"data": five}


def main() -> None:
    """Listen, say so, serve until ended."""
    parser = make_parser("Echo with pybuntcp's Python handlers.")
    parser.add_argument("--sink", action="store_true", help="write the pieces into a SocketSink")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    handlers = handlers_for(arguments.mode, arguments.sink)
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
