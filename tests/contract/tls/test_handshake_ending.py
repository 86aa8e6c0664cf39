"""CONTRACT.md, TLS (S3, S8) and Connecting (C2, C4): every way in which a handshake ends before it is done, and who is told.

docs/tls.md, "Events", is the table: it is the same for a reset, an end of file and a timeout, on either side, with a
`handshake` handler and without. A user who closes in the middle of it knows.
"""

from __future__ import annotations

import contextlib
import ssl
import time

import pytest
from support import LATE, Recorder
from support.asyncio_loops import each_host, run_on
from support.coroutines import turns
from support.tls import CLIENT_TLS, SERVER_TLS, TLSRecorder
from support.tls_peer import hello, unsecured, upgraded

import pybuntcp

TIMEOUT = 0.05
one_loop = pytest.mark.standalone("what stats() counts is one loop's")
kinds = pytest.mark.parametrize("kind", [Recorder, TLSRecorder], ids=["no handshake handler", "handshake handler"])
ERRORS = {"reset": ConnectionResetError, "end of file": ssl.SSLEOFError, "timeout": TimeoutError}
ways = pytest.mark.parametrize("way", ERRORS)


def end(peer, way):
    if way == "reset":
        peer.reset()
    elif way == "end of file":
        peer.shutdown()


def handshake_timeout(way):
    return {"handshake_timeout": TIMEOUT} if way == "timeout" else {}


def turn_until(loop, condition):
    """For what no handler is told."""
    deadline = time.monotonic() + LATE + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        loop.settle()


def failures():
    return pybuntcp.stats()["handshake_failures"]


def told_by_handshake(recorder, way):
    """`open`, `handshake(False, error)`, `close(error)`."""
    assert recorder.names() == ["open", "handshake", "close"]
    success, error = recorder.verdict
    assert not success
    assert type(error) is ERRORS[way]
    assert type(recorder.close_error) is ERRORS[way]
    return error


@one_loop
@pytest.mark.parametrize("said", [0, 50, None], ids=["nothing", "a part", "a hello"])
@ways
@kinds
def test_s3_a_client_that_goes_in_the_handshake_is_counted_and_reported_to_handshake_alone(loop, tcp, kind, way, said):
    server, before = kind(), failures()
    listener = tcp.listen(server, tls=SERVER_TLS, **handshake_timeout(way))
    peer = tcp.peer(listener)
    peer.send(hello()[:said]).result()
    if said is None:
        loop.wait(peer.recv(5))  # our answer
    end(peer, way)
    turn_until(loop, lambda: failures() != before)
    listener.stop()
    loop.run()
    assert failures() == before + 1
    if kind is TLSRecorder:
        told_by_handshake(server, way)
    else:
        assert server.names() == []


@one_loop
@ways
@kinds
def test_c4_a_server_that_goes_in_the_handshake_is_counted_and_reported_to_both(loop, tcp, kind, way):
    client, server, before = kind(), tcp.raw_server(), failures()
    peer = server.accept()
    connecting = tcp.connect(client, server, tls=CLIENT_TLS, **handshake_timeout(way))
    loop.wait(peer.recv(5))
    end(peer, way)
    loop.run()
    assert failures() == before + 1
    assert type(connecting.exception()) is ERRORS[way]
    if kind is TLSRecorder:
        told_by_handshake(client, way)
    else:
        assert client.names() == ["connect_error"]
        assert client.args("connect_error") == [(connecting.exception(),)]


@ways
@kinds
@pytest.mark.parametrize("side", ["accepted", "connected"])
def test_s6_a_peer_that_goes_in_the_handshake_of_an_upgrade_is_reported(loop, tcp, side, kind, way):
    secured = kind()
    socket, peer = unsecured(loop, tcp, Recorder(), side, **handshake_timeout(way))
    upgraded(socket, secured, side)
    loop.settle()
    end(peer, way)
    loop.run_until(lambda: {"close", "connect_error"} & set(secured.names()))
    loop.run()
    if kind is TLSRecorder:
        told_by_handshake(secured, way)
    else:
        ((told,),) = secured.args("close" if side == "accepted" else "connect_error")
        assert secured.names() == ["close" if side == "accepted" else "connect_error"]
        assert type(told) is ERRORS[way]


@each_host
def test_h2_a_reset_while_an_async_open_runs_is_reported_when_that_has_ended(tcp, host):
    async def main():
        released = []

        async def opened(socket):
            while not released:
                await turns(1)

        server = TLSRecorder(open=opened)
        listener = tcp.listen(server, tls=SERVER_TLS)
        peer = tcp.peer(listener)
        while not server.sockets:
            await turns()
        peer.reset()
        await turns(50)
        assert server.names() == ["open"]
        released.append(True)
        while not server.count("close"):
            await turns()
        listener.stop()
        assert server.names() == ["open", "/open", "handshake", "close"]
        assert type(server.verdict[1]) is ConnectionResetError

    run_on(host, main)


@one_loop
@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_s3_a_server_that_closes_in_the_middle_of_its_handshake_gets_close_alone(loop, tcp, verb):
    server, before = TLSRecorder(open=lambda socket: getattr(socket, verb)()), failures()
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    loop.run_until(lambda: server.count("close"))
    listener.stop()
    with contextlib.suppress(ConnectionResetError):  # a reset may come before the peer's connect(2) has returned
        loop.wait(peer.recv_until_eof() if verb == "close" else peer.connected)
    assert server.names() == ["open", "close"]
    assert server.close_error is None
    assert failures() == before


@one_loop
@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_c4_a_client_that_closes_in_the_middle_of_its_handshake_gets_close_and_awaits_an_error(loop, tcp, verb):
    client, server = TLSRecorder(open=lambda socket: getattr(socket, verb)()), tcp.raw_server(accepting=1)
    before = failures()
    connecting = tcp.connect(client, server, tls=CLIENT_TLS)
    loop.run()
    assert client.names() == ["open", "close"]
    assert client.close_error is None
    assert isinstance(connecting.exception(), ConnectionAbortedError)
    assert failures() == before


@one_loop
@kinds
def test_l2_stop_closes_handshakes_and_calls_none_of_them_failed(loop, tcp, kind):
    server, before = kind(), failures()
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    turn_until(loop, lambda: listener.connections)
    listener.stop(True)
    loop.wait(peer.recv_until_eof())
    loop.run()
    assert server.names() == (["open", "close"] if kind is TLSRecorder else [])
    assert failures() == before


class Refusing(ssl.SSLContext):
    def wrap_bio(self, *args, **options):
        raise ValueError("not today")


@one_loop
def test_s9_a_context_that_makes_no_connection_is_a_failed_handshake(loop, tcp):
    server, client, before = Recorder(), Recorder(), failures()
    listener = tcp.listen(server, tls=Refusing(ssl.PROTOCOL_TLS_SERVER))
    tcp.connect(client, listener, tls=CLIENT_TLS)
    with loop.reports() as told:
        loop.run_until(lambda: client.count("connect_error"))
        turn_until(loop, lambda: failures() == before + 2)
    listener.stop()
    assert server.names() == []
    assert [str(each) for each in told] == ["not today"]
    assert client.names() == ["connect_error"]


# ---------------------------------------------------------------- the timeout's words


@kinds
def test_s8_the_error_of_handshake_timeout_names_the_handshake(loop, tcp, kind):
    client, server = kind(), tcp.raw_server(accepting=1)
    connecting = tcp.connect(client, server, tls=CLIENT_TLS, handshake_timeout=TIMEOUT)
    loop.run()
    error = connecting.exception()
    assert isinstance(error, TimeoutError)
    assert f"(handshake 127.0.0.1 port {server.sock.getsockname()[1]})" in str(error)
    assert (error.code, error.syscall) == ("ETIMEDOUT", "handshake")
    if kind is TLSRecorder:
        assert client.verdict[1] is client.close_error is error
    else:
        assert client.args("connect_error") == [(error,)]


def test_s8_the_error_of_handshake_timeout_names_the_handshake_to_a_server(loop, tcp):
    server = TLSRecorder()
    listener = tcp.listen(server, tls=SERVER_TLS, handshake_timeout=TIMEOUT)
    peer = tcp.peer(listener)
    loop.wait(peer.recv_until_eof())
    loop.run_until(lambda: server.count("close"))
    assert "(handshake 127.0.0.1 port " in str(server.close_error)
    assert server.verdict[1] is server.close_error


def test_t1_other_timeouts_in_the_handshake_do_not_name_it(loop, tcp):
    server = TLSRecorder(open=lambda socket: socket.timeout(TIMEOUT))
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    loop.wait(peer.recv_until_eof())
    loop.run_until(lambda: server.count("close"))
    assert isinstance(server.close_error, TimeoutError)
    assert "handshake" not in str(server.close_error)
    assert server.names() == ["open", "timeout", "handshake", "close"]
