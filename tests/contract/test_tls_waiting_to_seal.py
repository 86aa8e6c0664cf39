"""CONTRACT.md, "TLS" and "Writing": what is written while a message of the peer's between its data is half there.

A key update or a ticket may come in pieces (RFC 8446, section 5.1), behind a slow link for a long time. OpenSSL seals
nothing meanwhile. What is written waits, as it does for a peer that does not read, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time

import pytest
from support import LATE, TIMEOUT, Recorder, accepted, finish_and_wait, pattern, send_and_wait, unread_bytes
from support_awaits import Notes, done, on_every_loop, turns
from support_tls import SERVER_TLS
from support_tls_peer import (
    ALERT,
    HANDSHAKE,
    Crafted,
    Sealer,
    client_context,
    dialling,
    keylog,
    tls_accepted,
    tls_sides,
)

import pybuntcp
from pybuntcp import ReadyState

CLOSE_NOTIFY, FATAL = b"\1\0", b"\2\x50"
KEY_UPDATE = bytes.fromhex("1800000100")  # update_not_requested
TICKET = b"\0\0\x1c\x20" + b"abcd" + b"\x08" + b"nonce  1" + b"\0\x20" + bytes(range(32)) + b"\0\0"
TICKET = b"\4" + len(TICKET).to_bytes(3, "big") + TICKET
SOON = 0.1
one_loop = pytest.mark.standalone("what is sent when is the core's to say, whatever turns it")


class Halved(Crafted):
    """A socket of ours whose peer has sent half a message, and we have looked at it."""

    cut = 4

    def __enter__(self):
        super().__enter__()
        loop, _, side, _ = self._parts
        self.loop, self.updating = loop, side is tls_accepted
        self.message = KEY_UPDATE if self.updating else TICKET
        loop.settle()
        send_and_wait(self.socket, self.peer, self.begun())
        loop.settle()
        self.before = self.unread()
        return self

    def begun(self):
        return self.seal(self.message[: self.cut], HANDSHAKE)

    def rest(self):
        """The record that makes it whole."""
        made = self.seal(self.message[self.cut :], HANDSHAKE)
        if self.updating:
            self.sealer.update_keys()
        return made

    def unread(self):
        """Bytes that the peer's kernel has."""
        return unread_bytes(self.peer.sock)

    def silent(self):
        """Nothing has been sent since the half message came."""
        self.loop.settle()
        return self.unread() == self.before

    def farewell(self):
        return self.seal(CLOSE_NOTIFY, ALERT)

    def finish(self):
        self.peer.send(self.farewell())
        self.loop.run()


# ---------------------------------------------------------------- writing


@tls_sides
def test_w8_what_is_written_in_the_middle_of_a_message_waits_for_its_end(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        assert made.socket.write(b"one ") == 4
        assert made.socket.write(b"two ") == 4
        assert made.silent()
        assert (made.socket.pending, made.socket.bytes_written) == (8, 0)
        assert made.socket.ready_state == ReadyState.ESTABLISHED
        made.peer.send(made.rest() + made.seal(b"more"))
        loop.run_until(lambda: made.recorder.count("data"))
        assert made.socket.write(b"three") == 5
        assert loop.wait(made.peer.read(13)) == b"one two three"
        assert made.socket.pending == 0
        made.finish()
    assert made.recorder.order() == ["open", "data", "end", "close"]
    assert made.recorder.close_error is None


@one_loop
@tls_sides
def test_w8_each_further_piece_of_the_message_is_no_end_of_it(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        made.socket.write(b"patience")
        rest = made.rest()
        for at in range(len(rest) - 1):
            send_and_wait(made.socket, made.peer, rest[at : at + 1])
            loop.settle()
            assert made.unread() == made.before
        made.peer.send(rest[-1:])
        assert loop.wait(made.peer.read(8)) == b"patience"
        made.finish()


@one_loop
@tls_sides
def test_w4_a_write_past_the_mark_is_short_and_drain_comes_once_when_the_rest_has_come(loop, tcp, side):
    with Halved(loop, tcp, side, high_water_mark=1000) as made:
        assert made.socket.write(pattern(5000)) == 1000
        assert made.socket.write(b"x") == 0
        assert made.silent()
        assert made.socket.pending == 1000
        assert made.recorder.count("drain") == 0
        made.peer.send(made.rest())
        loop.run_until(lambda: made.recorder.count("drain"))
        assert made.socket.pending == 0
        assert loop.wait(made.peer.read(1000)) == pattern(5000)[:1000]
        made.finish()
    assert made.recorder.count("drain") == 1


@one_loop
@tls_sides
def test_w3_a_mark_of_0_keeps_one_byte_meanwhile(loop, tcp, side):
    with Halved(loop, tcp, side, high_water_mark=0) as made:
        assert made.socket.write(b"abc") == 1
        assert made.socket.write(b"bc") == 0
        made.peer.send(made.rest())
        loop.run_until(lambda: made.recorder.count("drain"))
        assert made.socket.write(b"bc") == 2
        assert loop.wait(made.peer.read(3)) == b"abc"
        made.finish()


@one_loop
@tls_sides
def test_w2_what_is_corked_meanwhile_leaves_in_its_order(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        with made.socket.cork():
            made.socket.write(b"one ")
            made.socket.write(b"two ")
        made.socket.flush()
        made.socket.write(b"three ")
        sink = made.socket.sink()
        sink.write(b"four ")
        sink.flush()
        assert made.silent()
        made.peer.send(made.rest())
        assert loop.wait(made.peer.read(19)) == b"one two three four "
        made.finish()


@one_loop
@tls_sides
def test_a_sink_keeps_what_is_below_its_limit_meanwhile(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        sink, told = made.socket.sink(high_water_mark=100, limit=1000), []
        sink.write(pattern(1000)[:900])
        with pytest.raises(BufferError):
            sink.write(bytes(101))
        sink.write(pattern(1000)[900:])
        sink.add_drain_callback(told.append)
        assert made.silent()
        assert (sink.pending, sink.full, told) == (1000, True, [])
        made.peer.send(made.rest())
        assert loop.wait(made.peer.read(1000)) == pattern(1000)
        loop.settle()
        assert (sink.pending, told) == (0, [None])
        made.finish()


@one_loop
@tls_sides
def test_w8_what_a_handler_writes_where_half_a_message_came_with_its_data_waits(loop, tcp, side):
    functions = {"data": lambda socket, chunk: socket.write(b"answer to " + chunk)}
    with Halved(loop, tcp, side, functions=functions) as made:
        both = made.rest() + made.seal(b"one") + made.begun()
        send_and_wait(made.socket, made.peer, both)
        loop.run_until(lambda: made.recorder.count("data"))
        assert made.silent()
        made.peer.send(made.rest() + made.seal(b"two"))
        assert loop.wait(made.peer.read(26)) == b"answer to oneanswer to two"
        made.finish()


@one_loop
@tls_sides
def test_w8_many_writes_and_many_messages_in_pieces_keep_their_order(loop, tcp, side):
    dice = random.Random(7)
    with Halved(loop, tcp, side, high_water_mark=1 << 22) as made:
        sent, said, sizes = 0, b"", [1, 100, 5000, 40_000]
        data = pattern(1 << 20)
        for turn in range(40):
            pieces = made.rest() + made.seal(b"%3d" % turn) + made.begun()
            said += b"%3d" % turn
            while pieces:
                size = dice.choice([1, 7, 30, 200])
                send_and_wait(made.socket, made.peer, pieces[:size])
                pieces = pieces[size:]
                size = dice.choice(sizes) if sent < 900_000 else 1
                assert made.socket.write(data[sent : sent + size]) == size
                sent += size
                loop.settle()
        made.peer.send(made.rest())
        assert loop.wait(made.peer.read(sent)) == data[:sent]
        made.finish()
    assert made.recorder.received() == said


# ---------------------------------------------------------------- who does not read meanwhile


@one_loop
@tls_sides
def test_r4_a_paused_socket_drains_and_its_data_waits_for_resume(loop, tcp, side):
    """Who reads on when what was written has left must not wait for ever."""
    functions = {"drain": lambda socket: socket.resume()}
    with Halved(loop, tcp, side, high_water_mark=10, functions=functions) as made:
        made.socket.pause()
        made.socket.write(bytes(20))
        made.peer.send(made.rest() + made.seal(b"behind it"))
        loop.run_until(lambda: made.recorder.count("data"))
        assert made.recorder.names() == ["open", "drain", "data"]
        assert made.recorder.received() == b"behind it"
        made.finish()


@one_loop
@tls_sides
def test_r4_what_comes_behind_the_message_is_not_told_while_paused(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        made.socket.write(b"written")
        made.socket.pause()
        send_and_wait(made.socket, made.peer, made.rest() + made.seal(b"one"))
        assert loop.wait(made.peer.read(7)) == b"written"
        send_and_wait(made.socket, made.peer, made.seal(b"two") + made.farewell())
        loop.settle()
        assert made.recorder.names() == ["open"]
        made.socket.resume()
        loop.run()
    assert made.recorder.order() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"onetwo"


async def halved(tcp, recorder, **options):
    """As Halved, in a coroutine: an accepted socket, its peer, a Sealer, and what made the message half is sent last."""
    listener = tcp.listen(recorder, tls=SERVER_TLS, **options)
    context = client_context()
    with keylog(context) as keys:
        peer = dialling(tcp, listener, context)
        await done(peer.handshake())
        while not recorder.sockets:
            await turns()
        sealer = Sealer(peer, keys)
    listener.stop()
    return recorder.socket, peer, sealer


def end_of_message(sealer):
    made = sealer.seal(KEY_UPDATE[4:], HANDSHAKE)
    sealer.update_keys()
    return made


@on_every_loop
async def test_h2_an_async_handler_that_waits_for_its_drain_goes_on(tcp):
    """Its socket gives no further data meanwhile, and is read for the message alone."""
    waiting = []

    async def data(socket, chunk):
        sink = socket.sink()
        sink.write(b"answer to " + chunk)
        waiting.append(chunk)
        await sink.drain()

    recorder = Notes(data=data)
    _socket, peer, sealer = await halved(tcp, recorder)
    peer.send(sealer.seal(b"one") + sealer.seal(KEY_UPDATE[:4], HANDSHAKE))
    while not waiting:
        await turns()
    await turns(20)
    assert recorder.names() == ["open", "data"]
    peer.send(end_of_message(sealer) + sealer.seal(b"two") + sealer.seal(CLOSE_NOTIFY, ALERT))
    assert await done(peer.read(26)) == b"answer to oneanswer to two"
    while not recorder.count("close"):
        await turns()
    assert recorder.names() == ["open", "data", "/data", "data", "/data", "end", "close"]


@on_every_loop
async def test_a_reader_that_is_full_does_not_hold_up_a_drain(tcp):
    recorder = Recorder()
    socket, peer, sealer = await halved(tcp, recorder)
    reader, sink = socket.reader(limit=10), socket.sink()
    peer.send(sealer.seal(bytes(10)) + sealer.seal(KEY_UPDATE[:4], HANDSHAKE))
    assert await reader.readexactly(1) == b"\0"
    peer.send(end_of_message(sealer) + sealer.seal(b"1") + sealer.seal(KEY_UPDATE[:4], HANDSHAKE))
    await turns(50)
    sink.write(b"written")
    await turns(20)
    peer.send(end_of_message(sealer) + sealer.seal(b"behind it") + sealer.seal(CLOSE_NOTIFY, ALERT))
    await sink.drain()
    assert await done(peer.read(7)) == b"written"
    assert await reader.read() == bytes(9) + b"1behind it"
    while not recorder.count("close"):
        await turns()


# ---------------------------------------------------------------- ending


@tls_sides
def test_w5_end_waits_and_says_goodbye_behind_its_data(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        assert made.socket.end(b"the last") == 8
        assert made.socket.write(b"x") == -1
        assert made.silent()
        made.peer.send(made.rest() + made.seal(b"still read"))
        assert loop.wait(made.peer.read_to_end()) == (b"the last", "close_notify")
        made.finish()
    assert made.recorder.order() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"still read"


@one_loop
@pytest.mark.parametrize("verb", ["end", "shutdown", "close"])
@tls_sides
def test_w5_a_farewell_alone_waits_too(loop, tcp, side, verb):
    with Halved(loop, tcp, side) as made:
        getattr(made.socket, verb)()
        assert made.silent()
        assert made.recorder.names() == ["open"]
        made.peer.send(made.rest())
        assert loop.wait(made.peer.read_to_end()) == (b"", "close_notify")
        made.finish()
    assert made.recorder.names() == (["open", "close"] if verb == "close" else ["open", "end", "close"])
    assert made.recorder.close_error is None


@tls_sides
def test_w5_close_waits_and_says_goodbye_behind_what_was_written(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        made.socket.write(b"the last")
        made.socket.close()
        assert made.silent()
        made.peer.send(made.rest() + made.seal(b"not told any more"))
        assert loop.wait(made.peer.read_to_end()) == (b"the last", "close_notify")
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert made.recorder.close_error is None


@one_loop
@pytest.mark.parametrize("verb", ["end", "close"])
@pytest.mark.parametrize("data", [b"", b"data"])
@tls_sides
def test_w5_a_message_that_is_never_whole_is_waited_for_as_long_as_a_peer_that_takes_nothing(
    loop, tcp, side, data, verb
):
    with Halved(loop, tcp, side, linger_timeout=SOON) as made:
        start = time.monotonic()
        made.socket.write(data)
        getattr(made.socket, verb)()
        loop.run()
        assert SOON <= time.monotonic() - start < SOON + LATE
        assert made.peer.read_to_end().result(TIMEOUT) == (b"", "reset")
    assert made.recorder.names() == ["open", "close"]
    assert isinstance(made.recorder.close_error, TimeoutError)


@one_loop
@tls_sides
def test_w5_pieces_that_drip_do_not_put_the_end_off(loop, tcp, side):
    """A message of many records, each of which is no end of it."""
    with Halved(loop, tcp, side, linger_timeout=SOON) as made:
        start = time.monotonic()
        made.socket.close()
        made.peer.call(drip, made).ignore()
        loop.run()
        assert SOON <= time.monotonic() - start < SOON + LATE
    assert isinstance(made.recorder.close_error, TimeoutError)


def drip(made):
    """A byte of a record each now and then."""
    for byte in made.rest()[:-1]:
        made.peer.sock.sendall(bytes([byte]))
        time.sleep(SOON / 10)


@one_loop
@tls_sides
def test_t1_an_idle_timeout_is_told_and_closes(loop, tcp, side):
    with Halved(loop, tcp, side, idle_timeout=SOON) as made:
        made.socket.write(b"never sent")
        loop.run()
        assert made.peer.read_to_end().result(TIMEOUT) == (b"", "reset")
    assert made.recorder.names() == ["open", "timeout", "close"]
    assert isinstance(made.recorder.close_error, TimeoutError)


@one_loop
@tls_sides
def test_w5_terminate_resets_at_once(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        made.socket.write(b"never sent")
        made.socket.terminate()
        loop.run()
        assert made.peer.read_to_end().result(TIMEOUT) == (b"", "reset")
    assert made.recorder.names() == ["open", "close"]


# ---------------------------------------------------------------- the message never comes


@one_loop
@tls_sides
def test_s4_an_end_of_file_while_something_waits_is_a_truncation(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        made.socket.write(b"never sent")
        finish_and_wait(made.socket, made.peer)
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert type(made.recorder.close_error) is ssl.SSLEOFError


@one_loop
@pytest.mark.parametrize("what", ["end of file", "data", "alert"])
@tls_sides
def test_w5_what_becomes_of_a_peer_after_close_is_no_news(loop, tcp, side, what):
    with Halved(loop, tcp, side) as made:
        made.socket.close()
        if what == "end of file":
            finish_and_wait(made.socket, made.peer)
        else:
            made.peer.send(made.seal(FATAL, ALERT) if what == "alert" else made.seal(b"data"))
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert made.recorder.close_error is None


@one_loop
@tls_sides
def test_r3_a_reset_while_something_waits_is_one(loop, tcp, side):
    with Halved(loop, tcp, side) as made:
        made.socket.write(b"never sent")
        made.peer.reset()
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert type(made.recorder.close_error) is ConnectionResetError


@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
@pytest.mark.parametrize("what", ["data", "a fatal alert"])
@tls_sides
def test_s4_an_error_in_the_message_while_something_waits_is_error_and_then_close(loop, tcp, side, what, paused):
    """Also to a paused socket: nothing can be sent any more, and nothing more will come."""
    with Halved(loop, tcp, side) as made:
        if paused:
            made.socket.pause()
        made.socket.write(b"never sent")
        made.peer.send(made.seal(FATAL, ALERT) if what == "a fatal alert" else made.seal(b"data"))
        loop.run()
    assert made.recorder.names() == ["open", "error", "close"]
    assert isinstance(made.recorder.close_error, ssl.SSLError)
    assert made.recorder.args("error") == [(made.recorder.close_error,)]


@one_loop
@tls_sides
def test_s4_a_farewell_in_the_middle_of_the_message_ends_what_waits(loop, tcp, side):
    with Halved(loop, tcp, side, linger_timeout=None) as made:
        made.socket.write(b"never sent")
        made.peer.send(made.farewell())
        loop.run()
    assert made.recorder.names()[-1] == "close"
    assert isinstance(made.recorder.close_error, ssl.SSLError)


# ---------------------------------------------------------------- what waiting costs


@one_loop
@pytest.mark.parametrize("how", ["write", "sink", "end", "close", "paused"])
@tls_sides
def test_a_loop_that_waits_for_the_rest_of_a_message_sleeps(loop, tcp, side, how):
    with Halved(loop, tcp, side) as made:
        if how == "sink":
            sink = made.socket.sink()
            sink.write(b"waits")
            sink.add_drain_callback(lambda error: None)
        elif how == "paused":
            made.socket.pause()
            made.socket.write(b"waits")
        else:
            getattr(made.socket, how)(*([b"waits"] if how != "close" else []))
        watch = Recorder(timeout=lambda socket: socket.terminate())
        clock, _ = accepted(loop, tcp, watch)
        loop.settle()
        turns_before, spent = pybuntcp.stats()["turns"], time.process_time()
        clock.timeout(0.3)
        loop.run_until(lambda: watch.count("close"))
        assert pybuntcp.stats()["turns"] - turns_before < 10
        assert time.process_time() - spent < 0.15
        made.socket.terminate()
        loop.run()


@on_every_loop
async def test_an_asyncio_loop_that_waits_for_the_rest_of_a_message_sleeps(tcp):
    recorder = Recorder()
    socket, peer, sealer = await halved(tcp, recorder)
    sink = socket.sink()
    peer.send(sealer.seal(b"data") + sealer.seal(KEY_UPDATE[:4], HANDSHAKE))
    while not recorder.count("data"):
        await turns()
    sink.write(b"waits")
    drained = asyncio.ensure_future(sink.drain())
    await turns(20)
    spent, turned = time.process_time(), pybuntcp.stats()["turns"]
    await asyncio.sleep(0.3)
    assert time.process_time() - spent < 0.15
    assert pybuntcp.stats()["turns"] - turned < 10
    assert not drained.done()
    peer.send(end_of_message(sealer) + sealer.seal(CLOSE_NOTIFY, ALERT))
    await drained
    assert await done(peer.read(5)) == b"waits"
    while not recorder.count("close"):
        await turns()


# ---------------------------------------------------------------- anything, in any order


@one_loop
@pytest.mark.parametrize("seed", range(8))
@tls_sides
def test_w8_random_verbs_among_messages_in_pieces_lose_and_reorder_nothing(loop, tcp, side, seed):
    dice, data = random.Random(seed), pattern(1 << 20)
    echoed = []

    def answer(socket, chunk):
        echoed.append(chunk)
        write(socket, dice.choice([0, 10, 3000]))
        if dice.random() < 0.2:
            socket.pause()

    def write(socket, size):
        made.sent += max(0, socket.write(data[made.sent : made.sent + size]))

    with Halved(loop, tcp, side, functions={"data": answer}, high_water_mark=dice.choice([0, 100, 65536])) as made:
        made.sent, said, pieces = 0, b"", made.rest()
        for turn in range(60):
            if len(pieces) < 200:
                word = b"%04d" % turn
                pieces += made.seal(word) + made.begun() + made.rest()
                said += word
            size = dice.choice([1, 10, 40, 300])
            send_and_wait(made.socket, made.peer, pieces[:size])
            pieces = pieces[size:]
            what = dice.randrange(7)
            if what < 3:
                write(made.socket, dice.choice([1, 500, 50_000]))
            elif what == 3:
                made.socket.pause()
            elif what == 4:
                made.socket.resume()
            elif what == 5:
                with made.socket.cork():
                    write(made.socket, 5)
                    write(made.socket, 700)
            else:
                made.socket.flush()
            if dice.random() < 0.7:
                loop.settle()
        made.peer.send(pieces + made.farewell())
        answered = made.peer.read_to_end()
        while not made.recorder.count("close"):
            made.socket.resume()
            loop.settle()
        assert answered.result(TIMEOUT) == (data[: made.sent], "close_notify")
    assert b"".join(echoed) == said
    assert made.recorder.names()[-2:] == ["end", "close"]
    assert made.recorder.close_error is None
