"""examples/http_server.py as a process of its own, asked by raw sockets and by real clients; and its handlers alone.

What depends on where exactly the bytes are cut, or on how much a write takes, is asked of the handlers, by a socket
that is not one: a real one promises neither. Everything else goes over the wire.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import io
import itertools
import random
import re
import runpy
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import EXAMPLES, HOST, MEGABYTE, example, example_module, output_of, peak_memory, tool
from support import TIMEOUT, unread_bytes, wait_for

import pybuntcp

HELLO = b"Hello, World!"
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def post(body, *fields):
    return message(b"POST /echo HTTP/1.1", b"Host: here", b"Content-Length: %d" % len(body), *fields) + body


def message(*lines):
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.fixture(scope="module")
def server():
    with example("http_server.py", "--port", "0") as program:
        yield program


@pytest.fixture
def impatient_server():
    with example("http_server.py", "--port", "0", "--patience", "0.2") as program:
        yield program


@pytest.fixture(scope="module")
def code():
    return example_module("http_server")


# --- clients ---------------------------------------------------------------------------------------


class Reply(NamedTuple):
    status: int
    fields: dict[bytes, bytes]
    body: bytes


def connected(program):
    sock = socket.create_connection((HOST, program.port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def rest_of(sock):
    """All bytes up to the end of file; a reset fails."""
    heard = b""
    while chunk := sock.recv(65536):
        heard += chunk
    return heard


def answered(program, *pieces):
    """What comes back to these bytes and our end of file."""
    with connected(program) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        return rest_of(sock)


def answered_until_it_ends(program, *pieces):
    """The same, but the server has to end the connection: we do not."""
    with connected(program) as sock:
        for piece in pieces:
            sock.sendall(piece)
        return rest_of(sock)


def next_reply(stream, without_body=False):
    """One reply of a binary file; checked as far as every reply is the same."""
    version, status, _ = stream.readline().split(b" ", 2)
    assert version == b"HTTP/1.1"
    fields = {}
    while (line := stream.readline()) != b"\r\n":
        assert line.endswith(b"\r\n")
        name, colon, value = line[:-2].partition(b": ")
        assert colon
        assert name.lower() not in fields
        fields[name.lower()] = value
    body = b""
    if status != b"100":
        assert fields.keys() >= {b"date", b"content-length", b"content-type"}
        size = 0 if without_body else int(fields[b"content-length"])
        body = stream.read(size)
        assert len(body) == size
    return Reply(int(status), fields, body)


def replies_in(heard, methods=None):
    """All replies of a stream, which ends where the last of them does. `methods`, if one is HEAD."""
    methods = [*(methods or [])]
    stream = io.BufferedReader(io.BytesIO(heard))
    found = []
    while stream.peek(1):
        without_body = bool(methods) and methods.pop(0) == "HEAD"
        found.append(next_reply(stream, without_body))
    return found


def only_reply(heard, method="GET"):
    (reply,) = replies_in(heard, [method])
    return reply


def statuses(heard, methods=None):
    return [reply.status for reply in replies_in(heard, methods)]


# --- what is served --------------------------------------------------------------------------------


def test_get_says_hello(server):
    reply = only_reply(answered(server, GET))
    assert (reply.status, reply.body) == (200, HELLO)
    assert reply.fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert b"connection" not in reply.fields


def test_head_is_get_without_the_body(server):
    head = only_reply(answered(server, GET.replace(b"GET", b"HEAD")), "HEAD")
    get = only_reply(answered(server, GET))
    assert head.status == 200
    assert head.body == b""
    assert {**head.fields, b"date": b""} == {**get.fields, b"date": b""}


def test_the_date_is_now_and_as_the_rfc_writes_it(server):
    before = int(time.time())
    date = only_reply(answered(server, GET)).fields[b"date"].decode()
    assert before <= email.utils.parsedate_to_datetime(date).timestamp() <= time.time()
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 300, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"])
def test_echo_sends_the_body_back(server, body):
    reply = only_reply(answered(server, post(body)))
    assert (reply.status, reply.body) == (200, body)
    assert reply.fields[b"content-type"] == b"application/octet-stream"


def test_a_post_without_a_length_has_no_body(server):
    assert only_reply(answered(server, message(b"POST /echo HTTP/1.1", b"Host: here"))).body == b""


@pytest.mark.parametrize("path", [b"/nothing", b"/echo/", b"//", b"*", b"/%00", b"nothing", b"http://here/nothing"])
def test_an_unknown_path_is_404_and_the_connection_lives_on(server, path):
    assert statuses(answered(server, GET.replace(b"/", path, 1), GET)) == [404, 200]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (b"POST", b"/", b"GET, HEAD"),
        (b"DELETE", b"/", b"GET, HEAD"),
        (b"OPTIONS", b"/", b"GET, HEAD"),
        (b"get", b"/", b"GET, HEAD"),
        (b"!#$", b"/", b"GET, HEAD"),
        (b"GET", b"/echo", b"POST"),
    ],
)
def test_another_method_is_405_with_those_that_are_allowed_and_its_body_is_skipped(server, method, path, allowed):
    refused = message(method + b" " + path + b" HTTP/1.1", b"Host: here", b"Content-Length: 5") + b"GET /"
    first, second = replies_in(answered(server, refused, GET))
    assert (first.status, first.fields[b"allow"]) == (405, allowed)
    assert (second.status, second.body) == (200, HELLO)


@pytest.mark.parametrize("path", [b"/nothing", b"/echo"])
def test_head_gets_no_body_with_an_error_either(server, path):
    asked = GET.replace(b"GET /", b"HEAD " + path)
    first, second = replies_in(answered(server, asked, GET), ["HEAD", "GET"])
    assert first.status == (404 if path == b"/nothing" else 405)
    assert int(first.fields[b"content-length"]) > 0
    assert second.status == 200


def test_head_gets_no_body_with_a_refusal_either(server):
    refused = message(b"HEAD / HTTP/1.1", b"Host: here", b"Transfer-Encoding: chunked")
    assert only_reply(answered_until_it_ends(server, refused), "HEAD").status == 501


@pytest.mark.parametrize("target", [b"/?", b"/?a=b&c", b"http://here/", b"HTTP://here:80?x", b"https://here/?/echo"])
def test_a_target_may_have_a_query_or_be_a_whole_url(server, target):
    assert only_reply(answered(server, GET.replace(b"/", target, 1))).body == HELLO


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_body_that_get_does_not_want_is_skipped(server, method):
    asked = message(method + b" / HTTP/1.1", b"Host: here", b"Content-Length: 9") + b"GET / HTT"
    assert statuses(answered(server, asked, GET), [method.decode(), "GET"]) == [200, 200]


# --- how long a connection lives -------------------------------------------------------------------


def test_a_connection_lives_on_from_request_to_request(server):
    with connected(server) as sock, sock.makefile("rb") as stream:
        for _ in range(3):
            sock.sendall(GET)
            assert next_reply(stream).body == HELLO
            sock.sendall(post(b"something"))
            assert next_reply(stream).body == b"something"


@pytest.mark.parametrize("words", [b"close", b"CLOSE", b"x, close", b"close ,x", b"keep-alive, close"])
def test_connection_close_ends_it_after_the_reply(server, words):
    asked = message(b"GET / HTTP/1.1", b"Host: here", b"Connection: " + words)
    reply = only_reply(answered_until_it_ends(server, asked, GET))
    assert (reply.status, reply.fields[b"connection"]) == (200, b"close")


@pytest.mark.parametrize("words", [b"keep-alive", b"", b"closed", b"upgrade", b","])
def test_other_words_of_connection_do_not_end_it(server, words):
    asked = message(b"GET / HTTP/1.1", b"Host: here", b"Connection: " + words)
    assert statuses(answered(server, asked, GET)) == [200, 200]


def test_close_may_stand_in_a_second_line(server):
    asked = message(b"GET / HTTP/1.1", b"Host: here", b"Connection: x", b"connection: close")
    assert statuses(answered_until_it_ends(server, asked, GET)) == [200]


def test_http_1_0_ends_after_the_reply_and_needs_no_host(server):
    reply = only_reply(answered_until_it_ends(server, b"GET / HTTP/1.0\r\n\r\n", GET))
    assert (reply.status, reply.body, reply.fields[b"connection"]) == (200, HELLO, b"close")


def test_http_1_0_lives_on_if_it_asks_for_that(server):
    asked = message(b"GET / HTTP/1.0", b"Connection: Keep-Alive")
    first, second = replies_in(answered_until_it_ends(server, asked, b"GET / HTTP/1.0\r\n\r\n"))
    assert first.fields[b"connection"] == b"keep-alive"
    assert second.fields[b"connection"] == b"close"


def test_a_later_minor_version_is_answered_as_1_1(server):
    assert statuses(answered(server, GET.replace(b"1.1", b"1.2"), GET)) == [200, 200]


def test_an_error_that_can_be_read_past_ends_the_connection_only_if_asked(server):
    assert statuses(answered_until_it_ends(server, LAST.replace(b"/", b"/nothing", 1), GET)) == [404]


def test_half_a_request_before_the_end_is_not_answered(server):
    assert statuses(answered(server, GET, GET[:-1])) == [200]
    assert statuses(answered(server, GET, post(b"body")[:-1])) == [200]


# --- what is refused -------------------------------------------------------------------------------


def with_fields(*fields, line=b"GET / HTTP/1.1"):
    return message(line, b"Host: here", *fields)


def with_line(line):
    return message(line, b"Host: here")


def with_hosts(*hosts, version=b"1.1"):
    return message(b"GET / HTTP/" + version, *(b"Host: " + host for host in hosts))


REFUSED = {
    "no host": (400, with_hosts()),
    "two hosts": (400, with_hosts(b"here", b"there")),
    "the same host twice": (400, with_hosts(b"here", b"here")),
    "two hosts in 1.0": (400, with_hosts(b"here", b"here", version=b"1.0")),
    "a host with a space": (400, with_hosts(b"he re")),
    "a host with a path": (400, with_hosts(b"here/there")),
    "a host with a user": (400, with_hosts(b"me@here")),
    "a host with a port that is none": (400, with_hosts(b"here:http")),
    "an empty line of words": (400, with_line(b"  ")),
    "one word": (400, with_line(b"GET")),
    "no version": (400, with_line(b"GET /")),
    "two spaces": (400, with_line(b"GET  / HTTP/1.1")),
    "a space before": (400, with_line(b" GET / HTTP/1.1")),
    "a space behind": (400, with_line(b"GET / HTTP/1.1 ")),
    "a tab": (400, with_line(b"GET\t/ HTTP/1.1")),
    "a space in the target": (400, with_line(b"GET /a b HTTP/1.1")),
    "a control character in the target": (400, with_line(b"GET /\x01 HTTP/1.1")),
    "bytes in the target": (400, with_line("GET /ü HTTP/1.1".encode())),
    "a method that is no token": (400, with_line(b"G@T / HTTP/1.1")),
    "http in small letters": (400, with_line(b"GET / http/1.1")),
    "two digits": (400, with_line(b"GET / HTTP/1.10")),
    "no dot": (400, with_line(b"GET / HTTP/11")),
    "a handshake of TLS": (400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
    "lines that end with LF": (400, b"GET / HTTP/1.1\nHost: here\n\n"),
    "one line that ends with LF": (400, b"GET / HTTP/1.1\r\nHost: here\nX: y\r\n\r\n"),
    "a CR alone": (400, with_fields(b"X: a\rb")),
    "a NUL": (400, with_fields(b"X: a\0b")),
    "a field without a colon": (400, with_fields(b"nonsense")),
    "a field without a name": (400, with_fields(b": value")),
    "a space before the colon": (400, with_fields(b"X : y")),
    "a length with a space before the colon": (400, with_fields(b"Content-Length : 5")),
    "a line that goes on": (400, with_fields(b"X: a", b" b")),
    "a first field that goes on": (400, message(b"GET / HTTP/1.1", b" Host: here", b"Host: here")),
    "a length and chunks": (400, with_fields(b"Content-Length: 5", b"Transfer-Encoding: chunked")),
    "chunks and a length": (400, with_fields(b"transfer-encoding: chunked", b"content-length: 5")),
    "two lengths": (400, with_fields(b"Content-Length: 5", b"Content-Length: 6")),
    "the same length twice": (400, with_fields(b"Content-Length: 5", b"Content-length: 5")),
    "two lengths in a line": (400, with_fields(b"Content-Length: 5, 6")),
    "no length in its field": (400, with_fields(b"Content-Length:")),
    "a length below zero": (400, with_fields(b"Content-Length: -1")),
    "a length with a sign": (400, with_fields(b"Content-Length: +5")),
    "a length in hexadecimal": (400, with_fields(b"Content-Length: 0x5")),
    "a length with an underscore": (400, with_fields(b"Content-Length: 1_0")),
    "a length in other digits": (400, with_fields("Content-Length: ٣".encode())),
    "a body too long": (413, with_fields(b"Content-Length: 1048577", line=b"POST /echo HTTP/1.1")),
    "a body too long for get": (413, with_fields(b"Content-Length: 1048577")),
    "a length too long": (413, with_fields(b"Content-Length: 1" + b"0" * 5000)),
    "a body too long that is asked for": (413, with_fields(b"Content-Length: 1048577", b"Expect: 100-continue")),
    "another expectation": (417, with_fields(b"Expect: a miracle", b"Content-Length: 5")),
    "two expectations": (417, with_fields(b"Expect: 100-continue", b"Expect: a miracle")),
    "a head too long": (431, with_fields(b"X: " + b"x" * 8192)),
    "a target too long": (431, with_line(b"GET /" + b"x" * 8192 + b" HTTP/1.1")),
    "too many fields": (431, with_fields(*[b"x:"] * 2048)),
    "chunks": (501, with_fields(b"Transfer-Encoding: chunked", line=b"POST /echo HTTP/1.1")),
    "chunks of 1.0": (501, with_fields(b"Transfer-Encoding: chunked", line=b"POST /echo HTTP/1.0")),
    "chunks in other letters": (501, with_fields(b"tRANSFER-eNCODING:\tCHUNKED")),
    "an encoding that is none": (501, with_fields(b"Transfer-Encoding:")),
    "two encodings": (501, with_fields(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked")),
    "version 0.9": (505, with_line(b"GET / HTTP/0.9")),
    "version 2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version 3": (505, with_line(b"GET / HTTP/3.0")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_understood_is_refused_and_nothing_after_it_is_read(server, name):
    status, asked = REFUSED[name]
    first, last = replies_in(answered_until_it_ends(server, GET, asked + b"0\r\n\r\n" + GET * 3))
    assert first.status == 200
    assert (last.status, last.fields[b"connection"]) == (status, b"close")
    assert last.body.startswith(b"%d " % status)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_does_not_depend_on_the_cuts(code, name):
    status, asked = REFUSED[name]
    assert statuses(heard_by_a_wire(code, [asked])) == [status]
    assert statuses(heard_by_a_wire(code, bytes_of(asked))) == [status]


def test_hosts_of_all_kinds_are_taken(server):
    hosts = (b"", b"here", b"here:80", b"here:", b"127.0.0.1:8080", b"[::1]:80", b"[::1]", b"xn--bcher-kva.example")
    asked = [with_hosts(host) for host in hosts] + [b"GET / HTTP/1.1\r\nhOST:here \t\r\n\r\n"]
    assert statuses(answered(server, *asked)) == [200] * len(asked)


def test_fields_may_hold_what_the_rfc_lets_them_hold(server):
    fields = (b"X: " + bytes([9, *range(32, 127), *range(128, 256)]), b"!#$%&'*+-.^_`|~:", b"X-Host: a", b"Y: host: b")
    assert statuses(answered(server, with_fields(*fields), GET)) == [200, 200]


def test_empty_lines_before_a_request_are_ignored(server):
    assert statuses(answered(server, b"\r\n" * 5, GET, b"\r\n", post(b"x"), b"\r\n", GET)) == [200] * 3


def test_a_head_of_the_longest_size_is_taken(server):
    without = len(with_fields(b"X: "))
    longest = with_fields(b"X: " + b"x" * (8192 - without))
    assert len(longest) == 8192
    assert statuses(answered(server, GET, longest, GET)) == [200] * 3


def test_a_head_that_is_one_byte_longer_is_refused_however_it_comes(server):
    without = len(with_fields(b"X: "))
    longer = with_fields(b"X: " + b"x" * (8193 - without))
    assert statuses(answered_until_it_ends(server, longer)) == [431]
    assert statuses(answered_until_it_ends(server, longer[:-1])) == [431]


def test_a_line_that_never_ends_is_refused_before_it_does(server):
    assert statuses(answered_until_it_ends(server, b"GET /" + b"x" * 100_000)) == [431]


def test_a_body_of_the_longest_size_is_taken(server):
    body = random.Random(1).randbytes(MEGABYTE)
    with connected(server) as sock, sock.makefile("rb") as stream:
        sock.sendall(post(body))
        assert next_reply(stream).body == body
        sock.sendall(GET)
        assert next_reply(stream).body == HELLO


def test_a_refusal_reaches_a_client_that_goes_on_sending(server):
    asked = with_fields(b"Content-Length: 8388608", line=b"POST /echo HTTP/1.1")
    assert statuses(answered(server, asked, bytes(8 * MEGABYTE))) == [413]


# --- expectations ----------------------------------------------------------------------------------


def test_who_expects_100_hears_it_and_then_the_reply(server):
    asked = post(b"body", b"Expect: 100-Continue")
    with connected(server) as sock, sock.makefile("rb") as stream:
        sock.sendall(asked[:-4])
        assert next_reply(stream).status == 100
        sock.sendall(b"body")
        assert next_reply(stream).body == b"body"


def test_who_has_sent_the_body_already_does_not_hear_100(code):
    assert statuses(heard_by_a_wire(code, [post(b"body", b"Expect: 100-continue")])) == [200]


def test_who_sends_no_body_does_not_hear_100(server):
    assert statuses(answered(server, post(b"", b"Expect: 100-continue"), GET)) == [200, 200]


def test_http_1_0_does_not_hear_100(server):
    asked = message(b"POST /echo HTTP/1.0", b"Content-Length: 4", b"Expect: 100-continue")
    with connected(server) as sock:
        sock.sendall(asked)
        sock.sendall(b"body")
        assert statuses(rest_of(sock)) == [200]


# --- pipelining ------------------------------------------------------------------------------------

MIXED = [
    (GET, "GET", 200),
    (GET.replace(b"GET", b"HEAD"), "HEAD", 200),
    (post(b"some body\r\n\r\n"), "POST", 200),
    (GET.replace(b"/", b"/nothing", 1), "GET", 404),
    (message(b"PUT / HTTP/1.1", b"Host: here", b"X-Other: 1", b"Content-Length: 3") + b"abc", "PUT", 405),
    (b"\r\n" + post(b"", b"Connection: keep-alive"), "POST", 200),
    (message(b"GET / HTTP/1.0", b"Connection: keep-alive"), "GET", 200),
    (LAST, "GET", 200),
]
MIXED_STREAM = b"".join(asked for asked, _, _ in MIXED)
MIXED_METHODS = [method for _, method, _ in MIXED]
MIXED_STATUSES = [status for _, _, status in MIXED]


def test_requests_in_one_segment_are_answered_in_order(server):
    heard = answered_until_it_ends(server, MIXED_STREAM + GET)
    assert statuses(heard, MIXED_METHODS) == MIXED_STATUSES
    assert replies_in(heard, MIXED_METHODS)[2].body == b"some body\r\n\r\n"


def test_requests_byte_by_byte_are_answered_in_order(server):
    assert statuses(answered_until_it_ends(server, *bytes_of(MIXED_STREAM)), MIXED_METHODS) == MIXED_STATUSES


def test_a_thousand_requests_at_once_are_all_answered(server):
    with connected(server) as sock:
        sender = threading.Thread(target=sock.sendall, args=(GET * 999 + LAST,), daemon=True)
        sender.start()
        replies = replies_in(rest_of(sock))
        sender.join(TIMEOUT)
    assert [(reply.status, reply.body) for reply in replies] == [(200, HELLO)] * 1000


def test_replies_to_one_chunk_leave_in_one_write():
    """Asked of the library, which counts: sixteen requests in a chunk are one system call."""
    handlers = example_module("http_server").HttpServer()
    heard = bytearray()

    def answer(sock, chunk):
        heard.extend(chunk)
        if heard.count(HELLO) == 16:
            writes.append(pybuntcp.stats()["writes"])
            sock.end()

    writes = [pybuntcp.stats()["writes"]]
    client = {"open": lambda sock: sock.write(GET * 16), "data": answer}
    with pybuntcp.listen(socket=handlers, hostname=HOST, port=0) as listener:
        listener.unref()
        pybuntcp.connect(socket=client, hostname=HOST, port=listener.port)
        pybuntcp.run()
    assert writes[1] - writes[0] == 2  # the client's own is the other


def test_a_benchmark_can_take_the_handlers_by_their_path():
    handlers = runpy.run_path(str(EXAMPLES / "http_server.py"))["HttpServer"]()
    heard = []
    client = {"open": lambda sock: sock.write(LAST), "data": lambda sock, chunk: heard.append(chunk)}
    with pybuntcp.listen(socket=handlers, hostname=HOST, port=0) as listener:
        listener.unref()
        pybuntcp.connect(socket=client, hostname=HOST, port=listener.port)
        pybuntcp.run()
    assert only_reply(b"".join(heard)).body == HELLO


# --- the handlers alone: every cut, every short write ----------------------------------------------


class Wire:
    """What the handlers see of a socket. It takes `room` bytes until it is drained; None: all."""

    def __init__(self, server, room=None):
        self.server, self.room, self.free = server, room, room
        self.heard = b""
        self.paused = self.ended = self.terminated = self.short = False
        self.patience = 0.0
        self.bytes_written = 0
        self.data = None
        server.open(self)

    def say(self, pieces):
        for piece in pieces:
            while self.short:
                self.take()
            assert not self.paused
            self.server.data(self, piece)
        while self.short:
            self.take()
        return self.heard

    def take(self):
        self.free, self.short = self.room, False
        self.server.drain(self)

    def write(self, data):
        if self.ended:
            return -1
        assert not self.short, "a write after a short one, before the drain"
        taken = len(data) if self.free is None else min(len(data), self.free)
        self.heard += bytes(data[:taken])
        self.bytes_written = len(self.heard)
        if self.free is not None:
            self.free -= taken
        self.short = taken < len(data)
        return taken

    def end(self):
        assert not self.ended
        self.ended = True

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def timeout(self, seconds):
        self.patience = seconds

    def terminate(self):
        self.terminated = True


def heard_by_a_wire(code, pieces, room=None):
    """What is answered, its date left out: it may change meanwhile."""
    return dateless(Wire(code.HttpServer(), room).say(pieces))


def dateless(heard):
    return re.sub(rb"\r\nDate: [^\r]*", b"\r\nDate: now", heard)


def bytes_of(stream):
    return [stream[at : at + 1] for at in range(len(stream))]


def test_a_stream_of_requests_may_be_cut_at_any_byte(code):
    whole = heard_by_a_wire(code, [MIXED_STREAM])
    assert statuses(whole, MIXED_METHODS) == MIXED_STATUSES
    assert heard_by_a_wire(code, bytes_of(MIXED_STREAM)) == whole
    for cut in range(1, len(MIXED_STREAM)):
        assert heard_by_a_wire(code, [MIXED_STREAM[:cut], MIXED_STREAM[cut:]]) == whole, MIXED_STREAM[:cut]


@pytest.mark.parametrize("room", [1, 2, 7, 100, 1000])
def test_short_writes_lose_nothing(code, room):
    assert heard_by_a_wire(code, [MIXED_STREAM + GET], room) == heard_by_a_wire(code, [MIXED_STREAM])


def test_nothing_is_answered_before_a_client_has_taken_what_it_is_owed(code):
    wire = Wire(code.HttpServer(), room=10)
    wire.server.data(wire, GET * 100)
    assert (len(wire.heard), wire.paused) == (10, True)
    wire.take()
    assert (len(wire.heard), wire.paused) == (20, True)


def test_the_connection_ends_only_when_the_last_reply_is_taken(code):
    wire = Wire(code.HttpServer(), room=50)
    wire.server.data(wire, LAST)
    while wire.short:
        assert not wire.ended
        wire.take()
    assert wire.ended
    assert only_reply(wire.heard).body == HELLO


def test_the_clock_is_wound_up_again_only_when_something_was_written(code):
    wire = Wire(code.HttpServer(patience=5))
    assert wire.patience == 5
    wire.say([GET, GET[:10]])
    wire.patience = 0
    wire.server.timeout(wire)
    assert (wire.patience, wire.ended) == (5, False)
    wire.patience = 0
    wire.say([GET[10:20]])
    wire.server.timeout(wire)
    assert (wire.patience, wire.ended) == (0, True)
    assert statuses(wire.heard) == [200, 408]


def test_a_timeout_says_nothing_between_requests_nor_to_who_is_owed_something(code):
    idle, stalled, gone = Wire(code.HttpServer()), Wire(code.HttpServer(), room=10), Wire(code.HttpServer())
    stalled.server.data(stalled, GET)
    gone.say([LAST])
    for wire in (idle, stalled, gone):
        wire.server.timeout(wire)  # what was written until now
        before, wire.patience = wire.heard, 0
        wire.server.timeout(wire)
        assert (wire.heard, wire.patience) == (before, 0)  # closed by the library


def test_a_bug_ends_one_connection(code, capsys):
    wire = Wire(code.HttpServer())
    wire.server.error(wire, ValueError("a bug"))
    assert wire.terminated
    assert "a bug" in capsys.readouterr().out


# --- requests with something wrong -----------------------------------------------------------------

quick = settings(max_examples=300, deadline=None, derandomize=True)
some = settings(max_examples=100, deadline=None, derandomize=True)

SEEDS = [asked for asked, _, _ in MIXED] + [asked for _, asked in REFUSED.values() if len(asked) < 200]
SNIPPETS = [b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\xff", b"HEAD ", b"HTTP/1.1", b"Host: x\r\n", b"\r\n\r\n"]
SNIPPETS += [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"/echo", b","]
CHANGE = st.tuples(st.integers(0, 400), st.integers(0, 5), st.sampled_from([b"", *SNIPPETS]) | st.binary(max_size=2))


@st.composite
def damaged(draw):
    """A few requests behind each other, with some bytes replaced, removed or put in."""
    stream = b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=4)))
    for at, removed, put in draw(st.lists(CHANGE, max_size=3)):
        at %= len(stream) + 1
        stream = stream[:at] + put + stream[at + removed :]
    return stream


def cut(stream, places):
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges) if start < end]


@quick
@given(stream=damaged(), places=st.lists(st.integers(0, 1000), max_size=6), room=st.sampled_from([None, 1, 50, 300]))
def test_what_is_answered_does_not_depend_on_cuts_and_short_writes(code, stream, places, room):
    whole = heard_by_a_wire(code, [stream])
    parted = heard_by_a_wire(code, cut(stream, places), room)
    assert parted.replace(CONTINUE, b"") == whole.replace(CONTINUE, b"")


@quick
@given(stream=damaged())
def test_the_quick_path_answers_as_the_long_one(code, stream):
    quick_path = code.PLAIN_GET
    known = heard_by_a_wire(code, [stream])
    code.PLAIN_GET = re.compile(b"(?!)")
    try:
        assert heard_by_a_wire(code, [stream]) == known
    finally:
        code.PLAIN_GET = quick_path


@quick
@given(stream=damaged())
def test_after_a_refusal_the_connection_ends_and_not_without_a_last_word(code, stream):
    wire = Wire(code.HttpServer())
    wire.say([stream])
    ending = b"\r\nConnection: close\r\n" in wire.heard
    assert wire.ended == ending
    before = wire.heard
    wire.say([GET] if ending else [])
    assert wire.heard == before


@some
@given(stream=damaged())
def test_every_stream_is_answered_or_ended_and_the_server_lives_on(server, stream):
    heard = answered(server, stream)
    assert heard == b"" or heard.startswith(b"HTTP/1.1 ")
    assert only_reply(answered(server, GET)).body == HELLO


@some
@given(stream=st.binary(max_size=200))
def test_noise_is_answered_or_ended(server, stream):
    heard = answered(server, stream, b"\r\n\r\n")
    assert heard == b"" or statuses(heard)[-1] in (400, 405, 404, 505)


# --- slow and silent clients -----------------------------------------------------------------------


def test_a_client_that_does_not_read_costs_bounded_memory_and_loses_nothing(server):
    body = random.Random(2).randbytes(MEGABYTE)
    assert only_reply(answered(server, post(body))).body == body  # what one such request needs is not counted
    before = peak_memory(server)
    with connected(server) as sock, sock.makefile("rb") as stream:
        sender = threading.Thread(target=sock.sendall, args=(post(body) * 63 + post(body)[:-1],), daemon=True)
        sender.start()
        wait_for(lambda: unread_bytes(sock), "the first reply")
        assert only_reply(answered(server, GET)).body == HELLO  # others are served meanwhile
        for _ in range(63):
            assert next_reply(stream).body == body
        sender.join(TIMEOUT)
        sock.sendall(body[-1:])
        assert next_reply(stream).body == body
    assert peak_memory(server) - before < 8 * MEGABYTE


def test_a_client_that_only_asks_is_not_read_from(server):
    before = peak_memory(server)
    with connected(server) as sock:
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):  # nobody takes the bytes any more
            sock.sendall(GET * 1_000_000)
    assert peak_memory(server) - before < 8 * MEGABYTE


def test_many_connections_are_kept(server):
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(server)) for _ in range(200)]
        streams = [stack.enter_context(sock.makefile("rb")) for sock in socks]
        for turn in range(5):
            for number, sock in enumerate(socks):
                sock.sendall(GET + post(b"%d of %d" % (turn, number)))
            for number, stream in enumerate(streams):
                assert next_reply(stream).body == HELLO
                assert next_reply(stream).body == b"%d of %d" % (turn, number)


def test_a_client_that_says_nothing_is_ended(impatient_server):
    assert answered_until_it_ends(impatient_server) == b""


def test_a_client_that_asks_nothing_more_is_ended_without_a_word(impatient_server):
    assert statuses(answered_until_it_ends(impatient_server, GET)) == [200]


@pytest.mark.parametrize("part", [b"G", GET[:-2], post(b"body")[:-1]])
def test_a_client_that_does_not_finish_its_request_hears_408(impatient_server, part):
    reply = only_reply(answered_until_it_ends(impatient_server, part))
    assert (reply.status, reply.fields[b"connection"]) == (408, b"close")


def test_a_client_that_sends_a_byte_in_a_while_hears_408_too(impatient_server):
    with connected(impatient_server) as sock:
        sock.sendall(GET[:-4] + b"\r\nX: ")
        sock.settimeout(0.02)
        deadline = time.monotonic() + TIMEOUT
        heard = b""
        while not heard:
            assert time.monotonic() < deadline
            with contextlib.suppress(TimeoutError):
                heard = sock.recv(65536)
            if not heard:
                sock.sendall(b"x")
        sock.settimeout(TIMEOUT)
        assert statuses(heard + rest_of(sock)) == [408]


def test_a_client_that_has_stopped_reading_is_reset(impatient_server):
    with connected(impatient_server) as sock, pytest.raises((ConnectionResetError, BrokenPipeError)):
        sock.sendall(GET * 1_000_000)
    assert only_reply(answered(impatient_server, GET)).body == HELLO


# --- real clients ----------------------------------------------------------------------------------


def test_http_client_keeps_its_connection(server):
    client = http.client.HTTPConnection(HOST, server.port, timeout=TIMEOUT)
    with contextlib.closing(client):
        client.connect()
        sock = client.sock
        for method, path, body, status, answer in (
            ("GET", "/", None, 200, HELLO),
            ("HEAD", "/", None, 200, b""),
            ("POST", "/echo", b"a body", 200, b"a body"),
            ("GET", "/nothing", None, 404, b"404 Not Found\n"),
            ("PUT", "/", b"x" * 100_000, 405, b"405 Method Not Allowed\n"),
            ("GET", "/?x", None, 200, HELLO),
        ):
            client.request(method, path, body)
            response = client.getresponse()
            assert (response.status, response.read()) == (status, answer)
            assert client.sock is sock


def test_http_client_is_told_that_chunks_are_not_known(server):
    client = http.client.HTTPConnection(HOST, server.port, timeout=TIMEOUT)
    with contextlib.closing(client):
        client.request("POST", "/echo", iter([b"one", b"two"]))
        response = client.getresponse()
        assert (response.status, response.getheader("Connection")) == (501, "close")
        response.read()


def test_urllib_reads_and_posts(server):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{HOST}:{server.port}"
    with opener.open(url, timeout=TIMEOUT) as response:
        assert response.read() == HELLO
        assert response.headers.get_content_type() == "text/plain"
    with opener.open(f"{url}/echo", b"posted", timeout=TIMEOUT) as response:
        assert response.read() == b"posted"
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        opener.open(f"{url}/nothing", timeout=TIMEOUT)
    refused.value.close()


def curl(server, *arguments, path="/", stdin=b""):
    command = (tool("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", str(TIMEOUT))
    return output_of(*command, *arguments, f"http://{HOST}:{server.port}{path}", stdin=stdin)


def test_curl_gets(server):
    assert curl(server) == HELLO.decode()
    assert curl(server, "--http1.0") == HELLO.decode()
    assert "Content-Length: 13" in curl(server, "--head")


def test_curl_uses_its_connection_again(server):
    url = f"http://{HOST}:{server.port}/"
    counts = curl(server, "--write-out", " %{num_connects} ", "--next", "--noproxy", "*", url, "--output", "-", url)
    assert counts.startswith("Hello, World! 1 ")
    verbose = curl(server, "--verbose", url)
    assert "left intact" in verbose
    assert verbose.count("HTTP/1.1 200 OK") == 2


def test_curl_posts_with_an_expectation(server):
    body = b"a body, " * 10_000
    said = curl(server, "--data-binary", "@-", "--header", "Expect: 100-continue", path="/echo", stdin=body)
    assert said == body.decode()


def test_wrk_finds_nothing_wrong(server):
    said = output_of(tool("wrk"), "-t1", "-c20", "-d1s", f"http://{HOST}:{server.port}/")
    assert "Requests/sec" in said
    assert "Non-2xx" not in said
    assert "Socket errors" not in said


# --- its end ---------------------------------------------------------------------------------------


def test_ctrl_c_ends_it_in_order_also_with_a_client():
    with example("http_server.py", "--port", "0") as program:
        with connected(program) as sock, sock.makefile("rb") as stream:
            sock.sendall(GET + GET[:10])
            assert next_reply(stream).body == HELLO
            said = program.stop()
        assert program.exit_code == 0
        assert said.endswith("stopped\n")
