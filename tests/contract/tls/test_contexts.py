"""CONTRACT.md, TLS (S9): a user's `ssl.SSLContext` is used as it is, with all that hangs on it, and is never changed."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from support import Recorder, unraisable
from support.handlers import echo, ignore
from support.tls import (
    BORROWED,
    CA,
    CLIENT,
    CLIENT_TLS,
    OTHER_CA,
    SERVER,
    SERVER_TLS,
    STRANGE_CLIENT,
    STRANGE_SERVER,
    TLSRecorder,
    finish,
    hang_up,
    joined,
    meet,
    ping,
    settled,
    speaker,
    talk,
    trusting,
)

pytestmark = pytest.mark.standalone("a context is used alike on every loop")

versions = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@pytest.fixture
def load(tmp_path):
    """Give a context a certificate: the standard library reads files alone."""

    def load(context, identity):
        path = tmp_path / "identity.pem"
        path.write_bytes(identity.key + identity.cert)
        context.load_cert_chain(path)
        return context

    return load


@pytest.fixture
def server(load):
    return load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), SERVER)


@pytest.fixture
def client():
    return trusting()


READABLE = (
    "options", "verify_mode", "verify_flags", "check_hostname", "minimum_version", "maximum_version", "num_tickets",
    "post_handshake_auth", "hostname_checks_common_name", "security_level", "sni_callback", "keylog_filename",
    "sslobject_class", "_msg_callback", "protocol",
)  # fmt: skip


def state_of(context):
    """All that can be read of it, but for the counters."""
    read = {name: getattr(context, name, None) for name in READABLE}
    return {
        **read,
        "ciphers": context.get_ciphers(),
        "authorities": context.get_ca_certs(True),
        "store": context.cert_store_stats(),
        "own": dict(vars(context)),
    }


def agrees(ends):
    assert ends.server.received() == ends.client.received() == b"ping"
    assert ends.error is None
    return ends


# ---------------------------------------------------------------- as it is


def test_s9_a_context_serves_on_each_end(loop, tcp, server, client):
    agrees(talk(loop, tcp, server, CLIENT_TLS))
    agrees(talk(loop, tcp, SERVER_TLS, client))
    agrees(talk(loop, tcp, server, client))


def test_s9_a_default_context_of_clients_verifies(loop, tcp, server):
    context = ssl.create_default_context(cadata=CA.pem.decode())
    assert agrees(talk(loop, tcp, server, context)).client.socket.authorized
    assert isinstance(talk(loop, tcp, STRANGE_SERVER.options, context).refusal, ssl.SSLCertVerificationError)
    refused = talk(loop, tcp, CA.issue("example.test").options, context).refusal
    assert isinstance(refused, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("reject", ["connections that agree", "connections that do not"])
def test_s9_a_context_is_never_changed(loop, tcp, server, client, reject):
    server.set_alpn_protocols(["h2"])
    states = [state_of(server), state_of(client)]
    other = client if reject.endswith("agree") else trusting(ca=OTHER_CA)
    ends = meet(tcp, server, other, server=Recorder(data=echo), client=speaker())
    assert [state_of(server), state_of(client)] == states
    loop.run_until(lambda: settled(ends.client))
    ends.listener.stop()
    loop.run()
    talk(loop, tcp, SERVER_TLS, client)
    assert [state_of(server), state_of(client)] == states


def test_s9_a_context_that_was_used_still_serves_the_standard_library(loop, tcp, server, client):
    agrees(talk(loop, tcp, server, client))
    ends = (ssl.MemoryBIO(), ssl.MemoryBIO())
    one = client.wrap_bio(*ends, server_hostname="localhost")
    two = server.wrap_bio(*ends[::-1], server_side=True)
    for _ in range(4):
        for each in (one, two):
            with contextlib.suppress(ssl.SSLWantReadError):
                each.do_handshake()
    assert one.getpeercert(True) == SERVER.der
    assert one.version() == two.version() == "TLSv1.3"


def test_s9_what_the_user_changes_in_a_context_holds_for_the_next_connection(loop, tcp, server, load):
    listener = tcp.listen(Recorder(data=echo), tls=server)
    seen = []
    for identity in (SERVER, CA.issue("127.0.0.1")):
        load(server, identity)
        client = speaker(open=lambda socket: seen.append(socket.get_peer_certificate()["raw"]) or socket.write(b"x"))
        tcp.connect(client, listener, tls=CLIENT_TLS)
        loop.run_until(lambda client=client: client.count("close"))
        assert seen.pop() == identity.der
    listener.stop()


@versions
def test_s9_the_versions_of_a_context_are_kept(loop, tcp, server, client, version):
    client.maximum_version = version
    ends = joined(loop, tcp, server, client)
    assert ends.server.socket.get_tls_version() == version.name.replace("_", ".")
    finish(loop, ends)


def test_s9_the_alpn_and_the_ciphers_of_a_context_are_kept(loop, tcp, server, client):
    server.set_alpn_protocols(["http/1.1", "h2"])
    client.set_alpn_protocols(["h2"])
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    ends = joined(loop, tcp, server, client)
    assert [end.socket.alpn_protocol for end in (ends.server, ends.client)] == ["h2", "h2"]
    assert ends.server.socket.get_cipher()["name"] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    finish(loop, ends)


# ---------------------------------------------------------------- whom it believes


def test_s9_a_client_context_without_verification_verifies_nothing_and_says_so(loop, tcp):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = TLSRecorder(open=ping, data=hang_up)
    agrees(talk(loop, tcp, STRANGE_SERVER.options, context, client=client))
    assert client.verdict == (True, None)  # nothing was checked
    assert not client.socket.authorized


def test_s9_a_client_context_that_checks_no_name_accepts_any(loop, tcp, client):
    client.check_hostname = False
    assert agrees(talk(loop, tcp, CA.issue("example.test").options, client)).client.socket.authorized


def test_s9_a_client_context_that_checks_no_name_needs_none(loop, unix, server, client):
    client.check_hostname = False
    agrees(talk(loop, unix, server, client))


@versions
@pytest.mark.parametrize(
    ("mode", "identity", "let_in", "authorized"),
    [
        (ssl.CERT_NONE, None, True, False),
        (ssl.CERT_NONE, CLIENT, True, False),
        (ssl.CERT_OPTIONAL, None, True, False),
        (ssl.CERT_OPTIONAL, CLIENT, True, True),
        (ssl.CERT_OPTIONAL, STRANGE_CLIENT, False, False),
        (ssl.CERT_REQUIRED, None, False, False),
        (ssl.CERT_REQUIRED, CLIENT, True, True),
        (ssl.CERT_REQUIRED, STRANGE_CLIENT, False, False),
    ],
)
def test_s9_a_server_context_lets_in_whom_its_verify_mode_does(
    loop, tcp, server, client, load, version, mode, identity, let_in, authorized
):
    server.load_verify_locations(cadata=CA.pem.decode())
    server.verify_mode = mode
    client.maximum_version = version
    if identity is not None:
        load(client, identity)
    recorder = TLSRecorder(data=echo)
    ends = talk(loop, tcp, server, client, server=recorder, client=speaker(error=ignore))
    success, error = recorder.verdict
    assert success is let_in
    assert (error is None) is let_in
    assert recorder.socket.authorized is authorized
    assert ends.client.received() == (b"ping" if let_in else b"")


# ---------------------------------------------------------------- its callbacks


def test_s9_the_sni_callback_is_called_with_object_name_and_context(loop, tcp, server):
    calls = []
    server.sni_callback = lambda *args: calls.append(args)
    agrees(talk(loop, tcp, server, CLIENT_TLS, hostname="localhost"))
    ((connection, name, context),) = calls
    assert isinstance(connection, ssl.SSLObject)
    assert name == "localhost"
    assert context is server


def test_s9_the_sni_callback_may_switch_contexts(loop, tcp, server, load):
    other = CA.issue("other.test")
    second = load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), other)

    def choose(connection, name, context):
        if name == "other.test":
            connection.context = second

    server.sni_callback = choose
    for name, identity in (("other.test", other), ("localhost", SERVER)):
        ends = joined(loop, tcp, server, {**CLIENT_TLS, "server_name": name})
        assert ends.client.socket.get_peer_certificate()["raw"] == identity.der
        if BORROWED:
            assert ends.server.socket.get_certificate()["raw"] == identity.der
        finish(loop, ends)


def test_s9_the_sni_callback_may_refuse(loop, tcp, server):
    server.sni_callback = lambda *args: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    recorder = TLSRecorder()
    ends = talk(loop, tcp, server, CLIENT_TLS, server=recorder)
    assert isinstance(ends.refusal, ssl.SSLError)
    assert "UNRECOGNIZED_NAME" in ends.refusal.reason
    assert recorder.verdict == (False, recorder.close_error)


def test_s9_an_sni_callback_that_raises_fails_the_handshake_and_is_reported(loop, tcp, server):
    boom = RuntimeError("boom")

    def raises(*args):
        raise boom

    server.sni_callback = raises
    with unraisable() as told:
        ends = talk(loop, tcp, server, CLIENT_TLS)
    assert told == [boom]
    assert isinstance(ends.refusal, ssl.SSLError)
    assert ends.server.order() == []


@pytest.mark.parametrize("verb", ["write", "end", "close", "terminate"])
def test_s9_the_sni_callback_may_use_other_connections(loop, tcp, server, verb):
    first = joined(loop, tcp, client=Recorder(label="first client", error=ignore))
    words = (b"from the callback" * 2000,) if verb in ("write", "end") else ()
    server.sni_callback = lambda *args: getattr(first.server.socket, verb)(*words) and None
    agrees(talk(loop, tcp, server, CLIENT_TLS) if verb != "write" else _with_write(loop, tcp, server, first, words))
    assert first.client.received() == b"".join(words)
    assert first.client.count("close") == 1


def _with_write(loop, tcp, server, first, words):
    ends = meet(tcp, server, CLIENT_TLS, server=Recorder(data=echo), client=speaker())
    loop.run_until(lambda: first.client.received() == words[0] and ends.client.count("close"))
    ends.listener.stop()
    first.client.socket.close()
    loop.run()
    return ends


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_s9_the_sni_callback_may_close_the_connection_it_is_about(loop, tcp, server, verb):
    recorder = TLSRecorder()
    server.sni_callback = lambda *args: getattr(recorder.socket, verb)()
    ends = talk(loop, tcp, server, CLIENT_TLS, server=recorder)
    assert recorder.order() == ["open", "close"]
    assert ends.client.order() == ["connect_error"]


@pytest.mark.parametrize("whose", ["server", "client"])
def test_s9_the_keylog_of_a_context_is_written(loop, tcp, server, client, tmp_path, whose):
    log = tmp_path / "keys"
    {"server": server, "client": client}[whose].keylog_filename = str(log)
    agrees(talk(loop, tcp, server, client))
    assert "CLIENT_TRAFFIC_SECRET_0 " in log.read_text()
    server.keylog_filename = client.keylog_filename = None  # closes the file


@pytest.mark.parametrize("whose", ["server", "client"])
def test_s9_the_message_callback_of_a_context_is_called(loop, tcp, server, client, whose):
    seen = {}
    context = {"server": server, "client": client}[whose]
    context._msg_callback = lambda connection, direction, version, kind, message, data: seen.update(
        {getattr(message, "name", message): direction}
    )
    agrees(talk(loop, tcp, server, client))
    sent, came = ("write", "read") if whose == "client" else ("read", "write")
    assert (seen["CLIENT_HELLO"], seen["SERVER_HELLO"], seen["CERTIFICATE"]) == (sent, came, came)
