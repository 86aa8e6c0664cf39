"""CONTRACT.md, "TLS": S7, certificates are replaced on a live listener, all of `tls` or nothing, and open connections keep theirs."""

from __future__ import annotations

import functools
import gc
import ssl

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT_TLS,
    OTHER_CA,
    SERVER,
    SERVER_TLS,
    STRANGE_SERVER,
    TLSRecorder,
    hang_up,
    needs_borrowed,
    ping,
)
from support.tls_peer import client_context, dialling

one_loop = pytest.mark.standalone("which certificate is shown is nothing that a loop decides")

EITHER = {"ca": CA.pem + OTHER_CA.pem}


@functools.cache
def other():
    return CA.issue("localhost", "127.0.0.1")


@functools.cache
def shop():
    return CA.issue("shop.example")


def visit(loop, transport, listener, **tls):
    """The certificate that a client is shown, and what an echo gave."""
    client = Recorder(label="client", open=ping, data=hang_up, error=ignore)
    transport.connect(client, listener, tls={**EITHER, **tls})
    loop.run_until(lambda: client.count("close") or client.count("connect_error"))
    if not client.count("data"):
        return None
    assert client.received() == b"ping"
    return client.socket.get_peer_certificate()["raw"]


def test_s7_who_connects_after_a_reload_is_shown_the_new_certificate(loop, transport):
    listener = transport.listen(Recorder(data=echo), tls=SERVER_TLS)
    name = {"server_name": "localhost"}
    assert visit(loop, transport, listener, **name) == SERVER.der
    listener.reload(tls=other().options)
    assert visit(loop, transport, listener, **name) == other().der
    listener.reload(tls=STRANGE_SERVER.options)
    assert visit(loop, transport, listener, **name) == STRANGE_SERVER.der


def test_s7_open_connections_keep_theirs(loop, tcp):
    server = Recorder(data=echo)
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    loop.wait(peer.handshake())
    loop.run_until(lambda: server.sockets)
    listener.reload(tls=other().options)
    assert visit(loop, tcp, listener) == other().der
    gc.collect()
    peer.write(b"still there?")
    assert loop.wait(peer.read(12)) == b"still there?"
    assert server.sockets[0].get_certificate()["raw"] == SERVER.der
    assert peer.tls.getpeercert(True) == SERVER.der


@one_loop
def test_s7_a_handshake_in_progress_goes_on_with_the_old_one(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls={**SERVER_TLS, "sni": {"shop.example": shop().options}})
    context = client_context()
    peers = [dialling(tcp, listener, context, name=name) for name in ("localhost", "shop.example")]
    hellos = [peer.step().result() for peer in peers]
    for peer, hello in zip(peers, hellos, strict=True):
        peer.send(hello[:50])
    loop.settle()
    assert listener.connections == 2
    listener.reload(tls=other().options)
    gc.collect()
    for peer, hello in zip(peers, hellos, strict=True):
        peer.send(hello[50:])
        peer.write(b"x")
        assert loop.wait(peer.read(1)) == b"x"
    assert [peer.tls.getpeercert(True) for peer in peers] == [SERVER.der, shop().der]


@one_loop
def test_s7_sni_is_replaced_with_the_rest(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls={**SERVER_TLS, "sni": {"shop.example": shop().options}})
    name = {"server_name": "shop.example", "reject_unauthorized": False}
    assert visit(loop, tcp, listener, **name) == shop().der
    listener.reload(tls=SERVER_TLS)
    assert visit(loop, tcp, listener, **name) == SERVER.der
    listener.reload(tls={**SERVER_TLS, "sni": {"shop.example": other().options}})
    assert visit(loop, tcp, listener, **name) == other().der


@one_loop
def test_s7_the_policy_is_replaced_with_the_rest(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    early = dialling(tcp, listener, client_context())
    loop.wait(early.handshake())
    listener.reload(tls={**SERVER_TLS, "ca": CA.pem, "request_cert": True})
    assert visit(loop, tcp, listener) is None
    early.write(b"x")
    assert loop.wait(early.read(1)) == b"x"
    listener.reload(tls=SERVER_TLS)
    assert visit(loop, tcp, listener) == SERVER.der


@one_loop
def test_s7_the_versions_are_replaced_with_the_rest(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    assert visit(loop, tcp, listener, max_version="TLSv1.2") == SERVER.der
    listener.reload(tls={**SERVER_TLS, "min_version": "TLSv1.3"})
    assert visit(loop, tcp, listener, max_version="TLSv1.2") is None
    assert visit(loop, tcp, listener) == SERVER.der


def users_context():
    from pybuntcp.tls.memory_file import memory_path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with memory_path(other().cert) as cert, memory_path(other().key) as key:
        context.load_cert_chain(cert, key)
    return context


@one_loop
def test_s7_a_users_context_may_take_the_place_of_options_and_back(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    listener.reload(tls=users_context())
    assert visit(loop, tcp, listener) == other().der
    listener.reload(tls=SERVER_TLS)
    assert visit(loop, tcp, listener) == SERVER.der


# ---------------------------------------------------------------- with handlers


@one_loop
def test_s7_handlers_and_certificates_are_reloaded_together(loop, tcp):
    old, new = Recorder(label="old", data=echo), Recorder(label="new", data=echo)
    listener = tcp.listen(old, tls=SERVER_TLS)
    listener.reload(new.handlers, tls=other().options)
    assert visit(loop, tcp, listener) == other().der
    assert old.events == []
    assert new.received() == b"ping"


@one_loop
def test_s7_handlers_alone_leave_the_certificates(loop, tcp):
    new = Recorder(label="new", data=echo)
    listener = tcp.listen(Recorder(), tls=SERVER_TLS)
    listener.reload(new.handlers)
    assert visit(loop, tcp, listener) == SERVER.der
    assert new.received() == b"ping"


@one_loop
def test_s7_certificates_alone_leave_the_handlers_of_open_connections(loop, tcp):
    server = TLSRecorder(data=echo)
    listener = tcp.listen(server, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    loop.wait(peer.handshake())
    listener.reload(tls=other().options)
    peer.write(b"x")
    assert loop.wait(peer.read(1)) == b"x"
    assert server.received() == b"x"


def test_s7_certificates_may_be_reloaded_inside_a_handler(loop, tcp):
    def data(socket, chunk):
        socket.listener.reload(tls=other().options)
        socket.write(chunk)

    listener = tcp.listen(Recorder(data=data), tls=SERVER_TLS)
    assert visit(loop, tcp, listener) == SERVER.der
    assert visit(loop, tcp, listener) == other().der


# ---------------------------------------------------------------- what is bad changes nothing


BAD = {
    "no certificate": ({}, ValueError, "key and cert"),
    "garbage": ({"key": SERVER.key, "cert": "garbage"}, ssl.SSLError, "cert"),
    "mismatch": ({"key": SERVER.key, "cert": STRANGE_SERVER.cert}, ssl.SSLError, "key and cert"),
    "missing file": ({"key_file": "/nowhere/key", "cert": SERVER.cert}, FileNotFoundError, "key"),
    "unknown": ({**SERVER_TLS, "certs": 1}, TypeError, "certs"),
    "bad sni": ({**SERVER_TLS, "sni": {"shop.example": {"cert": "garbage"}}}, ssl.SSLError, "cert"),
    "no options": (1, TypeError, "tls"),
    "False": (False, (TypeError, ValueError), "tls"),
}


@one_loop
@pytest.mark.parametrize(("tls", "error", "message"), list(BAD.values()), ids=list(BAD))
def test_s7_bad_material_changes_nothing(loop, tcp, tls, error, message):
    old, new = Recorder(label="old", data=echo), Recorder(label="new", data=echo)
    listener = tcp.listen(old, tls={**SERVER_TLS, "sni": {"shop.example": shop().options}})
    with pytest.raises(error, match=message):
        listener.reload(new.handlers, tls=tls)
    assert visit(loop, tcp, listener) == SERVER.der
    assert visit(loop, tcp, listener, server_name="shop.example") == shop().der
    assert new.events == []
    assert old.received() == b"pingping"


@one_loop
def test_s7_bad_handlers_leave_the_certificates_too(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    with pytest.raises(TypeError):
        listener.reload({"dta": ignore}, tls=other().options)
    assert visit(loop, tcp, listener) == SERVER.der


@one_loop
def test_s7_a_plain_listener_has_no_certificates_to_replace(loop, tcp):
    listener = tcp.listen(Recorder(data=echo))
    with pytest.raises((TypeError, ValueError, RuntimeError), match="tls"):
        listener.reload(tls=SERVER_TLS)
    peer = tcp.peer(listener)
    peer.send(b"still plain")
    assert loop.wait(peer.recv_exactly(11)) == b"still plain"


@one_loop
def test_s7_a_stopped_listener_reloads_for_its_open_connections(loop, tcp):
    old, new = Recorder(label="old"), Recorder(label="new", data=echo)
    listener = tcp.listen(old, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    loop.wait(peer.handshake())
    loop.run_until(lambda: old.sockets)
    listener.stop()
    listener.reload(new.handlers, tls=other().options)
    peer.write(b"x")
    assert loop.wait(peer.read(1)) == b"x"
    assert new.names() == ["data"]


# ---------------------------------------------------------------- what is replaced is let go of


def contexts():
    gc.collect()
    return sum(isinstance(thing, ssl.SSLContext) for thing in gc.get_objects())


@one_loop
def test_p2_replaced_certificates_are_let_go_of(loop, tcp):
    """Those that no connection was made with: a closed socket that somebody keeps tells of its own."""
    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    visit(loop, tcp, listener)
    before = contexts()
    for _ in range(30):
        listener.reload(tls={**other().options, "sni": {"shop.example": shop().options}})
    listener.reload(tls=SERVER_TLS)
    assert contexts() == before + 1  # the first was of the connection


@needs_borrowed
@one_loop
def test_s7_a_session_from_before_is_not_resumed_after(loop, tcp):
    sessions = []

    def keep(socket, chunk):
        sessions.append(socket.get_session())
        socket.end()

    def reused(**session):
        client = Recorder(label="client", open=ping, data=keep)
        tcp.connect(client, listener, tls={**CLIENT_TLS, **session})
        loop.run_until(lambda: client.count("close"))
        return client.socket.is_session_reused()

    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    assert not reused()
    assert reused(session=sessions[0])
    listener.reload(tls=other().options)
    assert not reused(session=sessions[0])
    assert reused(session=sessions[-1])
