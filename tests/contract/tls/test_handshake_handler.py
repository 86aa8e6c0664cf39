"""CONTRACT.md, TLS (S3) and Connecting (C4): when `open` and `handshake` come, and what may be done in them."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from support import Recorder
from support.async_handlers import pause, raising_later
from support.asyncio_loops import on_every_loop
from support.coroutines import nothing_open, until
from support.handlers import Boom, echo, ignore, raising
from support.tls import (
    CLIENT_TLS,
    STRANGE_SERVER,
    TLSRecorder,
    established,
    finish,
    hang_up,
    joined,
    meet,
    ping,
    speaker,
    talk,
)

from pybuntcp import ReadyState

sides = pytest.mark.parametrize("side", ["server", "client"])


def both(side, acting, other=None):
    """The recorders of `talk`: `acting` on this side."""
    return {side: acting, other_of(side): other or Recorder(label=other_of(side))}


def other_of(side):
    return "client" if side == "server" else "server"


def of(ends, side):
    """(its recorder, the other's)"""
    return getattr(ends, side), getattr(ends, other_of(side))


# ---------------------------------------------------------------- the order


@sides
def test_c4_with_a_handshake_handler_open_comes_at_connect_and_handshake_tells_the_verdict(loop, tcp, side):
    states = []
    acting = TLSRecorder(
        open=lambda socket: states.append((socket.ready_state, socket.get_tls_version())),
        handshake=lambda socket, *told: states.append((socket.ready_state, socket.get_tls_version())),
        data=lambda socket, chunk: socket.end(),
    )
    ends = joined(loop, tcp, **both(side, acting))
    of(ends, side)[1].socket.write(b"x")
    loop.run()
    assert acting.order() == ["open", "handshake", "data", "end", "close"]
    assert acting.verdict == (True, None)
    assert states == [(ReadyState.OTHER, None), (ReadyState.ESTABLISHED, "TLSv1.3")]


@sides
def test_c4_without_a_handshake_handler_open_comes_after_the_handshake(loop, tcp, side):
    states = []
    acting = Recorder(open=lambda socket: states.append((socket.ready_state, socket.get_tls_version())))
    finish(loop, joined(loop, tcp, **both(side, acting)))
    assert states == [(ReadyState.ESTABLISHED, "TLSv1.3")]
    assert acting.count("open") == 1


def test_c4_the_awaitable_is_settled_after_the_verdict(loop, tcp):
    settled = []
    note = lambda *args: settled.append(ends.connecting.done())  # noqa: E731
    ends = meet(tcp, client=TLSRecorder(open=note, handshake=note))
    assert not ends.connecting.done()
    loop.run_until(lambda: established(ends.client) and established(ends.server))
    assert settled[0] is False
    assert ends.connecting.result() is ends.client.socket
    ends.listener.stop()
    finish(loop, ends)


def test_c4_with_a_handshake_handler_a_refusal_is_handshake_and_close_and_the_awaitable_raises(loop, tcp):
    client = TLSRecorder()
    ends = talk(loop, tcp, STRANGE_SERVER.options, client=client)
    assert client.order() == ["open", "handshake", "close"]
    success, error = client.verdict
    assert (success, client.close_error) == (False, error)
    assert ends.error is error
    with pytest.raises(ssl.SSLCertVerificationError):
        ends.connecting.result()


def test_c4_without_a_handshake_handler_connect_error_tells_a_refusal_and_nothing_else_comes(loop, tcp):
    ends = talk(loop, tcp, STRANGE_SERVER.options)
    assert ends.client.order() == ["connect_error"]
    assert isinstance(ends.refusal, ssl.SSLCertVerificationError)
    assert ends.error is ends.refusal


def test_s3_on_a_server_a_client_that_refuses_it_goes_to_the_handshake_handler(loop, tcp):
    server = TLSRecorder()
    talk(loop, tcp, STRANGE_SERVER.options, server=server)
    success, error = server.verdict
    assert (success, server.close_error) == (False, error)
    assert isinstance(error, ssl.SSLError)
    assert server.order() == ["open", "handshake", "close"]


@sides
def test_s3_handshake_is_called_once(loop, tcp, side):
    acting = TLSRecorder(data=echo if side == "server" else hang_up)
    ends = both(side, acting)
    ends[other_of(side)] = speaker() if side == "server" else Recorder(data=echo, open=ping)
    talk(loop, tcp, **ends)
    assert acting.count("handshake") == acting.count("open") == acting.count("close") == 1


# ---------------------------------------------------------------- what `handshake` may do


@sides
def test_h1_a_handshake_handler_that_raises_goes_to_error_and_the_connection_lives(loop, tcp, side):
    boom = Boom()
    acting = TLSRecorder(handshake=raising(boom), error=ignore)
    ends = joined(loop, tcp, **both(side, acting))
    here, there = of(ends, side)
    there.socket.write(b"still here?")
    loop.run_until(lambda: here.received() == b"still here?")
    assert here.args("error") == [(boom,)]
    assert ends.error is None
    finish(loop, ends)


def test_h1_a_handshake_handler_that_raises_for_a_refused_peer_goes_to_error_before_close(loop, tcp):
    boom = Boom()
    client = TLSRecorder(handshake=raising(boom), error=ignore)
    ends = talk(loop, tcp, STRANGE_SERVER.options, client=client)
    assert client.order() == ["open", "handshake", "error", "close"]
    assert client.args("error") == [(boom,)]
    assert isinstance(ends.error, ssl.SSLCertVerificationError)


@sides
def test_s3_what_a_handshake_handler_writes_arrives(loop, tcp, side):
    acting = TLSRecorder(handshake=lambda socket, *told: socket.write(b"welcome"))
    ends = joined(loop, tcp, **both(side, acting))
    _, there = of(ends, side)
    loop.run_until(lambda: there.received() == b"welcome")
    finish(loop, ends)


@sides
def test_s3_a_handshake_handler_may_end_with_last_words(loop, tcp, side):
    ends = talk(loop, tcp, **both(side, TLSRecorder(handshake=lambda socket, *told: socket.end(b"go away"))))
    here, there = of(ends, side)
    assert there.received() == b"go away"
    assert there.order() == ["open", "data", "end", "close"]
    assert (here.close_error, there.close_error) == (None, None)
    assert ends.error is None


@sides
def test_s3_a_handshake_handler_may_close(loop, tcp, side):
    closing = TLSRecorder(handshake=lambda socket, *told: socket.close())
    ends = talk(loop, tcp, **both(side, closing, Recorder(open=ping, error=ignore)))
    here, there = of(ends, side)
    assert here.order() == ["open", "handshake", "close"]
    assert here.close_error is None
    assert there.order()[-1] in ("close", "connect_error")


@sides
def test_s3_a_handshake_handler_may_terminate(loop, tcp, side):
    ends = talk(loop, tcp, **both(side, TLSRecorder(handshake=lambda socket, *told: socket.terminate())))
    here, there = of(ends, side)
    assert here.order() == ["open", "handshake", "close"]
    if side == "client":  # with it may go its last word of the handshake
        assert there.order() in ([], ["open", "close"])
    else:
        assert there.order() in (["connect_error"], ["open", "close"])


@sides
def test_r4_a_handshake_handler_that_pauses_is_given_data_when_resumed(loop, tcp, side):
    acting = TLSRecorder(handshake=lambda socket, *told: socket.pause())
    ends = joined(loop, tcp, **both(side, acting))
    here, there = of(ends, side)
    there.socket.end(b"later")
    loop.settle()
    assert here.order() == ["open", "handshake"]
    here.socket.resume()
    loop.run()
    assert here.order() == ["open", "handshake", "data", "end", "close"]
    assert here.received() == b"later"


@sides
def test_h3_a_handshake_handler_that_reloads_has_the_new_handlers_called_for_what_follows(loop, tcp, side):
    new = Recorder(label="new")
    acting = TLSRecorder(handshake=lambda socket, *told: socket.reload(new.handlers))
    ends = joined(loop, tcp, **both(side, acting))
    of(ends, side)[1].socket.end(b"for the new ones")
    loop.run()
    assert acting.order() == ["open", "handshake"]
    assert new.order() == ["data", "end", "close"]


# ---------------------------------------------------------------- what `open` may do, before the handshake


@sides
def test_s5_what_is_written_in_open_arrives_after_the_handshake(loop, tcp, side):
    acting = TLSRecorder(open=lambda socket: socket.write(b"early"))
    ends = joined(loop, tcp, **both(side, acting))
    _, there = of(ends, side)
    loop.run_until(lambda: there.received() == b"early")
    finish(loop, ends)


@sides
def test_s5_an_end_in_open_comes_after_the_handshake_and_what_was_written(loop, tcp, side):
    def open(socket):
        assert socket.write(b"all ") == 4
        assert socket.end(b"at once") == 7
        assert socket.write(b"more") == -1

    ends = talk(loop, tcp, **both(side, TLSRecorder(open=open)))
    here, there = of(ends, side)
    assert here.count("handshake") == 1
    assert there.received() == b"all at once"
    assert there.order() == ["open", "data", "end", "close"]


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_w5_a_client_may_be_closed_in_open(loop, tcp, verb):
    ends = talk(loop, tcp, client=TLSRecorder(open=lambda socket: getattr(socket, verb)()))
    assert ends.client.order() == ["open", "close"]
    assert ends.client.close_error is None
    assert isinstance(ends.error, ConnectionAbortedError)
    assert ends.server.order() == []


@pytest.mark.parametrize(("verb", "told"), [("close", ssl.SSLEOFError), ("terminate", ConnectionResetError)])
def test_w5_a_server_may_close_in_open(loop, tcp, verb, told):
    ends = talk(loop, tcp, server=TLSRecorder(open=lambda socket: getattr(socket, verb)()))
    assert ends.server.order() == ["open", "close"]
    assert ends.server.close_error is None
    assert ends.client.order() == ["connect_error"]
    assert isinstance(ends.refusal, told)


@sides
def test_r4_a_pause_in_open_does_not_keep_the_handshake(loop, tcp, side):
    acting = TLSRecorder(open=lambda socket: socket.pause())
    ends = joined(loop, tcp, **both(side, acting))
    here, there = of(ends, side)
    there.socket.write(b"later")
    loop.settle()
    assert here.order() == ["open", "handshake"]
    here.socket.resume()
    loop.run_until(lambda: here.received() == b"later")
    finish(loop, ends)


@sides
def test_h1_an_open_that_raises_before_the_handshake_closes(loop, tcp, side):
    boom = Boom()
    acting = TLSRecorder(open=raising(boom), error=ignore)
    ends = talk(loop, tcp, **both(side, acting))
    here, there = of(ends, side)
    assert here.args("error") == [(boom,)]
    assert here.order() == ["open", "error", "close"]
    assert there.order() == (["connect_error"] if side == "server" else [])


# ---------------------------------------------------------------- async handlers


@on_every_loop
async def test_h2_data_waits_for_an_async_handshake_handler(tcp):
    server = TLSRecorder(handshake=pause, data=lambda socket, chunk: socket.end())
    ends = meet(tcp, server=server, client=Recorder(open=ping))
    await ends.connecting
    await until(lambda: server.count("close"))
    ends.listener.stop()
    assert server.order() == ["open", "handshake", "/handshake", "data", "end", "close"]


@on_every_loop
async def test_h2_handshake_waits_for_an_async_open(tcp):
    for side in ("server", "client"):
        acting = TLSRecorder(open=pause)
        ends = meet(tcp, **both(side, acting))
        await ends.connecting
        await until(lambda acting=acting: acting.count("handshake"))
        assert acting.order()[:3] == ["open", "/open", "handshake"]
        ends.listener.stop(True)
        await nothing_open()


@on_every_loop
async def test_h2_an_async_handshake_handler_that_raises_goes_to_error_and_the_connection_lives(tcp):
    boom = Boom()
    server = TLSRecorder(handshake=raising_later(boom), error=ignore, data=echo)
    client = Recorder(open=ping)
    ends = meet(tcp, server=server, client=client)
    await until(lambda: client.received() == b"ping")
    assert server.order()[:5] == ["open", "handshake", "/handshake", "error", "data"]
    assert server.args("error") == [(boom,)]
    ends.listener.stop(True)


@on_every_loop
async def test_h2_an_async_handshake_handler_may_close(tcp):
    async def handshake(socket, success, error):
        await asyncio.sleep(0)
        socket.close()

    server = TLSRecorder(handshake=handshake)
    client = Recorder()
    ends = meet(tcp, server=server, client=client)
    await until(lambda: client.count("close") and server.count("close"))
    ends.listener.stop()
    assert server.order() == ["open", "handshake", "/handshake", "close"]
    assert client.order() == ["open", "end", "close"]


@on_every_loop
async def test_h2_an_async_handshake_handler_is_given_a_refusal_before_close(tcp):
    client = TLSRecorder(handshake=pause)
    ends = meet(tcp, STRANGE_SERVER.options, CLIENT_TLS, client=client)
    with pytest.raises(ssl.SSLCertVerificationError):
        await ends.connecting
    await until(lambda: client.count("close"))
    ends.listener.stop()
    assert client.order() == ["open", "handshake", "/handshake", "close"]
