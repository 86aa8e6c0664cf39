"""CONTRACT.md, TLS (S8, S3) and Connecting (C2): handshakes that stall, and peers that go in the middle of one."""

from __future__ import annotations

import ssl
import time

import pytest
from support import LATE, Recorder
from support.tls import CLIENT_TLS, SERVER_TLS, Silent, TLSRecorder, joined

import pybuntcp

TIMEOUT = 0.05
told = pytest.mark.parametrize("kind", [Recorder, TLSRecorder], ids=["no handshake handler", "handshake handler"])


def test_s8_a_server_that_is_silent_is_a_timeout_error(loop, tcp):
    with Silent(tcp) as silent:
        client = Recorder()
        start = time.monotonic()
        connecting = tcp.connect(client, silent.server, tls=CLIENT_TLS, handshake_timeout=TIMEOUT)
        loop.run()
        assert TIMEOUT <= time.monotonic() - start < TIMEOUT + LATE
        ((error,),) = client.args("connect_error")
        assert isinstance(error, TimeoutError)
        assert connecting.exception() is error
        assert client.order() == ["connect_error"]


def test_s8_a_server_that_is_silent_goes_to_the_handshake_handler(loop, tcp):
    with Silent(tcp) as silent:
        client = TLSRecorder()
        connecting = tcp.connect(client, silent.server, tls=CLIENT_TLS, handshake_timeout=TIMEOUT)
        loop.run()
        success, error = client.verdict
        assert not success
        assert isinstance(error, TimeoutError)
        assert client.order() == ["open", "handshake", "close"]
        assert client.close_error is error or isinstance(client.close_error, TimeoutError)
        assert isinstance(connecting.exception(), TimeoutError)


# A record of 512 bytes, of which less comes.
BEGUN = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)


@pytest.mark.parametrize("said", [b"", BEGUN[:3], BEGUN], ids=["nothing", "part of a header", "part of a record"])
@told
def test_s8_a_client_that_stalls_is_closed_in_time(loop, tcp, kind, said):
    server = kind()
    before = pybuntcp.stats()["handshake_failures"]
    listener = tcp.listen(server, tls=SERVER_TLS, handshake_timeout=TIMEOUT)
    peer = tcp.peer(listener)
    peer.send(said)
    loop.wait(peer.recv_until_eof())
    listener.stop()
    loop.run()
    if kind is TLSRecorder:
        success, error = server.verdict
        assert not success
        assert isinstance(error, TimeoutError)
        assert isinstance(server.close_error, TimeoutError)
        assert server.order() == ["open", "handshake", "close"]
    else:
        assert server.order() == []
    if loop.name in ("standalone", "native"):
        assert pybuntcp.stats()["handshake_failures"] == before + 1


def test_s8_bytes_that_drip_do_not_put_the_end_off(loop, tcp):
    server = TLSRecorder()
    listener = tcp.listen(server, tls=SERVER_TLS, handshake_timeout=2 * TIMEOUT)
    peer = tcp.peer(listener)
    start = time.monotonic()
    peer.call(drip, peer).ignore()
    loop.run_until(lambda: server.count("close"))
    assert time.monotonic() - start < 2 * TIMEOUT + LATE
    listener.stop()


def drip(peer):
    """A byte of the record now and then, for longer than anybody should wait."""
    for byte in BEGUN + bytes(400):
        peer.sock.sendall(bytes([byte]))
        time.sleep(TIMEOUT / 4)


def test_s8_no_timeout_is_armed_once_the_handshake_is_done(loop, tcp):
    ends = joined(loop, tcp, listen={"handshake_timeout": 60}, handshake_timeout=60)
    assert loop.gauges()["armed_timers"] == 0
    ends.client.socket.close()
    loop.run()


def test_s8_a_handshake_timeout_of_none_is_for_ever(loop, tcp):
    with Silent(tcp) as silent:
        client = Recorder()
        connecting = tcp.connect(client, silent.server, tls=CLIENT_TLS, handshake_timeout=None)
        loop.wait(silent.peer.recv(1))
        assert loop.gauges()["armed_timers"] == 0
        assert loop.gauges()["connecting"] == 1
        connecting.cancel()
        loop.run()


def test_c2_the_timeout_of_connect_is_for_names_and_tcp_alone(loop, tcp):
    with Silent(tcp) as silent:
        client = Recorder()
        start = time.monotonic()
        tcp.connect(client, silent.server, tls=CLIENT_TLS, timeout=TIMEOUT, handshake_timeout=3 * TIMEOUT)
        loop.run()
        assert time.monotonic() - start >= 3 * TIMEOUT
        assert isinstance(client.args("connect_error")[0][0], TimeoutError)


# ---------------------------------------------------------------- peers that go


@told
def test_s3_a_server_that_goes_in_the_handshake_is_an_eof_error(loop, tcp, kind):
    server = tcp.raw_server()
    peer = server.accept()
    client = kind()
    connecting = tcp.connect(client, server, tls=CLIENT_TLS)
    loop.wait(peer.recv())
    peer.close()
    loop.run()
    assert isinstance(connecting.exception(), ssl.SSLEOFError)
    if kind is TLSRecorder:
        assert client.order() == ["open", "handshake", "close"]
        assert client.verdict == (False, client.close_error)
    else:
        assert client.order() == ["connect_error"]


def test_s3_a_client_that_goes_in_the_handshake_is_an_eof_error(loop, tcp):
    server = TLSRecorder()
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    peer.send(BEGUN)
    peer.close()
    loop.run_until(lambda: server.count("close"))
    listener.stop()
    loop.run()
    assert server.order() == ["open", "handshake", "close"]
    assert isinstance(server.close_error, ssl.SSLEOFError)
    assert server.verdict == (False, server.close_error)


@told
def test_s3_a_server_that_resets_in_the_handshake_is_a_reset(loop, tcp, kind):
    server = tcp.raw_server()
    peer = server.accept()
    client = kind()
    connecting = tcp.connect(client, server, tls=CLIENT_TLS)
    loop.wait(peer.recv())
    peer.reset()
    loop.run()
    assert isinstance(connecting.exception(), ConnectionResetError)
    if kind is TLSRecorder:
        assert client.order()[-1] == "close"
        assert isinstance(client.close_error, ConnectionResetError)


def test_s3_a_listener_that_stops_closes_handshakes_in_progress(loop, tcp):
    server = TLSRecorder()
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    loop.run_until(lambda: server.count("open"))
    assert listener.connections == 1
    listener.stop(True)
    loop.run()
    assert server.order()[-1] == "close"
    assert listener.connections == 0
    peer.recv_until_eof().ignore()
