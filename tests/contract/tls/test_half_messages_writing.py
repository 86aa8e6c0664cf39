"""CONTRACT.md, "TLS" and "Writing": what is written while a message of the peer's between its data is half there.

A key update or a ticket may come in pieces (RFC 8446, section 5.1), behind a slow link for a long time. OpenSSL seals
nothing meanwhile. What is written waits, as it does for a peer that does not read, and nothing is lost.
"""

from __future__ import annotations

import random

import pytest
from support import TIMEOUT, Recorder, pattern, send_and_wait
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import done, turns, until
from support.tls_messages import HalfMessage, HalfMessageHere
from support.tls_peer import tls_sides

from pybuntcp import ReadyState

one_loop = pytest.mark.standalone("what is sent when is the core's to say, whatever turns it")


# ---------------------------------------------------------------- writing


@tls_sides
def test_w8_what_is_written_in_the_middle_of_a_message_waits_for_its_end(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
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
    with HalfMessage(loop, tcp, side) as made:
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
    with HalfMessage(loop, tcp, side, high_water_mark=1000) as made:
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
    with HalfMessage(loop, tcp, side, high_water_mark=0) as made:
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
    with HalfMessage(loop, tcp, side) as made:
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
    with HalfMessage(loop, tcp, side) as made:
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
    with HalfMessage(loop, tcp, side, functions=functions) as made:
        both = made.rest() + made.seal(b"one") + made.begin()
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
    with HalfMessage(loop, tcp, side, high_water_mark=1 << 22) as made:
        sent, said, sizes = 0, b"", [1, 100, 5000, 40_000]
        data = pattern(1 << 20)
        for turn in range(40):
            pieces = made.rest() + made.seal(b"%3d" % turn) + made.begin()
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
    with HalfMessage(loop, tcp, side, high_water_mark=10, functions=functions) as made:
        made.socket.pause()
        made.socket.write(bytes(20))
        made.peer.send(made.rest() + made.seal(b"behind it"))
        loop.run_until(lambda: made.recorder.count("data"))
        assert made.recorder.names() == ["open", "drain", "data"]
        assert made.recorder.received() == b"behind it"
        made.finish()


@one_loop
@tls_sides
def test_r4_what_comes_behind_the_message_is_not_delivered_while_paused(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
        made.socket.write(b"written")
        made.socket.pause()
        send_and_wait(made.socket, made.peer, made.rest() + made.seal(b"one"))
        assert loop.wait(made.peer.read(7)) == b"written"
        send_and_wait(made.socket, made.peer, made.seal(b"two") + made.close_notify())
        loop.settle()
        assert made.recorder.names() == ["open"]
        made.socket.resume()
        loop.run()
    assert made.recorder.order() == ["open", "data", "end", "close"]
    assert made.recorder.received() == b"onetwo"


@on_every_loop
async def test_h2_an_async_handler_that_waits_for_its_drain_goes_on(tcp):
    """Its socket gives no further data meanwhile, and is read for the message alone."""

    async def data(socket, chunk):
        sink = socket.sink()
        sink.write(b"answer to " + chunk)
        await sink.drain()

    recorder = Notes(data=data)
    made = await HalfMessageHere.of(tcp, recorder)
    made.peer.send(made.data_and_half(b"one"))
    await until(lambda: recorder.count("data"))
    await turns(20)
    assert recorder.names() == ["open", "data"]
    made.peer.send(made.rest() + made.sealer.seal(b"two") + made.sealer.close_notify())
    assert await done(made.peer.read(26)) == b"answer to oneanswer to two"
    await until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "data", "/data", "data", "/data", "end", "close"]


@on_every_loop
async def test_a_reader_that_is_full_does_not_hold_up_a_drain(tcp):
    recorder = Recorder()
    made = await HalfMessageHere.of(tcp, recorder)
    reader, sink = made.socket.reader(limit=10), made.socket.sink()
    made.peer.send(made.data_and_half(bytes(10)))
    assert await reader.readexactly(1) == b"\0"
    made.peer.send(made.rest() + made.data_and_half(b"1"))
    await turns(50)
    sink.write(b"written")
    await turns(20)
    made.peer.send(made.rest() + made.sealer.seal(b"behind it") + made.sealer.close_notify())
    await sink.drain()
    assert await done(made.peer.read(7)) == b"written"
    assert await reader.read() == bytes(9) + b"1behind it"
    await until(lambda: recorder.count("close"))


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

    with HalfMessage(loop, tcp, side, functions={"data": answer}, high_water_mark=dice.choice([0, 100, 65536])) as made:
        made.sent, said, pieces = 0, b"", made.rest()
        for turn in range(60):
            if len(pieces) < 200:
                word = b"%04d" % turn
                pieces += made.seal(word) + made.begin() + made.rest()
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
        made.peer.send(pieces + made.close_notify())
        answered = made.peer.read_to_end()
        while not made.recorder.count("close"):
            made.socket.resume()
            loop.settle()
        assert answered.result(TIMEOUT) == (data[: made.sent], "close_notify")
    assert b"".join(echoed) == said
    assert made.recorder.names()[-2:] == ["end", "close"]
    assert made.recorder.close_error is None
