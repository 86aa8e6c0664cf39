"""API.md, `SocketReader`: at most `limit` bytes are held, the peer waits for the rest, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import weakref

import pytest
from support import TIMEOUT, pattern, reset_and_wait, send_and_wait
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import (
    async_accepted,
    async_connected,
    done,
    nothing_open,
    reading,
    repeated,
    seen,
    stuff,
    turns,
    until,
)
from support.handlers import QUIET

import pybuntcp

MIB = 1 << 20


# ---------------------------------------------------------------- never more than the limit


@pytest.mark.parametrize("limit", [1, 100, 5000, 65536])
@on_every_loop
async def test_no_more_than_limit_bytes_are_held(transport, limit):
    async with reading(transport, limit=limit) as (reader, socket, peer):
        peer.send(pattern(300_000)).ignore()
        taken = 0
        for size in (1, limit // 2 or 1, limit, 2 * limit, 7):
            taken += len(await reader.read(size))
            await turns()
            assert socket.bytes_read - taken <= limit + transport.read_over


@on_every_loop
async def test_no_more_than_limit_bytes_are_held_while_readexactly_collects_more(transport):
    """What it has collected counts as taken: the socket is read only as fast as it collects."""
    async with reading(transport, limit=1000) as (reader, socket, peer):
        task = asyncio.ensure_future(reader.readexactly(50_000))
        send_and_wait(socket, peer, pattern(20_000))
        await seen(lambda: socket.bytes_read == 20_000, "what was sent")
        assert not task.done()
        send_and_wait(socket, peer, pattern(40_000))
        assert await task == pattern(20_000) + pattern(30_000)
        await turns()
        assert socket.bytes_read <= 51_000 + transport.read_over
        assert await reader.readexactly(10_000) == pattern(40_000)[30_000:]


@on_every_loop
async def test_the_peer_of_a_full_reader_has_to_wait_and_goes_on_when_it_is_read(transport):
    async with reading(transport, limit=1000) as (reader, socket, peer):
        sent = await done(stuff(peer))
        await turns()
        assert 0 < socket.bytes_read <= 1000 + transport.read_over < sent
        assert await reader.readexactly(sent) == repeated(sent)
        peer.call(lambda: peer.sock.sendall(b"more"))
        assert await reader.readexactly(4) == b"more"


@on_every_loop
async def test_a_full_reader_costs_no_turns(transport):
    async with reading(transport, limit=1000) as (_reader, socket, peer):
        send_and_wait(socket, peer, pattern(20_000))
        await seen(lambda: socket.bytes_read, "the first bytes")
        await turns()
        before = pybuntcp.stats()["turns"]
        await asyncio.sleep(0.1)
        assert pybuntcp.stats()["turns"] - before < 10


@on_every_loop
async def test_a_line_of_exactly_limit_bytes_is_within_it(transport):
    line = b"x" * 99 + b"\n"
    async with reading(transport, limit=100) as (reader, _socket, peer):
        peer.send(line * 6)
        assert [await reader.readline() for _ in range(3)] == [line] * 3
        assert [await reader.readuntil(b"x\n") for _ in range(3)] == [line] * 3


@pytest.mark.parametrize("ended", [True, False])
@on_every_loop
async def test_readuntil_past_the_limit_raises_and_consumes_nothing(transport, ended):
    line = b"x" * 100 + b"\n"
    async with reading(transport, limit=100) as (reader, _socket, peer):
        peer.send(line * 2 if ended else b"x" * 202)
        for _ in range(2):
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")
        assert await reader.readexactly(202) == (line * 2 if ended else b"x" * 202)


@on_every_loop
async def test_readline_past_the_limit_raises_value_error_and_consumes_nothing(transport):
    async with reading(transport, limit=100) as (reader, _socket, peer):
        peer.send(b"x" * 150 + b"\nnext\n")
        for _ in range(2):
            with pytest.raises(ValueError, match="line"):
                await reader.readline()
        assert await reader.readexactly(51) == b"x" * 51
        assert await reader.readline() == b"x" * 99 + b"\n"
        assert await reader.readline() == b"next\n"


@on_every_loop
async def test_a_limit_that_is_given_later_changes_nothing(transport):
    async with reading(transport, limit=100) as (reader, socket, peer):
        socket.reader(limit=1_000_000)
        peer.send(b"x" * 1000)
        with pytest.raises(ValueError, match="line"):
            await reader.readline()


# ---------------------------------------------------------------- pause and resume


@on_every_loop
async def test_a_reader_of_a_paused_socket_waits_for_resume(transport):
    async with reading(transport) as (reader, socket, peer):
        socket.pause()
        send_and_wait(socket, peer, b"abc")
        task = asyncio.ensure_future(reader.read(10))
        await turns()
        assert not task.done()
        assert socket.bytes_read == 0
        socket.resume()
        assert await task == b"abc"


@on_every_loop
async def test_a_socket_that_was_paused_stays_paused_when_its_reader_has_room_again(transport):
    async with reading(transport, limit=10) as (reader, socket, peer):
        held = await full(socket, peer, 10 + transport.read_over)
        socket.pause()
        assert await reader.readexactly(held) == pattern(held)
        await turns()
        assert socket.bytes_read == held
        socket.resume()
        assert await reader.readexactly(60_000 - held) == pattern(60_000)[held:]


@on_every_loop
async def test_resume_does_not_read_past_a_full_reader(transport):
    async with reading(transport, limit=10) as (reader, socket, peer):
        held = await full(socket, peer, 10 + transport.read_over)
        socket.pause()
        socket.resume()
        await turns()
        assert socket.bytes_read == held
        assert await reader.readexactly(60_000) == pattern(60_000)


async def full(socket, peer, most):
    """The peer has sent `pattern(60_000)`; how much of it the reader holds, who is full."""
    send_and_wait(socket, peer, pattern(60_000))
    await seen(lambda: socket.bytes_read, "a full reader")
    await turns()
    assert socket.bytes_read <= most
    return socket.bytes_read


# ---------------------------------------------------------------- cancelled, and more than one

READS = {
    "read": lambda reader: reader.read(100),
    "read all": lambda reader: reader.read(),
    "readexactly": lambda reader: reader.readexactly(10),
    "readuntil": lambda reader: reader.readuntil(b"j"),
    "readline": lambda reader: reader.readline(),
    "async for": lambda reader: anext_of(reader),
}


def anext_of(reader):
    """The next chunk of an `async for`, given the socket in place of its reader."""
    return aiter_of(reader).__anext__()


@pytest.mark.parametrize("name", READS)
@on_every_loop
async def test_cancelling_a_read_after_each_turn_loses_nothing(transport, name):
    async with reading(transport) as (reader, socket, peer):
        for count in range(8):
            send_and_wait(socket, peer, b"abcde")
            task = asyncio.ensure_future(READS[name](socket if name == "async for" else reader))
            if count % 2:
                await turns(1)
            peer.send(b"fghij").result()
            await turns(count // 2)
            task.cancel()
            try:
                got = await task
            except asyncio.CancelledError:
                got = b""
            got += await reader.readexactly(10 - len(got))
            assert got == b"abcdefghij"


@on_every_loop
async def test_a_read_given_up_in_time_may_be_asked_again(transport):
    async with reading(transport) as (reader, socket, peer):
        for _ in range(3):
            send_and_wait(socket, peer, b"ab")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readexactly(7), 0.01)
        peer.send(b"c")
        assert await asyncio.wait_for(reader.readexactly(7), TIMEOUT) == b"abababc"


@pytest.mark.parametrize("name", READS)
@on_every_loop
async def test_a_second_read_while_one_waits_is_a_runtime_error_and_harms_the_first_not(transport, name):
    async with reading(transport) as (reader, socket, peer):
        first = asyncio.ensure_future(reader.readexactly(6))
        await turns()
        with pytest.raises(RuntimeError):
            await READS[name](socket if name == "async for" else reader)
        peer.send(b"abcdef")
        assert await first == b"abcdef"
        peer.send(b"ghi")
        assert await reader.readexactly(3) == b"ghi"


@pytest.mark.parametrize("name", READS)
@on_every_loop
async def test_a_second_read_does_not_take_what_the_first_waits_to_complete(transport, name):
    async with reading(transport) as (reader, socket, peer):
        first = asyncio.ensure_future(reader.readexactly(10))
        send_and_wait(socket, peer, b"abc\njk")
        await seen(lambda: socket.bytes_read == 6, "the first bytes")
        with pytest.raises(RuntimeError):
            await READS[name](socket if name == "async for" else reader)
        peer.send(b"mnop")
        assert await first == b"abc\njkmnop"


# ---------------------------------------------------------------- much, and many


@on_every_loop(timeout=50)
async def test_a_hundred_mebibytes_pass_through_a_small_limit_unchanged(transport):
    def send():
        for number in range(100):
            block = number.to_bytes(4, "big") + pattern(MIB)[4:]
            digest.update(block)
            peer.sock.sendall(block)
        peer.sock.shutdown(1)

    digest, arrived, size, most = hashlib.sha256(), hashlib.sha256(), 0, 0
    async with reading(transport, limit=16384) as (_reader, socket, peer):
        sending = peer.call(send)
        async for chunk in socket:
            arrived.update(chunk)
            size += len(chunk)
            most = max(most, socket.bytes_read - size)
        await done(sending)
    assert size == 100 * MIB
    assert arrived.digest() == digest.digest()
    assert most <= 16384 + transport.read_over


@on_every_loop(timeout=30)
async def test_many_readers_at_once_each_get_their_own_bytes(transport):
    async def opened(socket):
        reader = socket.reader(limit=1000)
        while size := await reader.read(1):
            socket.sink().write(await reader.readexactly(size[0] * 100))

    async def ask(number):
        body = bytes([number]) * (number * 100)
        socket = await transport.connect(None, listener)
        socket.write(bytes([number]) + body)
        socket.end()
        assert await socket.reader(limit=300).read() == body

    listener = transport.listen({"open": opened})
    await asyncio.gather(*[ask(number) for number in range(1, 101)])


# ---------------------------------------------------------------- who keeps it


class Kept:
    """Something whose end can be seen."""


@on_every_loop
async def test_a_reader_and_its_socket_in_a_circle_are_given_back(transport):
    async def scenario():
        kept, peer = Kept(), server.accept()
        socket = await pybuntcp.connect(  # not by the transport, which holds what it makes
            **transport.connect_options(server), socket={**QUIET, "close": lambda socket, error: over.set()}
        )
        socket.data = (kept, socket.reader(), socket)
        peer.close()
        assert await socket.reader().read() == b""
        await over.wait()
        return weakref.ref(kept)

    over, server = asyncio.Event(), transport.raw_server()
    gone = await scenario()
    await turns()
    gc.collect()
    assert gone() is None


@on_every_loop
async def test_a_reader_that_nobody_holds_keeps_its_bytes(transport):
    socket, peer = await async_connected(transport)
    peer.send(b"one\ntwo\n")
    assert await socket.reader().readline() == b"one\n"
    gc.collect()
    assert await socket.reader().readline() == b"two\n"


@on_every_loop
async def test_who_waits_for_a_reader_is_not_collected(transport):
    async def opened(socket):
        got.append(await socket.reader().readline())

    got = []
    notes = Notes(open=opened, without=("data", "drain"))
    _socket, peer = await async_accepted(transport, notes)
    await turns()
    gc.collect()
    peer.send(b"x\n")
    await until(lambda: notes.count("/open"))
    assert got == [b"x\n"]


@on_every_loop
async def test_a_reader_of_a_socket_that_was_forgotten_reads_on(transport):
    socket, peer = await async_connected(transport)
    reader = socket.reader()
    del socket
    gc.collect()
    peer.send(b"abc")
    peer.shutdown()
    assert await reader.read() == b"abc"


@pytest.mark.parametrize("ending", ["terminate", "reset"])
@on_every_loop
async def test_a_reader_outlives_its_socket_with_what_it_holds(transport, ending):
    server = transport.raw_server()
    peer = server.accept()
    socket = await pybuntcp.connect(**transport.connect_options(server))
    reader, chunks = socket.reader(limit=100), aiter_of(socket)
    await done(peer.send(b"0123456789"))
    await came(socket, 10)
    if ending == "reset":
        reset_and_wait(socket, peer)
    else:
        socket.terminate()
    await nothing_open()
    del socket
    gc.collect()
    assert await reader.read(3) == b"012"
    assert await chunks.__anext__() == b"3456789"
    with pytest.raises(ConnectionResetError if ending == "reset" else asyncio.IncompleteReadError):
        await reader.readexactly(1)
    assert reader.at_eof() is True
    assert repr(reader)


def aiter_of(socket):
    return socket.__aiter__()


async def came(socket, count):
    await seen(lambda: socket.bytes_read == count, f"{count} bytes in the reader")
