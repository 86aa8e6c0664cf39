"""Contract, Handlers (H2): the task of an async handler: its context, who keeps it, who may cancel it, when it ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
import weakref

import pytest
from support import TIMEOUT, send_and_wait
from support.async_handlers import Held, Notes
from support.asyncio_loops import close_host, each_host, new_host, on_every_loop
from support.coroutines import async_accepted, async_sides, done, gauges, turns, until
from support.handlers import ignore
from support.threads import in_thread

import pybuntcp

who = contextvars.ContextVar("who")


# ---------------------------------------------------------------- contexts


def observing(seen):
    """An async and a sync handler that note the variable."""

    async def data(socket, chunk):
        await asyncio.sleep(0)
        seen.append(("data", who.get(None)))

    return Notes(data=data, end=lambda socket: seen.append(("end", who.get(None))))


@on_every_loop
async def test_handlers_of_a_listener_see_the_variables_as_at_listen(transport):
    seen = []
    who.set("listen")
    listener = transport.listen(observing(seen))
    who.set("later")
    peer = transport.peer(listener)
    peer.send(b"x")
    await until(lambda: ("data", "listen") in seen or len(seen) > 1)
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == b""
    assert seen == [("data", "listen"), ("end", "listen")]
    assert who.get() == "later"


@on_every_loop
async def test_handlers_of_a_connection_see_the_variables_as_at_connect(transport):
    seen = []
    server = transport.raw_server()
    peer = server.accept()
    who.set("connect")
    notes = observing(seen)
    connecting = transport.connect(notes, server)
    who.set("later")
    await connecting
    await done(peer.send(b"x"))
    await until(lambda: notes.count("/data"))
    peer.shutdown()
    await until(lambda: notes.count("close"))
    assert seen == [("data", "connect"), ("end", "connect")]


@on_every_loop
async def test_what_an_async_handler_sets_is_its_own(transport):
    async def data(socket, chunk):
        seen.append(who.get())
        who.set("mine")
        await asyncio.sleep(0)
        seen.append(who.get())

    seen = []
    who.set("listen")
    notes = Notes(data=data)
    socket, peer = await async_accepted(transport, notes)
    for count in (1, 2):
        send_and_wait(socket, peer, b"x")
        await until(lambda count=count: notes.count("/data") == count)
    assert seen == ["listen", "mine"] * 2


@on_every_loop
async def test_what_a_sync_handler_sets_does_not_reach_the_program(transport):
    def data(socket, chunk):
        who.set("handler")

    who.set("listen")
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"x")
    await until(lambda: notes.count("data"))
    assert who.get() == "listen"


# ---------------------------------------------------------------- who keeps it


class Treasure:
    """Something whose end can be seen."""


@on_every_loop
async def test_a_handler_that_waits_for_what_only_it_knows_is_not_collected(transport):
    async def data(socket, chunk):
        treasure = Treasure()
        future = asyncio.get_running_loop().create_future()
        known.extend([weakref.ref(future), weakref.ref(treasure)])
        await future

    known = []
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"x")
    await until(lambda: notes.count("data"))
    await turns()
    for _ in range(3):
        gc.collect()
    assert all(ref() is not None for ref in known)
    assert notes.count("/data") == 0
    known[0]().set_result(None)
    await until(lambda: notes.count("/data"))


@on_every_loop
async def test_a_handler_that_has_ended_is_given_back(transport):
    async def data(socket, chunk):
        treasure = Treasure()
        known.append(weakref.ref(treasure))
        await asyncio.sleep(0)
        del treasure

    known = []
    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    peer.send(b"x")
    await until(lambda: notes.count("/data"))
    await turns()
    gc.collect()
    assert known[0]() is None
    assert not [task for task in asyncio.all_tasks() if "data" in repr(task.get_coro())]


# ---------------------------------------------------------------- who may cancel it


def cancelling(event):
    """Notes whose handler of this name waits for ever, and a list that gets its task."""

    async def handler(socket, *args):
        tasks.append(asyncio.current_task())
        notes.note("begun", socket)
        if len(tasks) == 1:
            await asyncio.Event().wait()

    tasks = []
    notes = Notes(**{event: handler})
    return notes, tasks


@on_every_loop
async def test_a_handler_that_is_cancelled_is_no_error_and_the_socket_lives_on(transport):
    notes, tasks = cancelling("data")
    socket, peer = await async_accepted(transport, notes)
    peer.send(b"1")
    await until(lambda: notes.count("begun"))
    send_and_wait(socket, peer, b"2")
    tasks[0].cancel()
    await until(lambda: notes.count("/data") == 2)
    assert notes.names(without=("begun",)) == ["open", "data", "/data", "data", "/data"]
    assert tasks[0].cancelled()


@on_every_loop
async def test_an_open_that_is_cancelled_closes_the_socket(transport):
    notes, tasks = cancelling("open")
    _socket, peer = await async_accepted(transport, notes)
    await until(lambda: notes.count("begun"))
    tasks[0].cancel()
    assert await done(peer.recv()) == b""
    await until(lambda: notes.count("close"))
    assert notes.names(without=("begun",)) == ["open", "/open", "close"]


@on_every_loop
async def test_a_close_that_is_cancelled_is_over(transport):
    notes, tasks = cancelling("close")
    socket, _peer = await async_accepted(transport, notes)
    socket.terminate()
    await until(lambda: notes.count("begun"))
    tasks[0].cancel()
    await until(lambda: notes.count("/close"))
    await turns()
    assert gauges() == {}


@on_every_loop
async def test_a_handler_that_cancels_itself_is_no_error(transport):
    async def data(socket, chunk):
        raise asyncio.CancelledError

    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes)
    for count in (1, 2):
        peer.send(b"x")
        await until(lambda count=count: notes.count("/data") == count)
    assert notes.count("error") == 0


# ---------------------------------------------------------------- an open that reads


@async_sides
@on_every_loop
async def test_an_async_open_needs_neither_data_nor_drain(transport, side):
    async def opened(socket):
        reader = socket.reader()
        while line := await reader.readline():
            socket.write(line.upper())

    notes = Notes(open=opened, without=("data", "drain"))
    _socket, peer = await side(transport, notes)
    await done(peer.send(b"one\ntwo\n"))
    assert await done(peer.recv_exactly(8)) == b"ONE\nTWO\n"
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == b""
    await until(lambda: notes.count("close"))
    assert notes.names(without=("end",)) == ["open", "/open", "close"]


@on_every_loop
async def test_a_socket_with_only_an_async_open_is_not_read_before_it_does(transport):
    async def opened(socket):
        await gate.wait()
        got.append(await socket.reader().readexactly(3))

    gate, got = asyncio.Event(), []
    notes = Notes(open=opened, without=("data", "drain"))
    socket, peer = await async_accepted(transport, notes)
    send_and_wait(socket, peer, b"abc")
    await turns()
    assert socket.bytes_read == 0
    gate.set()
    await until(lambda: notes.count("/open"))
    assert got == [b"abc"]


def test_a_sync_open_alone_is_refused_still():
    with pytest.raises(TypeError, match="'data' or a 'drain'"):
        pybuntcp.Handlers(open=ignore)


# ---------------------------------------------------------------- the asyncio loop ends meanwhile


def end_the_program(host, main):
    """The end of `asyncio.run` in a thread of its own: what still runs is cancelled, the loop is closed. What was warned of."""

    def run():
        loop = new_host(host)
        loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
        close_host(loop)
        del loop
        gc.collect()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert in_thread(run) is None
    return [(each.category, str(each.message).split()[0]) for each in told]


@each_host
def test_handlers_that_run_when_the_program_ends_are_cancelled_and_what_is_open_is_unclosed(transport, host):
    async def main():
        nonlocal begun
        begun = asyncio.Event()
        peer = transport.peer(pybuntcp.listen(**transport.listen_options(), socket=table))
        await done(peer.send(b"x"))
        await begun.wait()

    async def data(socket, chunk):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    ended, begun = [], None
    table = {"data": data, "close": lambda socket, error: ended.append("close")}
    told = end_the_program(host, main)
    assert told == [(ResourceWarning, "unclosed")] * 2  # the listener and the socket
    assert ended == ["cancelled"]


@each_host
def test_handlers_of_stopped_listeners_are_cancelled_with_the_program(transport, host):
    """Their sockets closed already, but for the handlers: whether `close` is still told depends on the last turns."""

    async def main():
        nonlocal notes
        notes = Held("data")
        listener = pybuntcp.listen(**transport.listen_options(), socket=notes.handlers)
        peer = transport.peer(listener)
        await done(peer.send(b"x"))
        while not notes.count("data"):
            await asyncio.sleep(0)
        listener.stop(True)
        assert await done(peer.recv_until_eof()) == b""

    notes = None
    told = end_the_program(host, main)
    assert notes.names()[:3] == ["open", "data", "/data"]
    assert notes.names()[3:] in ([], ["close"])
    assert set(told) <= {(ResourceWarning, "unclosed")}


@on_every_loop
async def test_a_task_of_the_program_may_outlive_the_handlers_it_was_started_in(transport):
    async def data(socket, chunk):
        tasks.append(asyncio.ensure_future(answer(socket)))

    async def answer(socket):
        await turns(5)
        socket.end(b"later")

    tasks = []
    server = transport.listen(Notes(data=data))
    peer = transport.peer(server)
    peer.send(b"x")
    assert await done(peer.recv_until_eof()) == b"later"
    await asyncio.gather(*tasks)
