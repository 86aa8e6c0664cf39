"""[A2] [A4] A transport after `write_eof`, `close`, `abort` and `connection_lost`: what is written then, and who holds it still."""

from __future__ import annotations

import asyncio
import weakref

import pytest
from support.coroutines import done, seen, turns
from support.kernel import pattern
from support.leaks import without_collector
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import BIG, ENDINGS, connect, connected, dialled, no_tls_yet, paused, serve

pytestmark = no_tls_yet

HELD = "socket.send() raised exception."


# ---------------------------------------------------------------- what is written then


@on_ours_and_asyncio
async def test_after_write_eof_a_write_is_a_runtime_error(transport):
    protocol, _ = await connected(transport)
    protocol.transport.write_eof()
    for data in (b"late", b""):
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            protocol.transport.write(data)
    with pytest.raises(RuntimeError, match=r"^Cannot call write(lines)?\(\) after write_eof\(\)$"):
        protocol.transport.writelines([b"late"])
    with pytest.raises(TypeError):
        protocol.transport.write("late")


ENDED = [*ENDINGS, "lose"]


async def ended(transport, end):
    """A connection that the protocol has ended, or has lost to its peer."""
    protocol, peer = await connected(transport)
    if end == "lose":
        peer.close()
        await protocol.called("connection_lost")
    else:
        ENDINGS[end](protocol)
    return protocol, peer


@on_ours_and_asyncio
@pytest.mark.parametrize("end", ENDED)
async def test_after_the_end_writes_are_dropped_and_warned_of_from_the_fifth_on(transport, end, caplog):
    protocol, peer = await ended(transport, end)
    warned = []
    for _ in range(7):
        protocol.transport.write(b"nobody gets it")
        protocol.transport.write(b"")
        warned.append(sum(record.message == HELD for record in caplog.records))
    assert warned == [0, 0, 0, 0, 1, 2, 3]
    await protocol.called("connection_lost")
    protocol.transport.write(b"nobody gets it")
    assert sum(record.message == HELD for record in caplog.records) == 4
    if end != "lose":
        assert await done(peer.recv_until_eof()) == b""


@on_ours
@pytest.mark.parametrize("end", ENDED)
async def test_after_the_end_writelines_are_dropped_and_warned_of_as_writes(transport, end, caplog):
    protocol, _ = await ended(transport, end)
    for _ in range(6):
        protocol.transport.writelines([b"nobody ", b"gets it"])
        protocol.transport.writelines([])
    assert sum(record.message == HELD for record in caplog.records) == 2
    await protocol.called("connection_lost")


@on_ours_and_asyncio
async def test_what_is_written_after_close_is_sent_while_earlier_bytes_are_pending(transport):
    protocol, peer = await paused(transport)
    protocol.transport.close()
    for _ in range(8):
        protocol.transport.write(b"late")
    assert await done(peer.recv_until_eof()) == pattern(BIG) + 8 * b"late"
    await protocol.called("connection_lost")
    assert protocol.error is None


@on_ours_and_asyncio
async def test_a_write_in_connection_lost_is_dropped(transport):
    protocol, peer = await connected(
        transport, Plain(connection_lost=lambda protocol, error: protocol.transport.write(b"too late"))
    )
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == b""
    assert protocol.calls == ["connection_made", "connection_lost"]


# ---------------------------------------------------------------- all that can be called


@on_ours_and_asyncio
@pytest.mark.parametrize("ending", ENDINGS)
async def test_after_connection_lost_the_transport_does_nothing_and_raises_nothing(transport, ending):
    protocol, _ = await connected(transport)
    it = protocol.transport
    ENDINGS[ending](protocol)
    await protocol.called("connection_lost")
    await turns(2)
    assert it.get_protocol() is None
    it.close()
    it.abort()
    it.write(b"x")
    it.write_eof()
    it.pause_reading()
    it.resume_reading()
    it.set_write_buffer_limits(10, 5)
    assert it.get_write_buffer_limits() == (5, 10)
    assert (it.is_closing(), it.is_reading(), it.can_write_eof(), it.get_write_buffer_size()) == (True, False, True, 0)
    await turns(2)
    assert protocol.calls == ["connection_made", "connection_lost"]


@on_ours_and_asyncio
async def test_writelines_after_connection_lost_is_dropped(transport):
    protocol, _ = await connected(transport)
    protocol.transport.abort()
    await protocol.called("connection_lost")
    await turns(2)
    protocol.transport.writelines([])
    protocol.transport.set_protocol(protocol)
    assert protocol.transport.get_protocol() is protocol
    assert protocol.calls == ["connection_made", "connection_lost"]


# ---------------------------------------------------------------- who holds it


class Bare(asyncio.Protocol):
    """Keeps nothing but what it must, so that nothing but the loop and the transport hold it."""

    def __init__(self, lost):
        self.lost = lost

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        del self.transport
        self.lost.set_result(None)


async def end_by_close(it, peer):
    it.close()


async def end_by_abort(it, peer):
    it.abort()


async def end_by_peer(it, peer):
    await done(peer.close())


async def end_by_reset(it, peer):
    await done(peer.reset())


@on_ours_and_asyncio
@pytest.mark.parametrize("end", [end_by_close, end_by_abort, end_by_peer, end_by_reset])
@pytest.mark.parametrize("asked", [False, True], ids=["", "asked for its socket"])
async def test_after_connection_lost_nobody_holds_the_protocol(tcp, end, asked):
    assert await still_held(tcp, end, asked) in ([], ["transport"])  # asyncio's transport refers to itself


@on_ours
@pytest.mark.parametrize("end", [end_by_close, end_by_abort, end_by_peer, end_by_reset])
@pytest.mark.parametrize("asked", [False, True], ids=["", "asked for its socket"])
async def test_after_connection_lost_nobody_holds_protocol_and_transport(tcp, end, asked):
    assert await still_held(tcp, end, asked) == []


async def still_held(tcp, end, asked):
    """What is alive after `connection_lost`, without the collector of garbage."""
    lost = asyncio.get_running_loop().create_future()
    server = tcp.raw_server()
    peer = server.accept()
    loop = asyncio.get_running_loop()
    it, protocol = await loop.create_connection(lambda: Bare(lost), *server.sock.getsockname())
    await done(peer.connected)
    if asked:
        assert it.get_extra_info("socket").fileno() >= 0
    held = {"transport": weakref.ref(it), "protocol": weakref.ref(protocol)}
    with without_collector():
        await end(it, peer)
        del it, protocol
        await lost
        await turns(3)
        return [name for name, ref in held.items() if ref() is not None]


@on_ours
async def test_after_connection_lost_nobody_holds_an_accepted_protocol_and_its_transport(transport):
    lost = asyncio.get_running_loop().create_future()
    dead = []

    class Accepted(Bare):
        def connection_made(self, it):
            super().connection_made(it)
            dead.extend([weakref.ref(it), weakref.ref(self)])

    server = await serve(transport, lambda: Accepted(lost))
    peer = dialled(transport, server)
    await done(peer.connected)
    await seen(lambda: dead, "the connection")
    with without_collector():
        await done(peer.close())
        await lost
        await turns(3)
        assert [ref() for ref in dead] == [None, None]
    server.close()


@on_ours_and_asyncio
async def test_a_transport_that_is_kept_holds_no_protocol(transport):
    lost = asyncio.get_running_loop().create_future()
    server = transport.raw_server()
    server.accept()
    it, protocol = await connect(transport, lambda: Bare(lost), server)
    dead = weakref.ref(protocol)
    it.close()
    del protocol
    await lost
    await turns(3)
    assert dead() is None
    assert it.get_protocol() is None
