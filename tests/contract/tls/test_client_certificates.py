"""CONTRACT.md, TLS (S3), mutual TLS: which clients a server lets in, and what both ends are told."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    EXPIRED_CLIENT,
    OTHER_CA,
    REVOKED_CLIENT,
    SERVER_TLS,
    STRANGE_CLIENT,
    TLSRecorder,
    finish,
    hang_up,
    joined,
    needs_borrowed,
    on_fallback,
    ping,
    refused_by_fallback,
    speaker,
    talk,
)

import pybuntcp

pytestmark = pytest.mark.standalone("who is let in does not depend on the loop")

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
handlers = pytest.mark.parametrize("told", [True, False], ids=["handshake handler", "no handshake handler"])

CLIENTS = {"none": None, "good": CLIENT, "wrong CA": STRANGE_CLIENT, "expired": EXPIRED_CLIENT}
SELF_SIGNED = 19  # a certificate in its chain
BAD_CODES = {"wrong CA": (20, 21), "expired": (10,)}
each_client = pytest.mark.parametrize("who", list(CLIENTS))
bad_client = pytest.mark.parametrize("who", ["none", "wrong CA", "expired"])

ASKS = {**SERVER_TLS, "ca": CA.pem, "request_cert": True}
ASKS_ONLY = {**ASKS, "reject_unauthorized": False}


def meeting(loop, tcp, server_tls, who, version, told, **options):
    """What became of a client with this certificate."""
    identity = CLIENTS[who] if isinstance(who, str) else who
    client_tls = {**CLIENT_TLS, "max_version": version, **(identity.options if identity else {})}
    kind = TLSRecorder if told else Recorder
    client = options.pop("client", None) or speaker(error=ignore)
    return talk(loop, tcp, server_tls, client_tls, server=kind(data=echo), client=client, **options)


def is_let_in(ends, told, authorized, error=None):
    socket = ends.server.socket
    assert ends.server.received() == ends.client.received() == b"ping"
    assert ends.client.count("error") == 0
    assert socket.authorized is authorized
    assert socket.get_authorization_error() is error
    if told:
        assert ends.server.verdict == (True, error)


def is_kept_out(ends, told, version):
    """Its bytes never reach `data`, and it hears of it as its version of TLS allows."""
    assert ends.server.received() == ends.client.received() == b""
    if told:
        success, error = ends.server.verdict
        assert not success
        assert isinstance(error, ssl.SSLError)
        assert ends.server.order() == ["open", "handshake", "close"]
        assert ends.server.close_error is error
    else:
        assert ends.server.order() == []
    if version == "TLSv1.2":
        assert ends.client.order() == ["connect_error"]
        assert isinstance(ends.refusal, ssl.SSLError)
    else:  # it believed to be in when it had said its last
        assert ends.client.order() == ["open", "error", "close"]
        ((error,),) = ends.client.args("error")
        assert isinstance(error, ssl.SSLError)
        assert ends.client.close_error is error


# ---------------------------------------------------------------- all combinations


@versions
@handlers
@each_client
def test_s3_a_server_that_does_not_ask_lets_everybody_in(loop, tcp, who, told, version):
    ends = meeting(loop, tcp, SERVER_TLS, who, version, told)
    is_let_in(ends, told, authorized=False)
    assert ends.server.socket.get_peer_certificate() is None


@versions
@handlers
def test_s3_a_server_that_asks_lets_in_who_shows_a_good_certificate(loop, tcp, told, version):
    ends = meeting(loop, tcp, ASKS, "good", version, told)
    is_let_in(ends, told, authorized=True)
    assert ends.server.socket.get_peer_certificate()["raw"] == CLIENT.der


@versions
@handlers
@bad_client
def test_s3_a_server_that_asks_keeps_out_who_shows_none_or_a_bad_one(loop, tcp, who, told, version):
    is_kept_out(meeting(loop, tcp, ASKS, who, version, told), told, version)


@needs_borrowed
@versions
@handlers
@each_client
def test_s3_a_server_that_asks_and_does_not_refuse_tells_what_it_found(loop, tcp, who, told, version):
    ends = meeting(loop, tcp, ASKS_ONLY, who, version, told)
    error = ends.server.socket.get_authorization_error()
    is_let_in(ends, told, authorized=who == "good", error=error)
    if who == "none":
        assert "did not return a certificate" in str(error)
    elif who == "good":
        assert error is None
    else:
        assert error.verify_code in BAD_CODES[who]
        assert ends.server.socket.get_peer_certificate()["raw"] == CLIENTS[who].der


@on_fallback
def test_s3_the_fallback_does_not_ask_without_refusing(tcp):
    with refused_by_fallback("request_cert"):
        pybuntcp.listen(socket=Recorder().handlers, tls=ASKS_ONLY, hostname="127.0.0.1", port=0)


@versions
@handlers
def test_s3_a_server_that_does_not_ask_may_say_that_it_does_not_refuse(loop, tcp, told, version):
    ends = meeting(loop, tcp, {**SERVER_TLS, "reject_unauthorized": False}, "good", version, told)
    is_let_in(ends, told, authorized=False)


# ---------------------------------------------------------------- whom it trusts


@needs_borrowed
@versions
def test_s3_without_an_authority_a_server_trusts_no_client(loop, tcp, version, monkeypatch, tmp_path):
    """Which it can only be told of: asked to refuse them, it is refused itself; see test_odd_options.py."""
    (tmp_path / "system.pem").write_bytes(CA.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))  # what the system trusts says nothing of clients
    tls = {**SERVER_TLS, "request_cert": True, "reject_unauthorized": False}
    ends = meeting(loop, tcp, tls, "good", version, True)
    error = ends.server.socket.get_authorization_error()
    assert error.verify_code in (SELF_SIGNED, *BAD_CODES["wrong CA"])
    is_let_in(ends, True, authorized=False, error=error)


@pytest.mark.parametrize("who", [CLIENT, STRANGE_CLIENT], ids=["of the first", "of the second"])
def test_s3_a_server_trusts_each_of_its_authorities(loop, tcp, who):
    tls = {**ASKS, "ca": [CA.pem, OTHER_CA.pem]}
    is_let_in(meeting(loop, tcp, tls, who, "TLSv1.3", True), True, authorized=True)


@versions
@handlers
def test_s3_a_revoked_client_is_kept_out(loop, tcp, told, version):
    tls = {**ASKS, "crl": CA.revoke(REVOKED_CLIENT)}
    is_kept_out(meeting(loop, tcp, tls, REVOKED_CLIENT, version, told), told, version)
    is_let_in(meeting(loop, tcp, tls, "good", version, told), told, authorized=True)


@needs_borrowed
@versions
def test_s3_a_revoked_client_is_reported_where_it_is_not_refused(loop, tcp, version):
    ends = meeting(loop, tcp, {**ASKS_ONLY, "crl": CA.revoke(REVOKED_CLIENT)}, REVOKED_CLIENT, version, True)
    error = ends.server.socket.get_authorization_error()
    assert error.verify_code == 23
    is_let_in(ends, True, authorized=False, error=error)


def test_s3_a_list_of_revoked_ones_of_another_authority_keeps_everybody_out(loop, tcp):
    ends = meeting(loop, tcp, {**ASKS, "crl": OTHER_CA.revoke()}, "good", "TLSv1.3", True)
    is_kept_out(ends, True, "TLSv1.3")


# ---------------------------------------------------------------- what never happens


@versions
def test_s3_what_a_client_sends_with_its_last_handshake_message_never_reaches_data(loop, tcp, version):
    client = TLSRecorder(error=ignore, open=lambda socket: socket.write(b"x" * 50000))
    ends = meeting(loop, tcp, ASKS, "wrong CA", version, True, client=client)
    assert ends.server.received() == b""
    assert ends.server.count("end") == 0


@versions
def test_s3_a_refused_client_leaves_the_others_and_the_listener_alone(loop, tcp, version):
    server = TLSRecorder(data=echo)
    listener = tcp.listen(server, tls=ASKS)
    clients = {}
    for who in ("good", "none", "good again"):
        identity = CLIENT if who.startswith("good") else None
        tls = {**CLIENT_TLS, "max_version": version, **(identity.options if identity else {})}
        clients[who] = client = Recorder(open=ping, error=ignore)
        tcp.connect(client, listener, tls=tls)
        loop.run_until(lambda client=client: client.received() or {"connect_error", "close"} & set(client.names()))
    assert [name for name, client in clients.items() if client.received() == b"ping"] == ["good", "good again"]
    assert listener.connections == 2
    listener.stop(True)
    loop.run()


@versions
def test_s3_a_client_without_what_is_asked_for_is_counted_as_a_failure(loop, tcp, version):
    before = pybuntcp.stats()
    meeting(loop, tcp, ASKS, "none", version, False)
    after = pybuntcp.stats()
    assert after["handshake_failures"] - before["handshake_failures"] == (2 if version == "TLSv1.2" else 1)


def test_s3_a_client_need_not_verify_to_be_verified(loop, tcp):
    client = TLSRecorder(open=ping, data=hang_up)
    tls = {"reject_unauthorized": False, **CLIENT.options}
    ends = talk(loop, tcp, ASKS, tls, server=TLSRecorder(data=echo), client=client)
    assert ends.server.socket.authorized
    assert not ends.client.socket.authorized
    assert client.verdict[0]


def test_s3_both_verdicts_are_there_while_the_connection_is(loop, tcp):
    ends = joined(loop, tcp, ASKS, {**CLIENT_TLS, **CLIENT.options})
    assert ends.server.socket.authorized
    assert ends.client.socket.authorized
    finish(loop, ends)
