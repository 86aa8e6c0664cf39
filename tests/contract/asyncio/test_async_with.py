"""API.md, awaits: `async with` for sockets and listeners."""

from __future__ import annotations

import asyncio
import time

import pytest
from support import Recorder, finish_and_wait, linux_only, pattern, reset_and_wait, send_and_wait
from support.addresses import black_hole, bound_not_listening, port_of
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, async_connected, async_sides, done, gauges, nothing_open, turns, until
from support.handlers import QUIET, Boom
from support.sinks import BIG, SMALL

import pybuntcp
from pybuntcp import ReadyState


@on_every_loop
async def test_async_with_a_listener_stops_it_with_its_sockets_and_waits_for_them(transport):
    async with transport.listen(Notes()) as listener:
        peer = transport.peer(listener)
        await done(peer.connected)
        got = peer.recv_until_eof()
        while not listener.connections:
            await turns(1)
    assert listener.connections == 0
    assert gauges() == {}
    assert await done(got) == b""


@async_sides
@on_every_loop
async def test_async_with_a_socket_returns_when_all_has_arrived_and_it_is_closed(transport, side):
    notes = Notes()
    socket, peer = await side(transport, notes, rcvbuf=SMALL)
    got = peer.recv_until_eof()
    got.add_done_callback(lambda _: peer.close())
    async with socket as same:
        assert same is socket
        socket.sink().write(pattern(BIG))
    assert socket.ready_state == ReadyState.CLOSED
    assert await done(got) == pattern(BIG)
    assert notes.close_error is None


@on_every_loop
async def test_async_with_reads_on_until_the_peer_ends_too(transport):
    async def work():
        async with socket:
            socket.write(b"question")

    notes = Notes()
    socket, peer = await async_connected(transport, notes)
    task = asyncio.ensure_future(work())
    assert await done(peer.recv_until_eof()) == b"question"
    await turns()
    assert not task.done()
    peer.send(b"answer")
    peer.close()
    await task
    assert notes.received() == b"answer"
    assert notes.order() == ["open", "data", "end", "close"]
    assert socket.ready_state == ReadyState.CLOSED


@on_every_loop
async def test_async_with_connect_needs_no_await_and_ends_as_async_with_its_socket(transport):
    notes = Notes()
    server = transport.raw_server()
    peer = server.accept()
    async with transport.connect(notes, server) as socket:
        assert socket.ready_state == ReadyState.ESTABLISHED
        socket.write(b"hello")
        got = peer.recv_until_eof()
        got.add_done_callback(lambda _: peer.close())
    assert await done(got) == b"hello"
    assert notes.order() == ["open", "end", "close"]
    assert socket.ready_state == ReadyState.CLOSED


@on_every_loop
async def test_async_with_connect_left_by_an_exception_closes_it(transport):
    server = transport.raw_server(accepting=1)
    with pytest.raises(Boom):
        async with transport.connect(Notes(), server) as socket:
            raise Boom
    assert socket.ready_state == ReadyState.CLOSED
    assert gauges() == {}


@on_every_loop
async def test_an_attempt_that_fails_raises_out_of_async_with_connect(no_leaks):
    with bound_not_listening() as port, pytest.raises(ConnectionRefusedError):
        async with pybuntcp.connect(hostname="127.0.0.1", port=port):
            raise AssertionError("the block ran")


@linux_only
@on_every_loop
async def test_async_with_connect_that_is_cancelled_meanwhile_cancels_the_attempt(no_leaks):
    async def work():
        async with connecting:
            raise AssertionError("the block ran")

    with black_hole() as hole:
        connecting = pybuntcp.connect(hostname="127.0.0.1", port=port_of(hole), socket=QUIET)
        task = asyncio.ensure_future(work())
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connecting.cancelled()
        assert gauges() == {}


@pytest.mark.parametrize("reader", [True, False])
@on_every_loop
async def test_async_with_a_socket_that_nobody_reads_any_more_does_not_wait_for_the_peers_end(transport, reader):
    socket, peer = await async_connected(transport)
    if reader:
        socket.reader()
    async with socket:
        socket.write(b"bye")
    assert socket.ready_state == ReadyState.CLOSED
    assert await done(peer.recv_until_eof()) == b"bye"


@on_every_loop
async def test_async_with_a_peer_that_never_ends_lasts_as_long_as_linger_timeout(transport):
    started = time.monotonic()
    socket, _peer = await async_connected(transport, QUIET, linger_timeout=0.1)
    async with socket:
        socket.write(b"bye")
    assert 0.1 <= time.monotonic() - started < 2.1
    assert socket.ready_state == ReadyState.CLOSED


@pytest.mark.parametrize("read", [True, False])
@on_every_loop
async def test_async_with_delivers_what_was_written_though_input_was_left_unread(transport, read):
    socket, peer = await async_connected(transport)
    send_and_wait(socket, peer, b"u" * 1000)
    if read:
        await socket.reader().readexactly(10)
    finish_and_wait(socket, peer)
    async with socket:
        socket.write(b"all of it")
    assert await done(peer.recv_until_eof()) == b"all of it"


async def raise_inside(socket):
    async with socket:
        socket.write(b"so far")
        raise Boom


@on_every_loop
async def test_an_exception_inside_async_with_comes_out_after_the_closing(transport):
    socket, peer = await async_connected(transport)
    with pytest.raises(Boom):
        await raise_inside(socket)
    assert socket.ready_state == ReadyState.CLOSED
    assert await done(peer.recv_until_eof()) == b"so far"


@on_every_loop
async def test_async_with_a_socket_that_is_closed_already_returns(transport):
    socket, peer = await async_accepted(transport, notes := Recorder())
    reset_and_wait(socket, peer)
    await until(lambda: notes.count("close"))
    async with socket:
        assert socket.write(b"x") == -1


@on_every_loop
async def test_cancelled_inside_async_with_the_socket_closes_and_what_was_written_arrives(transport):
    async def work():
        async with socket:
            socket.write(b"so far")
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    socket, peer = await async_connected(transport)
    task = asyncio.ensure_future(work())
    await begun.wait()
    task.cancel()
    assert await done(peer.recv_until_eof()) == b"so far"
    with pytest.raises(asyncio.CancelledError):
        await task
    await nothing_open()


@on_every_loop
async def test_cancelled_while_async_with_waits_for_the_end_it_does_not_wait_longer(transport):
    async def work():
        async with socket:
            socket.end(b"bye")

    socket, peer = await async_connected(transport, QUIET)
    task = asyncio.ensure_future(work())
    assert await done(peer.recv_until_eof()) == b"bye"
    await turns()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    peer.close()
    await nothing_open()


@on_every_loop
async def test_async_with_inside_an_async_open_serves_and_closes(transport):
    async def opened(socket):
        async with socket:
            async for chunk in socket:
                socket.write(chunk)

    notes = Notes(open=opened, without=("data", "drain"))
    _socket, peer = await async_accepted(transport, notes)
    await done(peer.send(b"echo"))
    assert await done(peer.recv_exactly(4)) == b"echo"
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == b""
    await until(lambda: notes.count("close"))
    assert notes.names(without=("end",)) == ["open", "/open", "close"]
