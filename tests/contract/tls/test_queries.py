"""API.md, Socket, TLS: what a connection tells of itself: before its handshake, after it, and on sockets without TLS."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder, accepted, connected
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    SERVER,
    SERVER_TLS,
    STRANGE_SERVER,
    TLSRecorder,
    finish,
    hang_up,
    joined,
    needs_borrowed,
    on_fallback,
    ping,
    refused_by_fallback,
    talk,
)

import pybuntcp

pytestmark = pytest.mark.standalone("what OpenSSL says does not depend on the loop")

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
MUTUAL = {**SERVER_TLS, "ca": CA.pem, "request_cert": True}
CLIENT_TOO = {**CLIENT_TLS, **CLIENT.options}

# (name, arguments, what a socket without TLS says): those that every engine answers, and those of OpenSSL's own.
ASKED = [
    ("get_authorization_error", (), None),
    ("get_peer_certificate", (), None),
    ("get_certificate", (), None),
    ("get_cipher", (), None),
    ("get_tls_version", (), None),
    ("is_session_reused", (), False),
    ("get_servername", (), None),
    ("disable_renegotiation", (), None),
    ("renegotiate", (), False),
]
ASKED_OF_OPENSSL = [
    ("get_session", (), None),
    ("get_tls_ticket", (), None),
    ("export_keying_material", (32, "label"), None),
    ("get_tls_finished_message", (), None),
    ("get_tls_peer_finished_message", (), None),
    ("get_shared_sigalgs", (), None),
    ("get_ephemeral_key_info", (), None),
]
SET = [
    ("set_session", (b"x",), False),
    ("set_servername", ("localhost",), False),
    ("set_max_send_fragment", (1024,), False),
    ("set_verify_mode", (True, True), False),
]


def only(version, tls=CLIENT_TLS):
    return {**tls, "min_version": version, "max_version": version}


def ask(socket, table):
    return [(name, args, getattr(socket, name)(*args)) for name, args, _ in table]


def both(ends):
    return ends.server.socket, ends.client.socket


# ---------------------------------------------------------------- without TLS, before it, after it


@pytest.mark.parametrize("plain", ["tcp", "unix"])
@pytest.mark.parametrize("side", [accepted, connected])
def test_a_socket_without_tls_answers_none_and_false(loop, request, side, plain):
    socket, peer = side(loop, request.getfixturevalue(plain), Recorder())
    table = ASKED + ASKED_OF_OPENSSL + SET
    assert ask(socket, table) == table
    assert (socket.authorized, socket.alpn_protocol) == (False, None)
    peer.close()
    socket.close()
    loop.run()
    assert ask(socket, table) == table
    assert (socket.authorized, socket.alpn_protocol) == (False, None)


def test_a_socket_that_never_was_answers_none_and_false(loop, tcp):
    seen = []
    table = [each for each in ASKED + ASKED_OF_OPENSSL + SET if each[0] != "get_authorization_error"]
    client = Recorder(connect_error=lambda socket, error: seen.append((socket.authorized, ask(socket, table))))
    talk(loop, tcp, STRANGE_SERVER.options, client=client)
    assert seen == [(False, table)]


@pytest.mark.parametrize("whose", ["server", "client"])
def test_before_the_handshake_nothing_is_known(loop, tcp, whose):
    seen = []

    def open(socket):
        seen.extend(ask(socket, [each for each in ASKED if each[0] not in ("get_servername", "get_certificate")]))
        seen.append((socket.authorized, socket.alpn_protocol))

    recorder = TLSRecorder(open=open)
    finish(loop, joined(loop, tcp, **{whose: recorder}))
    assert seen == [*[each for each in ASKED if each[0] not in ("get_servername", "get_certificate")], (False, None)]


@needs_borrowed
@pytest.mark.parametrize("whose", ["server", "client"])
def test_before_the_handshake_openssl_knows_nothing(loop, tcp, whose):
    answers = {}

    def open(socket):
        for name, args, _ in ASKED_OF_OPENSSL:
            if name != "export_keying_material":
                answers[name] = getattr(socket, name)(*args)
        with pytest.raises(ValueError, match="handshake"):
            socket.export_keying_material(32, "label")

    finish(loop, joined(loop, tcp, **{whose: TLSRecorder(open=open)}))
    assert [name for name, answer in answers.items() if answer] == []


@on_fallback
@pytest.mark.parametrize(("name", "args", "_"), ASKED_OF_OPENSSL + SET)
def test_what_openssl_alone_knows_the_fallback_refuses(loop, tcp, name, args, _):
    ends = joined(loop, tcp)
    for socket in both(ends):
        with refused_by_fallback(name):
            getattr(socket, name)(*args)
    finish(loop, ends)


@versions
def test_r7_what_was_known_stays_known_after_close(loop, tcp, version):
    ends = joined(
        loop, tcp, {**MUTUAL, "alpn_protocols": ["h2"]}, {**only(version, CLIENT_TOO), "alpn_protocols": ["h2"]}
    )
    before = [(ask(socket, ASKED), socket.authorized, socket.alpn_protocol) for socket in both(ends)]
    finish(loop, ends)
    assert [(ask(socket, ASKED), socket.authorized, socket.alpn_protocol) for socket in both(ends)] == before
    assert [authorized for _, authorized, _ in before] == [True, True]


@needs_borrowed
def test_r7_after_close_nothing_can_be_set_and_nothing_raises(loop, tcp):
    ends = joined(loop, tcp)
    finish(loop, ends)
    for socket in both(ends):
        ask(socket, ASKED_OF_OPENSSL)
    assert ask(ends.client.socket, SET) == SET
    of_servers = [each for each in SET if each[0] != "set_servername"]
    assert ask(ends.server.socket, of_servers) == of_servers


# ---------------------------------------------------------------- version, suite


@versions
def test_both_ends_know_the_version_and_the_suite(loop, tcp, version):
    ends = joined(loop, tcp, client_tls=only(version))
    for socket in both(ends):
        assert socket.get_tls_version() == version
        cipher = socket.get_cipher()
        assert sorted(cipher) == ["name", "standard_name", "version"]
        assert cipher == ends.client.socket.get_cipher()
        if version == "TLSv1.3":
            assert cipher["name"] == cipher["standard_name"]
            assert cipher["name"].startswith("TLS_AES_")
            assert cipher["version"] == "TLSv1.3"
        else:
            assert cipher["name"].startswith("ECDHE-ECDSA-")
    finish(loop, ends)


@needs_borrowed
def test_a_suite_of_tls_1_2_has_its_standard_name(loop, tcp):
    ends = joined(loop, tcp, client_tls={**only("TLSv1.2"), "ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"})
    name = ends.client.socket.get_cipher()["standard_name"]
    assert name == "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    finish(loop, ends)


# ---------------------------------------------------------------- certificates


def decoded(identity):
    """What the standard library makes of a certificate, in part."""
    parsed = identity.parsed
    return {
        "serialNumber": parsed.serial_number.to_bytes(20, "big").lstrip(b"\0").hex().upper(),
        "version": 3,
        "notAfter": parsed.not_valid_after_utc.strftime("%b %e %H:%M:%S %Y GMT"),
        "raw": identity.der,
    }


@versions
def test_the_peers_certificate_is_the_standard_librarys_dict_and_the_bytes(loop, tcp, version):
    ends = joined(loop, tcp, MUTUAL, only(version, CLIENT_TOO))
    for socket, identity in zip(both(ends), (CLIENT, SERVER), strict=True):
        certificate = socket.get_peer_certificate()
        assert decoded(identity).items() <= certificate.items()
        assert certificate["issuer"][0] == (("organizationName", certificate["issuer"][0][0][1]),)
        assert set(certificate) >= {"subject", "issuer", "notBefore", "subjectAltName"}
    assert ("DNS", "localhost") in ends.client.socket.get_peer_certificate()["subjectAltName"]
    assert ends.server.socket.get_peer_certificate()["subjectAltName"] == (("email", "client@example.test"),)
    finish(loop, ends)


@versions
def test_a_certificate_is_the_same_to_its_owner_and_to_the_peer(loop, tcp, version):
    ends = joined(loop, tcp, MUTUAL, only(version, CLIENT_TOO))
    server, client = both(ends)
    assert server.get_certificate() == client.get_peer_certificate()
    assert client.get_certificate() == server.get_peer_certificate()
    finish(loop, ends)


def test_an_end_without_a_certificate_has_none(loop, tcp):
    ends = joined(loop, tcp)
    server, client = both(ends)
    assert server.get_peer_certificate() is None
    assert client.get_certificate() is None
    finish(loop, ends)


def test_a_certificate_that_is_not_verified_can_be_looked_at(loop, tcp):
    ends = joined(loop, tcp, STRANGE_SERVER.options, {"reject_unauthorized": False})
    assert ends.client.socket.get_peer_certificate()["raw"] == STRANGE_SERVER.der
    finish(loop, ends)


@needs_borrowed
def test_a_certificate_that_is_not_verified_is_decoded_too(loop, tcp):
    ends = joined(loop, tcp, STRANGE_SERVER.options, {"reject_unauthorized": False})
    assert decoded(STRANGE_SERVER).items() <= ends.client.socket.get_peer_certificate().items()
    finish(loop, ends)


@on_fallback
def test_the_fallback_does_not_know_which_certificate_a_users_context_has(loop, tcp, tmp_path):
    (tmp_path / "pem").write_bytes(SERVER.key + SERVER.cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    ends = joined(loop, tcp, context)
    with refused_by_fallback("get_certificate"):
        ends.server.socket.get_certificate()
    finish(loop, ends)


@pytest.mark.parametrize("reject", [True, pytest.param(False, marks=needs_borrowed)])
def test_the_error_of_verification_is_what_the_handshake_handler_was_given(loop, tcp, reject):
    seen = []
    client = TLSRecorder(
        handshake=lambda socket, *told: seen.append(socket.get_authorization_error()), data=hang_up, open=ping
    )
    talk(loop, tcp, STRANGE_SERVER.options, {**CLIENT_TLS, "reject_unauthorized": reject}, client=client)
    assert isinstance(seen[0], ssl.SSLCertVerificationError)
    assert seen == [client.verdict[1]]
    assert client.socket.get_authorization_error() is seen[0]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(("name", "told"), [("localhost", "localhost"), ("127.0.0.1", None), ("::1", None)])
def test_both_ends_know_the_name_that_was_asked_for(loop, tcp, name, told):
    ends = joined(loop, tcp, client_tls={**CLIENT_TLS, "server_name": name})
    assert [socket.get_servername() for socket in both(ends)] == [told, told]
    finish(loop, ends)


def test_alpn_protocol_is_the_same_on_both_ends(loop, tcp):
    ends = joined(loop, tcp, {**SERVER_TLS, "alpn_protocols": ["a", "b"]}, {**CLIENT_TLS, "alpn_protocols": ["b", "a"]})
    assert {socket.alpn_protocol for socket in both(ends)} == {"a"}  # the server chooses
    finish(loop, ends)


def test_renegotiation_is_off(loop, tcp):
    ends = joined(loop, tcp, client_tls=only("TLSv1.2"))
    for socket in both(ends):
        assert socket.disable_renegotiation() is None
        assert socket.renegotiate() is False
    finish(loop, ends)


def test_the_engine_says_which_it_is_and_why():
    info = pybuntcp.tls_engine_info()
    assert sorted(info) == ["engine", "openssl", "reason"]
    assert info["openssl"] == ssl.OPENSSL_VERSION
    assert info["engine"] in ("borrowed", "stdlib")
    assert (info["reason"] is None) == (info["engine"] == "borrowed")
