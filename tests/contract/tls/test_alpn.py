"""docs/tls.md, "What others do": no protocol in common (RFC 7301, section 3.2), on each engine."""

from __future__ import annotations

import re
import ssl

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import CA, CLIENT_TLS, SERVER_TLS, TLSRecorder, needs_borrowed, on_fallback, ping, talk
from support.tls_peer import client_context, dialling

pytestmark = pytest.mark.standalone("which protocol is chosen is nothing that a loop decides")

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
ALERT = "(?i)no.application.protocol"  # words of OpenSSL, or its name for it: older Pythons have none
SHOP = CA.issue("shop.example").options


def server(*names, **more):
    return {**SERVER_TLS, "alpn_protocols": list(names), **more}


def client(*names, **more):
    return {**CLIENT_TLS, **({"alpn_protocols": list(names)} if names else {}), **more}


def chosen(loop, tcp, server_tls, client_tls):
    recorder = Recorder(data=echo)
    ends = talk(loop, tcp, server_tls, client_tls, server=recorder)
    assert ends.error is None
    assert recorder.socket.alpn_protocol == ends.client.socket.alpn_protocol
    return ends.client.socket.alpn_protocol


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"),
        (["a"], ["aa", "a"], "a"),
        (["aa", "a"], ["a"], "a"),
        (["x" * 255, "b"], ["b", "x" * 255], "x" * 255),
        (["a", "b", "c"], ["d", "c"], "c"),
        (["a"], [], None),
        ([], ["a"], None),
    ],
)
@versions
def test_s2_the_first_of_the_servers_that_the_client_knows_is_chosen(loop, tcp, version, ours, theirs, agreed):
    assert chosen(loop, tcp, server(*ours), client(*theirs, max_version=version)) == agreed


@needs_borrowed
@versions
@pytest.mark.parametrize("theirs", [["b"], ["aa"], ["A"], ["b", "c", "aaa"]])
def test_s2_a_client_that_knows_none_of_the_servers_protocols_is_refused(loop, tcp, version, theirs):
    recorder = TLSRecorder(data=echo)
    ends = talk(loop, tcp, server("a", "ab"), client(*theirs, max_version=version), server=recorder)
    assert isinstance(ends.refusal, ssl.SSLError)
    assert re.search(ALERT, str(ends.refusal))
    success, error = recorder.verdict
    assert not success
    assert isinstance(error, ssl.SSLError)
    assert re.search(ALERT, str(error))
    assert recorder.received() == b""


@needs_borrowed
@versions
def test_s2_a_peer_of_another_make_is_recognised_by_the_alert(loop, tcp, version):
    context = client_context(getattr(ssl.TLSVersion, version.replace(".", "_")))
    context.set_alpn_protocols(["b"])
    peer = dialling(tcp, tcp.listen(Recorder(data=echo), tls=server("a")), context, name="localhost")
    handshake = peer.handshake()
    with pytest.raises(ssl.SSLError, match=ALERT):
        loop.wait(handshake)


@needs_borrowed
def test_s7_each_name_refuses_by_its_own_protocols(loop, tcp):
    tls = server("main", sni={"shop.example": {**SHOP, "alpn_protocols": ["shop"]}})

    def met(name, protocol):
        ends = talk(loop, tcp, tls, client(protocol, server_name=name))
        return ends.client.socket.alpn_protocol if ends.error is None else None

    assert met("localhost", "main") == "main"
    assert met("localhost", "shop") is None
    assert met("shop.example", "shop") == "shop"
    assert met("shop.example", "main") is None


@on_fallback
@versions
def test_s2_the_fallback_goes_on_and_says_that_there_is_none(loop, tcp, version):
    assert chosen(loop, tcp, server("a"), client("b", max_version=version)) is None


def test_s9_a_context_of_ones_own_decides_itself(loop, tcp, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = tmp_path / "identity.pem"
    path.write_bytes(SERVER_TLS["key"] + SERVER_TLS["cert"])
    context.load_cert_chain(path)
    context.set_alpn_protocols(["a"])
    assert chosen(loop, tcp, context, client("b")) is None


@needs_borrowed
def test_s2_a_refused_client_leaves_the_listener_alone(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls=server("a"))
    heard = []
    for protocol in ("b", "a", "b", "a"):
        recorder = Recorder(open=ping, data=lambda socket, chunk: socket.end(), error=ignore)
        tcp.connect(recorder, listener, tls=client(protocol))
        loop.run_until(lambda recorder=recorder: {"close", "connect_error"} & set(recorder.names()))
        heard.append(recorder.received())
    listener.stop()
    loop.run()
    assert heard == [b"", b"ping", b"", b"ping"]
