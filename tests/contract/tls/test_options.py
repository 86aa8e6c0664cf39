"""CONTRACT.md, TLS (S2), and API.md, `TLSOptions`: what each option does, in every form in which it can be given."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    CRL,
    ENCRYPTED_KEY,
    FFDHE2048,
    OTHER_CA,
    PASSPHRASE,
    REVOKED_CLIENT,
    SERVER,
    SERVER_TLS,
    STRANGE_SERVER,
    Identity,
    TLSRecorder,
    finish,
    hang_up,
    joined,
    needs_borrowed,
    ping,
    speaker,
    talk,
)

import pybuntcp

pytestmark = pytest.mark.standalone("what is set up is OpenSSL's, and no loop's")

TLS13 = {"min_version": "TLSv1.3"}
TLS12 = {"max_version": "TLSv1.2"}


def written(pem: bytes, folder: Path) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.pem"
    path.write_bytes(pem)
    return path


FORMS = {
    "str": lambda pem, folder: pem.decode(),
    "bytes": lambda pem, folder: pem,
    "bytearray": lambda pem, folder: bytearray(pem),
    "memoryview": lambda pem, folder: memoryview(pem),
    "Path": written,
    "list": lambda pem, folder: [pem],
    "tuple": lambda pem, folder: (pem,),
    "list of a Path": lambda pem, folder: [written(pem, folder)],
    "with text around": lambda pem, folder: b"A remark.\n" + pem + b"\nAnother.\n",
    "with CRLF": lambda pem, folder: pem.replace(b"\n", b"\r\n"),
    "without a last newline": lambda pem, folder: pem.rstrip(b"\n"),
}
forms = pytest.mark.parametrize("form", list(FORMS))
PATHS = {"str": str, "Path": Path, "bytes": lambda path: str(path).encode()}
paths = pytest.mark.parametrize("form", list(PATHS))


def agrees(ends):
    """They understood each other, and nobody heard of an error."""
    assert ends.server.received() == ends.client.received() == b"ping"
    assert ends.error is None
    return ends


# ---------------------------------------------------------------- keys, certificates, authorities


@forms
def test_s2_a_server_takes_its_key_in_every_form(loop, tcp, tmp_path, form):
    agrees(talk(loop, tcp, {**SERVER_TLS, "key": FORMS[form](SERVER.key, tmp_path)}))


@forms
def test_s2_a_server_takes_its_certificate_in_every_form(loop, tcp, tmp_path, form):
    agrees(talk(loop, tcp, {**SERVER_TLS, "cert": FORMS[form](SERVER.cert, tmp_path)}))


@forms
def test_s2_a_client_takes_its_authority_in_every_form(loop, tcp, tmp_path, form):
    agrees(talk(loop, tcp, client_tls={"ca": FORMS[form](CA.pem, tmp_path)}))


@paths
def test_s2_keys_certificates_and_authorities_can_be_files(loop, tcp, tmp_path, form):
    server = {f"{name}_file": PATHS[form](written(pem, tmp_path)) for name, pem in SERVER.options.items()}
    agrees(talk(loop, tcp, server, {"ca_file": PATHS[form](written(CA.pem, tmp_path))}))


def test_s2_key_and_certificate_can_be_in_one_text(loop, tcp):
    both = SERVER.key + SERVER.cert
    agrees(talk(loop, tcp, {"key": both, "cert": both}))


@pytest.mark.parametrize("server", [SERVER, STRANGE_SERVER], ids=["the first", "the second"])
def test_s2_each_authority_of_a_list_is_believed(loop, tcp, server):
    agrees(talk(loop, tcp, server.options, {"ca": [CA.pem, OTHER_CA.pem.decode()]}))


def test_s2_a_certificate_and_what_leads_to_its_root_can_be_a_list(loop, tcp):
    root = trustme.CA(key_type=trustme.KeyType.ECDSA)
    between = root.create_child_ca(key_type=trustme.KeyType.ECDSA)
    leaf = between.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    chain = [leaf.cert_chain_pems[0].bytes(), between.cert_pem.bytes().decode()]
    server = {"key": leaf.private_key_pem.bytes(), "cert": chain}
    agrees(talk(loop, tcp, server, {"ca": root.cert_pem.bytes()}))


def test_s2_a_chain_may_be_longer_than_a_record(loop, tcp):
    more = b"".join(trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes() for _ in range(60))
    agrees(talk(loop, tcp, {**SERVER_TLS, "cert": SERVER.cert + more}))


@pytest.mark.parametrize("passphrase", [PASSPHRASE, PASSPHRASE.decode(), bytearray(PASSPHRASE)])
def test_s2_an_encrypted_key_is_read_with_its_passphrase(loop, tcp, passphrase):
    agrees(talk(loop, tcp, {"key": ENCRYPTED_KEY, "cert": SERVER.cert, "passphrase": passphrase}))


def test_s2_a_passphrase_for_a_key_that_is_not_encrypted_does_no_harm(loop, tcp):
    agrees(talk(loop, tcp, {**SERVER_TLS, "passphrase": "not needed"}))


@forms
def test_s2_revoked_certificates_are_refused_whatever_the_form_of_their_list(loop, tcp, tmp_path, form):
    server_tls = {**SERVER_TLS, "ca": CA.pem, "request_cert": True, "crl": FORMS[form](CRL, tmp_path)}
    server = TLSRecorder(data=echo)
    refused = speaker(error=ignore)
    talk(loop, tcp, server_tls, {**CLIENT_TLS, **REVOKED_CLIENT.options}, server=server, client=refused)
    success, error = server.verdict
    assert not success
    assert "revoked" in str(error)
    agrees(talk(loop, tcp, server_tls, {**CLIENT_TLS, **CLIENT.options}))


def test_what_is_changed_after_the_call_changes_nothing(loop, tcp):
    key, options = bytearray(SERVER.key), dict(SERVER_TLS)
    options["key"] = key
    listener = tcp.listen(Recorder(data=echo), tls=options)
    key[:] = bytes(len(key))
    options.clear()
    client = Recorder(open=ping, data=hang_up)
    tcp.connect(client, listener, tls=CLIENT_TLS)
    loop.run_until(lambda: client.received() == b"ping")
    listener.stop(True)
    loop.run()


# ---------------------------------------------------------------- forms of tls=


def test_s2_tls_can_be_tls_options_on_both_ends(loop, tcp):
    agrees(talk(loop, tcp, pybuntcp.TLSOptions(**SERVER_TLS), pybuntcp.TLSOptions(ca=CA.pem)))


def test_s2_the_same_tls_options_serve_many_connections_and_listeners(loop, tcp):
    server, client = pybuntcp.TLSOptions(**SERVER_TLS), pybuntcp.TLSOptions(**CLIENT_TLS)
    for _ in range(2):
        agrees(talk(loop, tcp, server, client))


@pytest.mark.parametrize("tls", [True, {}, pybuntcp.TLSOptions()], ids=["True", "{}", "TLSOptions()"])
def test_s2_tls_without_options_is_tls_with_defaults_on_a_client(loop, tcp, tls):
    ends = talk(loop, tcp, client_tls=tls)
    assert isinstance(ends.refusal, ssl.SSLCertVerificationError)  # nobody trusts our authority


def test_tls_options_show_neither_key_nor_passphrase():
    shown = repr(pybuntcp.TLSOptions(key=SERVER.key, cert=SERVER.cert, passphrase="open sesame"))
    assert "PRIVATE KEY" not in shown
    assert "sesame" not in shown


@pytest.mark.parametrize("value", [True, False])
def test_low_memory_mode_is_accepted(loop, tcp, value):
    agrees(talk(loop, tcp, {**SERVER_TLS, "low_memory_mode": value}))


# ---------------------------------------------------------------- versions, suites, curves

VERSIONS = ["TLSv1.2", "TLSv1.3", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def agreed(ends, query):
    """What both ends say of the connection, which is the same; both are closed then."""
    answers = [getattr(end.socket, query)() for end in (ends.server, ends.client)]
    assert answers[0] == answers[1]
    return answers[0]


@pytest.mark.parametrize("value", VERSIONS)
@pytest.mark.parametrize("whose", ["server", "client"])
def test_s2_max_version_is_the_highest_that_is_agreed_on(loop, tcp, whose, value):
    options = {f"{whose}_tls": {**(SERVER_TLS if whose == "server" else CLIENT_TLS), "max_version": value}}
    ends = joined(loop, tcp, **options)
    assert agreed(ends, "get_tls_version") == (value if isinstance(value, str) else value.name.replace("_", "."))
    finish(loop, ends)


@pytest.mark.parametrize("whose", ["server", "client"])
def test_s2_min_version_is_the_lowest_that_is_agreed_on(loop, tcp, whose):
    old = {"max_version": "TLSv1.2"}
    new = {"min_version": "TLSv1.3"}
    server, client = (new, old) if whose == "server" else (old, new)
    ends = talk(loop, tcp, {**SERVER_TLS, **server}, {**CLIENT_TLS, **client})
    assert isinstance(ends.refusal, ssl.SSLError)
    assert ends.server.order() == []


def test_s1_tls_1_1_is_refused_by_default(loop, tcp):
    old = {"min_version": "TLSv1", "max_version": "TLSv1.1", "ciphers": "ALL:@SECLEVEL=0"}
    ends = talk(loop, tcp, {**SERVER_TLS, **old})
    assert isinstance(ends.refusal, ssl.SSLError)
    ends = talk(loop, tcp, client_tls={**CLIENT_TLS, **old})
    assert isinstance(ends.refusal, ssl.SSLError)


@needs_borrowed
def test_secure_options_are_added_to_openssls(loop, tcp):
    ends = joined(loop, tcp, {**SERVER_TLS, "secure_options": ssl.OP_NO_TICKET, **TLS12})
    assert agreed(ends, "get_tls_version") == "TLSv1.2"
    assert ends.client.socket.get_tls_ticket() is None
    finish(loop, ends)


@pytest.mark.parametrize(
    ("version", "name"), [(TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"), (TLS13, "TLS_AES_128_GCM_SHA256")]
)
@needs_borrowed
def test_aes_128_is_preferred_by_default(loop, tcp, version, name):
    ends = joined(loop, tcp, {**SERVER_TLS, **version})
    assert agreed(ends, "get_cipher")["name"] == name
    finish(loop, ends)


@pytest.mark.parametrize("whose", ["server", "client"])
@pytest.mark.parametrize("name", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_ciphers_are_those_of_tls_1_2(loop, tcp, whose, name):
    options = {f"{whose}_tls": {**(SERVER_TLS if whose == "server" else CLIENT_TLS), "ciphers": name, **TLS12}}
    ends = joined(loop, tcp, **options)
    assert agreed(ends, "get_cipher")["name"] == name
    finish(loop, ends)


@needs_borrowed
@pytest.mark.parametrize("whose", ["server", "client"])
@pytest.mark.parametrize("names", ["TLS_CHACHA20_POLY1305_SHA256", "ECDHE+AESGCM:TLS_CHACHA20_POLY1305_SHA256"])
def test_ciphers_of_tls_1_3_may_be_among_them(loop, tcp, whose, names):
    options = {f"{whose}_tls": {**(SERVER_TLS if whose == "server" else CLIENT_TLS), "ciphers": names}}
    ends = joined(loop, tcp, **options)
    assert agreed(ends, "get_cipher")["name"] == "TLS_CHACHA20_POLY1305_SHA256"
    finish(loop, ends)


def test_ciphers_without_any_in_common_are_no_handshake(loop, tcp):
    server = {**SERVER_TLS, "ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384", **TLS12}
    ends = talk(loop, tcp, server, {**CLIENT_TLS, "ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"})
    assert isinstance(ends.refusal, ssl.SSLError)


def test_ecdh_curve_is_what_the_keys_are_exchanged_on(loop, tcp):
    agrees(talk(loop, tcp, {**SERVER_TLS, "ecdh_curve": "secp384r1"}, {**CLIENT_TLS, "ecdh_curve": "secp384r1"}))
    ends = talk(loop, tcp, {**SERVER_TLS, "ecdh_curve": "prime256v1"}, {**CLIENT_TLS, "ecdh_curve": "secp384r1"})
    assert isinstance(ends.refusal, ssl.SSLError)


@needs_borrowed
def test_ecdh_curve_may_be_several_in_order_of_preference(loop, tcp):
    """The client's; a server of OpenSSL 3.5 or later goes by its own."""
    curves = {"ecdh_curve": "secp521r1:prime256v1"}
    servers = curves if ssl.OPENSSL_VERSION_INFO >= (3, 5) else {}
    ends = joined(loop, tcp, server_tls={**SERVER_TLS, **servers}, client_tls={**CLIENT_TLS, **curves})
    assert ends.client.socket.get_ephemeral_key_info()["name"] == "secp521r1"
    finish(loop, ends)


# ---------------------------------------------------------------- ALPN


@pytest.mark.parametrize(
    "value",
    [
        ["h2", "http/1.1"],
        (b"h2", b"http/1.1"),
        ["h2", b"http/1.1"],
        b"\x02h2\x08http/1.1",
        bytearray(b"\x02h2\x08http/1.1"),
    ],
)
@pytest.mark.parametrize("whose", ["server", "client"])
def test_alpn_protocols_are_names_or_their_wire_format(loop, tcp, whose, value):
    both = {"server": ["x", "http/1.1"], "client": ["y", "http/1.1"], whose: value}
    ends = joined(
        loop, tcp, {**SERVER_TLS, "alpn_protocols": both["server"]}, {**CLIENT_TLS, "alpn_protocols": both["client"]}
    )
    assert [end.socket.alpn_protocol for end in (ends.server, ends.client)] == ["http/1.1", "http/1.1"]
    finish(loop, ends)


@pytest.mark.parametrize(
    ("server", "client"), [({}, {}), ({"alpn_protocols": ["a"]}, {}), ({}, {"alpn_protocols": ["a"]})]
)
def test_alpn_protocol_is_none_where_one_end_names_none(loop, tcp, server, client):
    ends = joined(loop, tcp, {**SERVER_TLS, **server}, {**CLIENT_TLS, **client})
    assert [end.socket.alpn_protocol for end in (ends.server, ends.client)] == [None, None]
    finish(loop, ends)


# ---------------------------------------------------------------- files


@paths
@pytest.mark.parametrize("whose", ["server", "client"])
def test_keylog_file_is_written_for_each_connection(loop, tcp, tmp_path, form, whose):
    log = tmp_path / "keys"
    options = {f"{whose}_tls": {**(SERVER_TLS if whose == "server" else CLIENT_TLS), "keylog_file": PATHS[form](log)}}
    for count in (1, 2):
        agrees(talk(loop, tcp, **options))
        lines = log.read_text().splitlines()
        assert len([line for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]) == count
    Recorder.alive.clear()  # a context has its file open, and they know sockets that know it


def test_dh_params_file_is_for_the_suites_that_exchange_keys_so(loop, tcp, tmp_path):
    path = tmp_path / "dh.pem"
    path.write_bytes(FFDHE2048)
    rsa = Identity(CA._ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA))
    server = {**rsa.options, "ciphers": "DHE-RSA-AES128-GCM-SHA256", **TLS12}
    agrees(talk(loop, tcp, {**server, "dh_params_file": path}))
    assert isinstance(talk(loop, tcp, server).refusal, ssl.SSLError)
