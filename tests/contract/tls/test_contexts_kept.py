"""CONTRACT.md, TLS: connections that are asked for alike share a context; what has changed, also in a file, is noticed."""

from __future__ import annotations

import os
import ssl

import pytest
from support import Recorder
from support.handlers import echo
from support.tls import CA, CLIENT, CLIENT_TLS, OTHER_CA, SERVER, SERVER_TLS, needs_borrowed, ping, talk

import pybuntcp
from pybuntcp.tls import cache, config, connecting, contexts

pytestmark = pytest.mark.standalone("what is kept is shared by all loops")


@pytest.fixture
def made(monkeypatch):
    """Each context that is made from here on, with nothing kept from before."""
    found, make = [], contexts.context_of
    monkeypatch.setattr(contexts, "_clients", cache.Cache())
    monkeypatch.setattr(connecting, "_upgrades", cache.Cache())
    for module in (contexts, config):
        monkeypatch.setattr(module, "context_of", lambda *args: found.append(make(*args)) or found[-1])
    return found


def rewritten(path, content):
    """In place, at the same time and of the same size: who looks at these alone sees no change."""
    before = path.stat()
    path.write_bytes(content.ljust(before.st_size, b"\n"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


def write(path, content, size=4096):
    path.write_bytes(content.ljust(size, b"\n"))
    return path


def asked(tls):
    connecting = pybuntcp.connect(hostname="127.0.0.1", port=1, tls=tls)
    connecting.cancel()
    pybuntcp.run()


# ---------------------------------------------------------------- clients


@pytest.mark.parametrize("form", ["ca", "ca as a Path", "ca_file", "key_file and cert_file", "crl as a Path"])
def test_s2_clients_that_are_asked_for_alike_share_a_context(made, tmp_path, form):
    path = write(tmp_path / "ca.pem", CA.pem)
    options = {
        "ca": {"ca": CA.pem},
        "ca as a Path": {"ca": path},
        "ca_file": {"ca_file": str(path)},
        "key_file and cert_file": {
            "key_file": write(tmp_path / "key.pem", CLIENT.key),
            "cert_file": write(tmp_path / "cert.pem", CLIENT.cert),
        },
        "crl as a Path": {"ca": CA.pem, "crl": write(tmp_path / "crl.pem", CA.revoke())},
    }[form]
    for _ in range(3):
        asked(options)
    assert len(made) == 1


@pytest.mark.parametrize("how", [rewritten, write, lambda path, pem: write(path, pem, 5000)])
@pytest.mark.parametrize("form", ["ca", "ca_file"])
def test_s1_a_changed_file_of_authorities_is_noticed(loop, tcp, tmp_path, how, form):
    path = write(tmp_path / "ca.pem", CA.pem)
    assert talk(loop, tcp, SERVER_TLS, {form: path}).error is None
    how(path, OTHER_CA.pem)
    assert isinstance(talk(loop, tcp, SERVER_TLS, {form: path}).error, ssl.SSLCertVerificationError)
    how(path, CA.pem)
    assert talk(loop, tcp, SERVER_TLS, {form: path}).error is None


def test_s2_a_file_that_is_gone_or_broken_is_noticed(tmp_path):
    path = write(tmp_path / "ca.pem", CA.pem)
    asked({"ca_file": path})
    write(path, b"garbage")
    with pytest.raises(ssl.SSLError, match="ca_file"):
        asked({"ca_file": path})
    path.unlink()
    with pytest.raises(FileNotFoundError):
        asked({"ca_file": path})


def test_s2_clients_that_are_asked_for_otherwise_share_none(made, tmp_path):
    different = [
        {"ca": CA.pem},
        {"ca": CA.pem + b"\n"},
        {"ca": [CA.pem, OTHER_CA.pem]},
        {"ca": CA.pem, "crl": CA.revoke()},
        {"ca": CA.pem, "reject_unauthorized": False},
        {"ca": CA.pem, "max_version": "TLSv1.2"},
        {"ca": CA.pem, **CLIENT.options},
        {"ca": CA.pem, "alpn_protocols": ["a"]},
    ]
    for options in different:
        asked(options)
    assert len(set(map(id, made))) == len(made) == len(different)


def test_s2_what_is_kept_is_bounded(made):
    for number in range(cache.CAPACITY + 5):
        asked({**CLIENT_TLS, "alpn_protocols": [str(number)]})
    assert len(contexts._clients.kept) == cache.CAPACITY
    asked({**CLIENT_TLS, "alpn_protocols": [str(cache.CAPACITY + 4)]})
    assert len(made) == cache.CAPACITY + 5
    asked({**CLIENT_TLS, "alpn_protocols": ["0"]})
    assert len(made) == cache.CAPACITY + 6


# ---------------------------------------------------------------- servers that upgrade


def upgraded(loop, tcp, server_tls, client_tls):
    """A connection that both ends upgrade at once, and the client's socket when it has said and heard a word."""
    server, client = Recorder(data=echo), Recorder(open=ping, data=lambda socket, chunk: socket.end())
    plain = Recorder(open=lambda s: s.upgrade_tls(tls=server_tls, socket=server.handlers, server=True))
    listener = tcp.listen(plain)
    tcp.connect(
        Recorder(open=lambda s: s.upgrade_tls(tls={**client_tls, "server_name": "localhost"}, socket=client.handlers)),
        listener,
    )
    loop.run_until(lambda: client.count("close"))
    listener.stop()
    loop.run()
    assert client.received() == b"ping"
    return client.socket


def test_s6_upgrades_that_are_asked_for_alike_share_a_context(loop, tcp, made):
    for _ in range(3):
        upgraded(loop, tcp, dict(SERVER_TLS), CLIENT_TLS)
    assert len([context for context in made if context.protocol == ssl.PROTOCOL_TLS_SERVER]) == 1


def test_s6_an_upgrade_notices_a_changed_certificate(loop, tcp, tmp_path):
    other = CA.issue("localhost")
    files = {"key_file": tmp_path / "key.pem", "cert_file": tmp_path / "cert.pem"}
    for identity in (SERVER, other, SERVER):
        write(files["key_file"], identity.key)
        write(files["cert_file"], identity.cert)
        shown = upgraded(loop, tcp, files, CLIENT_TLS).get_peer_certificate()["raw"]
        assert shown == identity.der


def test_s6_an_upgrade_notices_what_changed_under_a_name(loop, tcp):
    for identity in (CA.issue("localhost"), CA.issue("localhost")):
        tls = {**SERVER_TLS, "sni": {"localhost": identity.options}}
        assert upgraded(loop, tcp, tls, CLIENT_TLS).get_peer_certificate()["raw"] == identity.der


@needs_borrowed
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("named", [False, True], ids=["", "with sni"])
def test_s6_a_client_resumes_its_session_with_a_server_that_upgrades(loop, tcp, version, named):
    server_tls = {**SERVER_TLS, **({"sni": {"localhost": SERVER.options}} if named else {})}
    sessions = []

    def keep(socket, chunk):
        sessions.append((socket.get_session(), socket.is_session_reused()))
        socket.end()

    for _ in range(2):
        options = {"session": sessions[-1][0]} if sessions else {}
        server = Recorder(data=echo)
        client = Recorder(open=ping, data=keep)
        plain = Recorder(
            open=lambda s, server=server: s.upgrade_tls(tls=dict(server_tls), socket=server.handlers, server=True)
        )
        listener = tcp.listen(plain)
        tls = {**CLIENT_TLS, "server_name": "localhost", "max_version": version, **options}
        raw = Recorder(open=lambda s, tls=tls, client=client: s.upgrade_tls(tls=tls, socket=client.handlers))
        tcp.connect(raw, listener)
        loop.run_until(lambda client=client: client.count("close"))
        listener.stop()
        loop.run()
    assert [reused for _, reused in sessions] == [False, True]


def test_s7_a_listener_shares_no_context(loop, tcp, made):
    """Nor do its sessions outlive a reload; see docs/tls.md."""
    for _ in range(2):
        talk(loop, tcp, SERVER_TLS, CLIENT_TLS)
    assert len([context for context in made if context.protocol == ssl.PROTOCOL_TLS_SERVER]) == 2
