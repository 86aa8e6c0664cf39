"""CONTRACT.md, "TLS", and API.md, "TLS": sessions are handed out as bytes, and what is resumed is checked as what is not."""

from __future__ import annotations

import functools
import ssl

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    SERVER_TLS,
    STRANGE_SERVER,
    TLSRecorder,
    needs_borrowed,
    on_fallback,
    ping,
    refused_by_fallback,
)
from support.tls_peer import client_context, dialling, tls_accepted, tls_connected, versions

import pybuntcp

one_loop = pytest.mark.standalone("what is resumed is nothing that a loop decides")
texts = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])


class Visits:
    """A listener with an echo, and clients that say ping, ask for a session when they hear the echo, and end."""

    def __init__(self, loop, tcp, tls=None, **options):
        self.loop, self.tcp = loop, tcp
        self.server = Recorder(label="server", data=echo, error=ignore)
        self.listener = tcp.listen(self.server, tls=tls or SERVER_TLS, **options)
        self.sessions = []

    def visit(self, client=None, **tls):
        client = client or Recorder(label="client", open=ping, data=self.keep, error=ignore)
        self.connecting = self.tcp.connect(client, self.listener, tls={**CLIENT_TLS, **tls})
        self.loop.run_until(lambda: client.count("close") or client.count("connect_error"))
        return client

    def keep(self, socket, chunk):
        self.sessions.append(socket.get_session())
        socket.end()

    @property
    def reused(self):
        """What both ends say of the last."""
        self.loop.run_until(lambda: self.server.count("close") == len(self.server.sockets))
        return self.server.sockets[-1].is_session_reused()


@needs_borrowed
@texts
def test_a_session_asked_for_after_data_is_resumed_by_the_option(loop, tcp, version):
    visits = Visits(loop, tcp)
    assert not visits.visit(max_version=version).socket.is_session_reused()
    assert not visits.reused
    (session,) = visits.sessions
    assert type(session) is bytes
    client = visits.visit(max_version=version, session=session)
    assert client.received() == b"ping"
    assert client.socket.is_session_reused()
    assert visits.reused
    assert client.socket.get_tls_version() == version


@one_loop
@needs_borrowed
@texts
def test_a_session_is_resumed_by_set_session_in_open(loop, tcp, version):
    visits, answers = Visits(loop, tcp), []
    visits.visit(max_version=version)

    def opened(socket):
        answers.append(socket.set_session(visits.sessions[0]))
        socket.write(b"ping")

    client = visits.visit(TLSRecorder(open=opened, data=visits.keep), max_version=version)
    assert answers == [True]
    assert client.verdict == (True, None)
    assert client.socket.is_session_reused()
    assert visits.reused


@one_loop
@needs_borrowed
def test_set_session_is_false_when_it_is_too_late_or_on_a_server(loop, tcp):
    visits, answers = Visits(loop, tcp), []
    visits.visit()

    def late(socket, *args):
        answers.append(socket.set_session(visits.sessions[0]))
        socket.write(b"ping")

    assert not visits.visit(TLSRecorder(handshake=late, data=visits.keep)).socket.is_session_reused()
    visits.visit(Recorder(open=late, data=visits.keep))
    answers.append(visits.server.sockets[0].set_session(visits.sessions[0]))
    assert answers == [False, False, False]


@one_loop
@needs_borrowed
def test_set_session_on_a_server_before_its_handshake_is_false(loop, tcp):
    visits, answers = Visits(loop, tcp), []
    visits.visit()
    server = TLSRecorder(open=lambda socket: answers.append(socket.set_session(visits.sessions[0])), data=echo)
    other = tcp.listen(server, tls=SERVER_TLS)
    peer = dialling(tcp, other, client_context())
    peer.write(b"x")
    loop.wait(peer.read(1))
    assert answers == [False]


@one_loop
@needs_borrowed
def test_a_session_may_be_resumed_more_than_once_and_begets_others(loop, tcp):
    visits = Visits(loop, tcp)
    visits.visit()
    for number in range(4):
        assert visits.visit(session=visits.sessions[number]).socket.is_session_reused()
        assert visits.reused


@one_loop
@needs_borrowed
def test_a_session_that_the_server_does_not_know_is_a_full_handshake(loop, tcp):
    visits, other = Visits(loop, tcp), Visits(loop, tcp)
    other.visit()
    client = visits.visit(session=other.sessions[0])
    assert client.received() == b"ping"
    assert not client.socket.is_session_reused()
    assert not visits.reused


@one_loop
@needs_borrowed
@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(200), "text", 7, b"0\x82"])
def test_s2_garbage_for_a_session_is_refused_at_the_call_by_name(garbage):
    with pytest.raises((TypeError, ValueError), match="session"):
        pybuntcp.connect(hostname="127.0.0.1", port=1, tls={**CLIENT_TLS, "session": garbage})


@one_loop
@needs_borrowed
def test_s2_a_session_that_is_cut_is_refused_at_the_call(loop, tcp):
    visits = Visits(loop, tcp)
    visits.visit()
    with pytest.raises(ValueError, match="session"):
        pybuntcp.connect(hostname="127.0.0.1", port=1, tls={**CLIENT_TLS, "session": visits.sessions[0][:-10]})


@one_loop
@needs_borrowed
def test_garbage_for_set_session_is_refused_and_the_handshake_goes_on(loop, tcp):
    def opened(socket):
        for garbage, error in ((b"garbage", ValueError), ("text", TypeError)):
            with pytest.raises(error, match="session"):
                socket.set_session(garbage)
        socket.write(b"ping")

    visits = Visits(loop, tcp)
    assert visits.visit(TLSRecorder(open=opened, data=visits.keep)).received() == b"ping"


@one_loop
@needs_borrowed
def test_s2_a_server_has_no_session_option():
    with pytest.raises(ValueError, match="session"):
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=Recorder().handlers, tls={**SERVER_TLS, "session": b"x"})


# ---------------------------------------------------------------- what is asked when


@one_loop
@needs_borrowed
def test_there_is_no_session_before_the_handshake(loop, tcp):
    told = []

    def opened(socket):
        told.append((socket.get_session(), socket.get_tls_ticket(), socket.is_session_reused()))
        socket.write(b"ping")

    visits = Visits(loop, tcp)
    visits.visit(TLSRecorder(open=opened, data=visits.keep))
    assert told == [(None, None, False)]


@one_loop
@needs_borrowed
@texts
def test_a_ticket_is_there_after_data(loop, tcp, version):
    tickets = []

    def data(socket, chunk):
        tickets.append(socket.get_tls_ticket())
        visits.keep(socket, chunk)

    visits = Visits(loop, tcp)
    visits.visit(Recorder(open=ping, data=data), max_version=version)
    (ticket,) = tickets
    assert type(ticket) is bytes
    assert ticket in visits.sessions[0]


@one_loop
@needs_borrowed
def test_a_server_without_tickets_gives_a_client_none(loop, tcp):
    socket, peer = tls_connected(loop, tcp, Recorder())
    peer.write(b"x")
    loop.run_until(lambda: socket.bytes_read)
    assert (socket.get_session(), socket.get_tls_ticket()) == (None, None)


@one_loop
@needs_borrowed
def test_r7_a_session_is_readable_after_close(loop, tcp):
    visits = Visits(loop, tcp)
    client = visits.visit()
    assert client.socket.ready_state == pybuntcp.ReadyState.CLOSED
    session = client.socket.get_session()
    assert visits.visit(session=session).socket.is_session_reused()


@one_loop
@versions
def test_a_server_of_ours_resumes_the_sessions_of_any_client(loop, tcp, version):
    """The client is the standard library's: both engines serve it."""
    context, recorder = client_context(version), Recorder(data=echo)
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    session = None
    for reused in (False, True, True):
        peer = dialling(tcp, listener, context, session=session)
        peer.write(b"x")
        loop.wait(peer.read(1))
        assert peer.tls.session_reused is reused
        assert recorder.sockets[-1].is_session_reused() is reused
        session = peer.tls.session


# ---------------------------------------------------------------- what is resumed is checked


@one_loop
@needs_borrowed
@texts
def test_s1_a_session_of_an_unchecked_connection_does_not_get_past_the_check(loop, tcp, version):
    """Its server's certificate leads to nobody who is trusted."""
    visits = Visits(loop, tcp, STRANGE_SERVER.options)
    assert visits.visit(max_version=version, reject_unauthorized=False).received() == b"ping"
    refused = visits.visit(max_version=version, session=visits.sessions[0])
    assert refused.received() == b""
    assert isinstance(visits.connecting.exception(), ssl.SSLCertVerificationError)
    again = visits.visit(max_version=version, session=visits.sessions[0], reject_unauthorized=False)
    assert again.received() == b"ping"
    assert not again.socket.authorized


@one_loop
@needs_borrowed
@texts
def test_s1_a_session_of_one_name_does_not_get_past_the_check_of_another(loop, tcp, version):
    visits = Visits(loop, tcp)
    assert visits.visit(max_version=version).received() == b"ping"
    refused = visits.visit(max_version=version, session=visits.sessions[0], server_name="other.example")
    assert refused.received() == b""
    assert isinstance(visits.connecting.exception(), ssl.SSLCertVerificationError)


@one_loop
@needs_borrowed
@texts
def test_s3_a_resumed_client_is_still_known_by_its_certificate(loop, tcp, version):
    visits = Visits(loop, tcp, {**SERVER_TLS, "ca": CA.pem, "request_cert": True})
    for session in ({}, {"session": 0}):
        session = {name: visits.sessions[at] for name, at in session.items()}
        assert visits.visit(max_version=version, **CLIENT.options, **session).received() == b"ping"
        socket = visits.server.sockets[-1]
        assert visits.reused is bool(session)
        assert socket.authorized
        assert socket.get_peer_certificate()["raw"] == CLIENT.der


@one_loop
@needs_borrowed
@texts
def test_s3_a_resumed_session_of_a_verified_server_is_authorized(loop, tcp, version):
    visits = Visits(loop, tcp)
    visits.visit(max_version=version)
    client = visits.visit(max_version=version, session=visits.sessions[0])
    assert client.socket.is_session_reused()
    assert client.socket.authorized
    assert client.socket.get_authorization_error() is None


# ---------------------------------------------------------------- the fallback engine


@one_loop
@on_fallback
def test_the_fallback_engine_refuses_sessions_as_bytes(loop, tcp):
    with refused_by_fallback("session"):
        pybuntcp.connect(hostname="127.0.0.1", port=1, tls={**CLIENT_TLS, "session": b"x"})
    socket, _peer = tls_accepted(loop, tcp, Recorder())
    for name, arguments in {"get_session": (), "set_session": (b"x",), "get_tls_ticket": ()}.items():
        with refused_by_fallback(name):
            functools.partial(getattr(socket, name), *arguments)()
