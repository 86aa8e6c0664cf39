"""Contract, Handlers (H2): one handler of a socket after the other, in the order of events, and nothing read meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from support import (
    Feed,
    Recorder,
    finish_and_wait,
    hung_up,
    pattern,
    raw,
    send_and_wait,
    shrink_send_buffer,
    unread_bytes,
)
from support.async_handlers import Held, Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, done, repeated, seen, stuff, turns, until
from support.handlers import ignore

import pybuntcp
from pybuntcp import ReadyState


async def held(transport, *names, **options):
    """Notes and a connection whose async `data` has begun and waits for the gate."""
    functions = {key: options.pop(key) for key in list(options) if key in ("data", "drain", "end", "close", "timeout")}
    notes = Held("data", *names, **functions)
    socket, peer = await async_accepted(transport, notes, **options)
    send_and_wait(socket, peer, b"1")
    await until(lambda: notes.count("data"))
    return notes, socket, peer


# ---------------------------------------------------------------- one after the other


@on_every_loop
async def test_h2_data_waits_for_data(transport):
    notes, socket, peer = await held(transport)
    send_and_wait(socket, peer, b"2")
    await turns()
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("/data") == 2)
    assert notes.names() == ["open", "data", "/data", "data", "/data"]
    assert notes.received() == b"12"


@on_every_loop
async def test_h2_data_waits_for_an_async_open(transport):
    notes = Held("open")
    socket, peer = await async_accepted(transport, notes)
    send_and_wait(socket, peer, b"1")
    await turns()
    assert notes.names() == ["open"]
    notes.gate.set()
    await until(lambda: notes.count("data"))
    assert notes.names() == ["open", "/open", "data"]


@on_every_loop
async def test_h2_await_connect_does_not_wait_for_an_async_open(transport):
    notes = Held("open")
    server = transport.raw_server()
    peer = server.accept()
    socket = await transport.connect(notes, server)
    assert notes.count("/open") == 0
    assert socket.write(b"before open has ended") == 21
    assert await done(peer.recv_exactly(21)) == b"before open has ended"
    notes.gate.set()
    await until(lambda: notes.count("/open"))


@on_every_loop
async def test_h2_a_sync_handler_runs_after_the_async_one_before_it(transport):
    notes, _socket, peer = await held(transport)
    peer.shutdown()
    notes.gate.set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "end", "close"]


@on_every_loop
async def test_h2_drain_waits_for_an_async_data(transport):
    notes, socket, peer = await held(transport, rcvbuf=65536)
    feed = Feed(8 << 20)
    feed.fill(socket)
    assert await done(peer.recv_exactly(feed.at)) == feed.accepted
    await seen(lambda: socket.pending == 0, "the bytes with the kernel")
    await turns()
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("drain"))
    assert notes.names() == ["open", "data", "/data", "drain"]


@on_every_loop
async def test_h2_data_waits_for_an_async_drain(transport):
    notes = Held("drain")
    socket, peer = await async_accepted(transport, notes, rcvbuf=65536)
    feed = Feed(8 << 20)
    feed.fill(socket)
    await done(peer.recv_exactly(feed.at))
    await until(lambda: notes.count("drain"))
    send_and_wait(socket, peer, b"1")
    await turns()
    assert notes.names() == ["open", "drain"]
    notes.gate.set()
    await until(lambda: notes.count("data"))
    assert notes.names() == ["open", "drain", "/drain", "data"]


@on_every_loop
async def test_h2_timeout_waits_for_an_async_data(transport):
    """When another socket's longer timeout has been told, ours has been over."""
    clock = Recorder(label="clock", open=lambda socket: socket.timeout(0.03))
    notes, socket, _peer = await held(transport)
    socket.timeout(0.01)
    await async_accepted(transport, clock)
    await until(lambda: clock.count("timeout"))
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "timeout", "close"]
    assert isinstance(notes.close_error, TimeoutError)


@on_every_loop
async def test_h2_the_decision_of_an_async_timeout_comes_after_it(transport):
    async def timeout(socket):
        await turns(3)
        if notes.count("timeout") == 1:
            socket.timeout(0.01)

    notes = Notes(timeout=timeout)
    socket, _peer = await async_accepted(transport, notes)
    socket.timeout(0.01)
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "timeout", "/timeout", "timeout", "/timeout", "close"]


@pytest.mark.parametrize("verb", ["close", "terminate"])
@on_every_loop
async def test_h2_close_waits_for_an_async_data(transport, verb):
    notes, socket, peer = await held(transport)
    getattr(socket, verb)()
    peer.recv_until_eof().ignore()
    peer.close().ignore()
    await turns()
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "close"]


@on_every_loop
async def test_h2_end_is_called_after_the_data_before_it(transport):
    notes, socket, peer = await held(transport)
    send_and_wait(socket, peer, b"2")
    finish_and_wait(socket, peer)
    await turns()
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "data", "/data", "end", "close"]


@on_every_loop
async def test_h2_the_closing_after_the_peers_end_comes_after_an_async_end(transport):
    async def end(socket):
        await turns()
        states.append(socket.ready_state)
        socket.write(b"and goodbye")

    states = []
    notes = Notes(end=end)
    _socket, peer = await async_accepted(transport, notes)
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == b"and goodbye"
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "end", "/end", "close"]
    assert states == [ReadyState.ESTABLISHED]


@on_every_loop
async def test_h2_an_async_error_is_the_next_of_the_handlers(transport):
    def data(socket, chunk):
        if chunk == b"1":
            raise ValueError

    notes = Held("error", data=data)
    socket, peer = await async_accepted(transport, notes)
    send_and_wait(socket, peer, b"1")
    await until(lambda: notes.count("error"))
    send_and_wait(socket, peer, b"2")
    await turns()
    assert notes.names() == ["open", "data", "error"]
    notes.gate.set()
    await until(lambda: notes.count("data") == 2)
    assert notes.names() == ["open", "data", "error", "/error", "data"]


@on_every_loop
async def test_h2_an_async_close_is_last_and_once_and_the_gauge_counts_the_socket_until_it_is_done(transport):
    notes = Held("close")
    socket, _peer = await async_accepted(transport, notes)
    socket.terminate()
    await until(lambda: notes.count("close"))
    await turns()
    assert pybuntcp.stats()["open_sockets"] == 1
    assert socket.ready_state == ReadyState.CLOSED
    notes.gate.set()
    await until(lambda: notes.count("/close"))
    await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the gauge at zero")
    assert notes.names() == ["open", "close", "/close"]


@on_every_loop
async def test_h2_sockets_of_one_listener_run_side_by_side(transport):
    notes = Held("data")
    listener = transport.listen(notes)
    peers = [transport.peer(listener) for _ in range(5)]
    for peer in peers:
        peer.send(b"x")
    await until(lambda: notes.count("data") == 5)
    assert notes.count("/data") == 0
    notes.gate.set()
    await until(lambda: notes.count("/data") == 5)


@on_every_loop
async def test_h2_a_thousand_chunks_are_delivered_in_their_order(transport):
    async def data(socket, chunk):
        for _ in range(len(notes.args("data")) % 3):
            await asyncio.sleep(0)
        arrived.extend(chunk)

    arrived = bytearray()
    notes = Notes(data=data, without=("drain",))
    _socket, peer = await async_accepted(transport, notes)
    peer.call(lambda: [peer.sock.sendall(pattern(40_000)[at : at + 40]) for at in range(0, 40_000, 40)])
    await until(lambda: len(arrived) == 40_000 and notes.count("/data") == notes.count("data"))
    assert bytes(arrived) == pattern(40_000)
    assert notes.names()[1:] == ["data", "/data"] * notes.count("data")


# ---------------------------------------------------------------- not read meanwhile


@on_every_loop
async def test_h2_a_socket_is_not_read_while_an_async_handler_runs(transport):
    notes, socket, peer = await held(transport)
    sent = await done(stuff(peer))
    assert socket.bytes_read == 1
    with raw(socket) as duplicate:
        assert 0 < unread_bytes(duplicate) <= sent
    notes.gate.set()
    await until(lambda: len(notes.received()) == 1 + sent and notes.count("/data") == notes.count("data"))
    assert notes.received()[1:] == repeated(sent)


@on_every_loop
async def test_h2_a_finished_peer_costs_no_turns_while_an_async_handler_runs(transport):
    notes, socket, peer = await held(transport)
    finish_and_wait(socket, peer)
    await turns()
    before = pybuntcp.stats()["turns"]
    await asyncio.sleep(0.1)
    assert pybuntcp.stats()["turns"] - before < 10
    assert hung_up(socket)
    notes.gate.set()
    await until(lambda: notes.count("close"))


# ---------------------------------------------------------------- verbs inside and meanwhile


@pytest.mark.parametrize("where", ["inside", "meanwhile"])
@on_every_loop
async def test_h2_a_pause_holds_when_the_handler_has_ended(transport, where):
    notes, socket, peer = await held(transport, data=(lambda s, c: s.pause()) if where == "inside" else ignore)
    if where == "meanwhile":
        socket.pause()
    send_and_wait(socket, peer, b"2")
    notes.gate.set()
    await until(lambda: notes.count("/data"))
    await turns()
    assert notes.names() == ["open", "data", "/data"]
    socket.resume()
    await until(lambda: notes.count("/data") == 2)


@pytest.mark.parametrize("where", ["inside", "meanwhile"])
@on_every_loop
async def test_h2_a_resume_does_not_read_while_the_handler_runs(transport, where):
    def data(socket, chunk):
        socket.pause()
        if where == "inside":
            socket.resume()

    notes, socket, peer = await held(transport, data=data)
    if where == "meanwhile":
        socket.resume()
    send_and_wait(socket, peer, b"2")
    await turns()
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("/data") == 2)


@pytest.mark.parametrize("verb", ["end", "close", "terminate", "shutdown"])
@on_every_loop
async def test_h2_after_a_verb_that_ends_the_handler_runs_on_and_writes_nothing(transport, verb):
    async def data(socket, chunk):
        getattr(socket, verb)()
        await turns()
        written.append(socket.write(b"too late"))

    written = []
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"x")
    got = peer.recv_until_reset() if verb == "terminate" and transport.can_reset else peer.recv_until_eof()
    await until(lambda: notes.count("/data"))
    assert await done(got) == b""
    peer.close()
    await until(lambda: notes.count("close"))
    assert written == [-1]
    assert notes.names(without=("end",)) == ["open", "data", "/data", "close"]


@on_every_loop
async def test_h2_what_is_written_after_an_await_arrives_before_the_end(transport):
    async def data(socket, chunk):
        socket.write(b"one ")
        await turns()
        socket.write(b"two ")
        await turns()
        assert socket.end(b"three") == 5

    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"x")
    assert await done(peer.recv_until_eof()) == b"one two three"
    peer.close()
    await until(lambda: notes.count("close"))


@pytest.mark.parametrize("of", ["listener", "socket"])
@on_every_loop
async def test_h2_a_reload_meanwhile_is_for_the_next_event(transport, of):
    notes, socket, peer = await held(transport)
    new = Notes(label="new")
    (socket.listener if of == "listener" else socket).reload(new.handlers)
    send_and_wait(socket, peer, b"2")
    await turns()
    assert (notes.names(), new.names()) == (["open", "data"], [])
    notes.gate.set()
    await until(lambda: new.count("data"))
    assert notes.names() == ["open", "data", "/data"]
    assert new.received() == b"2"


@pytest.mark.parametrize("where", ["inside", "meanwhile"])
@on_every_loop
async def test_h2_stop_true_closes_after_the_handlers_have_ended(transport, where):
    notes = Held("data", data=(lambda s, c: s.listener.stop(True)) if where == "inside" else ignore)
    listener = transport.listen(notes)
    peer = transport.peer(listener)
    peer.send(b"x")
    await until(lambda: notes.count("data"))
    listener.stop(True)
    assert await done(peer.recv_until_eof()) == b""
    peer.close()
    await turns()
    assert notes.names() == ["open", "data"]
    notes.gate.set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "close"]


@on_every_loop
async def test_h2_a_write_after_an_await_goes_out_without_a_flush(transport):
    async def data(socket, chunk):
        await turns(3)
        assert socket.write(chunk) == len(chunk)
        await asyncio.wait_for(echoed.wait(), 10)

    echoed = asyncio.Event()
    notes = Notes(data=data)
    socket, peer = await async_accepted(transport, notes)
    shrink_send_buffer(socket)
    peer.send(b"ping")
    assert await done(peer.recv_exactly(4)) == b"ping"
    echoed.set()
    await until(lambda: notes.count("/data"))
