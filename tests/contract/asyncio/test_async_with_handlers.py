"""API.md, awaits: how `async with` ends while async handlers run that await something that is not their socket."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from support.async_handlers import Notes
from support.asyncio_loops import each_host, on_every_loop
from support.coroutines import async_accepted, async_connected, done, gauges, turns, until
from support.handlers import Boom
from support.programs import Program

SECONDS = 2.0  # for one who leaves by an exception

# ---------------------------------------------------------------- one Ctrl-C ends a program

PROGRAM = """
    import asyncio
    from support.asyncio_loops import run_of

    async def waiting(sock, chunk):
        begun.set()
        await asyncio.Event().wait()

    async def reluctant(sock, chunk):
        try:
            await waiting(sock, chunk)
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async def stubborn(sock, chunk):
        while True:
            try:
                await waiting(sock, chunk)
            except asyncio.CancelledError:
                pass

    async def closing(sock, error=None):
        await asyncio.Event().wait()

    def dial(listener):
        client = socket.create_connection(("127.0.0.1", listener.port))
        client.sendall(b"x")
        return client

    async def body():
        async with pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table) as listener:
            client = dial(listener)
            await begun.wait()
            say("ready")
            await asyncio.Event().wait()

    async def leaving():
        async with pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table) as listener:
            client = dial(listener)
            await begun.wait()
            asyncio.get_running_loop().call_later(0.1, say, "ready")

    async def in_a_socket():
        async with pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print}) as listener:
            async with await pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=table):
                say("ready")
                await asyncio.Event().wait()

    async def main():
        global begun
        begun = asyncio.Event()
        await globals()[sys.argv[3]]()

    table = {"data": globals()[sys.argv[2]], "close": closing} if sys.argv[2] == "waiting" else {
        "data": globals()[sys.argv[2]]}
    try:
        run_of(sys.argv[1])(main())
    except KeyboardInterrupt:
        say("interrupted")
"""


@each_host
@pytest.mark.parametrize("where", ["body", "leaving"])
@pytest.mark.parametrize("handler", ["waiting", "reluctant", "stubborn"])
def test_one_ctrl_c_leaves_async_with_a_listener_whatever_its_handlers_do(host, handler, where):
    assert seconds_from_ctrl_c_to_end(host, handler, where) < SECONDS + 0.5


@each_host
def test_one_ctrl_c_leaves_async_with_a_socket_whose_peer_does_not_end(host):
    assert seconds_from_ctrl_c_to_end(host, "waiting", "in_a_socket") < SECONDS + 0.5


def seconds_from_ctrl_c_to_end(*arguments):
    with Program(PROGRAM, *arguments) as program:
        assert program.hear() == "ready"
        started = time.monotonic()
        program.signal()
        assert program.hear() == "interrupted"
        program.finish()
        return time.monotonic() - started


@pytest.mark.parametrize("handler", ["waiting", "reluctant", "stubborn"])
def test_run_ends_with_its_coroutine_whatever_async_handlers_do(handler):
    with Program(
        PROGRAM.replace("await begun.wait()\n            say", "return await begun.wait()\n            say").replace(
            "async with pybuntcp.listen(hostname", "with pybuntcp.listen(hostname", 1
        ),
        "native",
        handler,
        "body",
    ) as program:
        started = time.monotonic()
        assert program.finish() == []
        assert time.monotonic() - started < SECONDS + 2


# ---------------------------------------------------------------- by an exception


async def never(*_):
    await asyncio.Event().wait()


async def leave_raising(thing):
    async with thing:
        raise Boom


def note_of(notes, event):
    return lambda: notes.count(event)


@on_every_loop
async def test_leaving_a_listener_by_an_exception_cancels_the_handlers_of_its_connections(transport):
    async def data(socket, chunk):
        try:
            await never()
        except asyncio.CancelledError:
            cancelled.append(bytes(chunk))
            raise

    cancelled = []
    notes = Notes(data=data)
    started = time.monotonic()
    listener = transport.listen(notes)
    for _ in range(3):
        await done(transport.peer(listener).send(b"x"))
    await until(lambda: notes.count("data") == 3)
    with pytest.raises(Boom):
        await leave_raising(listener)
    assert cancelled == [b"x"] * 3
    assert notes.count("close") == 3
    assert listener.connections == 0
    assert gauges() == {}
    assert time.monotonic() - started < SECONDS


@on_every_loop
async def test_leaving_a_listener_leaves_the_handlers_of_others_alone(transport):
    async def data(socket, chunk):
        await go_on.wait()
        socket.end(chunk)

    go_on = asyncio.Event()
    _socket, peer = await async_accepted(transport, Notes(data=data))
    await done(peer.send(b"x"))
    with pytest.raises(Boom):
        await leave_raising(transport.listen(Notes()))
    go_on.set()
    assert await done(peer.recv_until_eof()) == b"x"
    peer.close()


@on_every_loop
async def test_a_handler_that_goes_on_when_it_is_cancelled_is_given_up_and_reported_to_the_loop(transport):
    """Its connection is closed and told of, and it may still end whenever it likes."""

    async def data(socket, chunk):
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()
        ended.set()

    enough, ended, told = asyncio.Event(), asyncio.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    notes = Notes(data=data)
    started = time.monotonic()
    listener = transport.listen(notes)
    await done(transport.peer(listener).send(b"x"))
    await until(note_of(notes, "data"))
    with pytest.raises(Boom):
        await leave_raising(listener)
    assert time.monotonic() - started < SECONDS + 0.5
    await until(note_of(notes, "close"))
    assert listener.connections == 0
    assert gauges() == {}
    assert len(told) == 1
    assert "cancelled" in told[0]
    enough.set()
    await asyncio.wait_for(ended.wait(), 5)


@on_every_loop
async def test_a_handler_that_leaves_its_own_listener_is_not_cancelled_by_that(transport):
    async def data(socket, chunk):
        with pytest.raises(Boom):
            await leave_raising(socket.listener)
        left.set()

    left = asyncio.Event()
    listener = transport.listen(Notes(data=data))
    peer = transport.peer(listener)
    await done(peer.send(b"x"))
    await asyncio.wait_for(left.wait(), SECONDS + 3)
    await listener.wait_closed()


@on_every_loop
async def test_leaving_a_socket_by_an_exception_does_not_wait_for_the_peer_and_cancels_its_handlers(transport):
    async def data(socket, chunk):
        try:
            await never()
        finally:
            ended.append(chunk)

    ended = []
    notes = Notes(data=data)
    socket, peer = await async_connected(transport, notes)
    await done(peer.send(b"x"))
    await until(note_of(notes, "data"))
    started = time.monotonic()
    socket.write(b"so far")
    with pytest.raises(Boom):
        await leave_raising(socket)
    assert time.monotonic() - started < SECONDS
    assert await done(peer.recv_until_eof()) == b"so far"
    await until(lambda: ended)


# ---------------------------------------------------------------- in order


@on_every_loop
async def test_leaving_a_listener_in_order_waits_for_its_handlers(transport):
    async def data(socket, chunk):
        await asyncio.sleep(0.2)
        ended.append(chunk)

    ended = []
    notes = Notes(data=data)
    async with transport.listen(notes) as listener:
        peer = transport.peer(listener)
        await done(peer.send(b"x"))
        await until(note_of(notes, "data"))
    assert ended == [b"x"]


@on_every_loop
async def test_leaving_a_listener_in_order_cancels_handlers_that_run_longer_than_linger_timeout(transport):
    started = time.monotonic()
    notes = Notes(data=never)
    async with transport.listen(notes, linger_timeout=0.2) as listener:
        peer = transport.peer(listener)
        await done(peer.send(b"x"))
        await until(note_of(notes, "data"))
    assert 0.2 <= time.monotonic() - started < SECONDS
    assert gauges() == {}


@on_every_loop
async def test_cancelled_while_it_leaves_in_order_the_handlers_are_cancelled(transport):
    async def leave():
        async with transport.listen(notes) as listener:
            peer = transport.peer(listener)
            await done(peer.send(b"x"))
            await until(note_of(notes, "data"))
            leaving.set()

    notes, leaving = Notes(data=never), asyncio.Event()
    task = asyncio.ensure_future(leave())
    await leaving.wait()
    await turns()
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < SECONDS
    assert gauges() == {}
