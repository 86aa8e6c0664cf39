"""CONTRACT.md, Connecting (C4, C5): what `await connect(tls=...)` gives, and cancelling it."""

from __future__ import annotations

import asyncio
import gc
import ssl

import pytest
from support import Recorder
from support.addresses import bound_not_listening, dialled
from support.asyncio_loops import on_every_loop
from support.coroutines import descriptors_untouched, done, nothing_open, turns, until
from support.endpoints import connect
from support.handlers import Boom, echo, ignore, raising
from support.programs import run_program
from support.tls import CLIENT_TLS, SERVER_TLS, STRANGE_SERVER, Silent, TLSRecorder, meet, settled, speaker, talk

import pybuntcp
from pybuntcp import ReadyState


def listening(tcp, recorder=None, tls=SERVER_TLS):
    return tcp.listen(recorder or Recorder(data=echo), tls=tls)


# ---------------------------------------------------------------- C4: the awaitable


@on_every_loop
async def test_c4_await_connect_gives_a_socket_whose_handshake_is_done(tcp):
    listener = listening(tcp)
    client = Recorder()
    socket = await tcp.connect(client, listener, tls=CLIENT_TLS)
    listener.stop()
    assert socket is client.socket
    assert socket.ready_state == ReadyState.ESTABLISHED
    assert socket.get_tls_version() == "TLSv1.3"
    assert socket.authorized
    socket.close()


@on_every_loop
async def test_c4_await_connect_with_a_handshake_handler_gives_the_socket_after_the_verdict(tcp):
    listener = listening(tcp)
    client = TLSRecorder()
    socket = await tcp.connect(client, listener, tls=CLIENT_TLS)
    listener.stop()
    assert client.order() == ["open", "handshake"]
    assert socket is client.socket
    socket.close()


@on_every_loop
async def test_c4_await_connect_without_handlers_gives_a_socket_to_read_from(tcp):
    listener = listening(tcp)
    socket = await tcp.connect(None, listener, tls=CLIENT_TLS)
    listener.stop()
    socket.write(b"hello")
    assert await socket.reader().readexactly(5) == b"hello"
    socket.close()


@on_every_loop
async def test_c4_await_connect_raises_what_connect_error_was_given_of_a_refusal(tcp):
    listener = listening(tcp, tls=STRANGE_SERVER.options)
    client = Recorder()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        await tcp.connect(client, listener, tls=CLIENT_TLS)
    listener.stop()
    assert client.order() == ["connect_error"]
    assert client.args("connect_error") == [(caught.value,)]


@on_every_loop
async def test_c4_await_connect_with_a_handshake_handler_raises_the_verdict(tcp):
    listener = listening(tcp, tls=STRANGE_SERVER.options)
    client = TLSRecorder()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        await tcp.connect(client, listener, tls=CLIENT_TLS)
    listener.stop()
    await until(lambda: client.count("close"))
    assert client.verdict == (False, caught.value)
    assert "connect_error" not in client.order()


@on_every_loop
async def test_c4_await_connect_without_handlers_raises_a_refusal(tcp):
    listener = listening(tcp, tls=STRANGE_SERVER.options)
    with pytest.raises(ssl.SSLCertVerificationError):
        await tcp.connect(None, listener, tls=CLIENT_TLS)
    listener.stop()


@on_every_loop
async def test_c4_everybody_who_awaits_is_given_the_outcome(tcp):
    for tls, kind in ((SERVER_TLS, pybuntcp.Socket), (STRANGE_SERVER.options, ssl.SSLCertVerificationError)):
        listener = listening(tcp, tls=tls)
        connecting = tcp.connect(Recorder(), listener, tls=CLIENT_TLS)

        async def wait(connecting=connecting):
            return await connecting

        outcomes = await asyncio.gather(wait(), wait(), return_exceptions=True)
        assert [type(each) for each in outcomes] == [kind, kind]
        assert outcomes[0] is outcomes[1]
        listener.stop(True)


@on_every_loop
async def test_c4_a_hundred_connections_at_once_are_all_secured(tcp):
    server = Recorder(data=echo)
    listener = listening(tcp, server)
    sockets = await asyncio.gather(*[_awaited(tcp, listener) for _ in range(100)])
    assert {socket.get_tls_version() for socket in sockets} == {"TLSv1.3"}
    await until(lambda: server.count("open") == 100)
    listener.stop(True)


async def _awaited(tcp, listener):
    return await tcp.connect(Recorder(), listener, tls=CLIENT_TLS)


def test_c4_a_descriptor_that_is_connected_can_be_secured(loop, tcp):
    listener = listening(tcp)
    client = speaker()
    tls = {**CLIENT_TLS, "server_name": "localhost"}
    connecting = connect(client, fd=dialled(listener.port).detach(), tls=tls)
    loop.run_until(lambda: settled(client))
    listener.stop()
    loop.run()
    assert client.received() == b"ping"
    assert connecting.result().authorized


def test_c4_a_unix_socket_can_be_secured(loop, unix):
    ends = talk(loop, unix, client_tls={**CLIENT_TLS, "server_name": "localhost"})
    assert ends.client.received() == b"ping"
    assert ends.client.order() == ["open", "data", "end", "close"]


def test_c2_what_connect_error_raises_of_a_refusal_is_what_the_awaitable_raises(loop, tcp):
    boom = Boom()
    ends = talk(loop, tcp, STRANGE_SERVER.options, client=Recorder(connect_error=raising(boom)))
    assert ends.error is boom


@pytest.mark.parametrize("kind", [Recorder, TLSRecorder])
def test_c2_a_connect_that_is_refused_by_tcp_goes_to_connect_error_with_tls_too(loop, kind):
    client = kind()
    with bound_not_listening() as port:
        connecting = pybuntcp.connect(socket=client.handlers, hostname="127.0.0.1", port=port, tls=CLIENT_TLS)
        loop.run()
    assert client.order() == ["connect_error"]
    assert isinstance(connecting.exception(), ConnectionRefusedError)


@pytest.mark.standalone("an asyncio loop reports elsewhere; asyncio/test_awaiting.py has that")
@pytest.mark.parametrize(("without", "reports"), [((), 0), (("connect_error",), 1)])
def test_c2_a_refusal_that_nobody_asks_for_is_reported_unless_connect_error_exists(loop, tcp, without, reports):
    listener = listening(tcp, tls=STRANGE_SERVER.options)
    listener.unref()
    with loop.reports() as heard:
        connect(Recorder(without=without), hostname="127.0.0.1", port=listener.port, tls=CLIENT_TLS)
        loop.run()
        gc.collect()
    assert [type(error) for error in heard] == [ssl.SSLCertVerificationError] * reports


# ---------------------------------------------------------------- C5: cancelling


@on_every_loop
async def test_c5_cancelling_at_any_turn_of_the_handshake_leaves_nothing(tcp):
    outcomes = set()
    for count in range(16):
        client, server = Recorder(), Recorder(error=ignore)
        listener = listening(tcp, server)
        with descriptors_untouched():
            connecting = tcp.connect(client, listener, tls=CLIENT_TLS)
            await turns(count)
            cancelled = connecting.cancel()
            outcomes.add(cancelled)
            listener.stop(True)
            if not cancelled:
                connecting.result().close()
            await nothing_open()
        assert cancelled == connecting.cancelled()
        assert not cancelled or client.order() == []
    assert True in outcomes


@on_every_loop
async def test_c5_cancelling_the_task_that_awaits_closes_the_attempt(tcp):
    with Silent(tcp) as silent:
        client = Recorder()
        task = asyncio.ensure_future(_wait(tcp.connect(client, silent.server, tls=CLIENT_TLS)))
        await done(silent.peer.recv(1))  # of the ClientHello
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_open()
        assert client.order() == []


async def _wait(connecting):
    return await connecting


def test_c5_cancelling_during_the_handshake_runs_no_handler(loop, tcp):
    with Silent(tcp) as silent:
        client = Recorder()
        connecting = tcp.connect(client, silent.server, tls=CLIENT_TLS)
        loop.wait(silent.peer.recv(1))
        assert connecting.cancel()
        loop.run()
        assert client.order() == []
        assert connecting.cancelled()
        silent.peer.recv_until_eof().ignore()


@pytest.mark.standalone("it runs in a process of its own")
def test_c5_cancelling_in_open_tells_nothing_but_close():
    source = """
        with socket.create_server(("127.0.0.1", 0)) as server:
            told = []
            handlers = {
                "data": print,
                "open": lambda socket: told.append(["open", connecting.cancel()]),
                "handshake": lambda socket, *args: told.append(["handshake"]),
                "close": lambda socket, error: told.append(["close", error]),
            }
            port = server.getsockname()[1]
            connecting = pybuntcp.connect(hostname="127.0.0.1", port=port, socket=handlers, tls=True)
            pybuntcp.run()
            say([told, connecting.cancelled(), pybuntcp.stats()["open_sockets"]])
    """
    assert run_program(source) == [[[["open", True], ["close", None]], True, 0]]


def test_c5_cancelling_in_the_handshake_handler_closes(loop, tcp):
    cancelled = []
    client = TLSRecorder(handshake=lambda *told: cancelled.append(ends.connecting.cancel()))
    ends = meet(tcp, client=client)
    loop.run_until(lambda: client.count("close"))
    ends.listener.stop()
    loop.run()
    assert cancelled == [True]
    assert client.order() == ["open", "handshake", "close"]
    assert ends.connecting.cancelled()
