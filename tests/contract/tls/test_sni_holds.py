"""CONTRACT.md, "TLS": S7, all that an entry of `sni` says holds for its name, and nothing of the listener's that it does not say.

Each test turns one option both ways: the entry says it and the listener does not; the listener says it and the entry
does not.
"""

from __future__ import annotations

import ssl

import pytest
import trustme
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    CRL,
    FFDHE2048,
    REVOKED_CLIENT,
    SERVER_TLS,
    Identity,
    TLSRecorder,
    needs_borrowed,
    on_fallback,
    ping,
    refused_by_fallback,
    talk,
)

import pybuntcp

pytestmark = pytest.mark.standalone("which options hold for a name is nothing that a loop decides")

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])

SHOP = CA.issue("shop.example")
MUST = {"ca": CA.pem, "request_cert": True}
LISTENER, ENTRY = "localhost", "shop.example"


def server(listener, entry):
    """A listener with one name besides its own: further options of each."""
    return {**SERVER_TLS, **listener, "sni": {ENTRY: {**SHOP.options, **entry}}}


def visit(loop, tcp, tls, name, identity=None, recorder=None, **options):
    client_tls = {**CLIENT_TLS, **(identity.options if identity else {}), "server_name": name, **options}
    client = Recorder(label="client", open=ping, data=lambda socket, chunk: socket.end(), error=ignore)
    return talk(loop, tcp, tls, client_tls, client=client, server=recorder)


def is_served(ends):
    return ends.client.received() == b"ping"


# ---------------------------------------------------------------- whom it lets in


@needs_borrowed
@versions
def test_s7_the_list_of_revoked_ones_of_a_name_keeps_them_out(loop, tcp, version):
    tls = server({}, {**MUST, "crl": CRL})
    recorder = TLSRecorder(data=echo)
    ends = visit(loop, tcp, tls, ENTRY, REVOKED_CLIENT, recorder, max_version=version)
    success, error = recorder.verdict
    assert not is_served(ends)
    assert not success
    assert "revoked" in str(error)
    assert not recorder.socket.authorized
    assert is_served(visit(loop, tcp, tls, ENTRY, CLIENT, max_version=version))
    assert is_served(visit(loop, tcp, tls, LISTENER, REVOKED_CLIENT, max_version=version))


@needs_borrowed
@versions
def test_s7_where_a_name_does_not_insist_a_revoked_client_is_reported(loop, tcp, version):
    recorder = TLSRecorder(data=echo)
    tls = server({}, {**MUST, "crl": CRL, "reject_unauthorized": False})
    assert is_served(visit(loop, tcp, tls, ENTRY, REVOKED_CLIENT, recorder, max_version=version))
    success, error = recorder.verdict
    assert success
    assert error.verify_code == 23
    assert not recorder.socket.authorized


@needs_borrowed
@versions
def test_s7_the_listeners_list_of_revoked_ones_is_not_a_names(loop, tcp, version):
    tls = server({**MUST, "crl": CRL}, MUST)
    assert not is_served(visit(loop, tcp, tls, LISTENER, REVOKED_CLIENT, max_version=version))
    assert is_served(visit(loop, tcp, tls, ENTRY, REVOKED_CLIENT, max_version=version))
    assert is_served(visit(loop, tcp, tls, LISTENER, CLIENT, max_version=version))


@needs_borrowed
@versions
def test_s7_each_of_two_names_has_its_own_list(loop, tcp, version):
    first, second = CA.issue("first@example.test"), CA.issue("second@example.test")
    tls = {
        **SERVER_TLS,
        "sni": {
            "a.example": {**CA.issue("a.example").options, **MUST, "crl": CA.revoke(first)},
            "b.example": {**CA.issue("b.example").options, **MUST, "crl": CA.revoke(second)},
        },
    }
    met = [
        is_served(visit(loop, tcp, tls, name, who, max_version=version))
        for name in ("a.example", "b.example")
        for who in (first, second)
    ]
    assert met == [False, True, True, False]


@needs_borrowed
@versions
def test_s7_a_pinned_client_is_believed_under_its_name_alone(loop, tcp, version):
    pinned = {**MUST, "ca": ssl.DER_cert_to_PEM_cert(CLIENT.der)}
    other = CA.issue("other@example.test")

    def met(listener, entry):
        tls = server(listener, entry)
        pairs = [(name, who) for name in (LISTENER, ENTRY) for who in (CLIENT, other)]
        return [is_served(visit(loop, tcp, tls, name, who, max_version=version)) for name, who in pairs]

    assert met(MUST, pinned) == [True, True, True, False]
    assert met(pinned, MUST) == [True, False, True, True]


@needs_borrowed
def test_s7_what_set_verify_mode_asked_for_is_not_undone_by_the_name(loop, tcp):
    """`open` comes before the client's name does."""
    recorder = TLSRecorder(data=echo, open=lambda socket: socket.set_verify_mode(True, True))
    tls = server({"ca": CA.pem}, {"ca": CA.pem})
    assert not is_served(visit(loop, tcp, tls, ENTRY, recorder=recorder))
    recorder = TLSRecorder(data=echo, open=lambda socket: socket.set_verify_mode(True, True))
    assert is_served(visit(loop, tcp, tls, ENTRY, CLIENT, recorder))
    assert recorder.socket.authorized


# ---------------------------------------------------------------- how they speak


def version_of(loop, tcp, tls, name, **options):
    ends = visit(loop, tcp, tls, name, **options)
    return ends.client.socket.get_tls_version() if is_served(ends) else None


WITHOUT_13 = [{"max_version": "TLSv1.2"}, {"secure_options": int(ssl.OP_NO_TLSv1_3)}]


@needs_borrowed
@pytest.mark.parametrize("option", WITHOUT_13, ids=["max_version", "secure_options"])
def test_s7_the_newest_version_is_the_names_own(loop, tcp, option):
    assert version_of(loop, tcp, server({}, option), ENTRY) == "TLSv1.2"
    assert version_of(loop, tcp, server({}, option), LISTENER) == "TLSv1.3"
    assert version_of(loop, tcp, server(option, {}), ENTRY) == "TLSv1.3"
    assert version_of(loop, tcp, server(option, {}), LISTENER) == "TLSv1.2"


@needs_borrowed
@pytest.mark.parametrize("least", [{"min_version": "TLSv1.3"}, {"secure_options": int(ssl.OP_NO_TLSv1_2)}])
def test_s7_the_oldest_version_is_the_names_own(loop, tcp, least):
    old = {"max_version": "TLSv1.2"}
    assert version_of(loop, tcp, server(least, {}), ENTRY, **old) == "TLSv1.2"
    assert version_of(loop, tcp, server(least, {}), LISTENER, **old) is None
    assert version_of(loop, tcp, server({}, least), ENTRY, **old) is None
    assert version_of(loop, tcp, server({}, least), LISTENER, **old) == "TLSv1.2"


@needs_borrowed
def test_s7_versions_that_have_none_in_common_with_the_listeners_are_the_names(loop, tcp):
    tls = server({"max_version": "TLSv1.2"}, {"min_version": "TLSv1.3"})
    assert [version_of(loop, tcp, tls, name) for name in (LISTENER, ENTRY)] == ["TLSv1.2", "TLSv1.3"]
    tls = server({"min_version": "TLSv1.3"}, {"max_version": "TLSv1.2"})
    assert [version_of(loop, tcp, tls, name) for name in (LISTENER, ENTRY)] == ["TLSv1.3", "TLSv1.2"]


@needs_borrowed
@versions
def test_s7_the_groups_are_the_names_own(loop, tcp, version):
    def served(listener, entry, name, curve):
        tls = server(listener, entry)
        certificates = "" if version == "TLSv1.3" else ":prime256v1"  # whose group a client must name there, too
        return is_served(visit(loop, tcp, tls, name, ecdh_curve=curve + certificates, max_version=version))

    only = {"ecdh_curve": "secp384r1"}
    assert served(only, {}, ENTRY, "X25519")
    assert not served(only, {}, LISTENER, "X25519")
    assert served(only, {}, LISTENER, "secp384r1")
    assert not served({}, only, ENTRY, "X25519")
    assert served({}, only, LISTENER, "X25519")
    assert served(only, {"ecdh_curve": "X25519"}, ENTRY, "X25519")
    assert not served(only, {"ecdh_curve": "X25519"}, ENTRY, "secp384r1")


def test_s7_a_listener_that_names_no_such_group_is_refused_also_with_names():
    with pytest.raises((ssl.SSLError, ValueError), match="ecdh_curve"):
        pybuntcp.listen(socket=Recorder().handlers, hostname="127.0.0.1", port=0, tls=server({"ecdh_curve": "x"}, {}))


def test_s7_the_suites_are_the_names_own(loop, tcp):
    def suite(listener, entry, name):
        ends = visit(loop, tcp, server(listener, entry), name, max_version="TLSv1.2")
        return ends.client.socket.get_cipher()["name"]

    chacha = {"ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"}
    usual, other = "ECDHE-ECDSA-AES128-GCM-SHA256", chacha["ciphers"]
    assert [suite(chacha, {}, name) for name in (LISTENER, ENTRY)] == [other, usual]
    assert [suite({}, chacha, name) for name in (LISTENER, ENTRY)] == [usual, other]


@needs_borrowed
def test_s7_the_suites_of_tls_13_are_the_names_own(loop, tcp):
    def suite(listener, entry, name):
        return visit(loop, tcp, server(listener, entry), name).client.socket.get_cipher()["name"]

    chacha = {"ciphers": "TLS_CHACHA20_POLY1305_SHA256"}
    usual, other = "TLS_AES_128_GCM_SHA256", chacha["ciphers"]
    assert [suite(chacha, {}, name) for name in (LISTENER, ENTRY)] == [other, usual]
    assert [suite({}, chacha, name) for name in (LISTENER, ENTRY)] == [usual, other]


def test_s7_the_listeners_protocols_are_not_a_names(loop, tcp):
    def protocol(listener, entry, name):
        ends = visit(loop, tcp, server(listener, entry), name, alpn_protocols=["main/1"])
        return ends.client.socket.alpn_protocol

    main = {"alpn_protocols": ["main/1"]}
    assert [protocol(main, {}, name) for name in (LISTENER, ENTRY)] == ["main/1", None]
    assert [protocol({}, main, name) for name in (LISTENER, ENTRY)] == [None, "main/1"]


def test_s7_the_parameters_for_dhe_are_the_names_own(loop, tcp, tmp_path):
    path = tmp_path / "dh.pem"
    path.write_bytes(FFDHE2048)
    only = {"ciphers": "DHE-RSA-AES128-GCM-SHA256"}
    rsa = {name: Identity(CA._ca.issue_cert(name, key_type=trustme.KeyType.RSA)).options for name in (LISTENER, ENTRY)}

    def served(listener, entry, name):
        tls = server({**rsa[LISTENER], **only, **listener}, {**rsa[ENTRY], **only, **entry})
        return is_served(visit(loop, tcp, tls, name, max_version="TLSv1.2"))

    group = {"dh_params_file": path}
    assert [served(group, {}, name) for name in (LISTENER, ENTRY)] == [True, False]
    assert [served({}, group, name) for name in (LISTENER, ENTRY)] == [False, True]


def test_s7_the_keys_of_a_names_connections_are_in_its_own_file_alone(loop, tcp, tmp_path):
    logs = {name: tmp_path / name for name in (LISTENER, ENTRY)}
    tls = server({"keylog_file": logs[LISTENER]}, {"keylog_file": logs[ENTRY]})
    assert is_served(visit(loop, tcp, tls, ENTRY))
    assert [log.read_text().count("CLIENT_TRAFFIC_SECRET_0 ") for log in logs.values()] == [0, 1]
    Recorder.alive.clear()  # a context has its file open, and they know sockets that know it


# ---------------------------------------------------------------- the other engine

ONE_SIDED = [
    {"min_version": "TLSv1.3"},
    {"max_version": "TLSv1.2"},
    {"secure_options": int(ssl.OP_NO_TICKET)},
    {"ecdh_curve": "secp384r1"},
]


@on_fallback
@pytest.mark.parametrize("option", ONE_SIDED, ids=lambda option: next(iter(option)))
@pytest.mark.parametrize("whose", ["listener", "entry"])
def test_s7_the_fallback_refuses_what_it_cannot_change_with_the_name(option, whose):
    tls = server(option, {}) if whose == "listener" else server({}, option)
    with refused_by_fallback(f"sni['shop.example']: {next(iter(option))}"):
        pybuntcp.listen(socket=Recorder().handlers, hostname="127.0.0.1", port=0, tls=tls)


@pytest.mark.parametrize("option", ONE_SIDED, ids=lambda option: next(iter(option)))
def test_s7_a_name_may_say_what_the_listener_says_on_each_engine(loop, tcp, option):
    assert is_served(visit(loop, tcp, server(option, option), ENTRY))
