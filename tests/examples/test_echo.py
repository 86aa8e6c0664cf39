"""examples/echo.py as a process of its own: what comes back, from whom, and how it ends."""

from __future__ import annotations

import hashlib
import random
import socket
import threading

import pytest
from programs import HOST, MEGABYTE, example, peak_memory
from support import TIMEOUT, unread_bytes, wait_for


@pytest.fixture
def echo():
    with example("echo.py", "--port", "0") as program:
        yield program


def test_what_is_sent_comes_back(echo):
    with socket.create_connection((HOST, echo.port), TIMEOUT) as client, client.makefile("rb") as replies:
        for line in (b"hello\n", "grüße\n".encode(), b"\0\xff\n"):
            client.sendall(line)
            assert replies.readline() == line


def test_bytes_before_the_end_come_back_before_the_end(echo):
    with socket.create_connection((HOST, echo.port), TIMEOUT) as client, client.makefile("rb") as replies:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert replies.read() == b"last words"


def test_a_client_that_does_not_read_costs_no_memory_and_loses_nothing(echo):
    before = peak_memory(echo)
    blob = random.Random(1).randbytes(MEGABYTE) * 32
    digest = hashlib.sha256()
    with socket.create_connection((HOST, echo.port), TIMEOUT) as client:
        sender = threading.Thread(target=send_and_finish, args=(client, blob), daemon=True)
        sender.start()
        wait_for(lambda: unread_bytes(client), "the first bytes to come back")
        while chunk := client.recv(65536):
            digest.update(chunk)
        sender.join(TIMEOUT)
    assert digest.digest() == hashlib.sha256(blob).digest()
    assert peak_memory(echo) - before < 8 * MEGABYTE


def send_and_finish(client: socket.socket, blob: bytes) -> None:
    client.sendall(blob)
    client.shutdown(socket.SHUT_WR)


def test_it_serves_a_unix_socket_and_removes_it_at_the_end(tmp_path):
    path = tmp_path / "echo.sock"
    with example("echo.py", "--unix", str(path)) as program:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(path))
            client.sendall(b"over unix")
            assert client.recv(100) == b"over unix"
        program.stop()
    assert not path.exists()


@pytest.mark.parametrize("name", ["echo.py", "chat.py", "redis_server", "proxy.py"])
def test_ctrl_c_ends_it_in_order_also_with_a_client(name, echo):
    options = ("--to", f"{HOST}:{echo.port}") if name == "proxy.py" else ()
    with example(name, "--port", "0", *options) as program:
        with socket.create_connection((HOST, program.port), TIMEOUT) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(1000)
            said = program.stop()
        assert program.exit_code == 0
        assert said.endswith("stopped\n")
