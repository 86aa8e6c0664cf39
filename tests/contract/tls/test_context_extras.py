"""docs/tls.md: what an ssl.SSLContext of one's own, or `secure_options`, adds to what is built in.

Pre-shared keys, client certificates after the handshake, and a FIN that is taken for a close_notify. Also the name that a
client asked for where it resumes a session.
"""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest
from support import Recorder, pattern
from support.asyncio_loops import on_every_loop
from support.coroutines import done, until
from support.handlers import echo
from support.tls import BORROWED, CLIENT, CLIENT_TLS, SERVER_TLS, TLSRecorder, speaker, talk, trusting
from support.tls_peer import (
    accepting,
    certified,
    client_context,
    context_of,
    dialling,
    finish_handshake,
    server_context,
    tls_accepted,
    tls_sides,
    versions,
)

from pybuntcp.tls import contexts
from pybuntcp.tls.options import TLSOptions

one_loop = pytest.mark.standalone("what the bytes mean is the engine's to say, which knows no loops")

IGNORING = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", None)
needs_option = pytest.mark.skipif(IGNORING is None, reason="an option of OpenSSL 3")
given = pytest.mark.parametrize("given", ["secure_options", "a context"])
TLSv1_2, TLSv1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


# ---------------------------------------------------------------- a FIN that is taken for a close_notify


class Older(ssl.SSLContext):
    """As of CPython before 3.10.12 and 3.11.4."""

    def __new__(cls, protocol):
        self = super().__new__(cls, protocol)
        self.options |= IGNORING
        return self


@needs_option
@one_loop
@pytest.mark.parametrize("more", [{}, {"secure_options": ssl.OP_NO_TICKET}, {"secure_options": IGNORING}])
def test_s4_the_option_is_not_taken_from_an_older_interpreter(monkeypatch, more):
    monkeypatch.setattr(contexts, "ssl", SimpleNamespace(**{**vars(ssl), "SSLContext": Older}))
    options = TLSOptions(**more)
    for protocol in ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT:
        context = contexts.context_of(protocol, options, contexts.load_materials(options), None)
        assert type(context) is Older
        assert context.options & IGNORING == more.get("secure_options", 0) & IGNORING


def ignoring(side, given):
    """`tls=` of this side, with the option."""
    if given == "secure_options":
        own = SERVER_TLS if side is tls_accepted else {**CLIENT_TLS, "server_name": "localhost"}
        return {**own, "secure_options": IGNORING}
    context = certified(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) if side is tls_accepted else trusting()
    context.check_hostname = False
    context.options |= IGNORING
    return context


@one_loop
@needs_option
@versions
@given
@tls_sides
def test_s4_with_the_option_a_fin_without_close_notify_is_an_orderly_end(loop, tcp, side, given, version):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder, context_of(side, version), tls=ignoring(side, given))
    peer.write(b"all of it")
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "data", "end", "close"]
    assert recorder.received() == b"all of it"
    assert recorder.close_error is None
    assert peer.read_to_end().result() == (b"", "close_notify")


@one_loop
@needs_option
@given
@tls_sides
def test_s4_with_the_option_a_half_open_socket_stays_writable(loop, tcp, side, given):
    recorder = Recorder()
    socket, peer = side(loop, tcp, recorder, tls=ignoring(side, given), allow_half_open=True)
    peer.shutdown()
    loop.run_until(lambda: recorder.count("end"))
    assert socket.end(pattern(50_000)) == 50_000
    assert loop.wait(peer.read_to_end()) == (pattern(50_000), "close_notify")
    loop.run()
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None


@one_loop
@needs_option
@tls_sides
def test_s4_with_the_option_a_fin_after_our_end_closes_without_an_error(loop, tcp, side):
    recorder = Recorder()
    socket, peer = side(loop, tcp, recorder, tls=ignoring(side, "secure_options"))
    socket.end(b"bye")
    assert loop.wait(peer.read_to_end()) == (b"bye", "close_notify")
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None


@needs_option
@on_every_loop
async def test_with_the_option_a_reader_comes_to_its_end(tcp):
    recorder = Recorder(without=("end",))
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "secure_options": IGNORING})
    peer = dialling(tcp, listener, client_context())
    await done(peer.handshake())
    await until(lambda: recorder.sockets)
    reader = recorder.socket.reader()
    peer.write(b"all of it")
    peer.shutdown()
    assert await reader.read() == b"all of it"
    assert reader.at_eof()
    listener.stop()
    await until(lambda: recorder.count("close"))
    assert recorder.close_error is None


@one_loop
@needs_option
@tls_sides
def test_r3_with_the_option_a_reset_is_still_one(loop, tcp, side):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder, tls=ignoring(side, "secure_options"))
    peer.reset()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert type(recorder.close_error) is ConnectionResetError


@one_loop
@needs_option
@given
def test_s3_with_the_option_a_fin_in_the_handshake_is_still_an_error(loop, tcp, given):
    recorder = TLSRecorder()
    listener = tcp.listen(recorder, tls=ignoring(tls_accepted, given))
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result())
    peer.shutdown()
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "handshake", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError


@one_loop
@needs_option
@pytest.mark.skipif(not BORROWED, reason="secure_options in an entry of sni is refused by the fallback engine")
@pytest.mark.parametrize(("name", "told"), [("localhost", "cut off"), ("127.0.0.1", "truncated")])
def test_s7_the_option_of_an_entry_of_sni_holds_for_who_asks_for_that_name(loop, tcp, name, told):
    recorder = Recorder()
    tls = {**SERVER_TLS, "sni": {"localhost": {**SERVER_TLS, "secure_options": IGNORING}}}
    listener = tcp.listen(recorder, tls=tls)
    peer = dialling(tcp, listener, client_context(), name=name)
    finish_handshake(loop, recorder, peer)
    listener.stop()
    peer.shutdown()
    loop.run()
    assert recorder.names() == (["open", "end", "close"] if name == "localhost" else ["open", "close"])


# ---------------------------------------------------------------- the name asked for, where a session is resumed


def servers(which):
    if which == "options":
        return SERVER_TLS
    if which == "sni":
        return {**SERVER_TLS, "sni": {"localhost": SERVER_TLS, "other.example": SERVER_TLS}}
    return certified(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@one_loop
@versions
@pytest.mark.parametrize("which", ["options", "sni", "a context"])
def test_get_servername_of_a_resumed_session_is_what_its_client_asked_for(loop, tcp, which, version):
    if which == "a context" and not BORROWED:
        pytest.skip("get_servername with an ssl.SSLContext is refused by the fallback engine")
    recorder = Recorder(data=echo)
    listener, context, session, reused = tcp.listen(recorder, tls=servers(which)), client_context(version), None, []
    for count in (1, 2):
        peer = dialling(tcp, listener, context, session=session)
        finish_handshake(loop, recorder, peer, count)
        peer.write(b"x")
        assert loop.wait(peer.read(1)) == b"x"
        session = peer.tls.session
        reused.append(recorder.sockets[-1].is_session_reused())
        assert recorder.sockets[-1].get_servername() == "localhost"
        peer.notify()
        loop.run_until(lambda count=count: recorder.count("close") == count)
        assert recorder.sockets[-1].get_servername() == "localhost"
    assert reused == [False, True]


@one_loop
@versions
@pytest.mark.skipif(not BORROWED, reason="the fallback engine resumes no session")
def test_get_servername_of_a_client_that_resumes_is_what_it_asked_for(loop, tcp, version):
    only = {**CLIENT_TLS, "min_version": version, "max_version": version, "server_name": "localhost"}
    listener, sessions, names = tcp.listen(Recorder(data=echo), tls=SERVER_TLS), [None], []

    def heard(socket, chunk):
        sessions.append(socket.get_session())
        names.append((socket.get_servername(), socket.is_session_reused()))
        socket.end()

    for _ in range(2):
        client = speaker(data=heard)
        tcp.connect(client, listener, tls={**only, "session": sessions[-1]})
        loop.run_until(lambda client=client: client.count("close"))
    assert names == [("localhost", False), ("localhost", True)]


# ---------------------------------------------------------------- by a context of one's own


@one_loop
@pytest.mark.skipif(not hasattr(ssl.SSLContext, "set_psk_client_callback"), reason="the callbacks are CPython 3.13's")
@versions
def test_s9_pre_shared_keys_work_by_the_callbacks_of_a_context(loop, tcp, version):
    asked = []

    def psk_server(identity):
        asked.append(identity)
        return b"a shared secret"

    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("PSK")
    server.set_psk_server_callback(psk_server)
    client.set_psk_client_callback(lambda hint: ("who I am", b"a shared secret"))
    ends = talk(loop, tcp, server, client)
    assert ends.server.received() == ends.client.received() == b"ping"
    assert set(asked) == {"who I am"}
    assert ends.client.socket.get_peer_certificate() is None


@one_loop
@pytest.mark.parametrize("cut", [None, 4, 30], ids=["whole", "4", "30"])
def test_s9_a_client_shows_its_certificate_to_a_server_that_asks_after_the_handshake(loop, tcp, cut):
    context = certified(trusting(), CLIENT)
    context.post_handshake_auth = True
    theirs = server_context(TLSv1_3)
    theirs.load_verify_locations(cadata=CLIENT_TLS["ca"].decode())
    theirs.verify_mode, theirs.post_handshake_auth = ssl.CERT_REQUIRED, True
    recorder, server = Recorder(data=echo), tcp.raw_server()
    peer = accepting(tcp, server, theirs)
    tcp.connect(recorder, server, tls=context, hostname="localhost")
    finish_handshake(loop, recorder, peer)
    assert peer.call(peer.tls.getpeercert).result() in (None, {})
    request = peer.call(asking, peer).result()
    if cut is not None:
        peer.send(request[:cut])
        loop.settle()
    peer.send(request[cut or 0 :])
    peer.write(b"and now?")
    assert loop.wait(peer.read(8)) == b"and now?"
    subject = dict(pair for name in peer.tls.getpeercert()["subject"] for pair in name)
    assert subject["commonName"] == "client"
    peer.notify()
    loop.run()
    assert recorder.close_error is None


def asking(peer):
    """The record with which a server asks for a certificate."""
    peer.tls.verify_client_post_handshake()
    peer.tls.do_handshake()
    return peer._out.read()
