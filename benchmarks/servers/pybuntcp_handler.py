"""The peers `pybuntcp`: Python handlers on pybuntcp's own loop, written as the first page of its documentation would.

Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
Most handlers may ignore what `write` returns because no question that they answer keeps more bytes in flight than `high_water_mark` here, so nothing can be refused;
the load compares every byte, so a loss would be an error and never a good figure. With `--patient`, as in the demo, `echo` and `five` lose nothing
whatever the client does: they keep what `write` did not take, and stop reading. A download writes on in `drain`, and a fan-out leaves out the peers that it cannot reach. With `--sink` the pieces go into a sink of the socket's. With `--slots FOLDER` the
handlers are the C functions of slots/slots_echo.pyx, compiled there; with `--threads N` as many loops share the port; with `--tls FOLDER` it speaks TLS.
It does not know: anything private of pybuntcp.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from protocol_echo import (
    BACKLOG,
    BLOCK,
    HTTP_END,
    HTTP_REPLY,
    PIECE,
    PIECES,
    UNSENT_AT_MOST,
    make_parser,
    raise_descriptor_limit,
)

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


def patient_echo(socket: pybuntcp.Socket[bytes], chunk: bytes) -> None:
    """As `echo`; what a slow client does not take is kept until `read_on`."""
    taken = socket.write(chunk)
    if 0 <= taken < len(chunk):
        keep(socket, chunk[taken:])


def patient_five(socket: pybuntcp.Socket[bytes], chunk: bytes) -> None:
    """As `five`, in the same way."""
    write = socket.write
    for at in range(0, len(chunk), PIECE):
        piece = chunk[at : at + PIECE]
        taken = write(piece)
        if taken != len(piece):
            if taken >= 0:
                keep(socket, chunk[at + taken :])
            return


def keep(socket: pybuntcp.Socket[bytes], rest: bytes) -> None:
    socket.data = rest
    socket.pause()


def read_on(socket: pybuntcp.Socket[bytes]) -> None:
    """The client has caught up."""
    socket.resume()
    patient_echo(socket, socket.data)


def start_upload(socket: pybuntcp.Socket[int]) -> None:
    """How much of a block has come."""
    socket.data = 0


def upload(socket: pybuntcp.Socket[int], chunk: bytes) -> None:
    """A byte for each block that has come."""
    received = socket.data + len(chunk)
    if received >= len(BLOCK):
        socket.write(BLOCK[:1] * (received // len(BLOCK)))
        received %= len(BLOCK)
    socket.data = received


def download(socket: pybuntcp.Socket[int], chunk: bytes) -> None:
    """A block for a byte; the load asks for one at a time. What is not taken goes on in `drain`."""
    socket.data = socket.write(BLOCK)


def download_on(socket: pybuntcp.Socket[int]) -> None:
    """The rest, without a copy."""
    if socket.data < len(BLOCK):
        socket.data += socket.write(memoryview(BLOCK)[socket.data :])


everybody: set[pybuntcp.Socket[None]] = set()


def fanout(socket: pybuntcp.Socket[None], chunk: bytes) -> None:
    """What comes from one goes to all others."""
    for other in everybody:
        if other is not socket and other.pending + len(chunk) <= UNSENT_AT_MOST:
            other.write(chunk)


def leave(socket: pybuntcp.Socket[None], error: OSError | None) -> None:
    everybody.discard(socket)


def http(socket: pybuntcp.Socket[None], chunk: bytes) -> None:
    """The same reply for each head that ends in a chunk."""
    socket.write(HTTP_REPLY * chunk.count(HTTP_END))


def join_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink]) -> None:
    """A sink for the life of the connection."""
    socket.data = socket.sink()


def five_in_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink], chunk: bytes) -> None:
    """As `five`, into the sink."""
    write = socket.data.write
    for at in range(0, len(chunk), PIECE):
        write(chunk[at : at + PIECE])


def echo_in_sink(socket: pybuntcp.Socket[pybuntcp.SocketSink], chunk: bytes) -> None:
    """As `echo`, into the sink."""
    socket.data.write(chunk)


HANDLERS: dict[str, dict[str, Any]] = {
    "echo": {"data": echo},
    "five": {"data": five},
    "fifty": {"data": fifty},
    "upload": {"open": start_upload, "data": upload},
    "download": {"data": download, "drain": download_on},
    "fanout": {"open": everybody.add, "data": fanout, "close": leave},
    "http": {"data": http},
}
PATIENT: dict[str, dict[str, Any]] = {
    "echo": {"data": patient_echo, "drain": read_on},
    "five": {"data": patient_five, "drain": read_on},
}
MARKS = {"download": 1 << 16}  # high_water_mark, where the tail is not to be large
MARK = 1 << 22  # elsewhere: more than a question keeps in flight on one connection


def handlers_for(mode: str, sink: bool, slots: str | None, patient: bool = False) -> Any:
    if slots is not None:
        sys.path.insert(0, slots)
        import slots_echo

        return slots_echo.handlers(mode == "five")
    if sink:
        return {"open": join_sink, "data": five_in_sink if mode == "five" else echo_in_sink}
    return PATIENT[mode] if patient else HANDLERS[mode]


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
    mark = MARKS.get(arguments.mode, MARK)
    listener = pybuntcp.listen(
        socket=handlers, backlog=BACKLOG, high_water_mark=mark, tls=tls_options(arguments.tls), **where
    )
    print(f"LISTENING {arguments.unix or listener.port}", flush=True)
    return listener


def main() -> None:
    """Listen, say so, serve until ended."""
    parser = make_parser("Echo with pybuntcp's Python handlers.", tls=True)
    parser.add_argument("--sink", action="store_true", help="write the pieces into a SocketSink")
    parser.add_argument("--patient", action="store_true", help="echo and five: keep what a slow client does not take")
    parser.add_argument("--slots", metavar="FOLDER", help="C functions instead: slots_echo, compiled, is in FOLDER")
    parser.add_argument("--threads", type=int, help="as many loops on the port")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    handlers = handlers_for(arguments.mode, arguments.sink, arguments.slots, arguments.patient)
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
