"""uvicorn on our loop, in plain text and over TLS: as a process with `--loop`, with each of its parsers, and by Config and Server in a loop that runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import sys
from pathlib import Path

import asgi
import pytest
from carried import MIB, carried
from support import TIMEOUT, pattern
from support.asyncio_loops import on_loop
from support.programs import HOST
from support.servers import identity_files
from support.tls import OTHER_CA, trusting
from support.tls_peer import client_context
from web_servers import serving

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

FOLDER = Path(__file__).parent
BODY = pattern(4 * MIB)
STREAM = 256 * asgi.BLOCK


def needs(module):
    return pytest.importorskip(module, reason=f"{module} is not installed")


# ---------------------------------------------------------------- a process


@pytest.fixture(scope="module", params=["h11", "httptools"])
def parser(request):
    needs(request.param)
    return request.param


@pytest.fixture(scope="module", params=["plain", "tls"])
def identity(request, tmp_path_factory):
    """The options of a server that has one, or none."""
    if request.param == "plain":
        return ()
    cert, key = identity_files(tmp_path_factory.mktemp("identity"))
    return ("--ssl-certfile", cert, "--ssl-keyfile", key)


plain_alone = pytest.mark.parametrize("identity", ["plain"], indirect=True)
tls_alone = pytest.mark.parametrize("identity", ["tls"], indirect=True)


@pytest.fixture(scope="module")
def server(parser, identity):
    """The program."""
    with process("--http", parser, *identity) as program:
        yield program


def process(*arguments):
    """`uvicorn --loop pybuntcp:new_event_loop`, when it serves."""
    command = (sys.executable, "-m", "uvicorn", "asgi:app", "--loop", "pybuntcp:new_event_loop")
    return serving(*command, "--app-dir", FOLDER, "--port", "0", "--no-access-log", *arguments)


@contextlib.contextmanager
def client_of(program, context=None):
    if program.tls:
        context = context or client_context()
        client = http.client.HTTPSConnection("localhost", program.port, timeout=TIMEOUT, context=context)
    else:
        client = http.client.HTTPConnection(HOST, program.port, timeout=TIMEOUT)
    with contextlib.closing(client):
        yield client


def ask(client, path, body=None, **more):
    client.request("GET" if body is None else "POST", path, body, **more)
    response = client.getresponse()
    assert response.status == 200
    return response.read()


def test_its_connections_are_ours(server):
    with client_of(server) as client:
        ask(client, "/echo", b"hello")
        facts = json.loads(ask(client, "/loop"))
    assert facts["loop"] == "pybuntcp.aio.loop.EventLoop"
    assert facts["accepted"] >= 1
    assert facts["bytes_read"] > len("hello")
    assert facts["bytes_written"] > len("hello")


def test_requests_one_after_the_other_share_one_connection(server):
    with client_of(server) as client:
        before = json.loads(ask(client, "/loop"))["accepted"]
        for number in range(50):
            assert ask(client, "/echo", str(number).encode()) == str(number).encode()
        assert json.loads(ask(client, "/loop"))["accepted"] == before


def test_a_response_that_is_written_in_parts_leaves_in_one_call(server):
    """Head and body are two writes of uvicorn's."""
    with client_of(server) as client:
        before = json.loads(ask(client, "/loop"))["writes"]
        for _ in range(20):
            ask(client, "/loop")
        assert json.loads(ask(client, "/loop"))["writes"] - before == 21


def test_a_body_of_4_mib_comes_back(server):
    with client_of(server) as client:
        assert ask(client, "/echo", BODY) == BODY


def test_a_body_in_chunks_comes_back(server):
    with client_of(server) as client:
        parts = (BODY[at : at + 100_000] for at in range(0, MIB, 100_000))
        assert ask(client, "/echo", parts, encode_chunked=True) == BODY[: -(-MIB // 100_000) * 100_000]


def test_16_mib_are_streamed_down(server):
    with client_of(server) as client:
        assert hashlib.sha256(ask(client, "/stream")).digest() == hashlib.sha256(STREAM).digest()


@plain_alone
def test_pipelined_requests_are_answered_in_order(server):
    with socket.create_connection((HOST, server.port), TIMEOUT) as client:
        requests = [f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{number:03}" for number in range(20)]
        client.sendall("".join([*requests, "GET /loop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]).encode())
        received = b"".join(iter(lambda: client.recv(65536), b""))
    found = [received.index(f"\r\n3\r\n{number:03}\r\n".encode()) for number in range(20)]
    assert found == sorted(found)


def test_a_client_that_leaves_is_a_disconnect(server):
    with client_of(server) as client:
        client.request("GET", "/disconnect")
        assert client.getresponse().read(1) == b"x"
    server.hear("client has left").result()


def test_a_client_that_leaves_in_the_middle_of_a_response_leaves_the_server_as_it_was(server):
    with client_of(server) as client:
        client.request("GET", "/stream")
        assert client.getresponse().read(1000) == STREAM[:1000]
    with client_of(server) as client:
        assert ask(client, "/echo", b"hello") == b"hello"


@tls_alone
def test_a_client_that_refuses_the_certificate_leaves_the_server_as_it_was(server):
    with client_of(server, trusting(ca=OTHER_CA)) as client, pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(client, "/loop")
    with client_of(server) as client:
        assert ask(client, "/echo", b"hello") == b"hello"


def test_sigterm_lets_a_response_finish(identity):
    with process(*identity) as program, client_of(program) as client:
        client.request("GET", "/patient")
        response = client.getresponse()
        assert response.read(3) == b"at "
        os.kill(program.pid, signal.SIGTERM)
        program.hear("Waiting for").result()
        assert response.read() == b"last"
        if program.tls:
            client.close()  # TLS ends when both ends have said so
        program.hear("Application shutdown complete").result()
        program.finished().result()


def test_it_serves_on_a_unix_socket(tmp_path):
    path = tmp_path / "uvicorn"
    with process("--uds", path), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        assert b"\r\nhello\r\n" in b"".join(iter(lambda: client.recv(65536), b""))


# ---------------------------------------------------------------- WebSockets


@pytest.mark.parametrize("implementation", ["websockets", "websockets-sansio"])
def test_a_web_socket_echoes_small_and_large_messages_answers_pings_and_closes(implementation, identity):
    needs("websockets")
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with process("--ws", implementation, *identity) as program:
        where = f"wss://localhost:{program.port}/" if program.tls else f"ws://{HOST}:{program.port}/"
        secured = {"ssl": client_context()} if program.tls else {}
        with connect(where, open_timeout=TIMEOUT, close_timeout=TIMEOUT, max_size=None, **secured) as client:
            for message in ("hello", b"bytes", "grüß dich", BODY[: MIB // 4]):
                client.send(message)
                assert client.recv(TIMEOUT) == message
            assert client.ping().wait(TIMEOUT)
            client.send("leave")
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(TIMEOUT)
            assert caught.value.rcvd.code == 4001
        with connect(where, **secured) as client:  # and one that the client closes
            client.send("hello")
            assert client.recv(TIMEOUT) == "hello"


# ---------------------------------------------------------------- in a loop that runs


class Server(uvicorn.Server):
    """Tells when it serves, and leaves the signals alone."""

    def __init__(self, config):
        super().__init__(config)
        self.serves = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.serves.set()


@on_loop("native")
async def test_config_and_server_serve_in_a_loop_that_runs():
    server = Server(uvicorn.Config(asgi.app, port=0, log_level="warning", http="h11"))
    served = asyncio.ensure_future(server.serve())
    await server.serves.wait()
    host, port = server.servers[0].sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4194304\r\n\r\n")
    writer.write(BODY)
    received = await reader.read()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert carried(received=2 * len(BODY), sent=2 * len(BODY))
    writer.close()
    server.should_exit = True
    await served


def test_a_configs_loop_may_be_named_by_its_factory():
    config = uvicorn.Config(asgi.app, loop="pybuntcp:new_event_loop")
    loop = config.get_loop_factory()()
    try:
        assert type(loop).__module__ == "pybuntcp.aio.loop"
    finally:
        loop.close()
