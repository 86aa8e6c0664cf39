"""examples/cython_echo, built by its own backend: what comes back, from whom, and what it costs.

As a process of its own, and its `handlers()` in a loop of ours, with every option that bears on a short write.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket

import pytest
from programs import EXAMPLES, HOST, MEGABYTE, impatient_example, installed_example, peak_memory
from support import TIMEOUT, packages, pattern, shrink_send_buffer, unread_bytes, wait_for

QUIET = 0.1  # seconds without a byte taken: nobody will take one

pytestmark = pytest.mark.timeout(300)  # the first test builds it


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The folder that it is installed in."""
    target = tmp_path_factory.mktemp("cython-echo")
    packages.install(EXAMPLES / "cython_echo", target, tmp_path_factory.mktemp("cython-echo-build"))
    return target


@pytest.fixture
def echo(package):
    with installed_example("cython_echo", package, "--port", "0") as program:
        yield program


@pytest.fixture
def handlers(package, monkeypatch):
    """Its `handlers()`, in this process."""
    monkeypatch.syspath_prepend(str(package))
    import cython_echo

    return cython_echo.handlers()


def connected(program):
    client = socket.create_connection((HOST, program.port), TIMEOUT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange(client, blob, size=1 << 20, stall=False):
    """What comes back for `blob`, sent in pieces of `size` and followed by an end.

    With `stall` nothing is read until nobody takes a byte any more.
    """
    client.setblocking(False)
    rest, received = memoryview(blob), bytearray()
    while stall and rest and select.select([], [client], [], QUIET)[1]:
        rest = send_all_that_goes(client, rest, size)
    assert not stall or rest, "all of it was taken from a client that does not read"
    while True:
        readable, writable, _ = select.select([client], [client] if rest else [], [], TIMEOUT)
        assert readable or writable, f"{len(received)} of {len(blob)} bytes came back"
        if writable:
            rest = send_all_that_goes(client, rest, size)
        if readable:
            if not (chunk := client.recv(1 << 18)):
                return received
            received += chunk


def send_all_that_goes(client, rest, size):
    """What could not be sent; after the last byte of it, an end."""
    with contextlib.suppress(BlockingIOError):
        while rest:
            rest = rest[client.send(rest[:size]) :]
        client.shutdown(socket.SHUT_WR)
    return rest


# --- as a program --------------------------------------------------------------------------------


def test_what_is_sent_comes_back(echo):
    with connected(echo) as client, client.makefile("rb") as replies:
        for line in (b"hello\n", "grüße\n".encode(), b"\0\xff\n"):
            client.sendall(line)
            assert replies.readline() == line


@pytest.mark.parametrize("size", [1, 7, 1460, 65536, 65537, 8 * MEGABYTE])
def test_bytes_come_back_unchanged_however_they_are_cut(echo, size):
    blob = pattern(MEGABYTE if size < 8 * MEGABYTE else 4 * size)
    with connected(echo) as client:
        assert exchange(client, blob, size) == blob


def test_bytes_before_the_end_come_back_before_the_end(echo):
    with connected(echo) as client, client.makefile("rb") as replies:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert replies.read() == b"last words"


def test_many_connections_get_their_own_bytes(echo):
    blobs = [random.Random(number).randbytes(20_000) for number in range(200)]
    clients = [connected(echo) for _ in blobs]
    try:
        for at in range(0, 20_000, 4_000):
            for client, blob in zip(clients, blobs, strict=True):
                client.sendall(blob[at : at + 4_000])
        for client, blob in zip(clients, blobs, strict=True):
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as replies:
                assert replies.read() == blob
    finally:
        for client in clients:
            client.close()


def test_a_client_that_does_not_read_costs_no_memory_and_loses_nothing(echo):
    blob = random.Random(1).randbytes(MEGABYTE) * 32
    before = peak_memory(echo)
    with connected(echo) as client:
        assert exchange(client, blob, stall=True) == blob
    assert peak_memory(echo) - before < MEGABYTE


def test_clients_that_go_without_reading_leave_nothing_behind(package, tmp_path):
    """Neither a descriptor nor what was kept for them: 600 rests of 64 KiB would be 39 MB."""
    path = tmp_path / "echo.sock"
    with impatient_example("cython_echo", package, path) as echo:
        stuff_and_go(path, 50)
        descriptors, before = descriptors_of(echo), peak_memory(echo)
        for _ in range(12):
            stuff_and_go(path, 50)
        wait_for(lambda: descriptors_of(echo) <= descriptors, "their connections to end")
        assert peak_memory(echo) - before < 8 * MEGABYTE


def stuff_and_go(path, count):
    """So many clients send until nobody takes it any more, and go with everything unread."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
        for client in clients:
            client.connect(os.fspath(path))
            client.setblocking(False)
        while writable := select.select([], clients, [], QUIET)[1]:
            for client in writable:
                with contextlib.suppress(BlockingIOError):
                    client.send(bytes(65536))
        assert all(unread_bytes(client) for client in clients)


def descriptors_of(program):
    folder = f"/proc/{program.pid}/fd"
    return len(os.listdir(folder)) if os.path.isdir(folder) else pytest.skip("needs /proc")


def test_it_serves_a_unix_socket_and_removes_it_at_the_end(package, tmp_path):
    path = tmp_path / "echo.sock"
    blob = pattern(4 * MEGABYTE)
    with installed_example("cython_echo", package, "--unix", str(path)) as program:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(path))
            assert exchange(client, blob) == blob
        program.stop()
    assert not path.exists()


def test_ctrl_c_ends_it_in_order_also_with_a_client(package):
    with installed_example("cython_echo", package, "--port", "0") as program:
        with connected(program) as client:
            client.sendall(b"here")
            assert client.recv(1000)
            said = program.stop()
        assert program.exit_code == 0
        assert said.endswith("stopped\n")


# --- its handlers() ------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [0, 1, 1000, 65536, 1 << 20])
def test_a_slow_client_gets_everything_whatever_the_high_water_mark(loop, transport, handlers, mark):
    blob = pattern(24 * MEGABYTE)  # more than the kernel keeps for anybody
    listener = transport.listen(handlers, high_water_mark=mark)
    shrink_send_buffer(listener)  # the connections inherit it
    peer = transport.peer(listener, rcvbuf=8192)
    assert loop.wait(peer.call(lambda: exchange(peer.sock, blob, stall=True))) == blob
    listener.stop(True)
    loop.run()


def test_the_same_handlers_serve_several_listeners(loop, tcp, unix, handlers):
    listeners = [transport.listen(handlers) for transport in (tcp, unix)]
    for transport, listener in zip((tcp, unix), listeners, strict=True):
        peer = transport.peer(listener)
        peer.send(b"to either")
        assert loop.wait(peer.recv_exactly(9)) == b"to either"
    for listener in listeners:
        listener.stop(True)
    loop.run()
