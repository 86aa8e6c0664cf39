"""API.md, awaits: `await connect(...)`, `await sink.drain()`, `await listener.wait_closed()`."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket as stdlib
import time

import pytest
from support import linux_only, pattern, unraisable
from support.addresses import black_hole, bound_not_listening, needs_ipv6, port_of, raw_tcp
from support.async_handlers import Held, Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import (
    async_accepted,
    async_connected,
    async_sides,
    done,
    loop_reports,
    nothing_open,
    turns,
    until,
)
from support.handlers import QUIET, Boom, ignore
from support.sinks import BIG, SMALL

import pybuntcp
from pybuntcp import ReadyState

# ---------------------------------------------------------------- await connect(...)


@on_every_loop
async def test_await_connect_gives_the_socket_that_open_was_given(transport):
    notes = Notes()
    socket, peer = await async_connected(transport, notes)
    assert notes.sockets == [socket]
    assert socket.ready_state == ReadyState.ESTABLISHED
    socket.write(b"hello")
    assert await done(peer.recv_exactly(5)) == b"hello"


@on_every_loop
async def test_await_connect_of_a_descriptor(no_leaks):
    ours, theirs = stdlib.socketpair()
    with theirs:
        socket = await pybuntcp.connect(fd=ours.detach(), socket=QUIET)
        assert socket.write(b"x") == 1
        assert theirs.recv(10) == b"x"
        socket.close()
        await nothing_open()


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
@on_every_loop
async def test_await_connect_of_a_name_finds_whichever_family_listens(address):
    with raw_tcp(address) as server:
        socket = await pybuntcp.connect(hostname="localhost", port=port_of(server), socket=QUIET)
        assert socket.remote_address == address
        assert socket.remote_port == port_of(server)
        socket.terminate()
        await nothing_open()


@on_every_loop
async def test_await_connect_raises_with_errno_address_and_port(tcp):
    with bound_not_listening() as port:
        with pytest.raises(ConnectionRefusedError) as caught:
            await pybuntcp.connect(hostname="127.0.0.1", port=port, socket=QUIET)
        error = caught.value
        assert (error.errno, error.code) == (errno.ECONNREFUSED, "ECONNREFUSED")
        assert (error.address, error.port) == ("127.0.0.1", port)


@on_every_loop
async def test_await_connect_raises_with_the_path(unix):
    path = unix.listen_options()["unix"]
    with pytest.raises(FileNotFoundError) as caught:
        await pybuntcp.connect(unix=path, socket=QUIET)
    assert (caught.value.code, caught.value.address) == ("ENOENT", path)


@on_every_loop
async def test_await_connect_of_a_name_that_does_not_resolve_is_a_gaierror(no_leaks):
    with pytest.raises(stdlib.gaierror) as caught:
        await pybuntcp.connect(hostname="a b", port=80, socket=QUIET)
    assert caught.value.address == "a b"


@on_every_loop
async def test_await_connect_raises_what_connect_error_was_given_before(unix):
    notes = Notes()
    with pytest.raises(FileNotFoundError) as caught:
        await pybuntcp.connect(**unix.listen_options(), socket=notes.handlers)
    assert notes.names() == ["connect_error"]
    assert notes.args("connect_error") == [(caught.value,)]


@on_every_loop
async def test_await_connect_raises_what_connect_error_raises(unix):
    def failed(socket, error):
        raise boom

    boom = Boom()
    with pytest.raises(Boom) as caught:
        await pybuntcp.connect(**unix.listen_options(), socket={**QUIET, "connect_error": failed})
    assert caught.value is boom


@linux_only
@on_every_loop
async def test_await_connect_raises_timeout_error_after_its_timeout(no_leaks):
    with black_hole() as silent:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await pybuntcp.connect(hostname="127.0.0.1", port=port_of(silent), socket=QUIET, timeout=0.1)
        assert 0.1 <= time.monotonic() - started < 2.1


@on_every_loop
async def test_a_connect_that_is_awaited_twice_gives_the_same_socket(transport):
    connecting = transport.connect(QUIET, transport.raw_server(accepting=1))
    socket = await connecting
    assert await connecting is socket
    assert connecting.result() is socket


@on_every_loop
async def test_a_connect_that_two_tasks_await_gives_both_the_same_socket(transport):
    async def wait():
        return await connecting

    connecting = transport.connect(QUIET, transport.raw_server(accepting=1))
    first, second = await asyncio.gather(wait(), wait())
    assert first is second


@on_every_loop
async def test_a_connect_that_fails_raises_the_same_error_for_all_who_await(unix):
    async def wait():
        return await connecting

    connecting = pybuntcp.connect(**unix.listen_options(), socket=QUIET)
    errors = await asyncio.gather(wait(), wait(), return_exceptions=True)
    with pytest.raises(FileNotFoundError) as caught:
        await connecting
    assert errors == [caught.value] * 2


@on_every_loop
async def test_a_connect_that_nobody_awaits_goes_on(transport):
    notes = Notes(open=lambda socket: socket.write(b"here"))
    server = transport.raw_server()
    peer = server.accept()
    transport.connect(notes, server)
    assert await done(peer.recv_exactly(4)) == b"here"
    await until(lambda: notes.sockets)


@pytest.mark.parametrize("handled", [True, False])
@on_every_loop
async def test_a_failure_that_nobody_awaits_is_reported_unless_connect_error_was_given(unix, handled):
    table = {**QUIET, "connect_error": ignore} if handled else QUIET
    connecting = pybuntcp.connect(**unix.listen_options(), socket=table)
    while not connecting.done():
        await asyncio.sleep(0)
    with unraisable() as dropped, loop_reports() as told:
        del connecting
        gc.collect()
        await turns()
    assert len(dropped) + len(told) == (0 if handled else 1)


@on_every_loop
async def test_ten_thousand_awaits_of_a_socket_that_stands_do_not_block_the_loop(transport):
    connecting = transport.connect(QUIET, transport.raw_server(accepting=1))
    await connecting
    for _ in range(10_000):
        await connecting


# ---------------------------------------------------------------- await sink.drain()


@async_sides
@on_every_loop
async def test_drain_returns_when_the_peer_has_read(transport, side):
    notes = Notes()
    socket, peer = await side(transport, notes, rcvbuf=SMALL)
    sink = socket.sink()
    sink.write(pattern(BIG))
    drain = asyncio.ensure_future(sink.drain())
    await turns()
    assert not drain.done()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await drain
    assert socket.pending == sink.pending == 0


@on_every_loop
async def test_drain_returns_if_nothing_is_pending(transport):
    socket, _peer = await async_accepted(transport, Notes())
    await socket.sink().drain()


@on_every_loop
async def test_drain_raises_the_error_of_the_connection(transport):
    socket, peer = await async_accepted(transport, Notes(), rcvbuf=SMALL)
    sink = socket.sink()
    sink.write(pattern(BIG))
    drain = asyncio.ensure_future(sink.drain())
    await turns()
    peer.close()  # with bytes unread
    with pytest.raises(ConnectionResetError):
        await drain


@on_every_loop
async def test_two_who_wait_for_a_drain_are_both_told(transport):
    socket, peer = await async_accepted(transport, Notes(), rcvbuf=SMALL)
    sink = socket.sink()
    sink.write(pattern(BIG))
    drains = asyncio.gather(sink.drain(), sink.drain())
    await turns()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await drains


@on_every_loop
async def test_a_producer_that_drains_never_holds_more_than_it_wrote_last(transport):
    socket, peer = await async_accepted(transport, Notes(), rcvbuf=SMALL)
    sink, most = socket.sink(), 0
    got = peer.recv_exactly(64 * 65536)
    for at in range(64):
        sink.write(pattern(64 * 65536)[at * 65536 : (at + 1) * 65536])
        most = max(most, sink.pending)
        await sink.drain()
    assert await done(got) == pattern(64 * 65536)
    assert most <= 65536


# ---------------------------------------------------------------- await listener.wait_closed()


async def listening(transport, count=1, **options):
    """A listener with sockets open, its Notes and its peers."""
    notes = Notes()
    listener = transport.listen(notes, **options)
    peers = [transport.peer(listener) for _ in range(count)]
    await until(lambda: len(notes.sockets) == count)
    return listener, notes, peers


@on_every_loop
async def test_wait_closed_returns_zero_when_no_socket_is_open(transport):
    listener, _notes, _peers = await listening(transport, 0)
    listener.stop()
    assert await listener.wait_closed() == 0


@on_every_loop
async def test_wait_closed_returns_when_the_last_socket_has_closed(transport):
    listener, notes, peers = await listening(transport, 3)
    listener.stop()
    waiting = asyncio.ensure_future(listener.wait_closed(30))
    for count, peer in enumerate(peers, 1):
        await turns()
        assert not waiting.done()
        peer.close()
        await until(lambda count=count: notes.count("close") == count)
    assert await waiting == 0


@on_every_loop
async def test_wait_closed_gives_what_is_left_after_its_timeout(transport):
    listener, _notes, _peers = await listening(transport, 2)
    listener.stop()
    started = time.monotonic()
    assert await listener.wait_closed(0.05) == 2
    assert 0.048 <= time.monotonic() - started < 2.05  # it is the loop's timer: uvloop's counts whole milliseconds
    assert await listener.wait_closed(0) == 2


@on_every_loop
async def test_wait_closed_costs_no_turns_while_it_waits(transport):
    listener, _notes, _peers = await listening(transport)
    listener.stop()
    before = pybuntcp.stats()["turns"]
    assert await listener.wait_closed(0.2) == 1
    assert pybuntcp.stats()["turns"] - before < 10


@on_every_loop
async def test_two_who_wait_for_a_listener_are_both_told(transport):
    listener, _notes, _peers = await listening(transport)
    waiting = asyncio.gather(listener.wait_closed(), listener.wait_closed(20))
    await turns()
    listener.stop(True)
    assert await waiting == [0, 0]


@on_every_loop
async def test_wait_closed_waits_for_async_close_handlers(transport):
    notes = Held("close")
    listener = transport.listen(notes)
    peer = transport.peer(listener)
    await until(lambda: notes.sockets)
    listener.stop(True)
    peer.close()
    await until(lambda: notes.count("close"))
    assert await listener.wait_closed(0.02) == 1
    notes.gate.set()
    assert await listener.wait_closed() == 0
    assert notes.count("/close") == 1
