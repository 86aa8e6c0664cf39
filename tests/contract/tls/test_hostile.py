"""CONTRACT.md, "TLS": S4, bytes that are no TLS, records that will not open, and alerts, at every stage of a connection."""

from __future__ import annotations

import random
import ssl

import pytest
from support import Recorder, send_and_wait
from support.handlers import Boom, chain, echo, raising
from support.tls import CLIENT_TLS, SERVER_TLS, TLSRecorder
from support.tls_peer import (
    accepting,
    client_context,
    context_of,
    dialling,
    server_context,
    tls_accepted,
    tls_sides,
    versions,
)
from support.tls_records import ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, Sealer, alert, keylog, record, records

import pybuntcp

pytestmark = pytest.mark.standalone("what the bytes mean is the engine's to say, which knows no loops")

FATAL, UNEXPECTED_MESSAGE, HANDSHAKE_FAILURE, INTERNAL_ERROR = 2, 10, 40, 80
NAMED = {**CLIENT_TLS, "server_name": "localhost"}

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(300),
    "random": random.Random(1).randbytes(5000),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(64),
    "record without end": b"\x16\x03\x01\xff\xff" + bytes(200),
    "empty record": record(HANDSHAKE, b"") * 40,
    "no handshake": record(DATA, bytes(100)),
    "change of ciphers": record(CHANGE_CIPHER_SPEC, b"\x02"),
    "message too long": record(HANDSHAKE, b"\x01\xff\xff\xff" + bytes(100)),
    "fatal alert": alert(HANDSHAKE_FAILURE),
}

garbage = pytest.mark.parametrize("data", list(GARBAGE.values()), ids=list(GARBAGE))


def failures():
    return pybuntcp.stats()["handshake_failures"]


# ---------------------------------------------------------------- in place of a handshake


@garbage
def test_s4_garbage_instead_of_a_client_hello_is_refused_and_the_listener_lives_on(loop, tcp, data):
    recorder, before = Recorder(data=echo), failures()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    peer.send(data)
    loop.wait(peer.recv_until_eof())
    assert recorder.events == []
    assert failures() == before + 1
    good = dialling(tcp, listener, client_context())
    good.write(b"alive?")
    assert loop.wait(good.read(6)) == b"alive?"


@garbage
def test_s4_garbage_instead_of_a_client_hello_goes_to_handshake_and_close(loop, tcp, data):
    recorder = TLSRecorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    peer = tcp.peer(listener)
    peer.send(data)
    loop.wait(peer.recv_until_eof())
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "handshake", "close"]
    success, error = recorder.verdict
    assert not success
    assert isinstance(error, ssl.SSLError)
    assert recorder.close_error is error


@garbage
def test_s4_garbage_instead_of_a_server_hello_is_a_connect_error(loop, tcp, data):
    recorder = Recorder()
    server = tcp.raw_server()
    peer = server.accept()
    connecting = tcp.connect(recorder, server, tls=NAMED)
    peer.recv()
    peer.send(data)
    loop.run()
    assert recorder.names() == ["connect_error"]
    assert isinstance(connecting.exception(), ssl.SSLError)
    assert recorder.args("connect_error")[0][0] is connecting.exception()
    peer.recv_until_eof().result()  # an orderly end, the alert before it


@garbage
def test_s4_garbage_after_the_server_hello_is_refused(loop, tcp, data):
    """Our client has had the first record of the server's flight."""
    recorder = Recorder()
    server = tcp.raw_server()
    peer = accepting(tcp, server, server_context())
    connecting = tcp.connect(recorder, server, tls=NAMED)
    loop.wait(peer.take_in())
    flight = peer.step().result()
    kind, content = records(flight)[0]
    peer.send(record(kind, content) + data)
    loop.run()
    assert recorder.names() == ["connect_error"]
    assert isinstance(connecting.exception(), ssl.SSLError)


@garbage
def test_s4_garbage_instead_of_the_clients_finished_is_refused(loop, tcp, data):
    recorder = TLSRecorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    peer.send(data)
    peer.shutdown()  # what looks like the beginning of a record may be waited for
    loop.wait(peer.recv_until_eof())
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "handshake", "close"]
    assert isinstance(recorder.close_error, ssl.SSLError)


def test_s4_a_client_that_talks_tls_to_a_plain_port_fails_and_harms_nobody(loop, tcp):
    """The plain server echoes what it does not understand."""
    recorder, client = Recorder(data=echo), Recorder(label="client")
    listener = tcp.listen(recorder)
    connecting = tcp.connect(client, listener, tls=NAMED)
    loop.run_until(lambda: client.count("connect_error"))
    assert isinstance(connecting.exception(), ssl.SSLError)
    assert client.names() == ["connect_error"]
    peer = tcp.peer(listener)
    peer.send(b"alive?")
    assert loop.wait(peer.recv_exactly(6)) == b"alive?"


def test_s4_a_plain_client_at_a_tls_port_gets_an_orderly_end_and_no_reset(loop, tcp):
    client = Recorder(open=lambda socket: socket.write(GARBAGE["http"]))
    listener = tcp.listen(Recorder(), tls=SERVER_TLS)
    tcp.connect(client, listener)
    loop.run_until(lambda: client.count("close"))
    assert client.names() == ["open", "end", "close"]
    assert client.close_error is None


def test_s4_a_client_that_breaks_the_protocol_gets_an_alert_and_an_orderly_end(loop, tcp):
    listener = tcp.listen(Recorder(), tls=SERVER_TLS)
    peer = tcp.peer(listener)
    peer.send(GARBAGE["no handshake"])
    ((kind, content),) = records(loop.wait(peer.recv_until_eof()))
    assert (kind, content) == (ALERT, bytes([FATAL, UNEXPECTED_MESSAGE]))


# ---------------------------------------------------------------- after the handshake


def broken(recorder):
    """`error`, then `close`, of one and the same SSLError, and nothing after; what it was."""
    assert recorder.names()[-2:] == ["error", "close"]
    assert recorder.count("end") == 0
    (told,) = recorder.args("error")
    assert isinstance(told[0], ssl.SSLError)
    assert recorder.close_error is told[0]
    return told[0]


def hushed(**functions):
    """A Recorder that expects to be told of an error."""
    return Recorder(error=lambda socket, error: None, **functions)


def spoilt(data, at):
    """With one bit of it changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@garbage
@tls_sides
def test_s4_garbage_after_the_handshake_is_error_and_then_close_with_the_same(loop, tcp, side, data):
    recorder = hushed()
    _socket, peer = side(loop, tcp, recorder)
    peer.write(b"good")
    peer.send(data)
    if data.startswith(b"\x17"):
        peer.shutdown()
    loop.run()
    assert recorder.received() == b"good"
    broken(recorder)


@pytest.mark.parametrize("at", [0, 3, 5, 20, -1], ids=["type", "length", "first", "middle", "last"])
@versions
@tls_sides
def test_s4_a_record_with_one_bit_changed_is_error_and_then_close(loop, tcp, side, version, at):
    recorder = hushed()
    context = context_of(side, version)
    _socket, peer = side(loop, tcp, recorder, context)
    sealed = peer.seal(b"one bit of this is changed").result()
    peer.send(spoilt(sealed, at) + bytes(17000 if at == 3 else 0))
    loop.run()
    assert recorder.received() == b""
    broken(recorder)


@tls_sides
def test_s4_nothing_is_delivered_after_a_bad_record(loop, tcp, side):
    """Good records before and behind it came in the same segment."""
    recorder = hushed()
    socket, peer = side(loop, tcp, recorder)
    good, bad, late = (peer.seal(word).result() for word in (b"good", b"bad", b"late"))
    send_and_wait(socket, peer, good + spoilt(bad, -1) + late)
    peer.shutdown()
    loop.run()
    assert recorder.received() == b"good"
    assert recorder.names() == ["open", "data", "error", "close"]
    broken(recorder)


@tls_sides
def test_s4_the_peer_of_a_bad_record_gets_an_alert_and_an_orderly_end(loop, tcp, side):
    recorder = hushed()
    _socket, peer = side(loop, tcp, recorder)
    peer.send(spoilt(peer.seal(b"bad").result(), -1))
    assert loop.wait(peer.read_to_end()) == (b"", "SSLV3_ALERT_BAD_RECORD_MAC")


@versions
@tls_sides
def test_s4_a_fatal_alert_is_error_and_then_close_with_the_same(loop, tcp, side, version):
    context = context_of(side, version)
    recorder = hushed()
    with keylog(context) as keys:
        socket, peer = side(loop, tcp, recorder, context)
        sealer = Sealer(peer, keys)
        told = sealer.seal(b"before") + sealer.seal(bytes([FATAL, INTERNAL_ERROR]), ALERT) + sealer.seal(b"after")
        send_and_wait(socket, peer, told)
        loop.run()
    assert recorder.received() == b"before"
    assert "INTERNAL_ERROR" in broken(recorder).reason


@versions
@tls_sides
def test_s4_a_record_with_more_than_16_kib_in_it_is_error_and_then_close(loop, tcp, side, version):
    context = context_of(side, version)
    recorder = hushed()
    with keylog(context) as keys:
        _socket, peer = side(loop, tcp, recorder, context)
        sealer = Sealer(peer, keys)
        peer.send(sealer.seal(bytes(16384)))
        peer.send(sealer.seal(bytes(16385)))
        loop.run()
    assert recorder.received() == bytes(16384)
    broken(recorder)


def test_s4_a_handshake_message_out_of_place_is_error_and_then_close(loop, tcp):
    recorder, context = hushed(), client_context()
    with keylog(context) as keys:
        _socket, peer = tls_accepted(loop, tcp, recorder, context)
        peer.send(Sealer(peer, keys).seal(b"\x14\0\0\x20" + bytes(32), HANDSHAKE))
        loop.run()
    broken(recorder)


def test_s4_a_bad_record_while_paused_is_reported_at_resume(loop, tcp):
    recorder = hushed()
    socket, peer = tls_accepted(loop, tcp, recorder)
    socket.pause()
    good, bad = peer.seal(b"good").result(), peer.seal(b"bad").result()
    send_and_wait(socket, peer, good + spoilt(bad, -1))
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "data", "error", "close"]
    broken(recorder)


@pytest.mark.parametrize("size", [10, 50_000])
def test_s4_what_is_written_beside_a_bad_record_is_dropped_and_the_error_is_the_records(loop, tcp, size):
    """A handler answers what came before it in the same segment."""
    recorder = hushed(data=lambda socket, chunk: socket.write(bytes(size)))
    socket, peer = tls_accepted(loop, tcp, recorder)
    good, bad = peer.seal(b"good").result(), peer.seal(b"bad").result()
    send_and_wait(socket, peer, good + spoilt(bad, -1))
    loop.run()
    assert recorder.names() == ["open", "data", "error", "close"]
    assert "BAD_RECORD_MAC" in broken(recorder).reason
    assert socket.pending == 0
    assert socket.write(b"x") == -1


# ---------------------------------------------------------------- who is told


def bad_record_to(loop, tcp, recorder):
    _socket, peer = tls_accepted(loop, tcp, recorder)
    peer.send(spoilt(peer.seal(b"bad").result(), -1))
    loop.run()


def test_s4_without_an_error_handler_close_alone_tells(loop, tcp):
    recorder = Recorder(without=("error",))
    with loop.reports() as told:
        bad_record_to(loop, tcp, recorder)
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, ssl.SSLError)
    assert told == []


def test_h1_an_error_handler_that_raises_is_reported_and_close_still_called(loop, tcp):
    boom = Boom()
    recorder = Recorder(error=raising(boom))
    with loop.reports() as told:
        bad_record_to(loop, tcp, recorder)
    assert recorder.names() == ["open", "error", "close"]
    (report,) = told
    assert boom in chain(report)
    assert recorder.close_error in chain(report)


@pytest.mark.parametrize("verb", ["close", "end", "terminate", "pause"])
def test_r6_every_verb_is_safe_inside_error(loop, tcp, verb):
    recorder = Recorder(error=lambda socket, error: getattr(socket, verb)())
    bad_record_to(loop, tcp, recorder)
    assert recorder.names() == ["open", "error", "close"]
    assert isinstance(recorder.close_error, ssl.SSLError)


def test_s4_a_broken_connection_harms_no_other(loop, tcp):
    recorder = hushed(data=echo)
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    one, other = dialling(tcp, listener, client_context()), dialling(tcp, listener, client_context())
    for peer in (one, other):
        loop.wait(peer.handshake())
    one.send(bytes(100))
    other.write(b"alive?")
    assert loop.wait(other.read(6)) == b"alive?"
    loop.run_until(lambda: recorder.count("close"))
    other.write(b"still?")
    assert loop.wait(other.read(6)) == b"still?"
