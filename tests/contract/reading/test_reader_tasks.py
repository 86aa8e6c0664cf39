"""API.md, `SocketReader`: the task that waits in a read, and when it goes on."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest
from support import TIMEOUT, send_and_wait
from support.async_handlers import Notes
from support.asyncio_loops import each_host, new_host, on_every_loop
from support.coroutines import async_accepted, done, nothing_open, reading, turns, until

waiting_for = contextvars.ContextVar("waiting_for")


def python_tasks(loop, coroutine, **options):
    return asyncio.tasks._PyTask(coroutine, loop=loop, **options)


def eager_tasks(loop, coroutine, *, eager_start=True, **options):
    """`eager_start`: uvloop hands it on from 3.13 on, and 3.13.0's factory does not know it."""
    return asyncio.eager_task_factory(loop, coroutine, **options)


FACTORIES = [pytest.param(python_tasks, id="tasks written in Python")]
if sys.version_info >= (3, 12):
    FACTORIES.append(pytest.param(eager_tasks, id="eager tasks"))


# ---------------------------------------------------------------- in which order


@on_every_loop
async def test_a_task_goes_on_before_what_was_given_to_call_soon_in_that_turn(transport):
    def soon(socket, chunk):
        asyncio.get_running_loop().call_soon(order.append, "call_soon")

    async def wait():
        order.append(await reader.read(100))

    order = []
    _plain, first = await async_accepted(transport, Notes(data=soon))
    async with reading(transport) as (reader, _socket, second):
        task = asyncio.ensure_future(wait())
        await turns()
        first.send(b"x").result()  # nothing turns meanwhile: both are ready in the next turn
        second.send(b"read").result()
        await task
        await until(lambda: len(order) == 2)
        assert order == [b"read", "call_soon"]


@on_every_loop
async def test_what_a_task_writes_after_a_read_goes_out_at_once(transport):
    async with reading(transport) as (reader, socket, peer):
        send_and_wait(socket, peer, b"x")
        assert await reader.read(1) == b"x"
        assert socket.write(b"answer") == 6
        assert socket.pending == 0
        assert peer.recv_exactly(6).result() == b"answer"


@on_every_loop
async def test_tasks_that_close_each_others_sockets_as_they_read(transport):
    async def close_both(reader):
        chunk = await reader.read(100)
        for socket in sockets:
            socket.terminate()
        return chunk

    async with reading(transport) as (one, _, first), reading(transport) as (other, _, second):
        sockets = [one.socket, other.socket]
        tasks = [asyncio.ensure_future(close_both(reader)) for reader in (one, other)]
        await turns()
        first.send(b"1").result()
        second.send(b"2").result()
        assert sorted(await asyncio.gather(*tasks)) in ([b"", b"1"], [b"", b"2"])


# ---------------------------------------------------------------- what a task is


@on_every_loop
async def test_context_variables_are_the_tasks_own(transport):
    async def wait(name):
        waiting_for.set(name)
        await reader.readexactly(2)
        return waiting_for.get()

    async with reading(transport) as (reader, _socket, peer):
        task = asyncio.ensure_future(wait("two"))
        await turns()
        peer.send(b"x").result()
        await turns()
        assert not task.done()
        peer.send(b"y")
        assert await task == "two"
        assert waiting_for.get(None) is None


@on_every_loop
async def test_a_task_is_the_current_one_as_it_goes_on(transport):
    async def wait():
        await reader.read(100)
        return asyncio.current_task()

    async with reading(transport) as (reader, _socket, peer):
        task = asyncio.ensure_future(wait())
        await turns()
        peer.send(b"x")
        assert await task is task


@on_every_loop
async def test_what_a_task_is_cancelled_with_comes_out_of_its_read(transport):
    async def wait():
        try:
            await reader.read(100)
        except asyncio.CancelledError as error:
            return error.args

    async with reading(transport) as (reader, _socket, peer):
        for arguments in ((), ("enough",)):
            task = asyncio.ensure_future(wait())
            await turns()
            assert task.cancel(*arguments)
            assert await task == arguments
        peer.send(b"kept")
        assert await reader.read(100) == b"kept"


@on_every_loop
async def test_a_task_that_is_cancelled_as_its_bytes_come_leaves_them(transport):
    async with reading(transport) as (reader, socket, peer):
        task = asyncio.ensure_future(reader.read(100))
        await turns()
        send_and_wait(socket, peer, b"kept")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.read(100) == b"kept"


@pytest.mark.parametrize("factory", FACTORIES)
@on_every_loop
async def test_other_kinds_of_tasks_read(transport, factory):
    async def opened(socket):
        while line := await socket.reader().readline():
            socket.write(line.upper())

    asyncio.get_running_loop().set_task_factory(factory)
    notes = Notes(open=opened)
    _socket, peer = await async_accepted(transport, notes)
    for _ in range(5):
        peer.send(b"li")
        peer.send(b"ne\n")
        assert await done(peer.recv_exactly(5)) == b"LINE\n"
    peer.shutdown()
    await until(lambda: notes.count("close"))
    assert notes.close_error is None


@on_every_loop
async def test_a_read_whose_coroutine_is_thrown_away_waits_no_more(transport):
    async with reading(transport) as (reader, _socket, peer):
        coroutine = reader.read(100)
        assert asyncio.isfuture(coroutine.send(None))
        coroutine.close()
        peer.send(b"kept")
        assert await reader.read(100) == b"kept"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@each_host
def test_what_stops_a_program_comes_out_of_the_loop(host, transport, stop):
    async def main():
        async def opened(socket):
            await socket.reader().read(100)
            raise stop("in the task")

        peer = transport.peer(transport.listen({"open": opened}))
        peer.send(b"x")
        await asyncio.Event().wait()

    async def clean():
        transport.close()
        await nothing_open()

    loop = new_host(host)
    try:
        with pytest.raises(stop, match="in the task"):
            loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(clean())
    finally:
        loop.close()
