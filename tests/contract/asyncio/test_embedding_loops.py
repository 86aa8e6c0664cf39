"""Inside somebody's asyncio loop: what belongs to another loop, or to another thread's."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from support import TIMEOUT, Recorder, descriptors, run_loop
from support.addresses import black_hole, port_of
from support.asyncio_loops import each_host, new_host, on_every_loop, open_host, run_in, run_on
from support.coroutines import LOCAL, async_answers, connection, seen, unclosed, until
from support.handlers import QUIET, echo
from support.threads import in_thread

import pybuntcp

ECHO = {"data": echo}

# ---------------------------------------------------------------- the wrong loop


AWAITS = {
    "drain": lambda things: things["accepted"].sink().drain(),
    "wait_closed": lambda things: things["listener"].wait_closed(),
    "connecting": lambda things: _awaited(things["connecting"]),
    "reader": lambda things: things["client"].reader().read(),
    "async for": lambda things: _iterated(things["client"]),
    "async with socket": lambda things: _entered(things["client"]),
    "async with listener": lambda things: _entered(things["listener"]),
}


async def _awaited(awaitable):
    return await awaitable


async def _iterated(socket):
    async for _ in socket:
        pass


async def _entered(thing):
    async with thing:
        pass


async def _everything(hole):
    """One of each, with something for `drain` to wait for."""
    server, client = Recorder(), Recorder(open=lambda socket: socket.pause())
    listener, accepted, connected = await connection(server, client)
    accepted.sink().write(bytes(8 << 20))
    connecting = pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=port_of(hole))
    return {"listener": listener, "accepted": accepted, "client": connected, "connecting": connecting}


async def _closed_again(things):
    things["connecting"].cancel()
    things["listener"].stop()
    things["accepted"].terminate()
    things["client"].terminate()
    await seen(lambda: pybuntcp.stats()["open_sockets"] == pybuntcp.stats()["open_listeners"] == 0, "all closed")


@each_host
@pytest.mark.parametrize("what", AWAITS)
def test_awaiting_something_of_another_loop_is_a_runtime_error_that_names_both(host, what):
    other_kind = "native" if host == "asyncio" else "asyncio"
    with open_host(host) as mine, open_host(other_kind) as other, black_hole() as hole:
        things = run_in(mine, lambda: _everything(hole))
        with pytest.raises(RuntimeError) as refused:
            run_in(other, lambda: AWAITS[what](things), timeout=2)
        assert type(mine).__name__ in str(refused.value)
        assert type(other).__name__ in str(refused.value)
        run_in(mine, lambda: _closed_again(things))


class Enough(SystemExit):
    """Raised to come out of `run()`."""


def _run_until_both_are_open(server, client):
    """`run()` until both ends are there."""

    def look(socket):
        if not client.sockets:
            return socket.timeout(0.001)
        socket.timeout(0)
        raise Enough

    server._functions.update(open=lambda socket: socket.timeout(0.001), timeout=look)
    with pytest.raises(Enough):
        run_loop()


@each_host
@pytest.mark.parametrize("what", AWAITS)
def test_awaiting_something_of_the_standalone_loop_is_a_runtime_error(host, what):
    server, client = Recorder(), Recorder(open=lambda socket: socket.pause())
    listener = pybuntcp.listen(socket=server.handlers, **LOCAL)
    pybuntcp.connect(socket=client.handlers, hostname="127.0.0.1", port=listener.port)
    _run_until_both_are_open(server, client)
    with black_hole() as hole, open_host(host) as loop:
        server.socket.sink().write(bytes(8 << 20))
        connecting = pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=port_of(hole))
        things = {"listener": listener, "accepted": server.socket, "client": client.socket, "connecting": connecting}
        with pytest.raises(RuntimeError, match="asyncio"):
            run_in(loop, lambda: AWAITS[what](things), timeout=2)
        connecting.cancel()
        listener.stop()
        server.socket.terminate()
        client.socket.terminate()
        run_loop()


@each_host
def test_verbs_on_a_socket_of_another_loop_still_work(host):
    """Only awaiting needs the loop that turns the socket."""

    async def start():
        return await connection(Recorder(), client)

    async def elsewhere():
        return accepted.write(b"from elsewhere")

    async def told():
        await until(lambda: client.received() == b"from elsewhere")
        listener.stop(True)
        await until(lambda: client.count("close"))

    client = Recorder()
    with open_host(host) as mine, open_host("asyncio") as other:
        listener, accepted, _ = run_in(mine, start)
        assert run_in(other, elsewhere) == len(b"from elsewhere")
        run_in(mine, told)


@on_every_loop
async def test_run_inside_a_running_asyncio_loop_is_a_runtime_error():
    with pytest.raises(RuntimeError, match="run"):
        pybuntcp.run()
    with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
        with pytest.raises(RuntimeError, match="run"):
            pybuntcp.run()
        assert await async_answers(listener.port)


@on_every_loop
async def test_run_of_a_coroutine_inside_a_running_asyncio_loop_is_a_runtime_error():
    async def inner():
        raise AssertionError("it ran")

    coroutine = inner()
    try:
        with pytest.raises(RuntimeError, match="run"):
            pybuntcp.run(coroutine)
    finally:
        coroutine.close()


# ---------------------------------------------------------------- threads


@each_host
def test_a_loop_of_another_thread_has_sockets_of_its_own(host):
    def serve():
        return run_on(host, main)

    async def main():
        server = Recorder(data=lambda socket, chunk: seen.append(threading.current_thread().name))
        listener, _accepted, client = await connection(server, Recorder())
        with listener:
            client.write(b"x")
            await until(lambda: seen)
            return pybuntcp.stats()["open_sockets"]

    seen = []
    with pybuntcp.listen(socket=QUIET, **LOCAL):
        assert in_thread(serve) == 2
        assert pybuntcp.stats()["open_sockets"] == 0
    assert seen == ["another"]


@each_host
def test_a_socket_of_another_threads_loop_is_a_runtime_error_that_names_both_threads(host):
    def serve():
        return run_on(host, main)

    async def main():
        with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
            given.append(listener)
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, done.wait, TIMEOUT)
            return await async_answers(listener.port)

    given, ready, done = [], threading.Event(), threading.Event()
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(serve()), name="another")
    thread.start()
    try:
        assert ready.wait(TIMEOUT)
        with pytest.raises(RuntimeError, match="another") as refused:
            given[0].stop()
        assert threading.current_thread().name in str(refused.value)
    finally:
        done.set()
        thread.join(TIMEOUT)
    assert outcome == [True]


@each_host
def test_a_thread_that_ends_with_open_sockets_gives_their_descriptors_back(host):
    def leave():
        recorder = Recorder()
        loop = new_host(host)
        recorders.append(recorder)
        run_in(loop, lambda: connection(recorder, Recorder()))
        kept.append(loop)

    recorders, kept = [], []
    in_thread(lambda: None)
    before = len(descriptors())
    with unclosed():
        assert in_thread(leave) is None
        kept.pop().close()
        gc.collect()
    assert len(descriptors()) == before
    assert recorders[0].names() == ["open"]
