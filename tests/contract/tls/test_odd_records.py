"""CONTRACT.md, "TLS": S4, records that are odd and allowed, and streams with anything changed in them at random.

Whatever a peer sends: what is delivered is the beginning of what was sealed, and the connection ends with one `close`.
"""

from __future__ import annotations

import random
import ssl

import pytest
from support import Recorder, pattern, send_and_wait
from support.handlers import echo, ignore
from support.tls import SERVER_TLS, TLSRecorder
from support.tls_messages import Crafted
from support.tls_peer import (
    client_context,
    context_of,
    dialling,
    hello,
    tls_accepted,
    tls_connected,
    tls_sides,
    versions,
)
from support.tls_records import ALERT, HANDSHAKE, record, records

pytestmark = pytest.mark.standalone("what the bytes mean is the engine's to say, which knows no loops")

CLOSE_NOTIFY, USER_CANCELED = b"\1\0", b"\1\x5a"


@versions
@tls_sides
def test_r1_empty_records_are_no_data(loop, tcp, side, version):
    with Crafted(loop, tcp, side, version) as made:
        odd = b"".join(made.seal(b"") for _ in range(20))
        send_and_wait(made.socket, made.peer, odd + made.seal(b"x") + made.seal(CLOSE_NOTIFY, ALERT))
        loop.run()
    assert made.recorder.names() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"x"


@versions
def test_s4_empty_records_without_end_are_ended_or_cost_nothing(loop, tcp, version):
    with Crafted(loop, tcp, tls_accepted, version) as made:
        made.peer.send(b"".join(made.seal(b"") for _ in range(3000))).ignore()
        made.peer.send(made.seal(CLOSE_NOTIFY, ALERT)).ignore()
        loop.run()
    assert made.recorder.names()[0] == "open"
    assert made.recorder.names()[-1] == "close"
    assert made.recorder.count("data") == 0


@tls_sides
def test_s4_padding_is_no_data(loop, tcp, side):
    """TLS 1.3 lets a peer hide lengths."""
    with Crafted(loop, tcp, side) as made:
        made.peer.send(made.seal(b"hidden", padding=10_000) + made.seal(b"", padding=500))
        made.peer.send(made.seal(CLOSE_NOTIFY, ALERT, padding=100))
        loop.run()
    assert made.recorder.names() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"hidden"


@versions
@tls_sides
def test_s4_a_warning_is_no_error(loop, tcp, side, version):
    with Crafted(loop, tcp, side, version) as made:
        made.peer.send(made.seal(USER_CANCELED, ALERT) + made.seal(b"x") + made.seal(CLOSE_NOTIFY, ALERT))
        loop.run()
    assert made.recorder.names() == ["open", "data", "end", "close"]
    assert made.recorder.close_error is None


@versions
@pytest.mark.parametrize("kind", [0, 24, 99])
def test_s4_a_record_of_an_unknown_type_is_error_and_then_close(loop, tcp, version, kind):
    with Crafted(loop, tcp, tls_accepted, version) as made:
        made.peer.send(made.seal(b"what is this?", kind) + made.seal(b"late"))
        loop.run()
    assert made.recorder.names() == ["open", "error", "close"]
    assert isinstance(made.recorder.close_error, ssl.SSLError)


@versions
@pytest.mark.parametrize("alert", [b"", b"\2", b"\2\x50\2\x50", b"\3\x50"], ids=["empty", "half", "two", "level"])
def test_s4_a_malformed_alert_is_error_and_then_close(loop, tcp, version, alert):
    with Crafted(loop, tcp, tls_accepted, version) as made:
        made.peer.send(made.seal(alert, ALERT) + made.seal(b"late"))
        made.peer.shutdown()
        loop.run()
    assert made.recorder.names() == ["open", "error", "close"]
    assert isinstance(made.recorder.close_error, ssl.SSLError)


def test_s8_a_server_may_send_tickets_without_end(loop, tcp):
    """Each takes the place of the one before."""
    ticket = b"\0\0\x1c\x20" + b"abcd" + b"\x08" + b"nonce  1" + b"\0\x20" + bytes(range(32)) + b"\0\0"
    message = b"\4" + len(ticket).to_bytes(3, "big") + ticket
    with Crafted(loop, tcp, tls_connected) as made:
        for _ in range(20):
            made.peer.send(b"".join(made.seal(message, HANDSHAKE) for _ in range(50)))
        made.peer.send(made.seal(b"at last") + made.seal(CLOSE_NOTIFY, ALERT))
        loop.run()
    assert made.recorder.names() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"at last"


# ---------------------------------------------------------------- the handshake in pieces


def test_s4_a_client_hello_in_records_of_one_byte_is_understood(loop, tcp):
    listener = tcp.listen(Recorder(data=echo), tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    ((kind, content),) = records(peer.step().result())
    peer.send(b"".join(record(kind, content[at : at + 1], 0x0301) for at in range(len(content))))
    peer.write(b"x")
    assert loop.wait(peer.read(1)) == b"x"


def test_s4_a_client_hello_changed_at_random_is_refused_or_understood(loop, tcp):
    """Never opened, never left behind, and the listener lives on."""
    dice, recorder = random.Random(3), TLSRecorder()
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "sni": {"other.example": SERVER_TLS}})
    said = hello()
    for _ in range(80):
        peer = tcp.peer(listener)
        peer.send(mutated(dice, said))
        peer.shutdown()
        loop.wait(peer.recv_until_eof())
    loop.run_until(lambda: recorder.count("close") == 80)
    assert recorder.count("handshake") == 80
    assert not any(args[0] for args in recorder.args("handshake"))
    assert listener.connections == 0


def mutated(dice, data):
    """With some bytes changed, removed, doubled, or other ones put in."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 8])):
        at = dice.randrange(len(changed))
        size = dice.choice([1, 1, 2, 30])
        how = dice.randrange(4)
        if how == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            del changed[at : at + size]
        elif how == 2:
            changed[at:at] = changed[at : at + size]
        else:
            changed[at:at] = dice.randbytes(size)
        if not changed:
            break
    return bytes(changed)


@versions
@tls_sides
def test_s4_of_a_stream_changed_at_random_only_the_good_beginning_is_delivered(loop, tcp, side, version):
    dice, data = random.Random(4), pattern(5000)
    for _ in range(25):
        recorder = Recorder(error=ignore)
        context = context_of(side, version)
        _socket, peer = side(loop, tcp, recorder, context)
        sealed = b"".join(peer.seal(data[at : at + 500]).result() for at in range(0, 5000, 500))
        whole = sealed + peer.sealed_notify().result()
        sent = mutated(dice, whole)
        peer.send(sent).ignore()
        peer.shutdown().ignore()
        loop.run()
        received = recorder.received()
        assert data.startswith(received)
        assert len(received) % 500 == 0
        good = next((at for at, pair in enumerate(zip(sent, whole, strict=False)) if pair[0] != pair[1]), len(sent))
        assert len(received) // 500 == min(good // (len(sealed) // 10), 10)
        assert recorder.count("close") == 1
        assert recorder.close_error is not None or received == data
        peer.stop()
