"""CONTRACT.md, "TLS": S4, R1, R4, how the bytes are cut on the wire is nothing that anybody notices.

Also what records carry besides data: key updates, the peer's close_notify, and renegotiation, which is off (S8).
"""

from __future__ import annotations

import random
import ssl

import pytest
from support import Recorder, pattern, send_and_wait, shrink_send_buffer
from support.handlers import echo
from support.tls import CLIENT_TLS, SERVER_TLS
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
from support.tls_records import ALERT, DATA, HANDSHAKE, HELLO_REQUEST, Sealer, keylog, record, records

pytestmark = pytest.mark.standalone("what the bytes mean is the engine's to say, which knows no loops")

NAMED = {**CLIENT_TLS, "server_name": "localhost"}
GCM = 24  # bytes that AES-GCM adds to a record of TLS 1.2
TLSv1_2 = ssl.TLSVersion.TLSv1_2


def orderly(recorder, data):
    """It was given these bytes, the end, and no error."""
    assert recorder.received() == data
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None
    return True


# ---------------------------------------------------------------- one byte at a time


@versions
def test_s4_a_client_whose_handshake_and_data_come_byte_by_byte_is_served(loop, unix, version):
    recorder = Recorder(data=echo)
    listener = unix.listen(recorder, tls=SERVER_TLS)
    peer = dialling(unix, listener, client_context(version), dribble=True)
    peer.write(b"byte by byte")
    assert loop.wait(peer.read(12)) == b"byte by byte"
    peer.notify()
    peer.shutdown()
    loop.run_until(lambda: recorder.count("close"))
    assert orderly(recorder, b"byte by byte")


@versions
def test_s4_a_server_whose_handshake_and_data_come_byte_by_byte_is_understood(loop, unix, version):
    recorder = Recorder(open=lambda socket: socket.write(b"ping"))
    server = unix.raw_server()
    peer = accepting(unix, server, server_context(version), dribble=True)
    connecting = unix.connect(recorder, server, tls=NAMED)
    assert loop.wait(peer.read(4)) == b"ping"
    peer.write(b"byte by byte")
    peer.notify()
    peer.shutdown()
    loop.run()
    assert connecting.result() is recorder.socket
    assert orderly(recorder, b"byte by byte")


@versions
@tls_sides
def test_s4_three_thousand_records_of_one_byte_are_all_delivered(loop, tcp, side, version):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder, context_of(side, version))
    data = pattern(3000)
    sealed = [peer.seal(data[at : at + 1]) for at in range(3000)]
    peer.send(b"".join(job.result() for job in sealed))
    peer.notify()
    loop.run()
    assert orderly(recorder, data)
    assert recorder.count("data") < 300  # what comes together is opened together


def test_s4_a_record_cut_at_every_byte_boundary_is_whole(loop, tcp):
    recorder, size = Recorder(), 5 + 22
    socket, peer = tls_accepted(loop, tcp, recorder)
    for cut in range(1, size):
        sealed = peer.seal(b"%5d" % cut).result()
        assert len(sealed) == size
        send_and_wait(socket, peer, sealed[:cut])
        loop.settle()
        assert recorder.received() == b"".join(b"%5d" % at for at in range(1, cut))
        send_and_wait(socket, peer, sealed[cut:])
        loop.settle()
    assert recorder.received() == b"".join(b"%5d" % at for at in range(1, size))
    socket.terminate()


@tls_sides
def test_s4_records_cut_anywhere_are_whole(loop, tcp, side):
    """Large ones and small ones, in pieces of any size."""
    recorder, dice, data = Recorder(), random.Random(2), pattern(400_000)
    _socket, peer = side(loop, tcp, recorder)
    sizes, at = [], 0
    while at < len(data):
        sizes.append(dice.choice([1, 50, 1000, 16384, 40_000]))
        at += sizes[-1]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    sealed = b"".join(peer.seal(data[i : i + n]).result() for i, n in zip(starts, sizes, strict=True))
    at = 0
    while at < len(sealed):
        piece = dice.choice([1, 4, 6, 700, 16_000, 70_000])
        peer.send(sealed[at : at + piece])
        at += piece
    peer.notify()
    loop.run()
    assert orderly(recorder, data)


@pytest.mark.parametrize("cut", [3, 5, 20])
@versions
@tls_sides
def test_w8_what_is_written_between_the_pieces_of_a_record_harms_neither(loop, tcp, side, version, cut):
    recorder = Recorder()
    socket, peer = side(loop, tcp, recorder, context_of(side, version))
    sealed = peer.seal(b"cut in two").result()
    send_and_wait(socket, peer, sealed[:cut])
    loop.settle()
    assert socket.write(pattern(20_000)) == 20_000
    assert loop.wait(peer.read(20_000)) == pattern(20_000)
    peer.send(sealed[cut:])
    peer.notify()
    loop.run()
    assert orderly(recorder, b"cut in two")


@tls_sides
def test_w8_an_echo_of_a_large_stream_loses_and_reorders_nothing(loop, tcp, side):
    """Both directions at once, records cut by reads."""
    recorder = Recorder(data=echo)
    _socket, peer = side(loop, tcp, recorder, high_water_mark=4 << 20)
    peer.write(pattern(1 << 20))
    assert loop.wait(peer.read(1 << 20)) == pattern(1 << 20)
    assert recorder.received() == pattern(1 << 20)
    peer.notify()
    loop.run()
    assert orderly(recorder, pattern(1 << 20))


def test_r1_what_data_was_given_stays_as_it_was(loop, tcp):
    """memoryviews that are kept, over many reads and the end of the connection."""
    recorder = Recorder(binary_type="memoryview")
    _socket, peer = tls_accepted(loop, tcp, recorder)
    for at in range(0, 300_000, 5000):
        peer.write(pattern(300_000)[at : at + 5000])
    peer.notify()
    loop.run()
    views = [args[0] for args in recorder.args("data")]
    assert {type(view) for view in views} == {memoryview}
    assert b"".join(views) == pattern(300_000)


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
def test_r1_data_is_of_the_binary_type(loop, tcp, kind):
    recorder = Recorder(binary_type=kind)
    _socket, peer = tls_accepted(loop, tcp, recorder)
    peer.write(b"x" * 40_000)
    peer.notify()
    loop.run()
    assert {type(args[0]).__name__ for args in recorder.args("data")} == {kind}
    assert recorder.received() == b"x" * 40_000


# ---------------------------------------------------------------- together with the last of the handshake


@versions
def test_s4_data_that_comes_with_the_clients_last_flight_is_delivered(loop, tcp, version):
    recorder = Recorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context(version))
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    flight = peer.step().result()
    if version is ssl.TLSVersion.TLSv1_2:  # the server has the last word
        peer.send(flight)
        loop.wait(peer.take_in())
        flight = peer.step().result()
    peer.send(flight + peer.seal(b"with it").result() + peer.sealed_notify().result())
    loop.run_until(lambda: recorder.count("close"))
    assert orderly(recorder, b"with it")


def test_s4_data_that_comes_with_the_servers_last_flight_is_delivered(loop, tcp):
    recorder = Recorder()
    server = tcp.raw_server()
    peer = accepting(tcp, server, server_context(TLSv1_2))
    tcp.connect(recorder, server, tls=NAMED)
    loop.wait(peer.take_in())
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    flight = peer.step().result()
    peer.send(flight + peer.seal(b"with it").result() + peer.sealed_notify().result())
    peer.shutdown()
    loop.run()
    assert orderly(recorder, b"with it")


def test_r4_data_that_comes_with_the_last_flight_of_a_socket_opened_paused_waits(loop, tcp):
    recorder = Recorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS, pause_on_connect=True)
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    peer.send(peer.step().result() + peer.seal(b"with it").result())
    loop.run_until(lambda: recorder.sockets)
    loop.settle()
    assert recorder.names() == ["open"]
    recorder.socket.resume()
    loop.run_until(lambda: recorder.count("data"))
    assert recorder.received() == b"with it"


# ---------------------------------------------------------------- pausing


@tls_sides
def test_r4_pausing_after_every_delivery_loses_and_reorders_nothing(loop, tcp, side):
    recorder = Recorder(data=lambda socket, chunk: socket.pause())
    socket, peer = side(loop, tcp, recorder)
    data = pattern(500_000)
    peer.write(data)
    peer.notify()
    count = 0
    while len(recorder.received()) < len(data):
        socket.resume()
        loop.run_until(lambda count=count: recorder.count("data") > count)
        count += 1
        assert recorder.count("data") == count
    assert recorder.names() == ["open"] + ["data"] * count
    socket.resume()
    loop.run()
    assert orderly(recorder, data)


def test_r4_a_pause_in_the_middle_of_a_record_holds_the_rest_of_the_stream(loop, tcp):
    recorder = Recorder()
    socket, peer = tls_accepted(loop, tcp, recorder)
    sealed = peer.seal(b"one record").result()
    send_and_wait(socket, peer, sealed[:20])
    loop.settle()
    socket.pause()
    send_and_wait(socket, peer, sealed[20:] + peer.seal(b", another").result() + peer.sealed_notify().result())
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert orderly(recorder, b"one record, another")


# ---------------------------------------------------------------- close_notify


@tls_sides
def test_r2_close_notify_together_with_data_is_data_and_then_end(loop, tcp, side):
    recorder = Recorder()
    socket, peer = side(loop, tcp, recorder)
    send_and_wait(socket, peer, peer.seal(b"the last").result() + peer.sealed_notify().result())
    loop.run()
    assert recorder.names() == ["open", "data", "end", "close"]
    assert orderly(recorder, b"the last")
    assert peer.read_to_end().result() == (b"", "close_notify")


@pytest.mark.parametrize("after", ["garbage", "a record"])
@tls_sides
def test_s4_bytes_after_close_notify_are_not_delivered_and_no_error(loop, tcp, side, after):
    recorder, context = Recorder(), context_of(side)
    with keylog(context) as keys:
        socket, peer = side(loop, tcp, recorder, context)
        sealer = Sealer(peer, keys)
        late = record(DATA, bytes(50)) if after == "garbage" else b""
        data = sealer.seal(b"the last") + sealer.seal(b"\1\0", ALERT)
        send_and_wait(socket, peer, data + (late or sealer.seal(b"too late")))
        loop.run()
    assert orderly(recorder, b"the last")


def test_r2_after_close_notify_a_half_open_socket_stays_writable(loop, tcp):
    recorder = Recorder()
    socket, peer = tls_accepted(loop, tcp, recorder, allow_half_open=True)
    peer.notify()
    loop.run_until(lambda: recorder.count("end"))
    assert socket.write(b"after your end") == 14
    assert loop.wait(peer.read(14)) == b"after your end"
    assert socket.end() == 0
    assert loop.wait(peer.read_to_end()) == (b"", "close_notify")
    loop.run()
    assert recorder.names() == ["open", "end", "close"]


# ---------------------------------------------------------------- key updates, renegotiation


@tls_sides
def test_s4_a_key_update_is_answered_and_data_goes_on(loop, tcp, side):
    recorder, context = Recorder(data=echo), context_of(side)
    with keylog(context) as keys:
        _socket, peer = side(loop, tcp, recorder, context)
        sealer = Sealer(peer, keys)
        peer.send(sealer.seal(b"first"))
        assert loop.wait(peer.read(5)) == b"first"  # behind a server's tickets
        before = len(peer.came)
        for word in (b"one", b"two", b"six"):
            peer.send(sealer.key_update() + sealer.seal(word))
            assert loop.wait(peer.read(3)) == word
        assert len(records(bytes(peer.came[before:]))) == 6  # an answer to each, and the echo
        peer.send(sealer.seal(b"\1\0", ALERT))
        loop.run()
    assert orderly(recorder, b"firstonetwosix")


def test_s8_a_peer_that_asks_for_key_updates_and_does_not_read_is_ended(loop, tcp):
    """Each asks for an answer; what waits for it stays bounded."""
    recorder, context = Recorder(error=lambda socket, error: None), client_context()
    with keylog(context) as keys:
        socket, peer = tls_accepted(loop, tcp, recorder, context, rcvbuf=4096)
        shrink_send_buffer(socket)
        flood = peer.call(flooding, peer, Sealer(peer, keys))
        loop.run()
        assert flood.result() < 4 << 20
    assert recorder.names()[-1] == "close"
    assert isinstance(recorder.close_error, OSError)
    assert recorder.count("data") == 0


def flooding(peer, sealer):
    """Key updates until the connection breaks; how many bytes of them."""
    sent = 0
    while sent < 4 << 20:
        block = b"".join(sealer.key_update() for _ in range(200))
        try:
            peer.sock.sendall(block)
        except ConnectionError:
            break
        sent += len(block)
    return sent


@tls_sides
def test_s8_renegotiation_is_refused_and_the_connection_lives_on(loop, tcp, side):
    """A ClientHello, or the request for one, after the handshake of TLS 1.2."""
    recorder, context = Recorder(data=echo), context_of(side, TLSv1_2)
    with keylog(context) as keys:
        _socket, peer = side(loop, tcp, recorder, context)
        hello = records(bytes(peer.went))[0][1] if side is tls_accepted else HELLO_REQUEST
        sealer = Sealer(peer, keys)
        peer.send(sealer.seal(hello, HANDSHAKE) + sealer.seal(b"go on"))
        loop.run_until(lambda: recorder.count("data"))
        peer.send(sealer.seal(b"\1\0", ALERT))
        loop.run()
    assert orderly(recorder, b"go on")
    answers = records(peer.raw_to_end().result())  # OpenSSL's own peer would give up at the first
    assert [(kind, len(content) - GCM) for kind, content in answers] == [(ALERT, 2), (DATA, 5), (ALERT, 2)]
