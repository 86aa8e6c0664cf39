"""CONTRACT.md, TLS (S9): subclasses of `ssl.SSLContext` and `ssl.SSLObject`, truststore's for one, do what they are made for."""

from __future__ import annotations

import ssl
from typing import ClassVar

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import CLIENT_TLS, OTHER_CA, SERVER, SERVER_TLS, finish, joined, talk, trusting

pytestmark = pytest.mark.standalone("a context is used alike on every loop")


@pytest.fixture
def server(tmp_path):
    (tmp_path / "pem").write_bytes(SERVER.key + SERVER.cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    return context


@pytest.fixture
def client():
    return trusting()


def agrees(ends):
    assert ends.server.received() == ends.client.received() == b"ping"
    assert ends.error is None
    return ends


class Delegating(ssl.SSLContext):
    """As truststore's: an empty context outside, and one inside that makes the connections."""

    inner: ssl.SSLContext

    def wrap_bio(self, *args, **options):
        return self.inner.wrap_bio(*args, **options)


def test_s9_a_context_that_delegates_is_asked_for_each_connection(loop, tcp):
    context = Delegating(ssl.PROTOCOL_TLS_CLIENT)
    context.inner = trusting()
    assert agrees(talk(loop, tcp, SERVER_TLS, context)).client.socket.authorized
    context.inner = trusting(ca=OTHER_CA)
    assert isinstance(talk(loop, tcp, SERVER_TLS, context).refusal, ssl.SSLCertVerificationError)


def test_s9_a_context_that_delegates_serves_a_server(loop, tcp, server):
    context = Delegating(ssl.PROTOCOL_TLS_SERVER)
    context.inner = server
    agrees(talk(loop, tcp, context, CLIENT_TLS))


def test_s9_a_context_that_raises_when_asked_for_a_connection_fails_that_connection(loop, tcp):
    boom = ssl.SSLError("no connection today")

    class Raising(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            raise boom

    ends = talk(loop, tcp, SERVER_TLS, trusting(Raising))
    assert ends.refusal is boom


class Checking(ssl.SSLObject):
    """As truststore's: a verification of its own behind OpenSSL's."""

    refuses = False

    def do_handshake(self):
        super().do_handshake()
        if self.refuses:
            raise ssl.SSLCertVerificationError("not for us")


@pytest.mark.parametrize("refuses", [False, True])
def test_s9_the_sslobject_class_of_a_context_is_used(loop, tcp, client, monkeypatch, refuses):
    client.sslobject_class = Checking
    monkeypatch.setattr(Checking, "refuses", refuses)
    ends = talk(loop, tcp, SERVER_TLS, client, server=Recorder(data=echo, error=ignore))
    if refuses:
        assert "not for us" in str(ends.refusal)
        assert ends.server.received() == b""
    else:
        agrees(ends)


class Counting(ssl.SSLObject):
    calls: ClassVar[list[str]] = []

    def read(self, *args):
        self.calls.append("read")
        return super().read(*args)

    def write(self, *args):
        self.calls.append("write")
        return super().write(*args)


@pytest.mark.parametrize("whose", ["server", "client"])
def test_s9_an_object_that_reads_and_writes_its_own_way_is_not_gone_round(
    loop, tcp, server, client, monkeypatch, whose
):
    monkeypatch.setattr(Counting, "calls", [])
    {"server": server, "client": client}[whose].sslobject_class = Counting
    agrees(talk(loop, tcp, server, client))
    assert {"read", "write"} <= set(Counting.calls)


def test_s9_of_such_an_object_what_openssl_alone_knows_is_refused(loop, tcp, client):
    client.sslobject_class = Counting
    ends = joined(loop, tcp, SERVER_TLS, client)
    with pytest.raises(NotImplementedError, match="get_session") as caught:
        ends.client.socket.get_session()
    assert "(); see" not in str(caught.value)  # it says why
    finish(loop, ends)
