"""Contract, Handlers (H1, H2): where the exception of an async handler goes."""

from __future__ import annotations

import asyncio

import pytest
from support.async_handlers import Notes, pause, provoke, raising_later
from support.asyncio_loops import on_every_loop, run_on
from support.coroutines import async_accepted, done, loop_reports, nothing_open, turns, until
from support.handlers import Boom, chain, ignore

EVENTS = ["open", "data", "drain", "end", "close", "timeout"]


@pytest.mark.parametrize("told", [ignore, pause], ids=["sync", "async"])
@pytest.mark.parametrize("event", EVENTS)
@on_every_loop
async def test_h1_what_an_async_handler_raises_goes_to_error(transport, event, told):
    boom = Boom(event)
    notes = Notes(**{event: raising_later(boom)}, error=told)
    socket, peer = await async_accepted(transport, notes)
    provoke(event, socket, peer)
    await until(lambda: notes.count("/error" if told is pause else "error"))
    ((_, who, (error,)),) = [entry for entry in notes.events if entry[0] == "error"]
    assert who is socket
    assert error is boom
    assert notes.names().index("/" + event) < notes.names().index("error")


@on_every_loop
async def test_h1_without_error_the_loops_exception_handler_is_called(transport):
    boom = Boom()
    notes = Notes(data=raising_later(boom), without=("error",))
    socket, peer = await async_accepted(transport, notes)
    with loop_reports() as reports:
        peer.send(b"x")
        await until(lambda: notes.count("/data"))
        await turns()
    (report,) = reports
    assert report["exception"] is boom
    assert report["socket"] is socket
    assert report["message"]


@on_every_loop
async def test_h1_without_error_a_sync_handlers_exception_goes_to_the_loop_too(transport):
    def data(socket, chunk):
        raise boom

    boom = Boom()
    notes = Notes(data=data, without=("error",))
    socket, peer = await async_accepted(transport, notes)
    with loop_reports() as reports:
        peer.send(b"x")
        await until(lambda: notes.count("data"))
        await turns()
    (report,) = reports
    assert (report["exception"], report["socket"]) == (boom, socket)


@pytest.mark.parametrize("second", ["sync", "async"])
@on_every_loop
async def test_h1_if_error_raises_too_the_loop_gets_both(transport, second):
    first, then = Boom("first"), Boom("then")

    def sync(socket, error):
        raise then

    notes = Notes(data=raising_later(first), error=sync if second == "sync" else raising_later(then))
    _socket, peer = await async_accepted(transport, notes)
    with loop_reports() as reports:
        peer.send(b"x")
        await until(lambda: notes.count("error" if second == "sync" else "/error"))
        await turns()
    (report,) = reports
    assert set(chain(report["exception"])) == {first, then}
    assert notes.count("error") == 1


@on_every_loop
async def test_h1_a_socket_whose_async_data_raised_lives_on(transport):
    async def data(socket, chunk):
        socket.write(chunk)
        if chunk == b"first":
            raise Boom

    notes = Notes(data=data, error=ignore)
    _socket, peer = await async_accepted(transport, notes)
    for chunk in (b"first", b"again"):
        peer.send(chunk)
        assert await done(peer.recv_exactly(5)) == chunk


@pytest.mark.parametrize("told", [ignore, pause], ids=["sync", "async"])
@on_every_loop
async def test_h1_an_async_open_that_raises_closes_the_socket(transport, told):
    notes = Notes(open=raising_later(Boom()), error=told)
    _socket, peer = await async_accepted(transport, notes)
    assert await done(peer.recv()) == b""
    await until(lambda: notes.count("close"))
    assert notes.names(without=("/error",)) == ["open", "/open", "error", "close"]
    assert notes.names()[-1] == "close"


@on_every_loop
async def test_h1_an_async_open_that_raises_closes_the_socket_of_a_connect_too(transport):
    notes = Notes(open=raising_later(Boom()), error=ignore)
    server = transport.raw_server()
    peer = server.accept()
    await transport.connect(notes, server)
    assert await done(peer.recv()) == b""
    await until(lambda: notes.count("close"))


@on_every_loop
async def test_h1_after_a_reload_the_new_tables_error_is_called(transport):
    boom = Boom()

    async def data(socket, chunk):
        socket.reload(new.handlers)
        raise boom

    old, new = Notes(label="old", data=data), Notes(label="new", error=ignore)
    _socket, peer = await async_accepted(transport, old)
    peer.send(b"x")
    await until(lambda: new.count("error"))
    assert new.args("error") == [(boom,)]
    assert old.count("error") == 0


@pytest.mark.parametrize("exit", [KeyboardInterrupt, SystemExit])
def test_h1_keyboard_interrupt_and_system_exit_come_out_of_run_until_complete(transport, exit):
    """On the stock loop: how a task's exit comes out is asyncio's own doing, and uvloop's another."""
    loop = asyncio.SelectorEventLoop()

    async def main():
        peer = transport.peer(transport.listen({"data": raising_later(exit())}))
        peer.send(b"x")
        await asyncio.Event().wait()

    async def clean():
        transport.close()
        await nothing_open()

    try:
        with pytest.raises(exit):
            loop.run_until_complete(asyncio.wait_for(main(), 10))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(clean())
    finally:
        loop.close()


def test_h1_an_unwatched_test_would_be_seen():
    """The harness's own check: an exception that only the loop is told of fails the test."""

    async def main():
        asyncio.get_running_loop().call_exception_handler({"message": "nobody expected this"})

    with pytest.raises(AssertionError, match="nobody expected this"):
        run_on(asyncio.SelectorEventLoop, main)
