"""Contract, Handlers (H2): an async handler that is held up by a peer which does not read; what ends it, and what does not."""

from __future__ import annotations

import pytest
from support import Feed
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, done, turns, until
from support.handlers import ignore
from support.sinks import BIG, SMALL

linger = {"linger_timeout": 0.1}


def sending(outcome):
    """An async `data` that sends much, waits until it is sent, and notes what came of it."""

    async def data(socket, chunk):
        sink = socket.sink()
        sink.write(b"x" * BIG)
        try:
            await sink.drain()
        except OSError as error:
            outcome.append(error)
            outcome.append(socket.write(b"more"))

    return data


async def stalled(transport, notes, **options):
    _socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL, idle_timeout=0.15, **options)
    await done(peer.send(b"x"))
    await until(lambda: notes.count("close"))


@on_every_loop
async def test_a_handler_in_drain_ends_when_idle_timeout_rings_and_there_is_no_timeout_handler(transport):
    outcome = []
    notes = Notes(data=sending(outcome), without=("timeout",))
    await stalled(transport, notes)
    assert notes.names(without=("drain",)) == ["open", "data", "/data", "close"]
    assert isinstance(notes.close_error, TimeoutError)
    assert isinstance(outcome[0], TimeoutError)
    assert outcome[1] == -1


@on_every_loop
async def test_a_timeout_handler_that_cannot_be_asked_within_linger_timeout_is_not_asked(transport):
    outcome = []
    notes = Notes(data=sending(outcome), timeout=ignore)
    await stalled(transport, notes, **linger)
    assert notes.names(without=("drain",)) == ["open", "data", "/data", "close"]
    assert isinstance(notes.close_error, TimeoutError)
    assert isinstance(outcome[0], TimeoutError)


@pytest.mark.parametrize("verb", ["close", "terminate"])
@on_every_loop
async def test_a_handler_in_drain_ends_when_the_socket_is_closed_by_others(transport, verb):
    outcome = []
    notes = Notes(data=sending(outcome))
    socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL, **linger)
    await done(peer.send(b"x"))
    await until(lambda: notes.count("data"))
    await turns()
    getattr(socket, verb)()
    await until(lambda: notes.count("close"))
    assert notes.names(without=("drain",)) == ["open", "data", "/data", "close"]
    assert isinstance(outcome[0], OSError)


@on_every_loop
async def test_a_handler_in_drain_goes_on_when_the_peer_reads(transport):
    outcome = []
    notes = Notes(data=sending(outcome))
    _socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL)
    await done(peer.send(b"x"))
    await until(lambda: notes.count("data"))
    assert await done(peer.recv_exactly(BIG)) == b"x" * BIG
    await until(lambda: notes.count("/data"))
    assert outcome == []


@on_every_loop
async def test_a_write_that_came_short_in_an_async_handler_is_followed_by_drain(transport):
    async def data(socket, chunk):
        await turns(2)
        feed.fill(socket)

    feed = Feed(BIG)
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL)
    await done(peer.send(b"x"))
    await until(lambda: notes.count("/data"))
    assert await done(peer.recv_exactly(feed.at)) == feed.accepted
    await until(lambda: notes.count("drain"))
    assert notes.names() == ["open", "data", "/data", "drain"]
