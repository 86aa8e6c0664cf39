"""A small HTTP/1.1 server: keep-alive, pipelining, bodies, and the refusals that keep a server out of trouble.

    python examples/http_server.py --port 8080      then:  curl http://127.0.0.1:8080/

`GET /` says hello, `POST /echo` sends the body back; more goes into ROUTES.

Promises that replies come in the order of the requests, however the bytes are cut; that a request which can be
read in two ways is refused (RFC 9112, 11.2); and that every client is bounded: the head and the body it sends, what
is kept for it while it does not read, and the time in which nothing is written to it. A body is held whole before
it is answered. Does not know chunked bodies, ranges, compression or files; TLS is `tls=` of `listen`.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import pybuntcp

HEAD_LIMIT = 8192  # bytes from the request line to the empty line
BODY_LIMIT = 1 << 20
PATIENCE = 10.0  # seconds
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


# --- what is served ------------------------------------------------------------------------------


def hello(body: bytes) -> tuple[bytes, bytes]:
    return b"text/plain; charset=utf-8", b"Hello, World!"


def echo(body: bytes) -> tuple[bytes, bytes]:
    return b"application/octet-stream", body


# Path and method: a function from the body of the request to the type and the body of the reply.
ROUTES: dict[bytes, dict[bytes, Callable[[bytes], tuple[bytes, bytes]]]] = {
    b"/": {b"GET": hello, b"HEAD": hello},
    b"/echo": {b"POST": echo},
}


# --- requests ------------------------------------------------------------------------------------

# RFC 9112. Lines end with CRLF, nothing is between a name and its colon, no line goes on in the next: to be
# generous here is to read a request otherwise than a proxy in front of us did.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
FIELD = TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n"
HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(?::[0-9]*)?"
HEEDED = rb"(?i:connection|content-length|expect|host|transfer-encoding):"
UNHEEDED = rb"(?:(?!" + HEEDED + rb")" + FIELD + rb")*"

HEAD = re.compile(rb"(" + TOKEN + rb") ([!-~]+) HTTP/([0-9])\.([0-9])\r\n((?:" + FIELD + rb")*)\r\n")
HEEDED_FIELD = re.compile(rb"^(" + HEEDED + rb")(.*)\r$", re.MULTILINE)
HOST_VALUE = re.compile(HOST)
ORIGIN = re.compile(rb"(?i:https?)://[^/?#]+")  # the target may be a whole URL
# What nearly all requests here are: one pass over the bytes, and nothing is made of them.
PLAIN_GET = re.compile(
    rb"GET / HTTP/1\.1\r\n" + UNHEEDED + rb"(?i:host):[\t ]*" + HOST + rb"[\t ]*\r\n" + UNHEEDED + rb"\r\n"
)


class Refused(Exception):
    """The answer before the connection ends: where the next request begins is not known."""

    def __init__(self, status: int) -> None:
        self.status = status


class Request(NamedTuple):
    method: bytes
    path: bytes
    old: bool  # HTTP/1.0
    keep: bool  # the connection, for another request
    length: int  # of the body
    expects: bool  # the client wants the answer 100 before it sends the body


def parse(head: bytes) -> Request:
    """The request of a head; raises Refused."""
    match = HEAD.fullmatch(head)
    if match is None:
        raise Refused(400)
    method, target, major, minor, lines = match.groups()
    if major != b"1":
        raise Refused(505)
    old = minor == b"0"
    fields: dict[bytes, list[bytes]] = {}
    for name, value in HEEDED_FIELD.findall(lines):
        fields.setdefault(name[:-1].lower(), []).append(value.strip(b"\t "))
    check_host(fields.get(b"host", []), old)
    options = {word.strip(b"\t ").lower() for value in fields.get(b"connection", []) for word in value.split(b",")}
    keep = b"close" not in options and (not old or b"keep-alive" in options)
    expects = not old and b"expect" in fields
    if expects and [value.lower() for value in fields[b"expect"]] != [b"100-continue"]:
        raise Refused(417)
    return Request(method, path_of(target), old, keep, body_length(fields), expects)


def check_host(hosts: list[bytes], old: bool) -> None:
    """RFC 9112, 3.2: 400 for "any HTTP/1.1 request message that lacks a Host header field", has two or a bad one."""
    if len(hosts) > 1 or not (hosts or old) or not all(map(HOST_VALUE.fullmatch, hosts)):
        raise Refused(400)


def body_length(fields: dict[bytes, list[bytes]]) -> int:
    """Two opinions on where a body ends are none, even if they agree."""
    lengths = fields.get(b"content-length", [])
    if b"transfer-encoding" in fields:
        raise Refused(400 if lengths else 501)
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise Refused(400)
    if len(lengths[0]) > 18 or int(lengths[0]) > BODY_LIMIT:
        raise Refused(413)
    return int(lengths[0])


def path_of(target: bytes) -> bytes:
    """`/a` of `/a?b` and of `http://host/a`; others, as `*`, are no path and stay what they are."""
    origin = ORIGIN.match(target)
    if origin is not None:
        target = target[origin.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    return target.partition(b"?")[0]


# --- connections ---------------------------------------------------------------------------------


class Client:
    """One connection; its `socket.data`."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.at = 0  # what is before it was understood
        self.request: Request | None = None  # its head is understood, its body under way
        self.unsent = memoryview(b"")  # the rest of a reply that the socket did not take
        self.ending = False  # after the last reply nothing more is heard
        self.written = 0  # `bytes_written` when `timeout` last looked

    def feed(self, chunk: bytes) -> None:
        del self.buffer[: self.at]
        self.at = 0
        self.buffer += chunk

    def take(self, length: int) -> bytes:
        start, self.at = self.at, self.at + length
        return bytes(self.buffer[start : self.at])

    def next_head(self) -> Request | None:
        """The next request, as far as its head; None until that is complete. Raises Refused."""
        while self.buffer.startswith(b"\r\n", self.at):
            self.at += 2  # RFC 9112, 2.2: a server "SHOULD ignore at least one empty line"
        limit = self.at + HEAD_LIMIT
        end = self.buffer.find(b"\r\n\r\n", self.at, limit)
        if end >= 0:
            request = parse(bytes(self.buffer[self.at : end + 4]))
            self.at = end + 4
            return request
        if self.buffer.count(b"\n", self.at, limit) != self.buffer.count(b"\r\n", self.at, limit):
            raise Refused(400)  # a line has ended with LF alone: the end of this head would never come
        if len(self.buffer) >= limit:
            raise Refused(431)
        return None

    def wants_no_body(self) -> bool:
        """Is it HEAD that is refused?"""
        if self.request is not None:
            return self.request.method == b"HEAD"
        return self.buffer.startswith(b"HEAD ", self.at)


class HttpServer:
    """The handlers. All replies to one chunk leave together: writes inside a handler are gathered."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.second = -1  # the second of which these are:
        self.date = b""
        self.plain = b""  # the reply to PLAIN_GET

    def open(self, socket: pybuntcp.Socket[Client]) -> None:
        socket.data = Client()
        socket.timeout(self.patience)

    def data(self, socket: pybuntcp.Socket[Client], chunk: bytes) -> None:
        client = socket.data
        if not client.ending:
            client.feed(chunk)
            self.serve(socket, client)

    def drain(self, socket: pybuntcp.Socket[Client]) -> None:
        """The client took its replies: send the rest of the last one, then serve what waits."""
        client = socket.data
        rest, client.unsent = client.unsent, memoryview(b"")
        socket.resume()
        send(socket, client, rest)
        self.serve(socket, client)

    def timeout(self, socket: pybuntcp.Socket[Client]) -> None:
        """Nothing was written for so long: the client asks nothing, never ends its request or does not read.

        Received bytes do not restart this time, so that a client that sends one now and then does not keep its
        connection. One that gets no answer here is closed when this returns, and reset if something for it is unsent.
        """
        client = socket.data
        if socket.bytes_written != client.written:
            client.written = socket.bytes_written
            socket.timeout(self.patience)
        elif not client.ending and not client.unsent and (client.request or client.at < len(client.buffer)):
            self.refuse(socket, client, 408)

    def error(self, socket: pybuntcp.Socket[Client], error: BaseException) -> None:
        """A bug in a route ends that connection; the others are not concerned."""
        print(f"{socket!r}: {error!r}", flush=True)
        socket.terminate()

    # --- from requests to replies

    def serve(self, socket: pybuntcp.Socket[Client], client: Client) -> None:
        """Answer the requests that are complete, for as long as the client takes the answers."""
        try:
            while not client.unsent and not client.ending:
                reply = self.next_reply(client)
                if reply is None:
                    return
                send(socket, client, reply)
        except Refused as refused:
            self.refuse(socket, client, refused.status)

    def next_reply(self, client: Client) -> bytes | None:
        """What to send next; None until more has come. Raises Refused."""
        if client.at == len(client.buffer):
            return None
        request = client.request
        if request is None:
            plain = PLAIN_GET.match(client.buffer, client.at, client.at + HEAD_LIMIT)
            if plain is not None:
                client.at = plain.end()
                self.look_at_the_clock()
                return self.plain
            request = client.request = client.next_head()
            if request is None:
                return None
            if request.expects and len(client.buffer) - client.at < request.length:
                return CONTINUE
        if len(client.buffer) - client.at < request.length:
            return None
        client.request = None
        client.ending = not request.keep
        return self.answer(request, client.take(request.length))

    def answer(self, request: Request, body: bytes) -> bytes:
        connection = b"close" if not request.keep else b"keep-alive" if request.old else b""
        without_body = request.method == b"HEAD"
        route = ROUTES.get(request.path)
        if route is None:
            return self.failure(404, connection, without_body)
        function = route.get(request.method)
        if function is None:
            return self.failure(405, connection, without_body, b"Allow: " + b", ".join(route) + b"\r\n")
        return self.reply(200, connection, *function(body), without_body)

    def refuse(self, socket: pybuntcp.Socket[Client], client: Client, status: int) -> None:
        """The last reply of a connection."""
        client.ending = True
        send(socket, client, self.failure(status, b"close", client.wants_no_body()))

    def failure(self, status: int, connection: bytes, without_body: bool, more: bytes = b"") -> bytes:
        words = f"{status} {HTTPStatus(status).phrase}\n".encode()
        return self.reply(status, connection, b"text/plain; charset=utf-8", words, without_body, more)

    def reply(
        self, status: int, connection: bytes, kind: bytes, body: bytes, without_body: bool = False, more: bytes = b""
    ) -> bytes:
        """The bytes; `more` are lines of the head. An answer to HEAD names the length of a body that it does not have."""
        self.look_at_the_clock()
        if connection:
            more += b"Connection: %b\r\n" % connection
        head = b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
        phrase = HTTPStatus(status).phrase.encode()
        return head % (status, phrase, self.date, kind, len(body), more) + (b"" if without_body else body)

    def look_at_the_clock(self) -> None:
        """What is the same for a second is made once in it."""
        now = int(time.time())
        if now != self.second:
            self.second = now
            self.date = formatdate(now, usegmt=True).encode()
            self.plain = self.reply(200, b"", *hello(b""))


def send(socket: pybuntcp.Socket[Client], client: Client, reply: bytes | memoryview) -> None:
    """Write; what is not taken is kept without a copy, and nothing more is read until it is.

    After the last reply `end` and not `close`: what the client still sends is read, so that no reset takes the reply.
    """
    taken = socket.write(reply)
    if 0 <= taken < len(reply):  # -1: the connection is gone, and its bytes with it
        client.unsent = memoryview(reply)[taken:]
        socket.pause()
    elif client.ending:
        socket.end()


def main() -> None:
    """Listen, say where, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small HTTP server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for a client to ask, and to read")
    options = parser.parse_args()
    server = HttpServer(options.patience)
    with pybuntcp.listen(socket=server, hostname=options.host, port=options.port) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
