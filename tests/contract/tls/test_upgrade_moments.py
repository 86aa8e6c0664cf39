"""CONTRACT.md, "TLS": S6, R6, an upgrade at every moment of a plain connection's life: in each handler, corked, paused, late."""

from __future__ import annotations

import asyncio
import gc
import ssl

import pytest
from support import Feed, Recorder, finish_and_wait, pattern, shrink_send_buffer
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import done, until
from support.handlers import echo
from support.tls import TLSRecorder
from support.tls_peer import accepting, client_context, dialling, each_side, server_context, unsecured, upgraded

import pybuntcp

one_loop = pytest.mark.standalone("what is sent and read in what order is nothing that a loop decides")


def works(loop, peer, secured):
    """An echo through the secured half; then it is ended from there."""
    peer.write(b"works?")
    assert loop.wait(peer.read(6)) == b"works?"
    peer.notify()
    loop.run()
    assert secured.names() == ["open", "data", "end", "close"]
    assert secured.close_error is None


@one_loop
@each_side
def test_r6_an_upgrade_inside_drain(loop, tcp, kind):
    secured = Recorder(label="secured", data=echo)
    recorder = Recorder(label="raw", drain=lambda socket: upgraded(socket, secured, kind))
    socket, peer = unsecured(loop, tcp, recorder, kind)
    feed = Feed(8 << 20)
    feed.fill(socket)
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    works(loop, peer, secured)
    assert recorder.names() == ["open", "drain"]


@one_loop
@each_side
def test_r6_an_upgrade_inside_timeout(loop, tcp, kind):
    """Which is no reason to close any more."""
    secured = Recorder(label="secured", data=echo)
    recorder = Recorder(label="raw", timeout=lambda socket: upgraded(socket, secured, kind))
    socket, peer = unsecured(loop, tcp, recorder, kind)
    socket.timeout(0.01)
    loop.run_until(lambda: recorder.count("timeout"))
    works(loop, peer, secured)
    assert recorder.names() == ["open", "timeout"]


@one_loop
def test_r6_an_upgrade_inside_end_is_a_truncation(loop, tcp):
    """The peer will say nothing more."""
    secured = TLSRecorder(label="secured")
    recorder = Recorder(label="raw", end=lambda socket: upgraded(socket, secured, "accepted"))
    socket, peer = unsecured(loop, tcp, recorder, "accepted", allow_half_open=True)
    finish_and_wait(socket, peer)
    loop.run()
    assert recorder.names() == ["open", "end"]
    assert secured.names() == ["open", "handshake", "close"]
    assert isinstance(secured.close_error, ssl.SSLEOFError)


@one_loop
def test_r6_an_upgrade_inside_error_of_the_raw_half(loop, tcp):
    def data(socket, chunk):
        raise KeyError("what the error handler is told")

    secured = Recorder(label="secured", data=echo)
    recorder = Recorder(label="raw", data=data, error=lambda socket, error: upgraded(socket, secured, "accepted"))
    _socket, peer = unsecured(loop, tcp, recorder, "accepted")
    peer.send(b"!")
    loop.run_until(lambda: recorder.count("error"))
    works(loop, peer, secured)


@one_loop
@each_side
def test_w8_an_upgrade_inside_a_cork_sends_what_was_gathered_first(loop, tcp, kind):
    secured = Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), kind)
    with socket.cork():
        socket.write(b"gathered ")
        upgraded(socket, secured, kind)
        assert socket.write(b"late") == -1
    assert loop.wait(peer.recv_exactly(9)) == b"gathered "
    works(loop, peer, secured)


@one_loop
def test_w8_a_sinks_bytes_go_out_plain_before_the_upgrade(loop, tcp):
    secured = Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), "accepted")
    sink = socket.sink()
    sink.write(b"from the sink ")
    sink.flush()
    upgraded(socket, secured, "accepted")
    assert loop.wait(peer.recv_exactly(14)) == b"from the sink "
    with pytest.raises((BrokenPipeError, ValueError)):
        sink.write(b"late")
    works(loop, peer, secured)


@one_loop
@each_side
def test_r4_an_upgrade_of_a_paused_socket_reads_on_for_the_handshake(loop, tcp, kind):
    secured = Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), kind)
    socket.pause()
    upgraded(socket, secured, kind)
    works(loop, peer, secured)


@one_loop
@each_side
def test_r4_the_secured_half_may_be_paused_before_its_handshake(loop, tcp, kind):
    secured = Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), kind)
    made = upgraded(socket, secured, kind)
    made.pause()
    loop.wait(peer.handshake())
    peer.write(b"waits").result()
    loop.run_until(lambda: secured.sockets)
    loop.settle()
    assert secured.names() == ["open"]
    made.resume()
    loop.run_until(lambda: secured.count("data"))
    assert secured.received() == b"waits"
    made.terminate()


@one_loop
@pytest.mark.parametrize("verb", ["close", "terminate", "end"])
@each_side
def test_r6_the_secured_half_may_be_ended_at_once(loop, tcp, kind, verb):
    recorder, secured = Recorder(label="raw"), TLSRecorder(label="secured")
    socket, peer = unsecured(loop, tcp, recorder, kind, linger_timeout=0.2, handshake_timeout=0.2)
    getattr(upgraded(socket, secured, kind), verb)()
    peer.raw_to_end().ignore()
    loop.run()
    assert recorder.names() == ["open"]
    assert secured.names()[-1:] in ([], ["close"])
    assert set(loop.gauges().values()) == {0}


@one_loop
def test_l2_stopping_the_listener_closes_a_half_that_waits_for_its_plaintext(loop, tcp):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured")
    listener = tcp.listen(recorder, linger_timeout=0.2)
    peer = dialling(tcp, listener, client_context(), rcvbuf=4096)
    loop.run_until(lambda: recorder.sockets)
    Feed(8 << 20).fill(recorder.socket)
    made = upgraded(recorder.socket, secured, "accepted")
    listener.stop(True)
    loop.run()
    assert made.ready_state == pybuntcp.ReadyState.DETACHED  # it was never open
    assert listener.connections == 0
    peer.raw_to_end().result()


@one_loop
@each_side
def test_s6_nobody_need_keep_the_secured_half(loop, tcp, kind):
    secured = Recorder(label="secured", data=echo)
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), kind)
    upgraded(socket, secured, kind)
    del socket
    gc.collect()
    works(loop, peer, secured)


@one_loop
def test_l2_an_unreferenced_socket_stays_so(loop, tcp):
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), "accepted")
    socket.unref()
    made = upgraded(socket, Recorder(label="secured"), "accepted")
    loop.run()  # returns at once
    made.terminate()
    loop.settle()
    peer.raw_to_end().result()


@one_loop
def test_t1_the_idle_clock_of_the_secured_half_runs(loop, tcp):
    secured = Recorder(label="secured", timeout=lambda socket: None)
    socket, peer = unsecured(loop, tcp, Recorder(label="raw"), "accepted", idle_timeout=0.1)
    upgraded(socket, secured, "accepted")
    loop.wait(peer.handshake())
    loop.run()
    assert secured.names() == ["open", "timeout", "close"]
    assert isinstance(secured.close_error, TimeoutError)


@one_loop
def test_h5_a_hundred_upgrades_leave_nothing(loop, tcp):
    def data(socket, chunk):
        upgraded(socket, secured, "accepted", initial_data=chunk[1:])

    recorder, secured = Recorder(label="raw", data=data), Recorder(label="secured", data=echo)
    client = Recorder(label="client", open=lambda socket: socket.write(b"x"), data=lambda socket, chunk: socket.end())

    def opened(socket):
        socket.write(b"!")
        upgraded(socket, client, "connected")

    listener = tcp.listen(recorder)
    for _ in range(100):
        tcp.connect(Recorder(label="raw client", open=opened), listener)
    loop.run_until(lambda: client.count("close") == secured.count("close") == 100)
    assert client.count("data") == 100
    assert listener.connections == 0
    assert loop.gauges()["open_sockets"] == 0


# ---------------------------------------------------------------- async handlers


@on_every_loop
async def test_h2_an_async_handler_upgrades_and_goes_on(tcp):
    made, secure = [], asyncio.Event()

    async def data(socket, chunk):
        await asyncio.sleep(0)
        socket.write(b"go\n")
        made.append(upgraded(socket, secured, "accepted"))
        await secure.wait()
        made[0].write(b"from the handler of the raw half")

    recorder, secured = Notes(label="raw", data=data), Notes(label="secured", data=echo)
    peer = dialling(tcp, tcp.listen(recorder), client_context())
    peer.send(b"STARTTLS\n")
    assert await done(peer.recv_exactly(3)) == b"go\n"
    await done(peer.handshake())
    await until(lambda: secured.sockets)
    secure.set()
    assert await done(peer.read(32)) == b"from the handler of the raw half"
    peer.write(b"x")
    assert await done(peer.read(1)) == b"x"
    assert recorder.names() == ["open", "data", "/data"]
    made[0].terminate()
    await until(lambda: secured.count("close"))


@on_every_loop
async def test_h2_the_secured_half_may_have_async_handlers(tcp):
    async def data(socket, chunk):
        await asyncio.sleep(0)
        socket.write(chunk)

    secured = Notes(label="secured", data=data)
    server = tcp.raw_server()
    peer = accepting(tcp, server, server_context())
    socket = await tcp.connect(None, server)
    made = upgraded(socket, secured, "connected")
    peer.write(pattern(100_000))
    assert await done(peer.read(100_000)) == pattern(100_000)
    made.terminate()
    await until(lambda: secured.count("close"))


@on_every_loop
async def test_s6_the_secured_half_may_have_a_reader(tcp):
    server = tcp.raw_server()
    peer = accepting(tcp, server, server_context())
    socket = await tcp.connect(None, server)
    shrink_send_buffer(socket)
    opened = asyncio.get_running_loop().create_future()

    async def open(socket):
        opened.set_result(await socket.reader().readexactly(100_000))

    made = socket.upgrade_tls(
        tls={"reject_unauthorized": False}, socket={"open": open, "error": lambda socket, error: None}
    )
    peer.write(pattern(100_000))
    assert await asyncio.wait_for(opened, 5) == pattern(100_000)
    made.terminate()
