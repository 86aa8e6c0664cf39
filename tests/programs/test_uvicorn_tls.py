"""uvicorn over TLS on our loop, as a process with `--ssl-certfile`: bodies, WebSockets, who leaves, and its end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import sys
from pathlib import Path

import asgi
import pytest
from carried import MIB
from support import TIMEOUT, pattern
from support.servers import identity_files
from support.tls import OTHER_CA, trusting
from support.tls_peer import client_context
from web_servers import serving

pytest.importorskip("uvicorn", reason="uvicorn is not installed")

FOLDER = Path(__file__).parent
BODY = pattern(4 * MIB)
STREAM = 256 * asgi.BLOCK


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    cert, key = identity_files(tmp_path_factory.mktemp("identity"))
    return ("--ssl-certfile", cert, "--ssl-keyfile", key)


def process(*arguments):
    command = (sys.executable, "-m", "uvicorn", "asgi:app", "--loop", "pybuntcp:new_event_loop")
    return serving(*command, "--app-dir", FOLDER, "--port", "0", "--no-access-log", *arguments)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request, identity):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    with process("--http", request.param, *identity) as program:
        yield program


@contextlib.contextmanager
def client_of(program, context=None):
    client = http.client.HTTPSConnection(
        "localhost", program.port, timeout=TIMEOUT, context=context or client_context()
    )
    with contextlib.closing(client):
        yield client


def ask(client, path, body=None, **more):
    client.request("GET" if body is None else "POST", path, body, **more)
    response = client.getresponse()
    assert response.status == 200
    return response.read()


def test_requests_one_after_the_other_share_one_tls_connection(server):
    with client_of(server) as client:
        for number in range(50):
            assert ask(client, "/echo", str(number).encode()) == str(number).encode()
        facts = json.loads(ask(client, "/loop"))
    assert facts["loop"] == "pybuntcp.aio.loop.EventLoop"


def test_a_body_of_4_mib_comes_back_over_tls(server):
    with client_of(server) as client:
        assert ask(client, "/echo", BODY) == BODY


def test_16_mib_are_streamed_down_over_tls(server):
    with client_of(server) as client:
        assert hashlib.sha256(ask(client, "/stream")).digest() == hashlib.sha256(STREAM).digest()


def test_a_tls_client_that_leaves_is_a_disconnect(server):
    with client_of(server) as client:
        client.request("GET", "/disconnect")
        assert client.getresponse().read(1) == b"x"
    server.hear("client has left").result()


def test_a_tls_client_that_leaves_in_the_middle_of_a_response_leaves_the_server_as_it_was(server):
    with client_of(server) as client:
        client.request("GET", "/stream")
        assert client.getresponse().read(1000) == STREAM[:1000]
    with client_of(server) as client:
        assert ask(client, "/echo", b"hello") == b"hello"


def test_a_tls_client_that_refuses_the_certificate_leaves_the_server_as_it_was(server):
    with client_of(server, trusting(ca=OTHER_CA)) as client, pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(client, "/loop")
    with client_of(server) as client:
        assert ask(client, "/echo", b"hello") == b"hello"


def test_sigterm_lets_a_response_over_tls_finish(identity):
    with process(*identity) as program, client_of(program) as client:
        client.request("GET", "/patient")
        response = client.getresponse()
        assert response.read(3) == b"at "
        os.kill(program.pid, signal.SIGTERM)
        program.hear("Waiting for").result()
        assert response.read() == b"last"
        client.close()  # TLS ends when both ends have said so
        program.hear("Application shutdown complete").result()
        program.finished().result()


@pytest.mark.parametrize("implementation", ["websockets", "websockets-sansio"])
def test_a_web_socket_over_tls_echoes_small_and_large_messages_and_closes(implementation, identity):
    pytest.importorskip("websockets", reason="websockets is not installed")
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with process("--ws", implementation, *identity) as program:
        where = f"wss://localhost:{program.port}/"
        bounds = {"open_timeout": TIMEOUT, "close_timeout": TIMEOUT, "max_size": None}
        with connect(where, ssl=client_context(), **bounds) as client:
            for message in ("hello", b"bytes", "grüß dich", BODY[: MIB // 4]):
                client.send(message)
                assert client.recv(TIMEOUT) == message
            assert client.ping().wait(TIMEOUT)
            client.send("leave")
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(TIMEOUT)
            assert caught.value.rcvd.code == 4001
