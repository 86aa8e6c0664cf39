"""Our client against `openssl s_server`: what two implementations agree on, and whom ours refuses."""

from __future__ import annotations

import hashlib
import ssl

import pytest
from support import Recorder, pattern
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    CRL,
    OTHER_CA,
    REVOKED_CLIENT,
    STRANGE_CLIENT,
    needs_borrowed,
    on_fallback,
    refused_by_fallback,
)

VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
ASKING = ("-Verify", "1", "-verify_return_error")


def hang_up(socket, chunk):
    socket.end()


@pytest.fixture
def visit(loop, tcp):
    """One visit of ours: says "hello", hears an answer, goes. What was recorded, and the attempt."""

    def come(server, **options):
        recorder = Recorder(open=lambda socket: socket.write(b"hello\n"), data=hang_up)
        connecting = tcp.connect(recorder, server, tls={**CLIENT_TLS, **options})
        loop.run()
        return recorder, connecting

    return come


@pytest.fixture
def dialogue(loop, tcp):
    """A connection of ours that stays: what it recorded."""

    def begin(server, errors=None, **options):
        handlers = {} if errors is None else {"error": lambda _, error: errors.append(error)}
        recorder = Recorder(**handlers)
        tcp.connect(recorder, server, tls={**CLIENT_TLS, **options})
        loop.run_until(lambda: recorder.sockets)
        return recorder

    return begin


def refused(recorder, connecting, reason):
    """It never was a connection to its user, who is told why."""
    assert recorder.names() == ["connect_error"]
    ((error,),) = recorder.args("connect_error")
    assert isinstance(error, ssl.SSLError)
    assert reason in str(error)
    assert connecting.exception() is error


# ---------------------------------------------------------------------------- what is agreed


@VERSIONS
def test_both_sides_name_the_same_version_and_suite(visit, s_server, loop, version):
    server = s_server("-rev", "-naccept", "1", version)
    recorder, _ = visit(server)
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.received() == b"olleh\n"
    assert recorder.close_error is None
    said = server.finished().result()
    assert f"Protocol version: {recorder.socket.get_tls_version()}\n" in said
    assert f"Ciphersuite: {recorder.socket.get_cipher()['name']}\n" in said
    assert recorder.socket.get_tls_version() == version.replace("-tls", "TLSv").replace("_", ".")


@pytest.mark.parametrize(
    ("arguments", "suite"),
    [
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), "TLS_CHACHA20_POLY1305_SHA256"),
    ],
)
def test_a_suite_that_the_server_insists_on_is_used(visit, s_server, arguments, suite):
    recorder, _ = visit(s_server("-rev", *arguments))
    assert recorder.received() == b"olleh\n"
    assert recorder.socket.get_cipher()["name"] == suite


@needs_borrowed
def test_what_is_preferred_first_is_offered_first(visit, s_server):
    """s_server takes the client's first suite."""
    suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    for order in (suites, ":".join(reversed(suites.split(":")))):
        recorder, _ = visit(s_server("-rev"), ciphers=order)
        assert recorder.socket.get_cipher()["name"] == order.split(":")[0]


@needs_borrowed
def test_a_server_without_our_first_group_asks_again(visit, s_server):
    """A HelloRetryRequest."""
    recorder, _ = visit(s_server("-rev", "-tls1_3", "-groups", "P-384"))
    assert recorder.received() == b"olleh\n"
    assert recorder.socket.get_ephemeral_key_info() == {"type": "ECDH", "name": "secp384r1", "size": 384}


def test_a_server_without_our_first_group_is_spoken_to_all_the_same(visit, s_server):
    recorder, _ = visit(s_server("-rev", "-tls1_3", "-groups", "P-384"))
    assert recorder.received() == b"olleh\n"


@VERSIONS
def test_alpn_is_what_the_server_chose(visit, s_server, version):
    server = s_server("-rev", "-alpn", "h2,http/1.1", version)
    assert visit(server, alpn_protocols=["http/1.1", "h2"])[0].socket.alpn_protocol == "h2"
    assert visit(server)[0].socket.alpn_protocol is None


def test_the_name_asked_for_picks_the_certificate(visit, s_server, files):
    other = files.pair("other.test", CA.issue("other.test"))
    server = s_server("-rev", "-servername", "other.test", "-cert2", other[0], "-key2", other[1])
    for name in ("other.test", "localhost"):
        recorder, _ = visit(server, server_name=name)
        assert recorder.received() == b"olleh\n"
        assert recorder.socket.get_peer_certificate()["subjectAltName"][0] == ("DNS", name)
        assert recorder.socket.get_servername() == name


def test_an_address_is_not_sent_as_a_name(dialogue, s_server):
    server = s_server("-tlsextdebug", "-tls1_3", "-naccept", "1")
    recorder = dialogue(server)
    recorder.socket.terminate()
    said = server.finished().result()
    assert 'extension "supported versions"' in said
    assert 'extension "server name"' not in said


@needs_borrowed
@VERSIONS
def test_both_sides_export_the_same_keying_material(dialogue, s_server, version):
    server = s_server(version, "-keymatexport", "EXPORTER-test", "-keymatexportlen", "40")
    recorder = dialogue(server)
    material = recorder.socket.export_keying_material(40, "EXPORTER-test")
    server.hear("Keying material: ").result()
    assert server.hear("\n").result().strip() == material.hex().upper()
    recorder.socket.terminate()


@on_fallback
def test_without_the_other_engine_keying_material_is_refused_by_name(dialogue, s_server):
    recorder = dialogue(s_server())
    with refused_by_fallback("export_keying_material"):
        recorder.socket.export_keying_material(40, "EXPORTER-test")
    recorder.socket.terminate()


# ---------------------------------------------------------------------------- who is refused


def test_a_server_of_an_unknown_authority_is_refused(visit, s_server):
    refused(*visit(s_server("-rev"), ca=OTHER_CA.pem), "certificate verify failed")


def test_a_server_of_another_name_is_refused(visit, s_server):
    refused(*visit(s_server("-rev"), server_name="other.test"), "Hostname mismatch")


def test_a_revoked_server_is_refused(visit, s_server, files):
    revoked = CA.issue("localhost", "127.0.0.1")
    server = s_server("-rev", identity=files.pair("revoked", revoked))
    assert visit(server, crl=CRL)[0].received() == b"olleh\n"
    refused(*visit(server, crl=CA.revoke(revoked)), "certificate revoked")


def test_a_server_that_speaks_an_old_version_alone_is_refused(visit, s_server):
    server = s_server("-rev", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    refused(*visit(server), "PROTOCOL_VERSION")


def test_a_server_without_a_suite_of_ours_refuses_us(visit, s_server):
    server = s_server("-rev", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
    refused(*visit(server, ciphers="ECDHE+CHACHA20", max_version="TLSv1.2"), "HANDSHAKE_FAILURE")


@needs_borrowed
def test_a_server_that_is_not_refused_is_distinguished(visit, s_server):
    recorder, _ = visit(s_server("-rev"), ca=OTHER_CA.pem, reject_unauthorized=False)
    assert recorder.received() == b"olleh\n"
    assert not recorder.socket.authorized
    assert recorder.socket.get_authorization_error().verify_code == 21  # X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE


# ---------------------------------------------------------------------------- client certificates


@VERSIONS
def test_our_certificate_is_shown_to_a_server_that_asks(visit, s_server, files, version):
    server = s_server("-rev", "-naccept", "1", "-CAfile", files.ca, *ASKING, version)
    recorder, _ = visit(server, **CLIENT.options)
    assert recorder.received() == b"olleh\n"
    assert "Verification: OK" in server.finished().result()
    assert ("email", "client@example.test") in recorder.socket.get_certificate()["subjectAltName"]


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({}, "HANDSHAKE_FAILURE"),
        (STRANGE_CLIENT.options, "UNKNOWN_CA"),
        (REVOKED_CLIENT.options, "CERTIFICATE_REVOKED"),
    ],
)
def test_a_server_that_refuses_our_certificate_is_an_error_of_the_handshake(visit, s_server, files, who, reason):
    crl = files.put("crl", CRL)
    server = s_server("-rev", "-tls1_2", "-CAfile", files.ca, "-CRL", crl, "-crl_check", *ASKING)
    refused(*visit(server, **who), reason)


@pytest.mark.parametrize(("who", "reason"), [({}, "CERTIFICATE_REQUIRED"), (STRANGE_CLIENT.options, "UNKNOWN_CA")])
def test_in_tls_1_3_it_refuses_an_open_connection(loop, dialogue, s_server, files, who, reason):
    """The client is done before the server has looked at its certificate."""
    errors = []
    recorder = dialogue(s_server("-tls1_3", "-CAfile", files.ca, *ASKING), errors, **who)
    loop.run()
    assert recorder.order() == ["open", "error", "close"]
    assert errors == [recorder.close_error]
    assert reason in str(recorder.close_error)


# ---------------------------------------------------------------------------- over time


@needs_borrowed
@VERSIONS
def test_a_session_is_resumed(loop, dialogue, s_server, version):
    server, session, reused = s_server("-rev", version), None, []
    for _ in range(3):
        recorder = dialogue(server, session=session)
        recorder.socket.write(b"hello\n")
        loop.run_until(lambda recorder=recorder: recorder.received() == b"olleh\n")
        session = recorder.socket.get_session()
        reused.append(recorder.socket.is_session_reused())
        recorder.socket.end()
        loop.run()
    assert reused == [False, True, True]


@needs_borrowed
def test_a_session_of_another_server_is_no_harm(loop, dialogue, s_server):
    recorder = dialogue(s_server("-rev"))
    recorder.socket.write(b"hello\n")
    loop.run_until(lambda: recorder.received())
    session = recorder.socket.get_session()
    recorder.socket.end()
    loop.run()
    recorder = dialogue(s_server("-rev"), session=session)
    assert not recorder.socket.is_session_reused()
    recorder.socket.terminate()


@pytest.mark.parametrize("letter", ["k", "K"])
def test_data_goes_on_both_ways_after_the_server_has_changed_its_keys(loop, dialogue, s_server, letter):
    """k changes its own; K has us change ours, too."""
    server = s_server("-tls1_3")
    recorder = dialogue(server)
    server.hear("Secure Renegotiation").result()
    for i in range(3):
        server.say(letter).result()
        recorder.socket.write(b"question %d\n" % i)
        loop.wait(server.hear(f"question {i}"))  # it looks at its input first
        server.say(f"message {i}")
        loop.run_until(lambda i=i: recorder.received().endswith(b"message %d\n" % i))
        recorder.socket.write(b"answer %d\n" % i)
        loop.wait(server.hear(f"answer {i}"))
    recorder.socket.end()
    loop.run()
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


def test_a_server_that_asks_to_renegotiate_is_refused(loop, dialogue, s_server):
    """By a warning; OpenSSL gives up then, and says so by an alert."""
    errors = []
    server = s_server("-tls1_2")
    recorder = dialogue(server, errors)
    server.hear("Secure Renegotiation").result()
    server.say("r")
    loop.run()
    server.hear("no renegotiation").result()
    assert recorder.order() == ["open", "error", "close"]
    assert errors == [recorder.close_error]
    assert "HANDSHAKE_FAILURE" in str(recorder.close_error)


def test_words_in_the_clear_end_the_connection(loop, dialogue, s_server):
    errors = []
    server = s_server("-tls1_2")
    recorder = dialogue(server, errors)
    server.say("P")  # "Lets print some clear text"
    loop.run()
    assert recorder.order() == ["open", "error", "close"]
    assert errors == [recorder.close_error]
    assert "WRONG_VERSION_NUMBER" in str(recorder.close_error)


@pytest.mark.parametrize("arguments", [("-max_send_frag", "512"), ("-tls1_2", "-max_send_frag", "16384")])
def test_a_file_comes_whole_in_records_of_any_size(loop, dialogue, s_server, files, arguments):
    blob = pattern(500_000)
    files.put("blob", blob)
    recorder = dialogue(s_server("-WWW", *arguments))
    recorder.socket.write(b"GET /blob HTTP/1.0\r\n\r\n")
    loop.run()
    assert recorder.order() == ["open", "data", "end", "close"]
    _, _, body = recorder.received().partition(b"\r\n\r\n")
    assert hashlib.sha256(body).digest() == hashlib.sha256(blob).digest()


def test_a_server_that_is_killed_is_a_connection_cut_off(loop, dialogue, s_server):
    server = s_server("-tls1_3")
    recorder = dialogue(server)
    server.hear("Secure Renegotiation").result()
    server.say("last words")
    loop.run_until(lambda: recorder.received() == b"last words\n")
    server.kill()
    loop.run()
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError
