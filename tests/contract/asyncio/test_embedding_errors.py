"""Contract, Handlers (H1), inside an asyncio loop: what a handler raises goes to `error`, to the loop's exception handler, or out."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support import Recorder, unraisable
from support.addresses import bound_not_listening
from support.asyncio_loops import close_host, each_host, new_host, on_every_loop, run_in, run_on
from support.coroutines import LOCAL, connection, dialled_by, until
from support.handlers import Boom, chain, ignore, raising

import pybuntcp

EVENTS = ["open", "data", "end", "close", "timeout"]
EXITS = [KeyboardInterrupt, SystemExit]


def provoke(event, accepted, client):
    """Make this event happen to an accepted socket whose other end is ours too."""
    if event == "data":
        client.write(b"x")
    elif event == "end":
        client.end()
    elif event == "close":
        client.terminate()
    elif event == "timeout":
        accepted.timeout(0.01)


@contextlib.contextmanager
def exceptions_told():
    """What the running loop's exception handler is told meanwhile."""
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context))
    try:
        yield told
    finally:
        loop.set_exception_handler(None)


async def bring_about(event, server, client):
    """The event has come to the accepted socket, and everything is closed again."""
    listener, accepted, connected = await connection(server, client)
    listener.stop()
    provoke(event, accepted, connected)
    await until(lambda: server.count(event))
    for socket in (accepted, connected):
        socket.terminate()
    await until(lambda: server.count("close") and client.count("close"))


@each_host
@pytest.mark.parametrize("event", EVENTS)
def test_h1_a_handler_that_raises_goes_to_error_and_not_to_the_loop(host, event):
    async def main():
        with exceptions_told() as told:
            await bring_about(event, server, Recorder(error=ignore))
        assert told == []

    boom = Boom(event)
    server = Recorder(**{event: raising(boom)}, error=ignore)
    run_on(host, main)
    assert server.args("error") == [(boom,)]


@on_every_loop
@pytest.mark.parametrize("event", EVENTS)
async def test_h1_without_an_error_handler_the_loops_exception_handler_is_called_once(event):
    boom = Boom(event)
    server = Recorder(**{event: raising(boom)}, without=("error",))
    with exceptions_told() as told, unraisable() as hooked:
        await bring_about(event, server, Recorder(error=ignore))
    assert hooked == []
    (context,) = told
    assert context["exception"] is boom
    assert context["socket"] is server.sockets[0]
    assert isinstance(context["message"], str)
    assert context["message"]


@on_every_loop
async def test_h1_without_an_error_handler_the_server_lives_on():
    def data(socket, chunk):
        socket.write(chunk)
        raise Boom

    server = Recorder(data=data, without=("error",))
    client = Recorder()
    with exceptions_told() as told:
        listener, _, connected = await connection(server, client)
        for count in (1, 2):
            connected.write(b"x")
            await until(lambda count=count: len(client.received()) == count)
        listener.stop(True)
        await until(lambda: client.count("close"))
    assert [type(context["exception"]) for context in told] == [Boom, Boom]


@each_host
def test_h1_an_error_handler_that_raises_is_reported_with_what_it_was_given(host):
    async def main():
        with exceptions_told() as told, unraisable() as hooked:
            await bring_about("data", server, Recorder())
        assert hooked == []
        assert told[-1]["exception"] is second
        assert told[-1]["socket"] is server.sockets[0]
        assert chain(second) == [second, first]

    first, second = Boom("in data"), Boom("in error")
    server = Recorder(data=raising(first), error=raising(second))
    run_on(host, main)
    assert server.count("error") == 1


@on_every_loop
async def test_h1_what_connect_error_raises_is_what_the_awaitable_raises():
    boom = Boom("in connect_error")
    recorder = Recorder(connect_error=raising(boom))
    with bound_not_listening() as port, exceptions_told() as told, pytest.raises(Boom) as raised:
        await pybuntcp.connect(hostname="127.0.0.1", port=port, socket=recorder.handlers)
    assert raised.value is boom
    assert told == []


@each_host
def test_h1_an_exception_handler_that_raises_harms_nothing(host, caplog):
    """asyncio logs it, as it does for its own callbacks."""

    async def main():
        def broken(loop, context):
            raise Boom("in the exception handler")

        asyncio.get_running_loop().set_exception_handler(broken)
        server, client = Recorder(data=raising(Boom("in data")), without=("error",)), Recorder()
        await bring_about("data", server, client)

    run_on(host, main)
    assert "exception handler" in caplog.text


# ---------------------------------------------------------------- leaving


def resume(loop, task):
    """Run the loop on until its main task has ended."""
    if task.done():  # uvloop goes on for a while before it leaves: what stops a finished run is still to come
        with contextlib.suppress(RuntimeError):
            run_in(loop, lambda: asyncio.sleep(0.001))
    run_in(loop, lambda: task)


@each_host
@pytest.mark.parametrize("exit", EXITS)
@pytest.mark.parametrize("event", EVENTS)
def test_h1_an_exit_raised_by_a_handler_comes_out_of_run_until_complete(host, event, exit):
    async def main():
        await bring_about(event, server, Recorder(error=ignore))

    leaving = exit("from a handler")
    server = Recorder(**{event: raising(leaving)}, error=ignore)
    loop = new_host(host)
    try:
        task = loop.create_task(main())
        with pytest.raises(exit) as caught:
            loop.run_until_complete(task)
        assert caught.value is leaving
        assert server.count("error") == 0
        resume(loop, task)
    finally:
        close_host(loop)


@each_host
@pytest.mark.parametrize("exit", EXITS)
def test_h1_an_exit_raised_in_connect_error_comes_out_of_run_until_complete(host, exit):
    async def main():
        with bound_not_listening() as port:
            pybuntcp.connect(hostname="127.0.0.1", port=port, socket=recorder.handlers)
            await until(lambda: recorder.count("connect_error"))

    leaving = exit("from connect_error")
    recorder = Recorder(connect_error=raising(leaving))
    loop = new_host(host)
    try:
        task = loop.create_task(main())
        with pytest.raises(exit) as caught:
            loop.run_until_complete(task)
        assert caught.value is leaving
        resume(loop, task)
    finally:
        close_host(loop)


@each_host
@pytest.mark.parametrize("exit", EXITS)
def test_h1_after_an_exit_the_loop_can_be_run_again_and_nothing_was_lost(host, exit):
    """Eight sockets are readable in one turn, and the handler of the first leaves."""

    def data(socket, chunk):
        socket.write(chunk)
        if server.count("data") == 1:
            raise exit

    async def start():
        listener = pybuntcp.listen(socket=server.handlers, **LOCAL)
        clients = [(await dialled_by(listener, server))[1] for _ in range(8)]
        return listener, clients

    async def answered():
        for client in clients:
            with client:
                assert await asyncio.get_running_loop().sock_recv(client, 99) == b"hello"
        listener.stop(True)
        await until(lambda: server.count("close") == 8)

    server = Recorder(data=data)
    loop = new_host(host)
    try:
        listener, clients = run_in(loop, start)
        for client in clients:
            client.send(b"hello")
        task = loop.create_task(answered())
        with pytest.raises(exit):
            loop.run_until_complete(task)
        resume(loop, task)
    finally:
        close_host(loop)
