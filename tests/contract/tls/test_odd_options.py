"""CONTRACT.md, TLS (S2): an option that would be taken and mean nothing is refused by name, or docs/tls.md says what it means."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder
from support.tls import CA, CLIENT_TLS, CRL, PASSPHRASE, SERVER_TLS, finish, joined, needs_borrowed, talk

import pybuntcp
from pybuntcp.tls.connecting import read_client, read_server

pytestmark = pytest.mark.standalone("what an option means is nothing that a loop decides")

SHOP = CA.issue("shop.example").options


def listening(**tls):
    pybuntcp.listen(socket=Recorder().handlers, hostname="127.0.0.1", port=0, tls={**SERVER_TLS, **tls})


def connecting(**tls):
    pybuntcp.connect(hostname="127.0.0.1", port=1, tls=tls)


# ---------------------------------------------------------------- names in sni

NO_NAMES = (
    "*",
    "*.",
    ".",
    "a.example:443",
    "https://a.example",
    "a.example/",
    "a b.example",
    " a.example",
    "a.example\n",
    ".example",
    "a..example",
    "a.*.example",
    "*.*.example",
    "a*.example",
    "*a.example",
    "**.example",
    "user@a.example",
    "127.0.0.1",
    "::1",
    "[::1]",
    "x" * 64 + ".example",
)


@pytest.mark.parametrize("name", NO_NAMES)
def test_s2_a_name_in_sni_that_no_client_can_ask_for_is_refused(name):
    with pytest.raises(ValueError, match="sni") as caught:
        listening(sni={name: SHOP})
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("again", ["a.example", "A.Example", "a.example."])
def test_s2_a_name_that_is_there_twice_is_refused(again):
    with pytest.raises(ValueError, match=r"sni\['A.EXAMPLE'\].*twice"):
        listening(sni={again: SHOP, "A.EXAMPLE": SHOP})


@pytest.mark.parametrize(
    "name", ["localhost", "a.example", "A.example.", "*.example", "_dmarc.example", "x" * 63 + ".example"]
)
def test_s2_a_host_name_is_taken(loop, tcp, name):
    tls = {**SERVER_TLS, "sni": {name: SHOP}}
    asked = name.replace("*", "any").rstrip(".")
    ends = talk(loop, tcp, tls, {"server_name": asked, "reject_unauthorized": False})
    assert ends.client.socket.get_peer_certificate()["raw"] == ssl.PEM_cert_to_DER_cert(SHOP["cert"].decode())


# ---------------------------------------------------------------- clients' certificates


@pytest.mark.parametrize("where", ["listener", pytest.param("name in sni", marks=needs_borrowed)])
def test_s2_request_cert_that_nobody_can_satisfy_is_refused(where):
    asking = {"request_cert": True}
    with pytest.raises(ValueError, match="request_cert needs ca"):
        listening(**(asking if where == "listener" else {"sni": {"a.example": {**SHOP, **asking}}}))


@needs_borrowed
def test_s2_request_cert_that_does_not_insist_needs_no_authority(loop, tcp):
    ends = talk(loop, tcp, {**SERVER_TLS, "request_cert": True, "reject_unauthorized": False}, CLIENT_TLS)
    assert ends.client.received() == b"ping"
    assert not ends.server.socket.authorized


@pytest.mark.parametrize(
    "options", [{"ca": CA.pem}, {"crl": CRL}, {"ca": CA.pem, "crl": CRL}, {"reject_unauthorized": False}]
)
def test_s2_without_request_cert_a_server_asks_nobody_whom_it_would_believe(loop, tcp, options):
    """As Node: a program that gives `ca` beside its own certificate serves everybody."""
    ends = talk(loop, tcp, {**SERVER_TLS, **options}, CLIENT_TLS)
    assert ends.client.received() == b"ping"
    assert not ends.server.socket.authorized


# ---------------------------------------------------------------- versions, keys


@pytest.mark.parametrize(
    "tls",
    [
        {"min_version": "TLSv1.3", "secure_options": int(ssl.OP_NO_TLSv1_3)},
        {"max_version": "TLSv1.2", "secure_options": int(ssl.OP_NO_TLSv1_2)},
        {"secure_options": int(ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3)},
    ],
)
@pytest.mark.parametrize("call", [listening, connecting])
def test_s2_options_that_leave_no_version_are_refused(call, tls):
    with pytest.raises(ValueError, match="secure_options leaves no version"):
        call(**tls)


def test_s2_the_newest_version_as_the_oldest_is_the_newest_alone(loop, tcp):
    newest = {"min_version": ssl.TLSVersion.MAXIMUM_SUPPORTED}
    assert isinstance(
        talk(loop, tcp, {**SERVER_TLS, **newest}, {**CLIENT_TLS, "max_version": "TLSv1.2"}).error, ssl.SSLError
    )
    assert talk(loop, tcp, {**SERVER_TLS, **newest}, CLIENT_TLS).error is None


@pytest.mark.parametrize("call", [listening, connecting])
def test_s2_the_oldest_version_as_the_newest_is_refused(call):
    with pytest.raises(ValueError, match="max_version"):
        call(max_version=ssl.TLSVersion.MINIMUM_SUPPORTED)


@pytest.mark.skipif(ssl.HAS_SSLv3, reason="an OpenSSL with SSLv3")
@pytest.mark.parametrize("version", ["SSLv3", ssl.TLSVersion.SSLv3])
@pytest.mark.parametrize("call", [listening, connecting])
def test_s2_a_version_that_this_openssl_has_not_is_refused(call, version):
    with pytest.raises(ValueError, match=r"min_version.*SSLv3"):
        call(min_version=version)


def test_s2_a_passphrase_without_a_key_is_refused():
    with pytest.raises(ValueError, match="passphrase"):
        connecting(passphrase=PASSPHRASE)


def test_s2_no_protocols_are_none(loop, tcp):
    for nothing in ([], (), b""):
        server = {**SERVER_TLS, "alpn_protocols": nothing}
        ends = talk(loop, tcp, server, {**CLIENT_TLS, "alpn_protocols": ["a"]})
        assert (ends.error, ends.client.socket.alpn_protocol) == (None, None)


# ---------------------------------------------------------------- suites that no certificate can use


def context_with(end, **given):
    own = {**SERVER_TLS, **given} if end == "server" else {"ca": CA.pem, **given}
    return (read_server(own) if end == "server" else read_client(own, "localhost")).context


@needs_borrowed
@pytest.mark.parametrize("end", ["server", "client"])
def test_s1_suites_of_tls_1_3_alone_leave_pythons_own_of_tls_1_2(end):
    context = context_with(end, ciphers="TLS_AES_128_GCM_SHA256")
    python = ssl.SSLContext(context.protocol)
    ours, pythons = ({s["name"] for s in c.get_ciphers() if s["protocol"] != "TLSv1.3"} for c in (context, python))
    assert ours == pythons != set()


@pytest.mark.parametrize("end", ["server", "client"])
def test_s1_each_suite_that_is_offered_by_default_can_be_used(end):
    suites = context_with(end).get_ciphers()
    assert {suite["auth"] for suite in suites} <= {"auth-rsa", "auth-ecdsa", "auth-any"}
    assert {suite["kea"] for suite in suites} <= {"kx-ecdhe", "kx-dhe", "kx-any"}
    assert [suite["name"] for suite in suites if "PSK" in suite["name"] or "DSS" in suite["name"]] == []


# ---------------------------------------------------------------- verbs


@needs_borrowed
@pytest.mark.parametrize("size", [512.5, "512", None, b"512", [512]])
def test_s5_a_fragment_of_no_whole_number_of_bytes_is_a_type_error(loop, tcp, size):
    ends = joined(loop, tcp)
    with pytest.raises(TypeError, match="size must be an integer"):
        ends.client.socket.set_max_send_fragment(size)
    finish(loop, ends)


@needs_borrowed
@pytest.mark.parametrize("size", [2**62, -(2**62)])
def test_s5_a_fragment_of_any_size_out_of_range_is_false(loop, tcp, size):
    ends = joined(loop, tcp)
    assert ends.client.socket.set_max_send_fragment(size) is False
    finish(loop, ends)


@needs_borrowed
@pytest.mark.parametrize("length", [16.5, "16", None])
def test_s2_a_length_that_is_no_integer_is_a_type_error(loop, tcp, length):
    ends = joined(loop, tcp)
    with pytest.raises(TypeError, match="length must be an integer"):
        ends.client.socket.export_keying_material(length, "label")
    finish(loop, ends)


@needs_borrowed
@pytest.mark.parametrize(
    ("mode", "name"),
    [(("no", True), "request_cert"), ((True, 0), "reject_unauthorized"), ((None, True), "request_cert")],
)
def test_s3_a_verify_mode_that_is_no_bool_is_a_type_error(loop, tcp, mode, name):
    ends = joined(loop, tcp)
    with pytest.raises(TypeError, match=f"{name} must be a bool"):
        ends.server.socket.set_verify_mode(*mode)
    finish(loop, ends)
