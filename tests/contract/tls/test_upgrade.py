"""CONTRACT.md, "TLS": S6, a connection that began plain goes on secured, on either side, without a byte lost or misread."""

from __future__ import annotations

import pytest
from support import Feed, Recorder, pattern, plain, raw, send_and_wait, shrink_send_buffer
from support.asyncio_loops import on_every_loop
from support.coroutines import done, until
from support.handlers import echo, ignore
from support.tls import CA, CLIENT_TLS, SERVER, TLSRecorder
from support.tls_peer import (
    accepting,
    client_context,
    dialling,
    each_side,
    finish_handshake,
    server_context,
    unsecured,
    upgraded,
)

from pybuntcp import ReadyState

one_loop = pytest.mark.standalone("what is sent and read in what order is nothing that a loop decides")

PLEA, GRANT = b"STARTTLS\n", b"go\n"


# ---------------------------------------------------------------- as protocols do it


def test_s6_a_server_upgrades_when_it_is_asked_to(loop, tcp):
    def data(socket, chunk):
        assert chunk == PLEA
        socket.write(GRANT)
        upgraded(socket, secured, "accepted")

    recorder, secured = Recorder(label="raw", data=data), Recorder(label="secured", data=echo)
    _socket, peer = unsecured(loop, tcp, recorder, "accepted")
    peer.send(PLEA)
    assert loop.wait(peer.recv_exactly(3)) == GRANT
    peer.write(b"over TLS")
    assert loop.wait(peer.read(8)) == b"over TLS"
    assert peer.tls.getpeercert(True) == SERVER.der
    peer.notify()
    loop.run()
    assert recorder.names() == ["open", "data"]
    assert secured.names() == ["open", "data", "end", "close"]


def test_s6_a_client_upgrades_when_it_is_allowed_to(loop, tcp):
    def data(socket, chunk):
        assert chunk == GRANT
        upgraded(socket, secured, "connected")

    recorder = Recorder(label="raw", open=lambda socket: socket.write(PLEA), data=data)
    secured = Recorder(label="secured", open=lambda socket: socket.write(b"over TLS"))
    _socket, peer = unsecured(loop, tcp, recorder, "connected")
    assert loop.wait(peer.recv_exactly(len(PLEA))) == PLEA
    peer.send(GRANT)
    assert loop.wait(peer.read(8)) == b"over TLS"
    peer.write(b"heard")
    peer.notify()
    loop.run()
    assert recorder.names() == ["open", "data"]
    assert secured.names() == ["open", "data", "end", "close"]
    assert secured.received() == b"heard"


@plain("what is secured already is not upgraded")
def test_s6_both_ends_of_ours_upgrade(loop, transport):
    def granted(socket, chunk):
        socket.write(GRANT)
        upgraded(socket, server, "accepted")

    server = Recorder(label="server", data=echo)
    client = Recorder(label="client", open=lambda socket: socket.write(pattern(100_000)))
    listener = transport.listen(Recorder(label="raw server", data=granted), high_water_mark=1 << 20)
    options = {"open": lambda socket: socket.write(PLEA)}
    raw_client = Recorder(label="raw client", **options, data=lambda s, chunk: upgraded(s, client, "connected"))
    transport.connect(raw_client, listener, high_water_mark=1 << 20)
    loop.run_until(lambda: len(client.received()) == 100_000)
    assert client.received() == server.received() == pattern(100_000)
    assert client.socket.authorized
    assert listener.connections == 1
    listener.stop(True)
    loop.run_until(lambda: client.count("close"))
    assert client.close_error is None


@one_loop
@pytest.mark.parametrize(("certificate", "authorized"), [("127.0.0.1", True), ("localhost", False)])
def test_s1_the_name_to_check_defaults_to_the_host_that_was_connected_to(loop, tcp, certificate, authorized):
    issued = CA.issue(certificate).options

    def opened(socket):
        socket.upgrade_tls(tls=issued, socket=Recorder(error=ignore).handlers, server=True)

    listener = tcp.listen(Recorder(open=opened))
    secured = TLSRecorder()
    raw_client = Recorder(open=lambda socket: socket.upgrade_tls(tls=CLIENT_TLS, socket=secured.handlers))
    tcp.connect(raw_client, listener)
    loop.run_until(lambda: secured.count("handshake"))
    assert secured.verdict[0] is authorized


# ---------------------------------------------------------------- the two sockets


@one_loop
@each_side
def test_s6_the_raw_half_is_detached_and_gets_no_close(loop, tcp, kind):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, recorder, kind)
    before = (socket.remote_address, socket.remote_port, socket.local_address, socket.local_port)
    socket.timeout(0.01)
    made = upgraded(socket, secured, kind)
    assert made is not socket
    assert socket.ready_state == ReadyState.DETACHED
    assert socket.fileno() == -1
    assert [socket.write(b"x"), socket.end(b"x")] == [-1, -1]
    for verb in ("close", "terminate", "pause", "resume", "flush"):
        getattr(socket, verb)()
    assert made.ready_state == ReadyState.OTHER
    loop.wait(peer.handshake())
    loop.run_until(lambda: secured.sockets)
    assert secured.sockets == [made]
    assert made.ready_state == ReadyState.ESTABLISHED
    after = [(s.remote_address, s.remote_port, s.local_address, s.local_port) for s in (socket, made)]
    assert after == [before, before]
    made.terminate()
    loop.run()
    assert recorder.names() == ["open"]
    assert secured.names() == ["open", "close"]
    assert socket.ready_state == ReadyState.DETACHED


@one_loop
@each_side
def test_s6_the_secured_half_has_a_table_and_data_of_its_own(loop, tcp, kind):
    recorder, secured = Recorder(label="raw"), TLSRecorder(label="secured", binary_type="bytearray")
    socket, peer = unsecured(loop, tcp, recorder, kind, data="of the plain one")
    made = upgraded(socket, secured, kind, data="of its own")
    assert (socket.data, made.data) == ("of the plain one", "of its own")
    made.data = "new"
    assert socket.data == "of the plain one"
    loop.wait(peer.handshake())
    peer.write(b"x")
    loop.run_until(lambda: secured.count("data"))
    assert secured.names() == ["open", "handshake", "data"]
    assert secured.verdict == (True, None)
    assert type(secured.args("data")[0][0]) is bytearray
    made.terminate()


@one_loop
def test_s6_data_of_the_secured_half_is_none_by_default(loop, tcp):
    socket, peer = unsecured(loop, tcp, Recorder(), "accepted", data="of the plain one")
    made = upgraded(socket, Recorder(), "accepted")
    assert made.data is None
    made.terminate()
    peer.raw_to_end().result()


@one_loop
def test_s6_the_listener_and_the_gauges_count_one_connection(loop, tcp):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured")
    listener = tcp.listen(recorder)
    peer = dialling(tcp, listener, client_context())
    loop.run_until(lambda: recorder.sockets)
    made = upgraded(recorder.socket, secured, "accepted")
    assert made.listener is listener
    loop.wait(peer.handshake())
    assert listener.connections == 1
    assert loop.gauges()["open_sockets"] == 1
    listener.stop(True)
    loop.run_until(lambda: secured.count("close"))
    assert listener.connections == 0


@one_loop
@each_side
def test_s6_the_counters_of_each_half_are_its_own(loop, tcp, kind):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, recorder, kind)
    assert socket.write(b"plain") == 5
    made = upgraded(socket, secured, kind)
    peer.recv_exactly(5).result()
    peer.write(b"secured")
    assert loop.wait(peer.read(7)) == b"secured"
    assert (socket.bytes_written, socket.bytes_read) == (5, 0)
    assert (made.bytes_written, made.bytes_read) == (7, 7)
    made.terminate()


# ---------------------------------------------------------------- what was read ahead


@one_loop
@each_side
def test_s6_initial_data_is_the_first_that_tls_reads(loop, tcp, kind):
    """The peer did not wait for an answer: its first flight came in one segment with its words."""

    def data(socket, chunk):
        assert chunk.startswith(PLEA)
        upgraded(socket, secured, kind, initial_data=memoryview(chunk)[len(PLEA) :])

    recorder, secured = Recorder(label="raw", data=data), Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, recorder, kind)
    first = peer.step().result() if kind == "accepted" else b""
    send_and_wait(socket, peer, PLEA + first)
    peer.write(b"and on")
    assert loop.wait(peer.read(6)) == b"and on"
    secured.socket.terminate()


@one_loop
def test_s6_what_came_and_was_not_delivered_belongs_to_tls(loop, tcp):
    """The plain socket is paused, and the ClientHello in the kernel."""
    recorder, secured = Recorder(label="raw"), Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, recorder, "accepted")
    socket.pause()
    send_and_wait(socket, peer, peer.step().result())
    upgraded(socket, secured, "accepted")
    peer.write(b"x")
    assert loop.wait(peer.read(1)) == b"x"
    assert recorder.names() == ["open"]
    secured.socket.terminate()


@on_every_loop
async def test_s6_what_a_reader_has_read_ahead_belongs_to_tls(tcp):
    """It was asked for a line, and has more."""
    secured = Recorder(label="secured", data=echo)
    recorder = Recorder(label="raw")
    listener = tcp.listen(recorder, pause_on_connect=True)
    peer = dialling(tcp, listener, client_context())
    peer.send(PLEA + peer.step().result())
    await until(lambda: recorder.sockets)
    listener.stop()
    reader = recorder.socket.reader()
    assert await reader.readline() == PLEA
    upgraded(recorder.socket, secured, "accepted")
    peer.write(b"x")
    assert await done(peer.read(1)) == b"x"
    assert await reader.read() == b""
    secured.socket.terminate()


# ---------------------------------------------------------------- what was written before


@one_loop
@each_side
@pytest.mark.parametrize("size", [10, 1 << 20])
def test_s6_pending_plaintext_is_sent_before_the_handshake(loop, tcp, kind, size):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, recorder, kind, high_water_mark=4 << 20)
    shrink_send_buffer(socket)
    assert socket.write(pattern(size)) == size
    made = upgraded(socket, secured, kind)
    assert made.write(b"first secured") == 13
    assert loop.wait(peer.recv_exactly(size)) == pattern(size)
    assert loop.wait(peer.read(13)) == b"first secured"
    assert socket.bytes_written == size
    assert recorder.names() == ["open"]
    made.terminate()


@one_loop
def test_s6_what_a_handler_gathered_before_is_sent_plain_and_first(loop, tcp):
    def data(socket, chunk):
        for _ in range(50):
            socket.write(b"ab")
        made = upgraded(socket, secured, "accepted")
        made.write(b"secured")

    secured = TLSRecorder(label="secured")
    _socket, peer = unsecured(loop, tcp, Recorder(data=data), "accepted")
    peer.send(PLEA)
    assert loop.wait(peer.recv_exactly(100)) == b"ab" * 50
    assert loop.wait(peer.read(7)) == b"secured"
    secured.socket.terminate()


@one_loop
def test_s6_a_reset_before_the_plaintext_is_out_closes_the_secured_half(loop, tcp):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, recorder, "accepted")
    Feed(8 << 20).fill(socket)
    upgraded(socket, secured, "accepted")
    peer.reset()
    loop.run()
    assert recorder.names() == ["open"]
    assert secured.names() == ["close"]
    assert isinstance(secured.close_error, ConnectionError)
    assert loop.gauges()["pending_bytes"] == 0


@one_loop
def test_s6_the_secured_half_may_be_closed_before_the_plaintext_is_out(loop, tcp):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, recorder, "accepted", linger_timeout=0.2)
    Feed(8 << 20).fill(socket)
    upgraded(socket, secured, "accepted").terminate()
    loop.run()
    assert recorder.names() == ["open"]
    assert secured.names() == []
    peer.raw_to_end().result()


# ---------------------------------------------------------------- from where


@one_loop
@each_side
def test_s6_the_upgrade_may_be_made_inside_open(loop, tcp, kind):
    secured = Recorder(label="secured", data=echo)
    recorder = Recorder(label="raw", open=lambda socket: upgraded(socket, secured, kind))
    _socket, peer = unsecured(loop, tcp, recorder, kind)
    peer.write(b"x")
    assert loop.wait(peer.read(1)) == b"x"
    assert recorder.names() == ["open"]
    secured.socket.terminate()


@one_loop
@each_side
def test_s6_the_upgrade_may_be_made_outside_of_handlers(loop, tcp, kind):
    secured = Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, Recorder(), kind)
    upgraded(socket, secured, kind)
    finish_handshake(loop, secured, peer)
    secured.socket.terminate()


@on_every_loop
async def test_s6_the_upgrade_may_be_made_between_two_reads(tcp):
    server = tcp.raw_server()
    peer = accepting(tcp, server, server_context())
    socket = await tcp.connect(None, server)
    reader = socket.reader()
    peer.send(GRANT).ignore()
    assert await reader.readline() == GRANT
    secured = Recorder(label="secured", open=lambda socket: socket.write(b"over TLS"))
    made = upgraded(socket, secured, "connected")
    assert await done(peer.read(8)) == b"over TLS"
    made.terminate()


@one_loop
def test_s6_the_descriptor_lives_on_under_the_secured_half(loop, tcp):
    socket, peer = unsecured(loop, tcp, Recorder(), "accepted")
    made = upgraded(socket, Recorder(), "accepted")
    with raw(made) as duplicate:
        assert duplicate.getpeername()[1] == peer.sock.getsockname()[1]
    made.terminate()
