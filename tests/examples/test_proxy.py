"""examples/proxy.py as a process of its own, between real peers: bytes, backpressure, ends and resets."""

from __future__ import annotations

import hashlib
import random
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import HOST, MEGABYTE, example, file_server, peak_memory
from support import TIMEOUT, unread_bytes, wait_for

SIZE = 100 * MEGABYTE
BLOCK = random.Random(2).randbytes(MEGABYTE)


def blob():
    """100 MiB in blocks, each different: one lost, doubled or moved shows."""
    for number in range(SIZE // MEGABYTE):
        yield number.to_bytes(8, "big") + BLOCK[8:]


@pytest.fixture(scope="module")
def blob_digest():
    digest = hashlib.sha256()
    for block in blob():
        digest.update(block)
    return digest.hexdigest()


@pytest.fixture
def upstream(tcp):
    """A server whose connections the test holds in its hands."""
    return tcp.raw_server()


@pytest.fixture
def proxy(upstream):
    port = upstream.sock.getsockname()[1]
    with example("proxy.py", "--port", "0", "--to", f"{HOST}:{port}") as program:
        yield program


def send_blob(peer, sent=None):
    """In the peer's thread: all blocks, then FIN; counts in `sent` the blocks that the kernel took."""
    for block in blob():
        peer.sock.sendall(block)
        if sent is not None:
            sent.append(len(block))
    peer.sock.shutdown(socket.SHUT_WR)


def digest_until_eof(sock, piece=MEGABYTE):
    digest = hashlib.sha256()
    while chunk := sock.recv(piece):
        digest.update(chunk)
    return digest.hexdigest()


def test_half_close_is_passed_on_from_the_client(proxy, upstream, tcp):
    client, server = tcp.peer(proxy), upstream.accept()
    client.send(b"question")
    client.shutdown()
    assert server.recv_until_eof().result() == b"question"
    server.send(b"answer")
    assert client.recv_exactly(6).result() == b"answer"
    server.close()
    assert client.recv_until_eof().result() == b""


def test_half_close_is_passed_on_from_the_server(proxy, upstream, tcp):
    client, server = tcp.peer(proxy), upstream.accept()
    server.send(b"goodbye")
    server.shutdown()
    assert client.recv_until_eof().result() == b"goodbye"
    client.send(b"one more thing")
    assert server.recv_exactly(14).result() == b"one more thing"
    client.close()
    assert server.recv_until_eof().result() == b""


def test_a_reset_of_the_client_is_a_reset_at_the_server(proxy, upstream, tcp):
    client, server = tcp.peer(proxy), upstream.accept()
    client.send(b"x")
    assert server.recv_exactly(1).result() == b"x"
    client.reset()
    assert server.recv_until_reset().result() == b""


def test_a_reset_of_the_server_is_a_reset_at_the_client(proxy, upstream, tcp):
    client, server = tcp.peer(proxy), upstream.accept()
    server.send(b"x")
    assert client.recv_exactly(1).result() == b"x"
    server.reset()
    assert client.recv_until_reset().result() == b""


def test_a_client_is_reset_when_no_server_is_there(tcp):
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # ours, and nobody listens
        target = f"{HOST}:{unused.getsockname()[1]}"
        with example("proxy.py", "--port", "0", "--to", target) as program:
            assert tcp.peer(program).recv_until_reset().result() == b""
            program.wait_for_line("no connection to the upstream server")


def test_what_the_client_sends_before_the_server_is_there_arrives(proxy, upstream, tcp):
    client = tcp.peer(proxy)
    client.send(b"early")
    client.shutdown()
    assert upstream.accept().recv_until_eof().result() == b"early"


def test_100_mib_are_uploaded_unchanged(proxy, upstream, tcp, blob_digest):
    client, server = tcp.peer(proxy), upstream.accept()
    sending = client.call(send_blob, client)
    received = server.call(lambda: digest_until_eof(server.sock))
    assert received.result(30) == blob_digest
    sending.result()
    server.send(blob_digest.encode())
    server.close()
    assert client.recv_until_eof().result() == blob_digest.encode()


def test_both_ways_at_once_while_both_ends_read_slowly(proxy, upstream, tcp, blob_digest):
    """Each end sends in its peer's thread and reads in another, through small buffers."""
    client, server = tcp.peer(proxy, rcvbuf=65536), upstream.accept()
    with ThreadPoolExecutor(2) as threads:
        reading = [threads.submit(digest_until_eof, peer.sock, 16384) for peer in (client, server)]
        sending = [peer.call(send_blob, peer) for peer in (client, server)]
        assert [digest.result(50) for digest in reading] == [blob_digest] * 2
    for each in sending:
        each.result()


def test_100_mib_are_downloaded_unchanged_by_quick_and_slow_readers(tmp_path, blob_digest):
    with (tmp_path / "blob").open("wb") as file:
        file.writelines(blob())
    with (
        file_server(tmp_path) as server,
        example("proxy.py", "--port", "0", "--to", f"{HOST}:{server.port}") as program,
        ThreadPoolExecutor(2) as threads,
    ):
        slow = threads.submit(download, program.port, 4096, 32768)
        quick = threads.submit(download, program.port, MEGABYTE)
        assert quick.result(30) == blob_digest
        assert slow.result(30) == blob_digest


def download(port, piece, receive_buffer=None):
    """GET /blob, read in pieces; the hash of the body."""
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(TIMEOUT)
        sock.connect((HOST, port))
        sock.sendall(b"GET /blob HTTP/1.0\r\n\r\n")
        with sock.makefile("rb", buffering=piece) as reader:
            assert b" 200 " in reader.readline()
            while reader.readline() != b"\r\n":
                pass
            digest = hashlib.sha256()
            while chunk := reader.read1(piece):
                digest.update(chunk)
    return digest.hexdigest()


def test_a_stalled_client_stops_the_server_and_costs_no_memory(proxy, upstream, tcp, blob_digest):
    assert quick_download(proxy, upstream, tcp) == blob_digest  # also warms the proxy up
    before = peak_memory(proxy)
    stalled = tcp.peer(proxy, rcvbuf=4096)
    server, sent = upstream.accept(), []
    sending = server.call(send_blob, server, sent)
    wait_for(lambda: unread_bytes(stalled.sock), "the first bytes at the stalled client")
    assert quick_download(proxy, upstream, tcp) == blob_digest  # the same loop had time for all of it
    assert sum(sent) < SIZE // 2, "the server was not stopped"
    assert not sending.done()
    assert peak_memory(proxy) - before < 8 * MEGABYTE
    assert stalled.call(lambda: digest_until_eof(stalled.sock)).result(30) == blob_digest
    assert peak_memory(proxy) - before < 8 * MEGABYTE


def quick_download(proxy, upstream, tcp):
    client, server = tcp.peer(proxy), upstream.accept()
    server.call(send_blob, server)
    return client.call(lambda: digest_until_eof(client.sock)).result(30)
