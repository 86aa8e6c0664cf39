"""CONTRACT.md, "TLS" and W5: endings while a message of the peer's between its data is half there, and what waiting costs.

Our close_notify waits for the rest of the message (see test_half_messages_writing), as long as for a peer that takes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from support import LATE, TIMEOUT, Recorder, accepted, finish_and_wait
from support.asyncio_loops import on_every_loop
from support.coroutines import done, turns, until
from support.tls_messages import HalfMessage, HalfMessageHere
from support.tls_peer import tls_sides

import pybuntcp

SOON = 0.1
one_loop = pytest.mark.standalone("what is sent when is the core's to say, whatever turns it")


# ---------------------------------------------------------------- ending


@tls_sides
def test_w5_end_waits_and_sends_close_notify_behind_its_data(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
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
def test_w5_a_close_notify_alone_waits_too(loop, tcp, side, verb):
    with HalfMessage(loop, tcp, side) as made:
        getattr(made.socket, verb)()
        assert made.silent()
        assert made.recorder.names() == ["open"]
        made.peer.send(made.rest())
        assert loop.wait(made.peer.read_to_end()) == (b"", "close_notify")
        made.finish()
    assert made.recorder.names() == (["open", "close"] if verb == "close" else ["open", "end", "close"])
    assert made.recorder.close_error is None


@tls_sides
def test_w5_close_waits_and_sends_close_notify_behind_what_was_written(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
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
    with HalfMessage(loop, tcp, side, linger_timeout=SOON) as made:
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
    with HalfMessage(loop, tcp, side, linger_timeout=SOON) as made:
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
def test_t1_an_idle_timeout_is_called_and_closes(loop, tcp, side):
    with HalfMessage(loop, tcp, side, idle_timeout=SOON) as made:
        made.socket.write(b"never sent")
        loop.run()
        assert made.peer.read_to_end().result(TIMEOUT) == (b"", "reset")
    assert made.recorder.names() == ["open", "timeout", "close"]
    assert isinstance(made.recorder.close_error, TimeoutError)


@one_loop
@tls_sides
def test_w5_terminate_resets_at_once(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
        made.socket.write(b"never sent")
        made.socket.terminate()
        loop.run()
        assert made.peer.read_to_end().result(TIMEOUT) == (b"", "reset")
    assert made.recorder.names() == ["open", "close"]


# ---------------------------------------------------------------- the message never comes


@one_loop
@tls_sides
def test_s4_an_end_of_file_while_something_waits_is_a_truncation(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
        made.socket.write(b"never sent")
        finish_and_wait(made.socket, made.peer)
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert type(made.recorder.close_error) is ssl.SSLEOFError


@one_loop
@pytest.mark.parametrize("what", ["end of file", "data", "alert"])
@tls_sides
def test_w5_what_becomes_of_a_peer_after_close_is_no_news(loop, tcp, side, what):
    with HalfMessage(loop, tcp, side) as made:
        made.socket.close()
        if what == "end of file":
            finish_and_wait(made.socket, made.peer)
        else:
            made.peer.send(made.fatal_alert() if what == "alert" else made.seal(b"data"))
        loop.run()
    assert made.recorder.names() == ["open", "close"]
    assert made.recorder.close_error is None


@one_loop
@tls_sides
def test_r3_a_reset_while_something_waits_is_one(loop, tcp, side):
    with HalfMessage(loop, tcp, side) as made:
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
    with HalfMessage(loop, tcp, side) as made:
        if paused:
            made.socket.pause()
        made.socket.write(b"never sent")
        made.peer.send(made.fatal_alert() if what == "a fatal alert" else made.seal(b"data"))
        loop.run()
    assert made.recorder.names() == ["open", "error", "close"]
    assert isinstance(made.recorder.close_error, ssl.SSLError)
    assert made.recorder.args("error") == [(made.recorder.close_error,)]


@one_loop
@tls_sides
def test_s4_a_close_notify_in_the_middle_of_the_message_ends_what_waits(loop, tcp, side):
    with HalfMessage(loop, tcp, side, linger_timeout=None) as made:
        made.socket.write(b"never sent")
        made.peer.send(made.close_notify())
        loop.run()
    assert made.recorder.names()[-1] == "close"
    assert isinstance(made.recorder.close_error, ssl.SSLError)


# ---------------------------------------------------------------- what waiting costs


@one_loop
@pytest.mark.parametrize("how", ["write", "sink", "end", "close", "paused"])
@tls_sides
def test_a_loop_that_waits_for_the_rest_of_a_message_sleeps(loop, tcp, side, how):
    with HalfMessage(loop, tcp, side) as made:
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
    made = await HalfMessageHere.of(tcp, recorder)
    sink = made.socket.sink()
    made.peer.send(made.data_and_half(b"data"))
    await until(lambda: recorder.count("data"))
    sink.write(b"waits")
    drained = asyncio.ensure_future(sink.drain())
    await turns(20)
    spent, turned = time.process_time(), pybuntcp.stats()["turns"]
    await asyncio.sleep(0.3)
    assert time.process_time() - spent < 0.15
    assert pybuntcp.stats()["turns"] - turned < 10
    assert not drained.done()
    made.peer.send(made.rest() + made.sealer.close_notify())
    await drained
    assert await done(made.peer.read(5)) == b"waits"
    await until(lambda: recorder.count("close"))
