"""CONTRACT.md, "TLS": S4, messages between records of data (key updates, tickets, renegotiation) that come in pieces, and
what goes wrong inside them.

A message of a handshake may be split over records, and records of other types must not come between (RFC 8446, section
5.1). Whatever comes instead of the rest ends the connection: nobody waits for it.
"""

from __future__ import annotations

import contextlib
import random
import ssl

import pytest
from support import Recorder, descriptors, finish_and_wait, send_and_wait
from support.handlers import echo, ignore
from support.tls import SERVER_TLS
from support.tls_messages import Crafted
from support.tls_peer import (
    client_context,
    context_of,
    dialling,
    finish_handshake,
    server_context,
    tls_accepted,
    tls_connected,
    tls_sides,
    versions,
)
from support.tls_records import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    CLOSE_NOTIFY,
    DATA,
    FATAL,
    HANDSHAKE,
    HELLO_REQUEST,
    KEY_UPDATE_REQUESTED,
    TICKET,
    Sealer,
    keylog,
    record,
    records,
)

TLSv1_2 = ssl.TLSVersion.TLSv1_2
one_loop = pytest.mark.standalone("what the bytes mean is the engine's to say, which knows no loops")
cuts = pytest.mark.parametrize("cut", [1, 3, 4])


def message_to(side):
    """One that a peer of this side may send between its data."""
    return KEY_UPDATE_REQUESTED if side is tls_accepted else TICKET


# What may not come inside a message, or is nothing that can be opened.
WRONG = {
    "data": lambda made: made.seal(b"data"),
    "a fatal alert": lambda made: made.fatal_alert(),
    "a bad record": lambda made: made.seal(b"changed")[:-1] + b"\0",
    "a bad header": lambda made: b"GET / HTTP/1.1\r\n\r\n",
    "an empty message record": lambda made: made.message(b""),
    "a record in plain text": lambda made: record(HANDSHAKE, b"\0"),
    "an unknown type": lambda made: made.seal(b"?", 99),
    "too long a message": lambda made: made.message(b"\xff" * 200),
}


@cuts
@pytest.mark.parametrize("wrong", WRONG)
@tls_sides
def test_s4_an_error_inside_a_message_is_error_and_then_close(loop, tcp, side, wrong, cut):
    message = KEY_UPDATE_REQUESTED if wrong == "too long a message" else message_to(side)
    with Crafted(loop, tcp, side) as made:
        made.peer.send(made.seal(b"before it") + made.message(message[:cut]) + WRONG[wrong](made))
        loop.run()  # the peer does not close
    assert made.recorder.names() == ["open", "data", "error", "close"]
    assert made.recorder.received() == b"before it"
    assert isinstance(made.recorder.close_error, ssl.SSLError)
    assert made.recorder.args("error") == [(made.recorder.close_error,)]


@one_loop
@cuts
@tls_sides
def test_s4_the_end_of_file_inside_a_message_is_a_truncation(loop, tcp, side, cut):
    with Crafted(loop, tcp, side) as made:
        send_and_wait(made.socket, made.peer, made.message(message_to(side)[:cut]))
        loop.settle()
        made.peer.shutdown()
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert type(made.recorder.close_error) is ssl.SSLEOFError


@one_loop
def test_s4_connections_that_break_a_message_leave_no_descriptor(loop, tcp):
    recorder, context = Recorder(error=ignore), client_context()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    counts = []
    for count in range(1, 11):
        with keylog(context) as keys:
            peer = dialling(tcp, listener, context)
            finish_handshake(loop, recorder, peer, count)
            sealer = Sealer(peer, keys)
            peer.send(sealer.message(KEY_UPDATE_REQUESTED[:4]) + sealer.seal(b"between"))
        loop.run_until(lambda count=count: recorder.count("close") == count)
        peer.stop()
        counts.append(len(descriptors()))
    assert counts[-1] == counts[0]
    assert listener.connections == 0


@one_loop
@cuts
@tls_sides
def test_s4_a_message_in_pieces_is_understood(loop, tcp, side, cut):
    """In two records, and those in pieces themselves."""
    with Crafted(loop, tcp, side) as made:
        message = message_to(side)
        sealed = made.message(message[:cut]) + made.message(message[cut:])
        if side is tls_accepted:
            made.sealer.update_keys()
        sealed += made.seal(b"x") + made.close_notify()
        for at in range(0, len(sealed), 7):
            send_and_wait(made.socket, made.peer, sealed[at : at + 7])
            loop.settle()
        loop.run()
    assert made.recorder.names() == ["open", "data", "end", "close"]
    assert made.recorder.close_error is None


@one_loop
@cuts
@tls_sides
def test_s4_a_close_notify_inside_a_message_ends_the_connection(loop, tcp, side, cut):
    """As an end, or as an error: as `ssl` sees it. Nobody waits for the rest of the message."""
    with Crafted(loop, tcp, side, linger_timeout=None) as made:
        made.peer.send(made.message(message_to(side)[:cut]) + made.close_notify())
        loop.run()
    assert made.recorder.names() in (["open", "end", "close"], ["open", "error", "close"])


# ---------------------------------------------------------------- TLS 1.2


@one_loop
@pytest.mark.parametrize("cut", [1, 2, 3])
@tls_sides
def test_s8_renegotiation_that_comes_in_pieces_is_refused_and_the_connection_lives_on(loop, tcp, side, cut):
    with Crafted(loop, tcp, side, TLSv1_2, {"data": echo}) as made:
        hello = records(bytes(made.peer.went))[0][1] if side is tls_accepted else HELLO_REQUEST
        send_and_wait(made.socket, made.peer, made.message(hello[:cut]))
        loop.settle()
        assert made.socket.write(b"in between") == 10  # there is nothing that a write would have to wait for
        made.peer.send(made.message(hello[cut:]) + made.seal(b"go on"))
        loop.run_until(lambda: made.recorder.count("data"))
        made.peer.send(made.close_notify())
        loop.run()
    assert made.recorder.names() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"go on"
    assert made.recorder.close_error is None
    answers = records(made.peer.raw_to_end().result())
    assert [kind for kind, _ in answers if kind != HANDSHAKE] == [DATA, ALERT, DATA, ALERT]


@one_loop
@pytest.mark.parametrize("cut", [1, 3, 4, 40])
@tls_sides
def test_s4_a_truncation_inside_a_renegotiation_is_one(loop, tcp, side, cut):
    with Crafted(loop, tcp, side, TLSv1_2) as made:
        hello = records(bytes(made.peer.went))[0][1] if side is tls_accepted else HELLO_REQUEST
        send_and_wait(made.socket, made.peer, made.message(hello[:cut]))
        finish_and_wait(made.socket, made.peer)
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert type(made.recorder.close_error) is ssl.SSLEOFError


# ---------------------------------------------------------------- beside `ssl`


class Reference:
    """Two ends of `ssl` in memory: what one makes of the records that are crafted with the keys of the other."""

    def __init__(self, side, version):
        ours, self.came, self.went = OURS[side](version), bytearray(), bytearray()
        self.server = side is tls_connected
        self._in, self._out, into, out = (ssl.MemoryBIO() for _ in range(4))
        name = {"server_hostname": "localhost"}
        self._tls = ours.wrap_bio(self._in, self._out, server_side=not self.server, **(name if self.server else {}))
        context = context_of(side, version)
        with keylog(context) as keys:
            self.tls = context.wrap_bio(into, out, server_side=self.server, **({} if self.server else name))
            for _ in range(4):
                self._step(self.tls, out, self._in, self.went)
                self._step(self._tls, self._out, into, self.came)
            self.sealer = Sealer(self, keys)

    @staticmethod
    def _step(tls, out, into, passed):
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        data = out.read()
        passed += data
        into.write(data)

    def read(self, sent):
        """What is opened of it and of an end of file behind it, and how it ends."""
        self._in.write(sent)
        received = b""
        while True:
            try:
                chunk = self._tls.read(65536)
            except ssl.SSLWantReadError:
                return received, "cut off"
            except ssl.SSLError as error:
                return received, reason_of(error)
            if not chunk:
                return received, "end"
            received += chunk


def our_server(version):
    context = server_context(version)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def our_client(version):
    context = client_context(version)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


OURS = {tls_accepted: our_server, tls_connected: our_client}


def any_record(dice, sealer, message, updates):
    """A record that is good, odd, or wrong."""
    cut = dice.randrange(len(message) + 1)
    what = dice.randrange(14)
    if what < 4:
        return sealer.seal(dice.randbytes(dice.choice([0, 1, 50])))
    if what < 8:
        return sealer.message(message[:cut]) + (sealer.message(message[cut:]) if what < 6 else b"")
    if what == 8:
        return sealer.key_update() if updates else sealer.message(HELLO_REQUEST)
    if what == 9:
        return sealer.seal(dice.choice([CLOSE_NOTIFY, FATAL, b"\1\x5a", b"\2", b""]), ALERT)
    if what == 10:
        return sealer.seal(dice.randbytes(dice.choice([0, 3, 60])), HANDSHAKE)
    if what == 11:
        return record(dice.choice([CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA]), dice.choice([b"", b"\1", bytes(30)]))
    if what == 12:
        return sealer.seal(b"x", dice.choice([0, CHANGE_CIPHER_SPEC, 24, 99]))
    changed = bytearray(sealer.seal(b"changed"))
    changed[dice.randrange(5, len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def any_stream(seed, sealer, side, version):
    dice = random.Random(seed)
    message = HELLO_REQUEST if version is TLSv1_2 else message_to(side)
    return b"".join(any_record(dice, sealer, message, version is not TLSv1_2) for _ in range(dice.choice([1, 3, 6])))


@one_loop
@versions
@pytest.mark.parametrize("seeds", [range(at, at + 15) for at in range(0, 60, 15)], ids=str)
@tls_sides
def test_s4_random_records_end_a_connection_as_they_do_one_of_ssl(loop, tcp, side, version, seeds):
    """The same data, and the same end: an orderly one, this error, or a truncation."""
    for seed in seeds:
        reference = Reference(side, version)
        expected = reference.read(any_stream(seed, reference.sealer, side, version))
        with Crafted(loop, tcp, side, version) as made:
            sent, dice = any_stream(seed, made.sealer, side, version), random.Random(seed)
            at = 0
            while at < len(sent):
                size = dice.choice([1, 20, 1000])
                made.peer.send(sent[at : at + size]).ignore()
                at += size
            made.peer.shutdown().ignore()
            loop.run()
        end = how(made.recorder)
        if expected[1] == "RECORD_LAYER_FAILURE":  # of OpenSSL 3.2 and later, which ours replaces by its cause
            assert end not in ("end", "cut off"), seed
            end = expected[1]
        assert (made.recorder.received(), end) == expected, seed
        assert made.recorder.count("close") == 1
        made.peer.stop()


def how(recorder):
    error = recorder.close_error
    if recorder.count("end"):
        assert error is None
        return "end"
    return "cut off" if type(error) is ssl.SSLEOFError else reason_of(error)


def reason_of(error):
    """CPython has a name for most reasons, by version; it has the others in the text alone: "[SSL] internal error (..."."""
    words = str(error).partition("] ")[2].partition(" (")[0]
    return error.reason or words.upper().replace(" ", "_")
