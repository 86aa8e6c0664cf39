"""CONTRACT.md, TLS (S1, S3): clients verify chain and name, unless told not to, and then tell what they found."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder
from support.addresses import needs_ipv6
from support.handlers import echo
from support.tls import (
    CA,
    CLIENT_TLS,
    EXPIRED_SERVER,
    OTHER_CA,
    SERVER,
    STRANGE_SERVER,
    TLSRecorder,
    hang_up,
    needs_borrowed,
    on_fallback,
    ping,
    talk,
)

import pybuntcp

pytestmark = pytest.mark.standalone("who is believed does not depend on the loop")

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
OTHER_NAME = CA.issue("example.test")
OTHER_ADDRESS = CA.issue("127.0.0.2", "localhost")
ADDRESS_AS_NAME = CA.issue("localhost", common_name="127.0.0.1")
WILDCARD = CA.issue("*.example.test")
REVOKED_SERVER = CA.issue("localhost", "127.0.0.1")

# OpenSSL's codes (X509_V_ERR_*)
EXPIRED, UNKNOWN_ISSUER, REVOKED, NO_CRL, WRONG_NAME, WRONG_ADDRESS = 10, 20, 23, 3, 62, 64

BAD = {
    "unknown issuer": (STRANGE_SERVER, UNKNOWN_ISSUER),
    "expired": (EXPIRED_SERVER, EXPIRED),
    "another name": (OTHER_NAME, WRONG_ADDRESS),
    "another address": (OTHER_ADDRESS, WRONG_ADDRESS),
    "the address as a name": (ADDRESS_AS_NAME, WRONG_ADDRESS),
}
bad = pytest.mark.parametrize(("identity", "code"), BAD.values(), ids=list(BAD))


def limited(version, tls=CLIENT_TLS):
    return {**tls, "min_version": version, "max_version": version}


def is_refused(ends, code):
    """The client was told by `connect_error` alone, and the server heard nothing but that there was no connection."""
    assert ends.client.order() == ["connect_error"]
    assert ends.error is ends.refusal
    assert isinstance(ends.error, ssl.SSLCertVerificationError)
    assert ends.error.verify_code == code
    assert ends.server.received() == b""


def is_accepted(ends):
    assert ends.error is None
    assert ends.client.received() == b"ping"
    assert ends.client.socket.authorized
    assert ends.client.socket.get_authorization_error() is None


# ---------------------------------------------------------------- S1: what is verified by default


@versions
@bad
def test_s1_a_client_refuses_a_certificate_that_does_not_verify(loop, tcp, identity, code, version):
    is_refused(talk(loop, tcp, identity.options, limited(version)), code)


@versions
def test_s1_a_client_accepts_a_certificate_that_verifies(loop, tcp, version):
    is_accepted(talk(loop, tcp, client_tls=limited(version)))


@versions
def test_s1_a_server_never_opens_for_a_client_that_refuses_it(loop, tcp, version):
    ends = talk(loop, tcp, STRANGE_SERVER.options, limited(version))
    assert ends.server.order() == []


def test_s1_an_authority_that_is_given_takes_the_place_of_the_systems(loop, tcp, monkeypatch, tmp_path):
    (tmp_path / "system.pem").write_bytes(OTHER_CA.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    is_refused(talk(loop, tcp, STRANGE_SERVER.options, {"ca": CA.pem}), UNKNOWN_ISSUER)


def test_s1_an_authority_of_the_systems_is_believed_where_none_is_given(loop, tcp, monkeypatch, tmp_path):
    (tmp_path / "system.pem").write_bytes(CA.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    is_accepted(talk(loop, tcp, client_tls={"ecdh_curve": "prime256v1"}))  # asked for by nobody else in this process


def test_s1_an_authority_in_a_file_is_read_at_each_call(loop, tcp, tmp_path):
    path = tmp_path / "ca.pem"
    for name in ("ca", "ca_file"):
        path.write_bytes(OTHER_CA.pem)
        is_refused(talk(loop, tcp, client_tls={name: path}), UNKNOWN_ISSUER)
        path.write_bytes(CA.pem)
        is_accepted(talk(loop, tcp, client_tls={name: path}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
        ("PYTHONHTTPSVERIFY", "0"),
        ("REJECT_UNAUTHORIZED", "false"),
        ("PYBUNTCP_TLS_REJECT_UNAUTHORIZED", "0"),
    ],
)
def test_s1_no_environment_variable_turns_verification_off(loop, tcp, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    is_refused(talk(loop, tcp, STRANGE_SERVER.options), UNKNOWN_ISSUER)


def test_s1_a_connection_that_did_not_verify_leaves_the_next_one_its_own_verdict(loop, tcp):
    for _ in range(2):
        is_refused(talk(loop, tcp, STRANGE_SERVER.options), UNKNOWN_ISSUER)
        is_accepted(talk(loop, tcp))


@pytest.mark.parametrize("first", [True, False])
def test_s1_of_two_connections_that_differ_in_that_alone_one_is_verified(loop, tcp, first):
    for reject in (first, not first):
        tls = {**CLIENT_TLS, "reject_unauthorized": reject}
        if reject:
            is_refused(talk(loop, tcp, STRANGE_SERVER.options, tls), UNKNOWN_ISSUER)
        else:
            lax = talk(loop, tcp, STRANGE_SERVER.options, tls, client=TLSRecorder(open=ping, data=hang_up)).client
            assert lax.verdict[0]


def test_s1_a_revoked_certificate_of_a_server_is_refused(loop, tcp):
    tls = {**CLIENT_TLS, "crl": CA.revoke(REVOKED_SERVER)}
    is_refused(talk(loop, tcp, REVOKED_SERVER.options, tls), REVOKED)
    is_accepted(talk(loop, tcp, client_tls=tls))


def test_s1_where_lists_of_revoked_ones_are_asked_for_a_certificate_without_one_is_refused(loop, tcp):
    is_refused(talk(loop, tcp, client_tls={**CLIENT_TLS, "crl": OTHER_CA.revoke()}), NO_CRL)


# ---------------------------------------------------------------- S1: names


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (SERVER, "localhost"),
        (SERVER, "LocalHost"),
        (SERVER, "127.0.0.1"),
        (SERVER, "::1"),
        (SERVER, "[::1]"),
        (SERVER, "0:0:0:0:0:0:0:1"),
        (WILDCARD, "a.example.test"),
        (WILDCARD, "A.EXAMPLE.test"),
        (CA.issue("xn--bcher-kva.example.test"), "b\u00fccher.example.test"),
        (CA.issue("xn--bcher-kva.example.test"), "xn--bcher-kva.example.test"),
    ],
)
@pytest.mark.parametrize("reject", [True, pytest.param(False, marks=needs_borrowed)])
def test_s1_a_certificate_is_for_the_server_name(loop, tcp, identity, name, reject):
    is_accepted(talk(loop, tcp, identity.options, {**CLIENT_TLS, "server_name": name, "reject_unauthorized": reject}))


WRONG_NAMES = [
    (SERVER, "example.test", WRONG_NAME),
    (SERVER, "127.0.0.2", WRONG_ADDRESS),
    (SERVER, "::2", WRONG_ADDRESS),
    (SERVER, "localhost.example.test", WRONG_NAME),
    (WILDCARD, "example.test", WRONG_NAME),
    (WILDCARD, "a.b.example.test", WRONG_NAME),
    (WILDCARD, "aexample.test", WRONG_NAME),
    (CA.issue("example.test", common_name="localhost"), "localhost", WRONG_NAME),
]


@pytest.mark.parametrize(("identity", "name", "code"), WRONG_NAMES)
def test_s1_a_certificate_for_another_name_is_refused(loop, tcp, identity, name, code):
    is_refused(talk(loop, tcp, identity.options, {**CLIENT_TLS, "server_name": name}), code)


@needs_borrowed
@pytest.mark.parametrize(("identity", "name", "code"), WRONG_NAMES)
def test_s3_a_certificate_for_another_name_is_reported_where_it_is_not_refused(loop, tcp, identity, name, code):
    ends = talk(loop, tcp, identity.options, {**CLIENT_TLS, "server_name": name, "reject_unauthorized": False})
    assert not ends.client.socket.authorized
    assert ends.client.socket.get_authorization_error().verify_code == code


ZONED = "fe80::1%lo"  # an address with the interface that it is valid on, which no certificate can say


@pytest.mark.parametrize("reject", [True, False])
def test_s1_an_address_with_a_zone_is_checked_too(loop, tcp, reject):
    tls = {**CLIENT_TLS, "server_name": ZONED, "reject_unauthorized": reject}
    ends = talk(loop, tcp, client_tls=tls)
    if reject:
        assert isinstance(ends.refusal, ssl.SSLCertVerificationError)
    else:
        assert not ends.client.socket.authorized
        assert ends.client.socket.get_authorization_error() is not None


def test_s1_the_server_name_defaults_to_the_host(loop, tcp):
    by_name, by_address = CA.issue("localhost"), CA.issue("127.0.0.1")
    is_accepted(talk(loop, tcp, by_name.options, hostname="localhost"))
    is_refused(talk(loop, tcp, by_address.options, hostname="localhost"), WRONG_NAME)
    is_accepted(talk(loop, tcp, by_address.options, hostname="127.0.0.1"))
    is_refused(talk(loop, tcp, by_name.options, hostname="127.0.0.1"), WRONG_ADDRESS)


def test_s1_on_a_unix_socket_the_server_name_is_checked(loop, unix):
    is_accepted(talk(loop, unix, client_tls={**CLIENT_TLS, "server_name": "localhost"}))
    is_refused(talk(loop, unix, client_tls={**CLIENT_TLS, "server_name": "example.test"}), WRONG_NAME)


@pytest.mark.parametrize("reject", [True, False])
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("localhost", "localhost"),
        ("a.example.test", "a.example.test"),
        ("b\u00fccher.example.test", "xn--bcher-kva.example.test"),
        ("127.0.0.1", None),
        ("::1", None),
        ("[::1]", None),
        ("fe80::1", None),
    ],
)
def test_s1_names_are_sent_as_sni_and_addresses_are_not(loop, tcp, name, asked, reject):
    seen = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, name, context: seen.append(name) or ssl.ALERT_DESCRIPTION_ACCESS_DENIED
    tls = {**CLIENT_TLS, "server_name": name, "reject_unauthorized": reject}
    assert isinstance(talk(loop, tcp, context, tls).refusal, ssl.SSLError)
    assert seen == [asked]


@needs_ipv6
def test_s1_the_address_of_an_ipv6_host_is_checked(loop, tcp):
    for identity, accepted in ((SERVER, True), (CA.issue("127.0.0.1"), False)):
        ends = talk(loop, tcp, identity.options, listen={"hostname": "::1"}, hostname="[::1]")
        is_accepted(ends) if accepted else is_refused(ends, WRONG_ADDRESS)


# ---------------------------------------------------------------- S3: reject_unauthorized=False


@needs_borrowed
@versions
@bad
def test_s3_what_is_wrong_is_reported_where_it_is_not_refused(loop, tcp, identity, code, version):
    client = TLSRecorder(open=ping, data=hang_up)
    ends = talk(
        loop, tcp, identity.options, limited(version, {**CLIENT_TLS, "reject_unauthorized": False}), client=client
    )
    success, error = client.verdict
    assert success
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code in (
        code,
        UNKNOWN_ISSUER + 1 if code == UNKNOWN_ISSUER else code,
    )  # it goes on, and finds more
    assert error.verify_message in str(error)
    assert client.received() == b"ping"
    assert not client.socket.authorized
    assert client.socket.get_authorization_error() is error
    assert ends.error is None


@needs_borrowed
def test_s3_nothing_is_reported_where_nothing_is_wrong_though_it_were_not_refused(loop, tcp):
    client = TLSRecorder(open=ping, data=hang_up)
    is_accepted(talk(loop, tcp, client_tls={**CLIENT_TLS, "reject_unauthorized": False}, client=client))
    assert client.verdict == (True, None)


@on_fallback
@pytest.mark.parametrize("identity", [SERVER, STRANGE_SERVER], ids=["good", "bad"])
def test_s3_the_fallback_says_that_it_did_not_verify(loop, tcp, identity):
    client = TLSRecorder(open=ping, data=hang_up)
    talk(loop, tcp, identity.options, {**CLIENT_TLS, "reject_unauthorized": False}, client=client)
    success, error = client.verdict
    assert success
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert "not verified" in str(error)
    assert not client.socket.authorized


def test_s3_a_verdict_is_kept_after_close(loop, tcp):
    ends = talk(loop, tcp)
    assert ends.client.socket.ready_state == 0
    assert ends.client.socket.authorized
    ends = talk(loop, tcp, STRANGE_SERVER.options, {"reject_unauthorized": False})
    assert not ends.client.socket.authorized
    assert isinstance(ends.client.socket.get_authorization_error(), ssl.SSLError)


def test_s3_a_server_that_asks_for_no_certificate_has_verified_nobody(loop, tcp):
    server = TLSRecorder(data=echo)
    ends = talk(loop, tcp, server=server)
    assert server.verdict == (True, None)
    assert not ends.server.socket.authorized
    assert ends.server.socket.get_authorization_error() is None


@bad
def test_s3_a_refusal_goes_to_the_handshake_handler(loop, tcp, identity, code):
    client = TLSRecorder()
    ends = talk(loop, tcp, identity.options, client=client)
    success, error = client.verdict
    assert not success
    assert error.verify_code == code
    assert client.order() == ["open", "handshake", "close"]
    assert client.close_error is error is ends.error


def test_s3_handshakes_and_their_failures_are_counted(loop, tcp):
    before = pybuntcp.stats()
    talk(loop, tcp)
    talk(loop, tcp, STRANGE_SERVER.options)
    after = pybuntcp.stats()
    assert after["handshakes"] - before["handshakes"] == 2
    assert after["handshake_failures"] - before["handshake_failures"] == 2


def test_s1_a_server_is_not_verified_by_a_peer_that_speaks_no_tls(loop, tcp):
    ends = talk(loop, tcp, False, CLIENT_TLS, server=Recorder(data=lambda socket, chunk: socket.end(b"220 hello\r\n")))
    assert isinstance(ends.refusal, ssl.SSLError)
    assert ends.client.order() == ["connect_error"]
