"""An echo server: every byte comes back. The smallest complete program, to start your own from.

    python examples/echo.py --port 7000      then:  nc 127.0.0.1 7000
    python examples/echo.py --unix /tmp/echo.sock

Promises that nothing is lost and that memory stays bounded: a client that sends and does not read
is not read from until it has taken what is owed to it.
"""

from __future__ import annotations

import argparse

import pybuntcp


class Echo:
    """One object serves all connections; what belongs to one of them, here the rest, is its `socket.data`."""

    def data(self, socket: pybuntcp.Socket[bytes], chunk: bytes) -> None:
        """Send it back. `write` says how much it took: all of it, unless the client is slow."""
        self._send(socket, chunk)

    def drain(self, socket: pybuntcp.Socket[bytes]) -> None:
        """The client has caught up: send the rest, then read on."""
        socket.resume()
        self._send(socket, socket.data)

    def error(self, socket: pybuntcp.Socket[bytes], error: BaseException) -> None:
        """A handler raised: that connection ends, the server goes on."""
        print(f"{socket!r}: {error!r}", flush=True)
        socket.terminate()

    def _send(self, socket: pybuntcp.Socket[bytes], chunk: bytes) -> None:
        taken = socket.write(chunk)
        if 0 <= taken < len(chunk):  # -1: the connection is gone, and its bytes with it
            socket.data = chunk[taken:]
            socket.pause()


def main() -> None:
    """Listen, say where, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A server that sends everything back.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 lets the system choose")
    parser.add_argument("--unix", metavar="PATH", help="listen on a unix socket instead")
    options = parser.parse_args()
    if options.unix:
        listener = pybuntcp.listen(socket=Echo(), unix=options.unix)
    else:
        listener = pybuntcp.listen(socket=Echo(), hostname=options.host, port=options.port)
    with listener:
        print("listening on", listener.unix or f"{listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
