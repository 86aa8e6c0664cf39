"""Inside somebody's asyncio loop: attaching, detaching, one loop after another."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
from support import LATE, Recorder, descriptors, linux_only, run_loop
from support.addresses import black_hole, bound_not_listening, port_of
from support.asyncio_loops import each_host, on_every_loop, on_foreign_loops, open_host, run_in, run_of, run_on
from support.coroutines import (
    LOCAL,
    async_answers,
    connection,
    dialled_by,
    read_exactly,
    seen,
    unclosed,
    until,
    watched_backends,
)
from support.handlers import QUIET, echo

import pybuntcp

ECHO = {"data": echo}

# ---------------------------------------------------------------- attaching and detaching


@on_every_loop
async def test_a_listener_opened_inside_a_running_loop_is_served_by_it():
    with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
        assert await async_answers(listener.port)


async def attached():
    await seen(lambda: watched_backends() == 1, "the host to watch our backend")


async def listening():
    listener = pybuntcp.listen(socket=QUIET, **LOCAL)
    await attached()
    listener.stop()


async def connected():
    server = Recorder()
    listener, _, client = await connection(server, Recorder())
    listener.stop()
    await attached()
    client.close()
    await until(lambda: server.count("close"))


async def refused():
    with bound_not_listening() as port:
        connecting = pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=port)
        with pytest.raises(ConnectionRefusedError):
            await connecting


async def cancelled():
    with black_hole() as hole:
        connecting = pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=port_of(hole))
        await attached()
        connecting.cancel()


async def terminated():
    client = Recorder()
    listener, _, socket = await connection(Recorder(), client)
    listener.stop(True)
    socket.terminate()
    await until(lambda: client.count("close"))


@linux_only
@on_foreign_loops
@pytest.mark.parametrize("use", [listening, connected, refused, cancelled, terminated])
async def test_the_host_has_no_reader_of_ours_after_the_last_handle_is_gone_and_again_after(use):
    for _ in range(3):
        await use()
        await seen(lambda: watched_backends() == 0, "the host to let go of our reader")


@linux_only
@on_foreign_loops
async def test_stats_alone_attaches_nothing():
    assert pybuntcp.stats()["open_sockets"] == 0
    assert watched_backends() == 0


@on_every_loop
async def test_an_unreferenced_listener_is_served_as_well():
    """`unref` is about `run()`; an asyncio loop runs as long as its main coroutine."""
    with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
        listener.unref()
        assert await async_answers(listener.port)


@on_every_loop
async def test_a_timer_alone_wakes_the_loop():
    fired = asyncio.get_running_loop().create_future()
    server = Recorder(timeout=lambda socket: fired.set_result(time.monotonic()))
    listener, accepted, _ = await connection(server, Recorder())
    listener.stop()
    armed = time.monotonic()
    accepted.timeout(0.08)
    assert 0.08 <= await fired - armed < 0.08 + LATE
    await until(lambda: server.count("close"))


@on_every_loop
async def test_a_connect_timeout_alone_wakes_the_loop():
    with black_hole() as hole:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            await pybuntcp.connect(hostname="127.0.0.1", port=port_of(hole), timeout=0.08)
        assert 0.08 <= time.monotonic() - start < 0.08 + LATE


# ---------------------------------------------------------------- sharing the thread


@on_every_loop
async def test_a_host_that_is_never_idle_serves_our_sockets():
    """Its callbacks call themselves again: it never waits."""
    loop = asyncio.get_running_loop()

    def spin():
        if not done:
            loop.call_soon(spin)

    done = []
    with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
        spin()
        for _ in range(3):
            assert await async_answers(listener.port)
    done.append(True)


@on_every_loop
async def test_sockets_of_ours_that_are_never_idle_leave_the_host_its_timers_and_readers():
    async def streams():
        """A line over asyncio's own transports."""
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()

    server, client = Recorder(data=echo), Recorder(data=echo)
    listener, _, connected = await connection(server, client)
    connected.write(b"to and fro")
    start = time.monotonic()
    for _ in range(5):
        await asyncio.sleep(0.01)
        await streams()
    assert time.monotonic() - start < LATE
    assert client.count("data") > 5
    listener.stop(True)
    await until(lambda: client.count("close"))


# ---------------------------------------------------------------- several loops, one after another


@each_host
def test_asyncio_run_twice_in_one_process(host):
    async def main():
        with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
            return await async_answers(listener.port)

    assert [run_of(host)(main()) for _ in range(2)] == [True, True]


@each_host
def test_asyncio_run_again_after_one_that_left_everything_open(host):
    async def leave():
        await connection(Recorder(), Recorder())

    async def main():
        with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
            return await async_answers(listener.port)

    before = len(descriptors())
    with unclosed() as told:
        run_of(host)(leave())
        gc.collect()
    assert sorted(told) == ["Listener", "Socket", "Socket"]
    assert run_of(host)(main())
    assert len(descriptors()) == before


@each_host
def test_the_standalone_loop_runs_after_asyncio_and_asyncio_after_it(host):
    def alone():
        server = Recorder(data=lambda socket, chunk: socket.end(chunk))
        client = Recorder(open=lambda socket: socket.end(b"alone"))
        listener = pybuntcp.listen(socket={**server.handlers, "close": lambda *_: listener.stop()}, **LOCAL)
        pybuntcp.connect(socket=client.handlers, hostname="127.0.0.1", port=listener.port)
        run_loop()
        return client.received()

    async def main():
        with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
            return await async_answers(listener.port)

    assert [alone(), run_on(host, main), alone(), run_on(host, main)] == [b"alone", True, b"alone", True]


PAIRS = [
    ("asyncio", "asyncio"),
    ("native", "native"),
    ("asyncio", "native"),
    ("uvloop", "asyncio"),
    ("native", "uvloop"),
]


@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_two_alternating_loops_in_one_thread_have_each_their_own_sockets(kinds):
    if "uvloop" in kinds:
        pytest.importorskip("uvloop")
    recorders = [Recorder(data=echo), Recorder(data=echo)]
    listeners, clients = [], []

    async def start(recorder):
        listeners.append(pybuntcp.listen(socket=recorder.handlers, **LOCAL))
        clients.append((await dialled_by(listeners[-1], recorder))[1])

    async def talk(client, word):
        await asyncio.get_running_loop().sock_sendall(client, word)
        assert await read_exactly(client, len(word)) == word
        return pybuntcp.stats()["open_sockets"], pybuntcp.stats()["open_listeners"]

    async def finish(number):
        listeners[number].stop(True)
        clients[number].close()
        await until(lambda: recorders[number].count("close"))
        await seen(lambda: pybuntcp.stats()["open_listeners"] == 0, "the listener to be closed")

    with open_host(kinds[0]) as first, open_host(kinds[1]) as second:
        run_in(first, lambda: start(recorders[0]))
        run_in(second, lambda: start(recorders[1]))
        for turn in range(5):
            for number, loop in enumerate((first, second)):
                word = b"%d of %d" % (turn, number)
                assert run_in(loop, lambda number=number, word=word: talk(clients[number], word)) == (1, 1)
        run_in(first, lambda: finish(0))
        first.close()
        assert run_in(second, lambda: talk(clients[1], b"still here")) == (1, 1)
        run_in(second, lambda: finish(1))


@each_host
def test_a_timeout_that_was_due_while_another_loop_ran_comes_when_its_own_runs_again(host):
    async def arm():
        listener, accepted, _ = await connection(server, Recorder())
        listener.stop()
        accepted.timeout(0.05)

    async def told():
        await until(lambda: server.count("close"))

    server = Recorder()
    with open_host(host) as mine, open_host("asyncio") as other:
        run_in(mine, arm)
        run_in(other, lambda: asyncio.sleep(0.1))
        assert server.count("timeout") == 0
        run_in(mine, told)
    assert server.count("timeout") == 1


@each_host
def test_an_asyncio_loop_run_inside_a_handler_of_run_has_sockets_of_its_own(host):
    async def main():
        with pybuntcp.listen(socket=ECHO, **LOCAL) as inner:
            return await async_answers(inner.port)

    def opened(socket):
        with open_host(host) as loop:
            answered.append(run_in(loop, main))
        listener.stop(True)

    answered = []
    recorder = Recorder(open=opened)
    listener = pybuntcp.listen(socket=recorder.handlers, **LOCAL)
    pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=ECHO)
    run_loop()
    assert answered == [True]
