"""API.md, `SocketReader`: what read, readexactly, readuntil, readline, at_eof and `async for` give."""

from __future__ import annotations

import asyncio

import pytest
from support import finish_and_wait, pattern, send_and_wait
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, async_connected, done, nothing_open, reading, turns, until
from support.handlers import QUIET
from support.threads import in_thread

import pybuntcp

# ---------------------------------------------------------------- read


@on_every_loop
async def test_read_gives_what_is_there_without_waiting_for_more(transport):
    async with reading(transport) as (reader, _socket, peer):
        await done(peer.send(b"abc"))
        assert await reader.read(100) == b"abc"


@on_every_loop
async def test_read_gives_at_most_n_bytes_and_keeps_the_rest(transport):
    async with reading(transport) as (reader, socket, peer):
        send_and_wait(socket, peer, b"abcdef")
        assert [await reader.read(n) for n in (1, 2, 100)] == [b"a", b"bc", b"def"]


@on_every_loop
async def test_read_waits_for_the_first_byte(transport):
    async with reading(transport) as (reader, _socket, peer):
        task = asyncio.ensure_future(reader.read(10))
        await turns()
        assert not task.done()
        peer.send(b"x")
        assert await task == b"x"


@on_every_loop
async def test_read_of_nothing_is_empty_and_does_not_wait(transport):
    async with reading(transport) as (reader, _socket, _peer):
        assert await reader.read(0) == b""


@on_every_loop
async def test_read_without_n_gives_everything_until_the_end(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(pattern(1 << 20))
        peer.shutdown()
        assert await reader.read() == pattern(1 << 20)
        assert await reader.read() == await reader.read(-1) == b""


@on_every_loop
async def test_read_at_the_end_is_empty_every_time(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.shutdown()
        assert [await reader.read(n) for n in (10, 10, 0, -1)] == [b""] * 4


@on_every_loop
async def test_what_is_read_is_bytes(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"abc\nd,ef")
        peer.shutdown()
        got = [
            await reader.readexactly(2),
            await reader.readline(),
            await reader.readuntil(b","),
            await reader.read(1),
            await reader.read(),
        ]
        assert got == [b"ab", b"c\n", b"d,", b"e", b"f"]
        assert {type(each) for each in got} == {bytes}


# ---------------------------------------------------------------- readexactly


@on_every_loop
async def test_readexactly_waits_until_all_are_there(transport):
    async with reading(transport) as (reader, socket, peer):
        task = asyncio.ensure_future(reader.readexactly(6))
        for piece in (b"ab", b"cd"):
            send_and_wait(socket, peer, piece)
            await turns()
            assert not task.done()
        peer.send(b"efgh")
        assert await task == b"abcdef"
        assert await reader.read(100) == b"gh"


@on_every_loop
async def test_readexactly_of_nothing_is_empty(transport):
    async with reading(transport) as (reader, _socket, _peer):
        assert await reader.readexactly(0) == b""


@on_every_loop
async def test_readexactly_may_be_of_more_than_the_limit(transport):
    async with reading(transport, limit=1000) as (reader, _socket, peer):
        peer.send(pattern(1 << 20))
        assert await reader.readexactly(1 << 20) == pattern(1 << 20)


@on_every_loop
async def test_readexactly_that_meets_the_end_raises_with_what_there_was(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"abc")
        peer.shutdown()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(10)
        assert (caught.value.partial, caught.value.expected) == (b"abc", 10)
        assert await reader.read() == b""


# ---------------------------------------------------------------- readuntil, readline


@on_every_loop
async def test_readline_gives_the_line_with_its_end(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"one\ntwo\n\nfo")
        assert [await reader.readline() for _ in range(3)] == [b"one\n", b"two\n", b"\n"]
        task = asyncio.ensure_future(reader.readline())
        await turns()
        assert not task.done()
        peer.send(b"ur\n")
        assert await task == b"four\n"


@on_every_loop
async def test_readline_at_the_end_gives_the_partial_line_then_nothing(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"one\ntw")
        peer.shutdown()
        assert [await reader.readline() for _ in range(4)] == [b"one\n", b"tw", b"", b""]


@on_every_loop
async def test_readuntil_finds_a_separator_that_comes_in_pieces(transport):
    async with reading(transport) as (reader, socket, peer):
        task = asyncio.ensure_future(reader.readuntil(b"\r\n--\r\n"))
        for piece in (b"body\r\n-\r", b"\n-", b"-\r"):
            send_and_wait(socket, peer, piece)
            await turns()
            assert not task.done()
        peer.send(b"\nrest")
        assert await task == b"body\r\n-\r\n--\r\n"
        assert await reader.read(100) == b"rest"


@on_every_loop
async def test_readuntil_is_of_a_newline_unless_it_is_told_otherwise(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"one\ntwo;")
        assert await reader.readuntil() == b"one\n"
        assert await reader.readuntil(b";") == b"two;"


@on_every_loop
async def test_readuntil_that_meets_the_end_raises_with_what_there_was(transport):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"abc")
        peer.shutdown()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"\n")
        assert (caught.value.partial, caught.value.expected) == (b"abc", None)
        assert await reader.read() == b""


# ---------------------------------------------------------------- at_eof


@on_every_loop
async def test_at_eof_is_true_when_the_end_has_come_and_everything_was_read(transport):
    async with reading(transport) as (reader, _socket, peer):
        assert reader.at_eof() is False
        peer.send(b"abc")
        peer.shutdown()
        assert await reader.readexactly(2) == b"ab"
        await turns()
        assert reader.at_eof() is False
        assert await reader.read() == b"c"
        assert reader.at_eof() is True


# ---------------------------------------------------------------- async for


@on_every_loop
async def test_async_for_gives_chunks_until_the_end(transport):
    got = []
    async with reading(transport, limit=1000) as (_reader, socket, peer):
        peer.send(pattern(100_000))
        peer.shutdown()
        async for chunk in socket:
            got.append(chunk)
    assert b"".join(got) == pattern(100_000)
    assert all(1 <= len(chunk) <= 1000 for chunk in got)


@on_every_loop
async def test_async_for_goes_on_after_a_read_and_a_read_after_async_for(transport):
    async with reading(transport) as (reader, socket, peer):
        peer.send(b"head\nbody")
        assert await reader.readline() == b"head\n"
        async for chunk in socket:
            assert chunk == b"body"
            break
        peer.send(b"tail")
        assert await reader.readexactly(4) == b"tail"


@on_every_loop
async def test_async_for_of_a_connection_without_handlers_needs_no_reader_call(transport):
    socket, peer = await async_connected(transport)
    peer.send(b"abc")
    peer.shutdown()
    assert b"".join([chunk async for chunk in socket]) == b"abc"


# ---------------------------------------------------------------- where readers come from


@on_every_loop
async def test_a_connection_without_handlers_is_paused_until_it_has_a_reader(transport):
    socket, peer = await async_connected(transport)
    send_and_wait(socket, peer, b"abc")
    await turns()
    assert socket.bytes_read == 0
    assert await socket.reader().read(10) == b"abc"


@on_every_loop
async def test_a_socket_has_one_reader(transport):
    async with reading(transport) as (reader, socket, _peer):
        assert socket.reader() is reader
        assert socket.reader(limit=10) is reader
        socket.terminate()
        assert socket.reader() is reader
        await nothing_open()
        assert socket.reader() is reader


@on_every_loop
async def test_a_reader_is_made_by_a_socket_alone(transport):
    async with reading(transport) as (reader, _socket, _peer):
        assert type(reader) is pybuntcp.SocketReader
    with pytest.raises(TypeError, match=r"socket\.reader\(\)"):
        pybuntcp.SocketReader()


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (1.5, TypeError), (None, TypeError)]
)
@on_every_loop
async def test_a_limit_that_cannot_be_is_refused(transport, limit, error):
    socket, _peer = await async_connected(transport)
    with pytest.raises(error, match="limit"):
        socket.reader(limit=limit)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda reader: reader.read("1"), TypeError),
        (lambda reader: reader.read(1.5), TypeError),
        (lambda reader: reader.readexactly("1"), TypeError),
        (lambda reader: reader.readexactly(-1), ValueError),
        (lambda reader: reader.readuntil("\n"), TypeError),
        (lambda reader: reader.readuntil(b""), ValueError),
    ],
    ids=["read str", "read float", "readexactly str", "readexactly -1", "readuntil str", "readuntil nothing"],
)
@on_every_loop
async def test_a_wrong_argument_is_refused_and_consumes_nothing(transport, call, error):
    async with reading(transport) as (reader, _socket, peer):
        peer.send(b"abc")
        with pytest.raises(error):
            await call(reader)
        assert await reader.readexactly(3) == b"abc"


@on_every_loop
async def test_a_reader_taken_in_an_async_open_reads_from_the_first_byte(transport):
    async def opened(socket):
        got.append(await socket.reader().readexactly(5))
        socket.end(b"thanks")

    got = []
    notes = Notes(open=opened)
    _socket, peer = await async_accepted(transport, notes)
    await done(peer.send(b"hello"))
    assert await done(peer.recv_until_eof()) == b"thanks"
    peer.close()
    await until(lambda: notes.count("close"))
    assert got == [b"hello"]
    assert notes.count("data") == 0


@on_every_loop
async def test_a_reader_taken_in_data_gets_what_comes_after_that_chunk(transport):
    def data(socket, chunk):
        readers.append(socket.reader())

    readers = []
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"first")
    await until(lambda: readers)
    peer.send(b"second\n")
    assert await readers[0].readline() == b"second\n"
    peer.send(b"third\n")
    assert await readers[0].readline() == b"third\n"
    assert notes.received() == b"first"
    assert notes.count("data") == 1


@on_every_loop
async def test_a_reader_taken_in_data_and_that_chunk_are_the_whole_stream(transport):
    def data(socket, chunk):
        reader.set_result(socket.reader(limit=5000))

    reader = asyncio.get_running_loop().create_future()
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(pattern(1 << 20))
    peer.shutdown()
    rest = await (await reader).read()
    assert notes.received() + rest == pattern(1 << 20)
    assert notes.count("data") == 1


@on_every_loop
async def test_a_reader_taken_in_an_async_data_reads_while_that_handler_runs(transport):
    async def data(socket, chunk):
        reader = socket.reader()
        while line := await reader.readline():
            socket.write(chunk + line)

    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b">")
    await until(lambda: notes.count("data"))
    for line in (b"one\n", b"two\n"):
        peer.send(line)
        assert await done(peer.recv_exactly(5)) == b">" + line
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == b""
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "end", "close"]


@on_every_loop
async def test_a_reader_in_a_task_outside_reads_beside_the_handlers(transport):
    async def lines(reader):
        return [await reader.readline() for _ in range(3)]

    notes = Notes(without=("drain",))
    socket, peer = await async_accepted(transport, notes)
    task = asyncio.ensure_future(lines(socket.reader()))
    peer.send(b"a\nb\nc\n")
    assert await task == [b"a\n", b"b\n", b"c\n"]
    assert notes.names() == ["open"]


@on_every_loop
async def test_reading_and_writing_answer_each_other_a_thousand_times(transport):
    async def opened(socket):
        reader = socket.reader()
        while line := await reader.readline():
            socket.write(b"<" + line)

    listener = transport.listen({"open": opened})
    socket = await transport.connect(None, listener)
    reader = socket.reader()
    for count in range(1000):
        socket.write(b"%d\n" % count)
        assert await reader.readline() == b"<%d\n" % count
    socket.end()
    assert await reader.read() == b""


@pytest.mark.parametrize("closed", ["closing", "closed"])
@on_every_loop
async def test_a_reader_on_a_socket_that_is_dead_is_at_its_end(transport, closed):
    socket, _peer = await async_connected(transport, QUIET)
    socket.terminate()
    if closed == "closed":
        await nothing_open()
    reader = socket.reader()
    assert reader.at_eof() is True
    assert await reader.read() == await reader.read(10) == await reader.readline() == b""
    assert [chunk async for chunk in socket] == []
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(1)


@on_every_loop
async def test_bytes_that_came_before_the_reader_are_its_first(transport):
    socket, peer = await async_accepted(transport, Notes(without=("drain",)), pause_on_connect=True)
    send_and_wait(socket, peer, b"early\n")
    finish_and_wait(socket, peer)
    assert await socket.reader().readline() == b"early\n"


@on_every_loop
async def test_what_is_held_is_not_given_to_another_thread(transport):
    async with reading(transport) as (reader, socket, peer):
        send_and_wait(socket, peer, b"held")
        assert await reader.read(1) == b"h"
        assert isinstance(in_thread(lambda: reader.read(1).send(None)), RuntimeError)
        assert await reader.read(10) == b"eld"
