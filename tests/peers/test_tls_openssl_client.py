"""`openssl s_client` against our server: what two implementations agree on, and whom ours refuses."""

from __future__ import annotations

import re

import pytest
import trustme
from support import Recorder
from support.programs import HOST
from support.tls import CA, CRL, SERVER, SERVER_TLS, Identity, needs_borrowed, on_fallback

import pybuntcp

ONE, TWO = CA.issue("one.test"), CA.issue("*.two.test")
NAMES = {**SERVER_TLS, "sni": {"one.test": ONE.options, "*.two.test": TWO.options}}
ASKING = {**SERVER_TLS, "request_cert": True, "ca": CA.pem}
VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


def answer(socket, chunk):
    socket.end(chunk.upper())


@pytest.fixture
def s_client(openssl, files):
    """It, connected to a listener, checking who that is."""

    def begin(listener, *arguments):
        trust = ("-CAfile", files.ca, "-verify_return_error", "-verify_hostname", "localhost")
        return openssl("s_client", "-connect", f"{HOST}:{listener.port}", *trust, *arguments)

    return begin


@pytest.fixture
def visit(loop, tcp, s_client):
    """One visit of it: it says "hello", is answered, and goes. What our side recorded, and all it printed."""

    def come(*arguments, tls=SERVER_TLS, **options):
        recorder = Recorder(data=answer, **options)
        listener = tcp.listen(recorder, tls=tls)
        program = s_client(listener, *arguments)
        program.say("hello")
        said = loop.wait(program.finished())
        listener.stop()
        loop.run()
        return recorder, said

    return come


def refused(recorder, said, *reasons):
    """Nothing of it reached our user; and it was told why."""
    assert recorder.events == []
    assert "HELLO" not in said
    assert any(reason in said for reason in reasons), said


# ---------------------------------------------------------------------------- what is agreed


@VERSIONS
def test_both_sides_name_the_same_version_and_suite(visit, version):
    recorder, said = visit(version)
    assert "HELLO" in said
    assert "Verify return code: 0 (ok)" in said
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None
    suite = recorder.socket.get_cipher()["name"]
    assert f"New, {recorder.socket.get_tls_version()}, Cipher is {suite}" in said
    assert recorder.socket.get_tls_version() == version.replace("-tls", "TLSv").replace("_", ".")


@pytest.mark.parametrize(
    ("arguments", "suite"),
    [
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), "TLS_CHACHA20_POLY1305_SHA256"),
        (("-ciphersuites", "TLS_AES_256_GCM_SHA384"), "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_a_suite_that_the_client_insists_on_is_used(visit, arguments, suite):
    recorder, said = visit(*arguments)
    assert f"Cipher is {suite}" in said
    assert recorder.socket.get_cipher()["name"] == suite


def test_a_client_without_a_version_in_common_is_refused(visit):
    failures = pybuntcp.stats()["handshake_failures"]
    recorder, said = visit("-tls1_3", tls={**SERVER_TLS, "max_version": "TLSv1.2"})
    refused(recorder, said, "alert protocol version")
    assert pybuntcp.stats()["handshake_failures"] == failures + 1


def test_a_client_without_a_suite_in_common_is_refused(visit):
    only = {**SERVER_TLS, "ciphers": "ECDHE+CHACHA20", "max_version": "TLSv1.2"}
    recorder, said = visit("-tls1_2", "-cipher", "ECDHE+AESGCM", tls=only)
    refused(recorder, said, "alert handshake failure")


def test_another_group_is_asked_for_if_the_client_guessed_one_we_do_not_have(visit):
    """A HelloRetryRequest."""
    _, said = visit("-tls1_3", "-groups", "X25519:P-384", "-msg", tls={**SERVER_TLS, "ecdh_curve": "secp384r1"})
    assert "Temp Key: ECDH, secp384r1, 384 bits" in said
    assert said.count("ClientHello") == 2
    assert "HELLO" in said


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        ("one.test", "one.test"),
        ("ONE.test", "one.test"),
        ("www.two.test", "*.two.test"),
        ("two.test", "localhost"),
        ("localhost", "localhost"),
        (None, "localhost"),
    ],
)
def test_the_certificate_is_the_one_of_the_name_asked_for(loop, tcp, openssl, files, asked, subject):
    recorder = Recorder(data=answer)
    listener = tcp.listen(recorder, tls=NAMES)
    name = ("-noservername",) if asked is None else ("-servername", asked)
    checked = ("-CAfile", files.ca, "-verify_return_error", "-verify_hostname", subject.replace("*", "any"))
    program = openssl("s_client", "-connect", f"{HOST}:{listener.port}", *name, *checked)
    program.say("hello")
    said = loop.wait(program.finished())
    listener.stop()
    loop.run()
    assert f"Verified peername: {subject}" in said
    assert "HELLO" in said
    assert recorder.socket.get_servername() == asked
    assert recorder.socket.get_certificate()["subjectAltName"] == (("DNS", subject), *ADDRESSES[subject])


ADDRESSES = {
    "one.test": (),
    "*.two.test": (),
    "localhost": (("IP Address", "127.0.0.1"), ("IP Address", "0:0:0:0:0:0:0:1")),
}


@VERSIONS
def test_alpn_takes_the_servers_first_choice_that_the_client_offers(visit, version):
    tls = {**SERVER_TLS, "alpn_protocols": ["h2", "http/1.1"]}
    recorder, said = visit(version, "-alpn", "spdy/3,http/1.1,h2", tls=tls)
    assert "ALPN protocol: h2" in said
    assert recorder.socket.alpn_protocol == "h2"


@needs_borrowed
def test_alpn_without_a_protocol_in_common_is_a_fatal_alert(visit):
    recorder, said = visit("-alpn", "spdy/3", tls={**SERVER_TLS, "alpn_protocols": ["h2"]})
    refused(recorder, said, "no application protocol")


@on_fallback
def test_alpn_without_a_protocol_in_common_is_no_protocol_on_the_fallback(visit):
    recorder, said = visit("-alpn", "spdy/3", tls={**SERVER_TLS, "alpn_protocols": ["h2"]})
    assert "No ALPN negotiated" in said
    assert "HELLO" in said
    assert recorder.socket.alpn_protocol is None


@needs_borrowed
@VERSIONS
def test_both_sides_export_the_same_keying_material(visit, version):
    recorder, said = visit(version, "-keymatexport", "EXPORTER-test", "-keymatexportlen", "32")
    material = re.search(r"Keying material: ([0-9A-F]+)", said).group(1)
    assert recorder.socket.export_keying_material(32, "EXPORTER-test").hex().upper() == material


@VERSIONS
def test_both_sides_log_the_same_secrets(visit, tmp_path, version):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    recorder, _ = visit(version, "-keylogfile", str(theirs), tls={**SERVER_TLS, "keylog_file": ours})
    recorder.events.clear()  # its socket remembers the context, and that holds the file open
    logged = [
        sorted(line for line in path.read_text().splitlines() if not line.startswith("#")) for path in (ours, theirs)
    ]
    assert logged[0] == logged[1] != []


def test_a_chain_with_an_intermediate_certificate_verifies(visit, files):
    root = trustme.CA(key_type=trustme.KeyType.ECDSA)
    between = root.create_child_ca(key_type=trustme.KeyType.ECDSA)
    ours = Identity(between.issue_cert("localhost", key_type=trustme.KeyType.ECDSA))
    _, said = visit("-CAfile", files.put("root", root.cert_pem.bytes()), tls=ours.options)
    assert "Verify return code: 0 (ok)" in said
    assert "HELLO" in said


# ---------------------------------------------------------------------------- client certificates


def own(pair):
    return ("-cert", pair[0], "-key", pair[1])


@VERSIONS
def test_a_client_with_a_good_certificate_is_let_in(visit, files, version):
    recorder, said = visit(version, *own(files.client), tls=ASKING)
    assert "HELLO" in said
    assert recorder.socket.authorized
    assert ("email", "client@example.test") in recorder.socket.get_peer_certificate()["subjectAltName"]


@VERSIONS
@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (None, ("alert certificate required", "alert handshake failure")),
        ("strange_client", ("alert unknown ca",)),
        ("revoked_client", ("alert certificate revoked",)),
    ],
)
def test_a_client_without_a_good_certificate_is_told_why_and_says_nothing_to_us(visit, files, version, who, reason):
    arguments = own(getattr(files, who)) if who else ()
    recorder, said = visit(version, *arguments, tls={**ASKING, "crl": CRL})
    refused(recorder, said, *reason)


@needs_borrowed
@pytest.mark.parametrize(
    ("who", "word"), [(None, "did not return"), ("strange_client", "unable to verify the first certificate")]
)
def test_a_client_that_is_not_refused_is_distinguished(visit, files, who, word):
    arguments = own(getattr(files, who)) if who else ()
    recorder, said = visit(*arguments, tls={**ASKING, "reject_unauthorized": False})
    assert "HELLO" in said
    assert not recorder.socket.authorized
    assert word in str(recorder.socket.get_authorization_error())


@needs_borrowed
@VERSIONS
def test_a_names_own_policy_is_asked_of_its_clients_alone(loop, tcp, s_client, files, version):
    recorder = Recorder(data=answer)
    closed = {**SERVER.options, "request_cert": True, "ca": CA.pem}
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "sni": {"closed.test": closed}})
    said = {}
    for name, arguments in (("open.test", ()), ("closed.test", ()), ("closed.test", own(files.client))):
        program = s_client(listener, version, "-servername", name, *arguments)
        program.say("hello")
        said[name, bool(arguments)] = "HELLO" in loop.wait(program.finished())
    listener.stop()
    loop.run()
    assert said == {("open.test", False): True, ("closed.test", False): False, ("closed.test", True): True}


@on_fallback
def test_a_names_own_policy_needs_the_other_engine():
    closed = {**SERVER.options, "request_cert": True, "ca": CA.pem}
    with pytest.raises(NotImplementedError, match="sni with request_cert"):
        pybuntcp.listen(
            socket={"data": answer}, hostname=HOST, port=0, tls={**SERVER_TLS, "sni": {"closed.test": closed}}
        )


def test_a_client_that_does_not_trust_us_goes_before_it_says_anything(loop, tcp, openssl, files):
    recorder = Recorder(data=answer)
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    program = openssl(
        "s_client", "-connect", f"{HOST}:{listener.port}", "-CAfile", files.other_ca, "-verify_return_error"
    )
    program.say("hello")
    said = loop.wait(program.finished())
    listener.stop()
    loop.run()
    assert "certificate verify failed" in said
    assert "data" not in recorder.names()
    assert recorder.names() in ([], ["open", "error", "close"])
