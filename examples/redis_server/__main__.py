"""A small Redis: enough of the server for redis-cli, redis-benchmark and client libraries.

    python examples/redis_server --port 6380      then:  redis-cli -p 6380

resp.py      bytes in, requests out, and replies; RESP arrays and inline commands, cut anywhere
commands.py  functions from a session and arguments to the bytes of a reply
data.py      what they work on: keys and values, sessions
this file    RedisServer, the handlers that join them to a socket, with backpressure

Promises that replies come in the order of the requests, and that a client which does not read its
replies is not served further until it does. Does not know how a request looks or what a command does.
"""

from __future__ import annotations

import argparse

from commands import execute
from data import Server, Session
from resp import ProtocolError, failure

import pybuntcp


class RedisServer:
    """The handlers. All replies to one chunk leave together: writes inside a handler are gathered."""

    def __init__(self) -> None:
        self.server = Server()

    def open(self, socket: pybuntcp.Socket[Session]) -> None:
        socket.data = Session(self.server)

    def data(self, socket: pybuntcp.Socket[Session], chunk: bytes) -> None:
        session = socket.data
        if not session.ending:
            session.parser.feed(chunk)
            serve(socket)

    def drain(self, socket: pybuntcp.Socket[Session]) -> None:
        """The client took its replies: send the rest of the last one, then serve what waits."""
        session = socket.data
        rest, session.unsent = session.unsent, memoryview(b"")
        socket.resume()
        send(socket, rest)
        serve(socket)

    def error(self, socket: pybuntcp.Socket[Session], error: BaseException) -> None:
        """A bug in a command ends that connection; the others are not concerned."""
        print(f"{socket!r}: {error!r}", flush=True)
        socket.terminate()


def serve(socket: pybuntcp.Socket[Session]) -> None:
    """Answer the requests that are complete, for as long as the client takes the answers."""
    session = socket.data
    try:
        while not session.unsent and not session.ending:
            request = session.parser.next()
            if request is None:
                return
            send(socket, execute(session, request))
    except ProtocolError as error:
        session.ending = True
        send(socket, failure(f"ERR Protocol error: {error}"))
    if session.ending and not session.unsent:
        socket.end()


def send(socket: pybuntcp.Socket[Session], reply: bytes | memoryview) -> None:
    """Write; what is not taken is kept without a copy, and nothing more is read until it is."""
    taken = max(socket.write(reply), 0)
    if taken < len(reply):
        socket.data.unsent = memoryview(reply)[taken:]
        socket.pause()


def main() -> None:
    """Listen, say where, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small Redis server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6380, help="0 lets the system choose")
    options = parser.parse_args()
    with pybuntcp.listen(socket=RedisServer(), hostname=options.host, port=options.port) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
