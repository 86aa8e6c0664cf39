"""A loop that is run inside a plain handler: refused by a RuntimeError that says so; nothing hangs, spins or floods.

asyncio refuses by itself to run a loop where one runs. `nest_asyncio` and its like take that away: `run_again` does
what they do, and counts turns, so that a nested run that goes round and round is a failed test.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket as stdlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from support import TIMEOUT, Recorder, run_loop
from support.addresses import black_hole, port_of
from support.asyncio_loops import each_host, on_loop, on_loops, run_on
from support.coroutines import LOCAL, connection, read_exactly, seen, until
from support.handlers import echo

import pybuntcp

MANY_TURNS = 200
RE_ENTERED = on_loops("asyncio", "native")  # uvloop cannot be run again inside itself
DEBUG = pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])


async def nothing() -> str:
    return "nothing"


def run_again(coroutine: Coroutine[Any, Any, Any], limit: float = TIMEOUT) -> Any:
    """Run a coroutine by the loop that runs already; its result."""
    loop: Any = asyncio.get_running_loop()
    with run_aside(loop):
        task = loop.create_task(coroutine)
        late = loop.call_later(limit, task.cancel)
        try:
            for _ in range(MANY_TURNS):
                loop._run_once()
                if task.done():
                    return task.result()
        finally:
            late.cancel()
    raise AssertionError(f"{MANY_TURNS} turns of a nested run")


@contextlib.contextmanager
def run_aside(loop: Any) -> Iterator[None]:
    """What the outer run has counted already stays in its queue, and the task that runs is none meanwhile."""
    task = asyncio.current_task(loop)
    outer, loop._ready = loop._ready, collections.deque()
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    try:
        yield
    finally:
        if task is not None:
            asyncio.tasks._enter_task(loop, task)
        outer.extend(loop._ready)
        loop._ready = outer


@contextlib.contextmanager
def reports(debug: bool = False) -> Iterator[list[dict[str, Any]]]:
    """What the running loop's exception handler is told meanwhile."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    loop.set_debug(debug)
    try:
        yield told
    finally:
        loop.set_debug(False)
        loop.set_exception_handler(None)


class Nesting:
    """A `data` handler that runs something, notes what came of it, and echoes."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.results: list[Any] = []

    def __call__(self, socket: Any, chunk: bytes) -> None:
        try:
            self.results.append(self.function())
        except RuntimeError as error:
            self.results.append(error)
        socket.write(chunk)

    def refusals(self) -> list[str]:
        assert all(isinstance(result, RuntimeError) for result in self.results), self.results
        return [str(result) for result in self.results]


@contextlib.asynccontextmanager
async def dialled(handler: Any, count: int = 1, **handlers: Any) -> AsyncIterator[list[stdlib.socket]]:
    """Raw clients of a listener with this `data` handler."""
    there = pybuntcp.stats()["open_sockets"]
    with pybuntcp.listen(socket={"data": handler, **handlers}, **LOCAL) as listener, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(stdlib.create_connection(("127.0.0.1", listener.port), TIMEOUT)))
            clients[-1].setblocking(False)
        await seen(lambda: pybuntcp.stats()["open_sockets"] == there + count, "connections")
        yield clients


async def dial(port: int) -> None:
    await pybuntcp.connect(hostname="127.0.0.1", port=port)


async def cancel_others() -> None:
    """What nested runs have left goes on in the outer one."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    ours = [task for task in others if task.get_coro().__name__ == "dial"]
    for task in ours:
        task.cancel()
    await asyncio.wait(ours)


async def ask(client: stdlib.socket, times: int = 1) -> None:
    """Send a chunk and have it back."""
    for _ in range(times):
        client.sendall(b"x")
        assert await asyncio.wait_for(read_exactly(client, 1), TIMEOUT) == b"x"


# ---------------------------------------------------------------- what asyncio and run() refuse


def run_in_a_new_loop(coroutine: Any) -> Any:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(coroutine)


FORMS: dict[str, Callable[[Any], Any]] = {
    "asyncio.run": asyncio.run,
    "new_event_loop": run_in_a_new_loop,
    "get_event_loop": lambda coroutine: asyncio.get_event_loop().run_until_complete(coroutine),
    "run_forever": lambda coroutine: asyncio.get_event_loop().run_forever(),
    "run()": lambda coroutine: pybuntcp.run(),
    "run(coroutine)": pybuntcp.run,
}


@each_host
@pytest.mark.parametrize("form", FORMS)
def test_each_run_in_a_plain_handler_is_one_runtime_error(host, form):
    if form == "run_forever" and host != "uvloop" and sys.version_info >= (3, 12):
        pytest.skip("asyncio's own loop forgets that it runs, when its run_forever is refused, since Python 3.12")
    made: list[Coroutine[Any, Any, str]] = []

    def nested() -> Any:
        made.append(nothing())
        return FORMS[form](made[-1])

    async def main() -> None:
        handler = Nesting(nested)
        with reports() as told:
            async with dialled(handler) as [client]:
                await ask(client, 20)
        assert all("run" in text for text in handler.refusals())
        assert (len(handler.results), told) == (20, [])

    run_on(host, main)
    for coroutine in made:  # most were refused before they began; uvloop makes a task first
        coroutine.close()


# ---------------------------------------------------------------- the loop that runs, run again


@RE_ENTERED
@DEBUG
async def test_a_nested_run_to_which_something_of_ours_comes_ends_with_a_runtime_error(debug):
    """Once a run: it would go round and round, and tell the loop's exception handler each time."""

    def nested() -> Any:
        other.sendall(b"y")
        return run_again(asyncio.sleep(TIMEOUT))

    handler = Nesting(lambda: nested() if not handler.results else None)
    with reports(debug) as told:
        async with dialled(handler, 2) as [client, other]:
            await ask(client)
            assert await asyncio.wait_for(read_exactly(other, 1), TIMEOUT) == b"y"
            assert_refused(handler.results.pop(0))
            handler.results.append(None)
            await ask(client, 3)
    assert told == []


@RE_ENTERED
async def test_a_connection_awaited_in_a_nested_run_is_a_runtime_error_and_stands_afterwards():
    made: list[Any] = []

    async def dial_server() -> None:
        made.append(await pybuntcp.connect(hostname="127.0.0.1", port=port_of(server)))

    handler = Nesting(lambda: run_again(dial_server()))
    with reports() as told, stdlib.create_server(("127.0.0.1", 0)) as server:
        async with dialled(handler) as [client]:
            await ask(client)
            await seen(lambda: made, "the connection")
            made[0].close()
    [error] = handler.results
    assert_refused(error)
    assert told == []


@RE_ENTERED
async def test_a_nested_run_that_nobody_catches_goes_to_error_as_a_runtime_error():
    told: list[Any] = []

    def data(socket: Any, chunk: bytes) -> None:
        run_again(dial(port_of(hole)))

    def error(socket: Any, raised: Any) -> None:
        told.append(raised)
        socket.write(b"x")

    with black_hole() as hole:
        async with dialled(data, error=error) as [client]:
            await ask(client, 3)
            await cancel_others()
    assert [type(each) for each in told] == [RuntimeError] * 3
    for each in told:
        assert_refused(each)


@RE_ENTERED
async def test_a_nested_run_that_nobody_catches_is_reported_once_a_chunk():
    def data(socket: Any, chunk: bytes) -> None:
        socket.write(chunk)
        run_again(dial(port_of(hole)))

    with black_hole() as hole, reports() as told:
        async with dialled(data) as [client]:
            await ask(client, 5)
            await cancel_others()
    assert [type(each["exception"]) for each in told] == [RuntimeError] * 5


@RE_ENTERED
async def test_a_nested_run_in_connect_error_takes_the_place_of_the_error():
    def connect_error(socket: Any, error: OSError) -> None:
        run_again(dial(port_of(hole)))

    with black_hole() as hole, reports() as told:
        with stdlib.create_server(("127.0.0.1", 0)) as server:
            refusing = port_of(server)
        handlers = {"data": echo, "connect_error": connect_error}
        connecting = pybuntcp.connect(hostname="127.0.0.1", port=refusing, socket=handlers)
        with pytest.raises(RuntimeError) as raised:
            await connecting
        await cancel_others()
    assert (type(raised.value), told) == (RuntimeError, [])
    assert_refused(raised.value)


@RE_ENTERED
async def test_a_nested_run_in_an_error_handler_is_reported_once():
    def data(socket: Any, chunk: bytes) -> None:
        raise ValueError("first")

    def error(socket: Any, raised: Any) -> None:
        socket.write(b"x")
        run_again(dial(port_of(hole)))

    with black_hole() as hole, reports() as told:
        async with dialled(data, error=error) as [client]:
            await ask(client, 2)
            await cancel_others()
    assert [type(each["exception"]) for each in told] == [RuntimeError] * 2
    assert isinstance(told[0]["exception"].__context__, ValueError)


@RE_ENTERED
async def test_a_nested_run_in_a_task_that_a_reader_woke_is_a_runtime_error_of_the_task():
    server = Recorder()
    listener, accepted, socket = await connection(server, Recorder(without=("data",)))
    reader = socket.reader()

    async def task() -> Any:
        await reader.readexactly(1)
        accepted.write(b"there is more")
        accepted.flush()
        return run_again(asyncio.sleep(TIMEOUT))

    with reports() as told:
        waiting = asyncio.create_task(task())
        await asyncio.sleep(0)
        accepted.write(b"1")
        [outcome] = await asyncio.gather(waiting, return_exceptions=True)
        assert_refused(outcome)
        assert await reader.readexactly(13) == b"there is more"
    assert told == []
    socket.close()
    listener.stop(True)


@on_loop("asyncio")
async def test_a_nested_run_that_does_not_come_to_us_is_left_alone():
    handler = Nesting(lambda: run_again(nothing()))
    with reports() as told:
        async with dialled(handler) as [client]:
            await ask(client, 5)
    assert (handler.results, told) == (["nothing"] * 5, [])


@on_loop("asyncio")
async def test_timeouts_are_called_after_a_nested_run_in_which_they_were_due():
    """asyncio's timer for ours is called in there, and set again by the outer run."""
    handler = Nesting(lambda: run_again(asyncio.sleep(TIMEOUT)))
    late = Recorder(data=echo)
    listener, accepted, client = await connection(late, Recorder())
    async with dialled(handler) as [asking]:
        accepted.timeout(1)
        await asyncio.sleep(0)  # asyncio's timer is set
        await ask(asking)
        await until(lambda: late.count("timeout", accepted))
    [error] = handler.results
    assert_refused(error)
    client.close()
    listener.stop(True)


# ---------------------------------------------------------------- another loop, in a handler of run()


def outcome_in_a_handler_of_run(coroutine_function: Callable[[Any], Any]) -> Any:
    """What `asyncio.run` gives in a `data` handler of `pybuntcp.run()`."""
    outcomes: list[Any] = []

    def data(socket: Any, chunk: bytes) -> None:
        try:
            outcomes.append(asyncio.run(asyncio.wait_for(coroutine_function(socket), TIMEOUT)))
        except RuntimeError as error:
            outcomes.append(error)
        socket.end(chunk)

    listener = pybuntcp.listen(socket={"data": data}, **LOCAL)
    client = {"open": lambda socket: socket.write(b"x"), "data": lambda *_: None, "close": lambda *_: listener.stop()}
    pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=client)
    run_loop()
    [outcome] = outcomes
    return outcome


def test_asyncio_run_in_a_handler_of_run_is_another_loop():
    assert outcome_in_a_handler_of_run(lambda socket: nothing()) == "nothing"


def test_asyncio_run_in_a_handler_of_run_may_connect_elsewhere():
    async def dial(socket: Any) -> bytes:
        with stdlib.create_server(("127.0.0.1", 0)) as server:
            client = await pybuntcp.connect(hostname="127.0.0.1", port=port_of(server))
            with client, server.accept()[0] as peer:
                peer.sendall(b"within")
                return await client.reader().readexactly(6)

    assert outcome_in_a_handler_of_run(dial) == b"within"


def test_the_socket_of_the_handler_cannot_be_awaited_in_another_loop():
    async def leave(socket: Any) -> None:
        async with socket:
            pass

    outcome = outcome_in_a_handler_of_run(leave)
    assert isinstance(outcome, RuntimeError)
    assert "outside of asyncio" in str(outcome)


# ---------------------------------------------------------------- support


def assert_refused(error: Any) -> None:
    assert isinstance(error, RuntimeError), error
    assert all(word in str(error) for word in ("inside a handler", "async", "task", "thread")), error
