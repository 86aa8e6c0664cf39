"""`socket_start_tls`: TLS on an established plain connection, on the same socket, by the C API."""

from __future__ import annotations

import errno
import importlib
import socket
import ssl

import pytest
from support import pattern
from support.tls_peer import TlsPeer, client_context, server_context
from support.writers import finished

import pybuntcp


@pytest.fixture
def prepare(outside):
    return importlib.import_module("outside.writer").prepare


@pytest.fixture
def ends(pair):
    """Two connected sockets, whose kernel buffers do not grow."""
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return pair


def opened(ends, writer, *, server=False, **options):
    """The Writer has one end, and reads; a peer has the other."""
    ours, theirs = ends
    peer = TlsPeer(lambda: theirs, server_context() if server else client_context(), server=server, **options)
    writer.adopt(ours.detach())
    writer.do("resume")
    return peer


def secured(loop, prepare, ends, writer):
    """A server's end, after its handshake."""
    peer = opened(ends, writer)
    writer.start_tls(prepare(server_context(), True), 10)
    done = peer.handshake()
    loop.run_until(lambda: "handshake" in writer.names())
    loop.wait(done)
    return peer


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_a_plain_connection_goes_on_with_tls_on_its_own_descriptor(loop, ends, make, prepare, server):
    writer = make(handshake=True, stays_open=True)
    peer = opened(ends, writer, server=not server)
    fd = writer.fd
    writer.write_all(b"in plain")
    assert loop.wait(peer.recv(8)) == b"in plain"
    assert writer.standard_object is None
    context = server_context() if server else client_context()
    writer.start_tls(prepare(context, server, None if server else "localhost"), 10)
    assert writer.state == 2
    writer.write_all(b"before it is agreed")
    done = peer.handshake()
    loop.run_until(lambda: writer.names() == ["handshake"])
    loop.wait(done)
    assert (writer.fd, writer.state, writer.events[0][1]) == (fd, 1, 1)
    assert isinstance(writer.standard_object, ssl.SSLObject)
    assert writer.standard_object.context is context
    assert writer.exception is None
    assert loop.wait(peer.read(19)) == b"before it is agreed"
    loop.wait(peer.write(b"over TLS"))
    loop.run_until(lambda: writer.received == b"over TLS")
    finished(loop, writer, peer)


def test_plain_bytes_that_are_pending_go_before_the_first_record(loop, ends, make, prepare):
    size = 4_000_000
    writer = make(handshake=True, stays_open=True)
    peer = opened(ends, writer, server=True)
    writer.write_all(pattern(size))
    assert writer.pending != 0
    writer.start_tls(prepare(client_context(), False, "localhost"), 10)
    assert writer.pending != 0
    received, done = peer.recv_exactly(size), peer.handshake()
    loop.run_until(lambda: "handshake" in writer.names())
    loop.wait(done)
    assert loop.wait(received) == pattern(size)
    assert writer.pending == 0
    assert writer.object().bytes_written == size
    finished(loop, writer, peer)


def test_bytes_that_have_come_already_are_given_to_tls(loop, ends, make, prepare):
    def start(writer):
        writer.start_tls(prepared, 10, writer.received.removeprefix(b"STARTTLS\n"))

    prepared = prepare(server_context(), True)
    writer = make(handshake=True, stays_open=True, data=start)
    peer = opened(ends, writer)
    hello = loop.wait(peer.step())
    loop.wait(peer.send(b"STARTTLS\n" + hello))
    done = peer.handshake()
    loop.run_until(lambda: "handshake" in writer.names())
    loop.wait(done)
    assert writer.received == b"STARTTLS\n" + hello
    finished(loop, writer, peer)


def test_a_handshake_that_fails_is_told_and_the_socket_stays_until_it_is_closed(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = opened(ends, writer, server=True)
    writer.start_tls(prepare(client_context(), False, "example.test"), 10)
    failing = peer.handshake()
    loop.run_until(lambda: "broken" in writer.names())
    assert writer.events == [("handshake", 0), ("broken", errno.EPROTO)]
    assert isinstance(writer.exception, ssl.SSLCertVerificationError)
    with pytest.raises(ssl.SSLError, match="alert bad certificate"):
        loop.wait(failing)
    assert writer.fd >= 0
    writer.do("close_now")
    loop.run_until(lambda: writer.gone)
    finished(loop, writer, peer)


def test_without_that_flag_it_is_closed(loop, ends, make, prepare):
    writer = make(handshake=True)
    peer = opened(ends, writer, server=True)
    writer.start_tls(prepare(client_context(), False, "example.test"), 10)
    failing = peer.handshake()
    loop.run_until(lambda: writer.gone)
    assert writer.events == [("handshake", 0), ("close", errno.EPROTO)]
    with pytest.raises(ssl.SSLError):
        loop.wait(failing)
    finished(loop, writer, peer)


def test_a_peer_that_says_nothing_is_given_up_in_time(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = opened(ends, writer)
    writer.start_tls(prepare(server_context(), True), 0.02)
    loop.run_until(lambda: "broken" in writer.names())
    assert writer.events == [("handshake", 0), ("broken", errno.ETIMEDOUT)]
    assert isinstance(writer.exception, TimeoutError)
    finished(loop, writer, peer)


def test_a_fin_without_close_notify_is_an_end_and_tells_what_it_is(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = secured(loop, prepare, ends, writer)
    loop.wait(peer.shutdown())
    loop.run_until(lambda: "end" in writer.names())
    assert isinstance(writer.exception, ssl.SSLEOFError)
    writer.write_all(b"still")
    writer.do("flush")
    assert loop.wait(peer.read(5)) == b"still"
    finished(loop, writer, peer)


def test_close_notify_is_an_end_without_an_error(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = secured(loop, prepare, ends, writer)
    loop.wait(peer.notify())
    loop.run_until(lambda: "end" in writer.names())
    assert writer.exception is None
    finished(loop, writer, peer)


def test_a_bad_record_is_broken_and_its_error_is_known(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = secured(loop, prepare, ends, writer)
    loop.wait(peer.send(b"\x17\x03\x03\x00\x20" + bytes(32)))
    loop.run_until(lambda: "broken" in writer.names())
    assert writer.events[-1] == ("broken", errno.EPROTO)
    assert isinstance(writer.exception, ssl.SSLError)
    finished(loop, writer, peer)


def test_shutdown_says_goodbye_and_the_peer_may_go_on(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = secured(loop, prepare, ends, writer)
    writer.do("shutdown")
    loop.wait(peer.write(b"more"))
    loop.run_until(lambda: writer.received == b"more")
    writer.do("close")
    assert loop.wait(peer.read_to_end()) == (b"", "close_notify")
    finished(loop, writer, peer)


def test_memory_of_ones_own_is_not_asked_for_over_tls(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True, memory=1000)
    peer = secured(loop, prepare, ends, writer)
    before = writer.names().count("alloc")
    loop.wait(peer.write(b"data"))
    loop.run_until(lambda: writer.received == b"data")
    assert writer.names().count("alloc") == before
    finished(loop, writer, peer)


def test_what_is_wrong_with_the_option_is_raised_before_anything_has_begun(loop, prepare):
    with pytest.raises(ValueError, match="idna"):
        prepare(client_context(), False, ".example.test")
    with pytest.raises(ssl.SSLError, match="Cannot create a client socket"):
        prepare(server_context(), False, "localhost")
    with pytest.raises(TypeError, match="tls is required"):
        prepare(None, True)
    with pytest.raises(TypeError, match="must be True, a mapping, TLSOptions or"):
        prepare(5, False, "localhost")


def test_what_cannot_begin_changes_nothing(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    peer = opened(ends, writer)
    prepared = prepare(server_context(), True)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="handshake_timeout"):
            writer.start_tls(prepared, timeout)
    with pytest.raises(TypeError):
        writer.start_tls(object(), 1)
    loop.wait(peer.send(b"plain"))
    loop.run_until(lambda: writer.received == b"plain")
    writer.start_tls(prepared, float("inf"))
    with pytest.raises(RuntimeError, match="not established"):
        writer.start_tls(prepare(server_context(), True), 1)
    done = peer.handshake()
    loop.run_until(lambda: "handshake" in writer.names())
    loop.wait(done)
    with pytest.raises(RuntimeError, match="secured by TLS already"):
        writer.start_tls(prepare(server_context(), True), 1)
    finished(loop, writer, peer)


def test_one_that_was_prepared_starts_one_connection(loop, ends, make, prepare):
    writer, other = make(stays_open=True), make(stays_open=True)
    peer = opened(ends, writer)
    again = socket.socketpair()
    other.adopt(again[0].detach())
    prepared = prepare(server_context(), True)
    writer.start_tls(prepared, 1)
    with pytest.raises(RuntimeError, match="used by another connection"):
        other.start_tls(prepared, 1)
    other.do("close_now")
    again[1].close()
    finished(loop, writer, peer)


def test_a_socket_with_a_reader_or_a_pipe_is_refused(loop, ends, make, prepare):
    writer = make(stays_open=True)
    peer = opened(ends, writer)
    writer.object().reader()
    with pytest.raises(RuntimeError, match="SocketReader"):
        writer.start_tls(prepare(server_context(), True), 1)
    finished(loop, writer, peer)


def test_its_socket_object_is_secured(loop, ends, make, prepare):
    writer = make(handshake=True, stays_open=True)
    before = pybuntcp.stats()["handshakes"]
    peer = secured(loop, prepare, ends, writer)
    assert writer.object().get_tls_version() == "TLSv1.3"
    assert pybuntcp.stats()["handshakes"] == before + 1
    finished(loop, writer, peer)
