"""API.md, `SocketReader`: the end of file, resets, and when the connection closes under a reader."""

from __future__ import annotations

import asyncio

import pytest
from support import finish_and_wait, pattern, reset_and_wait, send_and_wait
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, async_connected, done, reading, turns, until
from support.handlers import ignore

from pybuntcp import ReadyState, Socket


async def wait(socket, *args):
    await asyncio.sleep(0)


# ---------------------------------------------------------------- the peer ends


@on_every_loop
async def test_after_the_end_was_read_end_is_called_and_the_socket_closes(transport):
    notes = Notes(without=("drain",))
    socket, peer = await async_accepted(transport, notes)
    reader = socket.reader()
    peer.send(b"last words")
    peer.shutdown()
    assert await reader.read() == b"last words"
    assert await done(peer.recv_until_eof()) == b""
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "end", "close"]
    assert notes.close_error is None


@on_every_loop
async def test_the_socket_does_not_close_before_the_end_was_read(transport):
    notes = Notes(without=("drain",))
    socket, peer = await async_accepted(transport, notes)
    reader = socket.reader()
    send_and_wait(socket, peer, b"abc")
    finish_and_wait(socket, peer)
    await turns()
    assert await reader.readexactly(3) == b"abc"
    await turns()
    assert socket.ready_state == ReadyState.ESTABLISHED
    assert notes.count("close") == 0
    assert await reader.read(1) == b""
    await until(lambda: notes.count("close"))


@pytest.mark.parametrize(
    "call",
    [
        lambda reader, socket: reader.read(),
        lambda reader, socket: reader.read(10),
        lambda reader, socket: reader.readline(),
        lambda reader, socket: reader.readexactly(1),
        lambda reader, socket: reader.readuntil(),
        lambda reader, socket: everything(socket),
    ],
    ids=["read all", "read", "readline", "readexactly", "readuntil", "async for"],
)
@on_every_loop
async def test_every_read_that_meets_the_end_has_taken_it(transport, call):
    notes = Notes()
    socket, peer = await async_accepted(transport, notes)
    reader = socket.reader()
    peer.shutdown()
    assert await what_was_left(call(reader, socket)) == b""
    await until(lambda: notes.count("close"))


async def what_was_left(read):
    try:
        return await read
    except asyncio.IncompleteReadError as error:
        return error.partial


async def everything(socket):
    return b"".join([chunk async for chunk in socket])


@on_every_loop
async def test_a_reply_written_after_the_end_was_read_is_delivered(transport):
    socket, peer = await async_connected(transport)
    peer.send(b"question")
    peer.shutdown()
    question = await socket.reader().read()
    assert socket.write(question + b"?") == 9
    assert await done(peer.recv_until_eof()) == b"question?"


@on_every_loop
async def test_a_large_reply_after_the_end_was_read_is_delivered_whole(transport):
    socket, peer = await async_connected(transport, rcvbuf=65536)
    peer.shutdown()
    assert await socket.reader().read() == b""
    socket.sink().write(pattern(4 << 20))
    assert await done(peer.recv_until_eof()) == pattern(4 << 20)


@on_every_loop
async def test_an_async_open_that_has_read_the_end_may_take_its_time_to_answer(transport):
    async def opened(socket):
        question = await socket.reader().read()
        for piece in (b"so ", b"you ", b"ask "):
            await turns(3)
            socket.write(piece)
        await socket.sink().drain()
        await asyncio.sleep(0.01)
        socket.write(question)

    notes = Notes(open=opened, without=("data", "drain"))
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"why")
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == b"so you ask why"
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "/open", "end", "close"]


@on_every_loop
async def test_an_open_that_returns_before_the_end_leaves_the_connection_open(transport):
    notes = Notes(open=wait, without=("data", "drain"))
    socket, peer = await async_accepted(transport, notes)
    await until(lambda: notes.count("/open"))
    finish_and_wait(socket, peer)
    await turns()
    assert socket.ready_state == ReadyState.ESTABLISHED
    assert await socket.reader().read() == b""
    await until(lambda: notes.count("close"))


@on_every_loop
async def test_allow_half_open_keeps_the_socket_until_this_side_ends(transport):
    notes = Notes()
    socket, peer = await async_accepted(transport, notes, allow_half_open=True)
    peer.shutdown()
    assert await socket.reader().read() == b""
    await turns()
    assert socket.ready_state == ReadyState.ESTABLISHED
    assert socket.write(b"still here") == 10
    assert await done(peer.recv_exactly(10)) == b"still here"
    assert notes.count("close") == 0
    socket.end()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "end", "close"]


@on_every_loop
async def test_end_comes_after_the_last_byte_was_taken_from_a_small_reader(transport):
    got, notes = [], Notes(end=lambda socket: got.append("end"))
    socket, peer = await async_accepted(transport, notes)
    reader = socket.reader(limit=10)
    send_and_wait(socket, peer, pattern(35))
    finish_and_wait(socket, peer)
    while chunk := await reader.read(10):
        await turns()
        got.append(chunk)
    await until(lambda: notes.count("close"))
    assert got[-1] == "end"
    assert b"".join(got[:-1]) == pattern(35)


# ---------------------------------------------------------------- reset


@on_every_loop
async def test_a_reset_gives_what_came_before_it_then_its_error_each_time(transport):
    async with reading(transport) as (reader, socket, peer):
        send_and_wait(socket, peer, b"before")
        assert await reader.readexactly(1) == b"b"
        reset_and_wait(socket, peer)
        assert await reader.readexactly(5) == b"efore"
        for call in (reader.read, reader.readline, lambda: reader.readexactly(1), lambda: everything(socket)):
            with pytest.raises(ConnectionResetError) as caught:
                await call()
            assert caught.value.code == "ECONNRESET"


@on_every_loop
async def test_a_reset_wakes_who_waits(transport):
    async with reading(transport) as (reader, socket, peer):
        waiting = asyncio.ensure_future(reader.readline())
        await turns()
        reset_and_wait(socket, peer)
        with pytest.raises(ConnectionResetError):
            await waiting


@on_every_loop
async def test_a_reset_of_a_socket_with_a_reader_goes_to_close_too(transport):
    notes = Notes()
    socket, peer = await async_accepted(transport, notes)
    reader = socket.reader()
    reset_and_wait(socket, peer)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    await until(lambda: notes.count("close"))
    assert isinstance(notes.close_error, ConnectionResetError)
    assert notes.names() == ["open", "close"]


@on_every_loop
async def test_async_for_ends_with_the_error_of_a_reset(transport):
    got = []
    async with reading(transport) as (_reader, socket, peer):
        send_and_wait(socket, peer, b"before")
        await seen_by(socket)
        reset_and_wait(socket, peer)
        with pytest.raises(ConnectionResetError):
            await collect(socket, got)
    assert b"".join(got) == b"before"


async def seen_by(socket):
    while not socket.bytes_read:
        await turns(1)


async def collect(socket, got):
    async for chunk in socket:
        got.append(chunk)


@on_every_loop
async def test_what_came_before_a_reset_is_there_for_who_asks_for_the_reader_again(transport):
    notes, got = Notes(), []
    socket, peer = await async_accepted(transport, notes)
    socket.reader()
    send_and_wait(socket, peer, b"before")
    await seen_by(socket)
    reset_and_wait(socket, peer)
    await until(lambda: notes.count("close"))
    with pytest.raises(ConnectionResetError):
        await collect(socket, got)
    assert b"".join(got) == b"before"


@on_every_loop
async def test_an_async_open_that_meets_a_reset_tells_error_and_close(transport):
    async def opened(socket):
        await socket.reader().readexactly(10)

    notes = Notes(open=opened, error=ignore, without=("data", "drain"))
    socket, peer = await async_accepted(transport, notes)
    reset_and_wait(socket, peer)
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "/open", "error", "close"]
    assert isinstance(notes.args("error")[0][0], ConnectionResetError)
    assert isinstance(notes.close_error, ConnectionResetError)


# ---------------------------------------------------------------- this side closes


@pytest.mark.parametrize(
    "close",
    [Socket.close, Socket.terminate, lambda socket: socket.shutdown(True)],
    ids=["close", "terminate", "shutdown(True)"],
)
@on_every_loop
async def test_a_socket_that_we_close_is_at_its_end_for_who_waits(transport, close):
    for call in ("read", "readline"):
        async with reading(transport) as (reader, socket, peer):
            waiting = asyncio.ensure_future(getattr(reader, call)())
            await turns()
            close(socket)
            peer.close()
            assert await waiting == b""
            assert reader.at_eof() is True


@on_every_loop
async def test_readexactly_of_a_socket_that_we_close_is_incomplete(transport):
    async with reading(transport) as (reader, socket, peer):
        waiting = asyncio.ensure_future(reader.readexactly(5))
        send_and_wait(socket, peer, b"abc")
        await seen_by(socket)
        socket.terminate()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await waiting
        assert caught.value.partial == b"abc"


@on_every_loop
async def test_stop_true_ends_the_readers_of_the_listeners_sockets(transport):
    async def opened(socket):
        got.append(await socket.reader().read())

    got = []
    notes = Notes(open=opened, without=("data", "drain"))
    listener = transport.listen(notes)
    peer = transport.peer(listener)
    await until(lambda: notes.sockets)
    await turns()
    listener.stop(True)
    peer.close()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "/open", "close"]
    assert got == [b""]


@on_every_loop
async def test_after_end_the_answer_is_still_read(transport):
    socket, peer = await async_connected(transport)
    socket.end(b"question")
    assert await done(peer.recv_until_eof()) == b"question"
    peer.send(b"answer")
    peer.close()
    assert await socket.reader().read() == b"answer"


@on_every_loop
async def test_a_timeout_ends_who_waits_for_a_silent_peer(transport):
    async def opened(socket):
        await socket.reader().readline()

    notes = Notes(open=opened, error=ignore, without=("data", "drain", "timeout"))
    _socket, _peer = await async_accepted(transport, notes, idle_timeout=0.05)
    await until(lambda: notes.count("close"))
    assert isinstance(notes.close_error, TimeoutError)
    assert notes.names()[:2] == ["open", "/open"]
    assert notes.names()[-1] == "close"


# ---------------------------------------------------------------- never to data


@on_every_loop
async def test_what_comes_after_reader_is_never_given_to_data(transport):
    notes = Notes(without=("drain",))
    socket, peer = await async_accepted(transport, notes)
    reader = socket.reader()
    for _ in range(3):
        send_and_wait(socket, peer, b"x")
        await turns()
    assert await reader.readexactly(2) == b"xx"
    new = Notes(label="new")
    socket.reload(new.handlers)
    peer.send(b"y")
    assert await reader.readexactly(2) == b"xy"
    assert notes.count("data") == new.count("data") == 0
