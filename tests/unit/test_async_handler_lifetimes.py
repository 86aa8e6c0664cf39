"""Async handlers at their edges: sockets that go meanwhile, two tasks of one socket, what cannot be started, forks."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support import Recorder, pattern, reset_and_wait, shrink_send_buffer, unraisable
from support.addresses import dialled
from support.async_handlers import Held, Notes
from support.asyncio_loops import each_host, on_every_loop
from support.coroutines import async_accepted, done, loop_reports, nothing_open, turns, until
from support.handlers import Boom, ignore
from support.programs import Program

BIG = 8 << 20  # bytes, more than a kernel takes of a peer that does not read
ENOUGH = 1 << 20  # the same when both buffers are small
SMALL = 4096  # a receive buffer
RING = 0.02  # seconds of a timeout


async def pause():
    """A coroutine function where none is expected."""


# ---------------------------------------------------------------- the socket goes while its handler runs


@pytest.mark.parametrize("end", ["terminate", "reset"])
@on_every_loop
async def test_async_with_a_socket_that_has_gone_meanwhile_returns(over_tcp, end):
    """Its descriptor was given back while the handler that says `async with` ran, and `close` waits for that."""

    async def opened(socket):
        async with socket:
            await gone.wait()
        notes.note("left", socket)

    gone = asyncio.Event()
    notes = Notes(open=opened)
    socket, peer = await async_accepted(over_tcp, notes)
    if end == "terminate":
        socket.terminate()
    else:
        reset_and_wait(socket, peer)
        socket.resume()
        socket.write(b"x")
        socket.close()
    await turns()
    assert notes.names() == ["open"]
    gone.set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "left", "/open", "close"]


@on_every_loop
async def test_async_with_a_socket_that_was_reset_under_its_reader_returns(over_tcp):
    async def opened(socket):
        with pytest.raises(ConnectionResetError):
            async with socket:
                await socket.reader().read()
        notes.note("left", socket)

    notes = Notes(open=opened)
    socket, peer = await async_accepted(over_tcp, notes)
    reset_and_wait(socket, peer)
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "left", "/open", "close"]


# ---------------------------------------------------------------- after close nothing is told


@on_every_loop
async def test_w5_a_timeout_that_waited_for_an_async_handler_that_closed_is_not_called(transport):
    """`close` takes and tells no more, though bytes are pending still."""

    async def data(socket, chunk):
        assert socket.write(pattern(BIG)) < BIG
        socket.timeout(RING)
        await asyncio.sleep(4 * RING)
        socket.close()

    notes = Notes(data=data)
    _socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL)
    peer.send(b"x")
    await until(lambda: notes.count("/data"))
    await turns()
    await done(peer.recv_until_eof())
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "data", "/data", "close"]
    assert notes.close_error is None


@pytest.mark.parametrize("verb", ["close", "shutdown"])
@on_every_loop
async def test_w5_after_close_or_shutdown_true_the_end_that_a_reader_took_is_not_delivered(transport, verb):
    async def opened(socket):
        assert socket.write(pattern(BIG)) < BIG
        assert await socket.reader().read() == b""
        if verb == "close":
            socket.close()
        else:
            socket.shutdown(True)
            socket.end()

    notes = Notes(open=opened, without=("drain",))
    _socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL)
    peer.shutdown()
    await until(lambda: notes.count("/open"))
    await turns()
    await done(peer.recv_until_eof())
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", "/open", "close"]


# ---------------------------------------------------------------- two tasks of one socket


async def with_error_beside(transport, event, *, first, **options):
    """A socket with two tasks: that of `event`, and that of an async `error`, for which a drain callback raised."""

    def opened(socket):
        shrink_send_buffer(socket)
        socket.sink().write(pattern(ENOUGH))
        socket.sink().add_drain_callback(boom)

    def boom(error):
        raise Boom

    async def handler(socket, *args):
        await ends[event].wait()

    async def error(socket, raised):
        await ends["error"].wait()

    ends = {event: asyncio.Event(), "error": asyncio.Event()}
    notes = Notes(open=opened, error=error, **{event: handler})
    socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL, **options)
    if event == "end":
        peer.shutdown()
    else:
        socket.timeout(RING)
    await until(lambda: notes.count(event))
    got = peer.recv_exactly(ENOUGH)
    await until(lambda: notes.count("error"))
    await done(got)
    second = "error" if first == event else event
    ends[first].set()
    await until(lambda: notes.count("/" + first))
    await turns()
    assert notes.count("close") == 0
    ends[second].set()
    await until(lambda: notes.count("close"))
    assert notes.names() == ["open", event, "error", "/" + first, "/" + second, "close"]
    return notes


@pytest.mark.parametrize("first", ["end", "error"])
@on_every_loop
async def test_r2_the_closing_after_an_async_end_comes_when_the_last_of_two_tasks_has_ended(transport, first):
    notes = await with_error_beside(transport, "end", first=first)
    assert notes.close_error is None


@pytest.mark.parametrize("first", ["timeout", "error"])
@on_every_loop
async def test_t1_the_decision_of_an_async_timeout_comes_when_the_last_of_two_tasks_has_ended(transport, first):
    notes = await with_error_beside(transport, "timeout", first=first)
    assert isinstance(notes.close_error, TimeoutError)


# ---------------------------------------------------------------- what cannot be started


def test_h1_a_socket_whose_handler_gave_a_coroutine_without_a_running_loop_is_read_on(loop, transport):
    recorder = Recorder(error=ignore)
    chunks = []

    def data(socket, chunk):
        chunks.append(chunk)
        return pause() if len(chunks) == 1 else socket.end()

    listener = transport.listen({**recorder.handlers, "data": data})
    peer = transport.peer(listener)
    with unraisable() as reports:  # a coroutine that is dropped says so here
        peer.send(b"1")
        loop.run_until(lambda: recorder.count("error"))
        peer.send(b"2")
        peer.shutdown()
        loop.run_until(lambda: recorder.count("close"))
    assert chunks == [b"1", b"2"]
    assert isinstance(recorder.args("error")[0][0], TypeError)
    assert reports == []


@on_every_loop
async def test_h1_a_socket_whose_handlers_task_cannot_be_made_gets_the_error_and_is_read_on(transport):
    def refuse(loop, coroutine, **options):
        coroutine.close()
        raise Boom("no tasks here")

    async def data(socket, chunk):
        socket.end()

    loop = asyncio.get_running_loop()
    notes = Notes(data=data, error=ignore, without=("drain",))
    _socket, peer = await async_accepted(transport, notes)
    loop.set_task_factory(refuse)
    peer.send(b"1")
    await until(lambda: notes.count("error"))
    loop.set_task_factory(None)
    peer.send(b"2")
    await until(lambda: notes.count("/data"))
    assert [str(error) for (error,) in notes.args("error")] == ["no tasks here"]
    assert notes.received() == b"2"


@on_every_loop
async def test_h1_a_task_that_cannot_be_made_does_not_end_the_wait_for_one_that_runs(transport):
    """`error` gives a coroutine that cannot be started while `data` runs: still nothing is read before that has ended."""

    def refuse(loop, coroutine, **options):
        coroutine.close()
        raise Boom("no tasks here")

    def boom(error):
        raise Boom("from the drain")

    async def error(socket, raised):
        raise AssertionError("it cannot be started")

    def first(socket, chunk):
        if chunk == b"1":
            shrink_send_buffer(socket)
            socket.sink().write(pattern(ENOUGH))
            socket.sink().add_drain_callback(boom)

    notes = Held("data", data=first)
    loop = asyncio.get_running_loop()
    socket, peer = await async_accepted(transport, notes, rcvbuf=SMALL)
    peer.send(b"1")
    await until(lambda: notes.count("data"))
    socket.reload({**notes.handlers, "error": error})
    peer.send(b"2")
    with loop_reports() as told:
        loop.set_task_factory(refuse)
        try:
            got = peer.call(peer._recv_exactly, ENOUGH)
            while not told:
                await asyncio.sleep(0.001)
        finally:
            loop.set_task_factory(None)
    await turns()
    assert str(told[0]["exception"]) == "no tasks here"
    assert notes.received() == b"1"
    notes.gate.set()
    await until(lambda: notes.count("/data") == 2)
    assert notes.received() == b"12"
    socket.terminate()
    got.ignore()
    await nothing_open()


# ---------------------------------------------------------------- forks in what is called outside of a turn

# What was freed is not what it was: the flags of a socket then say that there is more to do.
OVERWRITTEN = "glibc.malloc.tcache_count=0:glibc.malloc.perturb=8"

FORKING = """
    import asyncio
    from support.asyncio_loops import close_host, new_host, running_here

    event, parent = sys.argv[2], os.getpid()
    BIG = bytes(8 << 20)

    def fork(socket, *args):
        run_again = running_here()
        child = os.fork()
        if child == 0:
            run_again()
            signal.alarm(8)
            return
        _, status = os.waitpid(child, 0)
        said.set_result(status)

    async def in_child():
        "The loop goes on in the child, after the handler has returned there."
        while os.getpid() == parent:
            await asyncio.sleep(0.005)
        for _ in range(20):
            await asyncio.sleep(0)
        asyncio._set_running_loop(None)  # as Pythons before 3.14.1 have it in a child
        stats = pybuntcp.stats()
        mine = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
        mine.stop(True)
        os._exit(0 if (stats["open_sockets"], accepted.write(b"x"), mine.port > 0) == (0, -1, True) else 3)

    async def data(socket, chunk):
        global accepted
        if chunk != b"go":
            socket.write(chunk)
            return
        accepted = socket
        if event == "drain":
            while socket.write(BIG) > 0:
                pass
        elif event == "timeout":
            socket.timeout(0.01)
            await asyncio.sleep(0.05)
        say("gone")
        await gate.wait()
        if event == "close":
            socket.terminate()
            await asyncio.sleep(0.01)
        if event == "error":
            raise ValueError

    async def two_tasks(socket, chunk):
        "An async error handler runs beside it, and the sync one that is called next forks."
        global accepted
        accepted = socket
        def boom(error):
            raise ValueError
        socket.sink().write(BIG)
        socket.sink().add_drain_callback(boom)
        socket.reload({"data": two_tasks, "error": beside})
        say("gone")
        await gate.wait()
        await began.wait()
        socket.reload({"data": two_tasks, "error": fork})
        raise ValueError

    async def beside(socket, error):
        began.set()
        await asyncio.wait({said})

    async def main():
        global gate, began, said
        gate, began, said = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()
        table = {"data": two_tasks} if event == "two tasks" else {"data": data, event: fork}
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=table)
        child = asyncio.ensure_future(in_child())
        say(listener.port)
        asyncio.get_running_loop().add_reader(0, gate.set)
        status = await said
        asyncio.get_running_loop().remove_reader(0)
        child.cancel()
        listener.stop(True)
        await listener.wait_closed(5)
        say(status)

    loop = new_host(sys.argv[1])
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(main())
    close_host(loop)
    say("parent done")
"""


@each_host
@pytest.mark.parametrize("event", ["error", "drain", "timeout", "close", "two tasks"])
def test_p1_after_a_fork_in_a_sync_handler_that_waited_for_an_async_one_both_processes_go_on(monkeypatch, host, event):
    """It is called when a task has ended, not in a turn of the loop."""
    monkeypatch.setenv("GLIBC_TUNABLES", OVERWRITTEN)
    with Program(FORKING, host, event) as program, dialled(program.hear()) as client:
        client.sendall(b"go")
        assert program.hear() == "gone"
        if event in ("drain", "two tasks"):
            client.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    assert client.recv(1 << 20)
        program.process.stdin.write(b"x")
        program.process.stdin.flush()
        assert program.hear() == 0
        assert program.finish() == ["parent done"]
