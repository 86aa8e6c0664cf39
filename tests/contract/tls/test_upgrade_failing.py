"""CONTRACT.md, "TLS": S6, an upgrade that cannot be made changes nothing, and one that fails is told to the secured half."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder, accepted, connected
from support.handlers import echo
from support.tls import CLIENT_TLS, TLSRecorder
from support.tls_peer import each_side, tls_sides, unsecured, upgraded

pytestmark = pytest.mark.standalone("what is refused is nothing that a loop decides")

NAMED = {**CLIENT_TLS, "server_name": "localhost"}

WRONG = {
    "unknown option": ({"tls": {"certs": 1}}, TypeError, "certs"),
    "garbage": ({"tls": {"ca": "garbage", "server_name": "localhost"}}, ssl.SSLError, "ca"),
    "empty name": ({"tls": {**CLIENT_TLS, "server_name": ""}}, ValueError, "server_name"),
    "no tls": ({"tls": 7}, TypeError, "tls"),
    "server without certificate": ({"tls": {}, "server": True}, ValueError, "key and cert"),
    "bad handlers": ({"tls": NAMED, "socket": {"dta": print}}, TypeError, "dta"),
    "bad initial data": ({"tls": NAMED, "initial_data": 7}, TypeError, "int"),
}


@pytest.mark.parametrize(("options", "error", "message"), list(WRONG.values()), ids=list(WRONG))
def test_s6_an_upgrade_that_fails_changes_nothing(loop, tcp, options, error, message):
    recorder = Recorder(data=echo)
    socket, peer = connected(loop, tcp, recorder)
    with pytest.raises(error, match=message):
        socket.upgrade_tls(**{"socket": Recorder().handlers, **options})
    assert loop.gauges()["open_sockets"] == 1
    peer.send(b"still plain")
    assert loop.wait(peer.recv_exactly(11)) == b"still plain"
    peer.shutdown()
    loop.run()
    assert recorder.order() == ["open", "data", "end", "close"]


def test_s6_an_accepted_socket_has_no_name_to_be_checked(loop, tcp):
    socket, _peer = accepted(loop, tcp, Recorder())
    with pytest.raises(ValueError, match="server_name"):
        socket.upgrade_tls(tls=CLIENT_TLS, socket=Recorder().handlers)


def closed(loop, socket, peer):
    socket.close()


def closed_and_told(loop, socket, peer):
    socket.terminate()
    loop.run()


def ended(loop, socket, peer):
    socket.end()


@pytest.mark.parametrize("how", [closed, closed_and_told, ended])
def test_s6_a_socket_that_is_closed_or_ended_is_not_upgraded(loop, tcp, how):
    recorder = Recorder()
    socket, peer = accepted(loop, tcp, recorder)
    how(loop, socket, peer)
    with pytest.raises(RuntimeError, match="upgrade_tls"):
        upgraded(socket, Recorder(), "accepted")
    peer.close()
    loop.run()
    assert recorder.names()[-1] == "close"


def test_s6_a_socket_is_upgraded_once(loop, tcp):
    socket, _peer = unsecured(loop, tcp, Recorder(), "accepted")
    made = upgraded(socket, Recorder(), "accepted")
    for each in (socket, made):
        with pytest.raises(RuntimeError, match="upgrade_tls"):
            upgraded(each, Recorder(), "accepted")
    made.terminate()


@tls_sides
def test_s6_a_secured_socket_is_not_upgraded(loop, tcp, side):
    socket, peer = side(loop, tcp, Recorder(data=echo))
    with pytest.raises(RuntimeError, match="secured"):
        upgraded(socket, Recorder(), "accepted")
    peer.write(b"x")
    assert loop.wait(peer.read(1)) == b"x"


@each_side
def test_s6_a_handshake_that_fails_is_reported_to_the_secured_half_alone(loop, tcp, kind):
    recorder, secured = Recorder(label="raw"), TLSRecorder(label="secured")
    socket, peer = unsecured(loop, tcp, recorder, kind)
    upgraded(socket, secured, kind)
    peer.send(b"this is no TLS, but it is long enough to tell\r\n")
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open"]
    assert secured.names() == ["open", "handshake", "close"]
    assert not secured.verdict[0]
    assert isinstance(secured.close_error, ssl.SSLError)


def test_s6_a_server_of_another_name_is_refused(loop, tcp):
    secured = TLSRecorder(label="secured")
    socket, peer = unsecured(loop, tcp, Recorder(), "connected")
    upgraded(socket, secured, "connected", tls={**CLIENT_TLS, "server_name": "other.example"})
    peer.handshake().ignore()
    loop.run()
    assert isinstance(secured.close_error, ssl.SSLCertVerificationError)


@each_side
def test_s6_the_handshake_timeout_holds_for_the_secured_half(loop, tcp, kind):
    secured = TLSRecorder(label="secured")
    socket, _peer = unsecured(loop, tcp, Recorder(), kind, handshake_timeout=0.05)
    upgraded(socket, secured, kind)
    loop.run()
    assert isinstance(secured.close_error, TimeoutError)


def test_c4_without_a_handshake_handler_connect_error_tells_a_client_of_the_failure(loop, tcp):
    """Else nobody is told: there is no awaitable."""
    secured = Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, Recorder(), "connected")
    upgraded(socket, secured, "connected")
    peer.send(b"this is no TLS, but it is long enough to tell\r\n")
    loop.run()
    assert secured.names() == ["connect_error"]
    assert isinstance(secured.args("connect_error")[0][0], ssl.SSLError)


def test_c4_without_a_handshake_handler_close_tells_a_server_of_the_failure(loop, tcp):
    secured = Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, Recorder(), "accepted")
    upgraded(socket, secured, "accepted")
    peer.send(b"this is no TLS, but it is long enough to tell\r\n")
    loop.run()
    assert secured.names() == ["close"]
    assert isinstance(secured.close_error, ssl.SSLError)
