"""X4 in coroutines: sockets without handlers, readers, `async for`, async handlers, and loops that close."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from support import Recorder, pattern
from support.asyncio_loops import each_host, on_every_loop, on_loop
from support.coroutines import async_accepted, async_connected, done, turns, until
from support.tls import CLIENT_TLS, SERVER_TLS

import pybuntcp

MUCH = pattern(1 << 20)
LOCAL = {"hostname": "127.0.0.1", "port": 0}


async def two(transport, **options):
    """Two connections without handlers, paused: (source, sender, target, receiver)."""
    source, sender = await async_connected(transport, **options)
    target, receiver = await async_connected(transport, **options)
    return source, sender, target, receiver


@on_every_loop
async def test_x4_a_proxy_is_two_lines_in_an_async_open(transport):
    async def opened(client):
        upstream = await transport.connect(None, server)
        client.pipe(upstream)
        upstream.pipe(client)

    server = transport.raw_server()
    proxy = transport.listen({"open": opened})
    client, behind = transport.peer(proxy), server.accept()
    client.send(MUCH)
    client.shutdown()
    assert await done(behind.recv_until_eof()) == MUCH
    behind.send(MUCH[::-1])
    behind.shutdown()
    assert await done(client.recv_until_eof()) == MUCH[::-1]
    proxy.stop()


@on_every_loop
async def test_x4_what_the_reader_holds_goes_first(transport):
    source, sender, target, receiver = await two(transport)
    sender.send(b"name\nand all that follows")
    reader = source.reader()
    assert await reader.readline() == b"name\n"
    source.pipe(target)
    sender.send(MUCH)
    sender.shutdown()
    assert await done(receiver.recv_until_eof()) == b"and all that follows" + MUCH
    target.close()


@on_loop("asyncio")
async def test_x4_what_the_reader_holds_goes_first_also_after_the_end(tcp):
    source, sender = await async_accepted(tcp, recorder := Recorder())
    target, receiver = await async_connected(tcp)
    reader = source.reader()
    sender.send(b"line\nrest")
    sender.shutdown()
    assert await reader.readline() == b"line\n"
    while not reader.at_eof() and source.bytes_read < 9:
        await turns()
    await turns()
    source.pipe(target)
    assert await done(receiver.recv_until_eof()) == b"rest"
    await until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "end", "close"]
    target.close()


@on_loop("asyncio")
async def test_x4_what_the_reader_of_a_closed_source_holds_goes_to_the_target(tcp):
    source, sender = await async_accepted(tcp, recorder := Recorder())
    target, receiver = await async_connected(tcp)
    reader = source.reader()
    sender.send(b"line\nrest")
    assert await reader.readline() == b"line\n"
    source.terminate()
    await until(lambda: recorder.count("close"))
    source.pipe(target)
    assert await done(receiver.recv_until_eof()) == b"rest"
    assert await reader.read() == b""
    target.close()


@on_loop("asyncio")
async def test_x4_a_piped_socket_cannot_be_read_and_can_again_after_unpipe(tcp):
    source, sender, target, receiver = await two(tcp)
    reader = source.reader()
    source.pipe(target)
    sender.send(b"piped")
    assert await done(receiver.recv_exactly(5)) == b"piped"
    for read in (reader.read(), reader.readline(), reader.readexactly(1)):
        with pytest.raises(RuntimeError, match="the socket is piped"):
            await read
    with pytest.raises(RuntimeError, match="the socket is piped"):
        source.reader()
    with pytest.raises(RuntimeError, match="the socket is piped"):
        async for _ in source:
            pass
    source.unpipe()
    sender.send(b"read")
    assert await reader.readexactly(4) == b"read"
    source.terminate()
    target.terminate()


@on_loop("asyncio")
async def test_x4_a_socket_of_which_a_read_waits_cannot_be_piped(tcp):
    source, sender, target, _receiver = await two(tcp)
    waiting = asyncio.ensure_future(source.reader().readexactly(4))
    await turns()
    with pytest.raises(RuntimeError, match="a read of this socket waits"):
        source.pipe(target)
    sender.send(b"read")
    assert await waiting == b"read"
    source.terminate()
    target.terminate()


@on_loop("asyncio")
async def test_x4_unpipe_pauses_a_socket_that_nobody_else_reads(tcp):
    source, sender, target, receiver = await two(tcp)
    source.pipe(target)
    sender.send(b"piped")
    assert await done(receiver.recv_exactly(5)) == b"piped"
    source.unpipe()
    await done(sender.send(b"kept"))
    await asyncio.sleep(0)
    await turns()
    assert await source.reader().readexactly(4) == b"kept"
    source.terminate()
    target.terminate()


@on_every_loop
async def test_x4_bytes_move_while_an_async_handler_runs_and_end_waits_for_it(transport):
    async def opened(socket):
        socket.pipe(target)
        await asked.wait()

    asked = asyncio.Event()
    target, receiver = await async_connected(transport)
    recorder = Recorder()
    source, sender = await async_accepted(transport, recorder)
    source.reload({**recorder.handlers, "data": started(opened)})
    sender.send(b"first")
    sender.send(MUCH)
    sender.shutdown()
    received = await done(receiver.recv_until_eof())
    assert MUCH.endswith(received[-100:])
    assert recorder.count("end") == 0
    asked.set()
    await until(lambda: recorder.count("close"))
    assert recorder.names()[-2:] == ["end", "close"]
    target.close()


def started(opened):
    async def data(socket, chunk):
        await opened(socket)

    return data


@on_loop("asyncio")
async def test_x4_leaving_async_with_waits_for_the_peer_and_pipes_on(tcp):
    source, sender, target, receiver = await two(tcp)
    async with source:
        source.pipe(target)
        await turns()
        sender.send(MUCH)
        sender.shutdown()
    assert await done(receiver.recv_until_eof()) == MUCH
    target.close()


@on_every_loop
async def test_x4_a_target_in_its_handshake_gets_the_bytes_after_it(over_tcp):
    """The TLS socket of an upgrade is a target, and a source, from the beginning."""

    received = []
    server = pybuntcp.listen(
        **LOCAL, tls=SERVER_TLS, socket={"data": lambda s, c: received.append(c), "end": lambda s: s.end(b"bye")}
    )
    source, sender = await async_accepted(over_tcp, Recorder())
    raw = await pybuntcp.connect(hostname="127.0.0.1", port=server.port, socket={"data": print})
    secure = raw.upgrade_tls(tls=CLIENT_TLS, socket={"data": print})
    source.pipe(secure)
    secure.pipe(source)
    sender.send(MUCH)
    sender.shutdown()
    assert await done(sender.recv_until_eof()) == b"bye"
    assert b"".join(received) == MUCH
    server.stop()


@each_host
def test_x4_a_loop_that_closes_with_pipes_leaves_nothing(host, tcp):
    async def main():
        source, sender, target, receiver = await two(tcp)
        source.pipe(target)
        target.pipe(source)
        await done(sender.send(b"x"))
        assert await done(receiver.recv_exactly(1)) == b"x"
        kept.extend((source, target))

    kept = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(main()) if host == "asyncio" else pybuntcp.run(main())
        gc.collect()
    assert [str(each.message)[:8] for each in warned if each.category is ResourceWarning].count("unclosed") >= 2
    assert kept[0].pipe(kept[1]) is None
