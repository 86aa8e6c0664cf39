"""Contract, Connecting (C5) inside asyncio: a task that awaits is cancelled after each of the loop's turns.

Each attempt is started, the loop turns n times, the task is cancelled. Descriptors opened right after it take the
numbers that the attempt gave back: one that is closed twice would be one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as stdlib

import pytest
from support import descriptors, linux_only, pattern
from support.addresses import black_hole, bound_not_listening, needs_ipv6, one_port_of_both_families, port_of, raw_tcp
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, descriptors_untouched, done, gauges, nothing_open, seen, turns, until
from support.handlers import QUIET
from support.sinks import BIG, SMALL

import pybuntcp

TURNS = 12  # a connect to the loopback has its outcome within fewer


@contextlib.contextmanager
def accepting():
    with raw_tcp("127.0.0.1") as server:
        yield {"hostname": "127.0.0.1", "port": port_of(server)}


@contextlib.contextmanager
def refused():
    with bound_not_listening() as port:
        yield {"hostname": "127.0.0.1", "port": port}


@contextlib.contextmanager
def silent():
    with black_hole() as hole:
        yield {"hostname": "127.0.0.1", "port": port_of(hole)}


@contextlib.contextmanager
def a_name():
    with raw_tcp("127.0.0.1") as server:
        yield {"hostname": "localhost", "port": port_of(server)}


@contextlib.contextmanager
def no_such_name():
    yield {"hostname": "a b", "port": 80}


@contextlib.contextmanager
def two_addresses():
    with one_port_of_both_families() as port:
        yield {"hostname": "localhost", "port": port}


@contextlib.contextmanager
def two_silent_addresses():
    with one_port_of_both_families(black_hole, black_hole) as port:
        yield {"hostname": "localhost", "port": port}


@contextlib.contextmanager
def with_a_timeout():
    with black_hole() as hole:
        yield {"hostname": "127.0.0.1", "port": port_of(hole), "timeout": 20}


@contextlib.contextmanager
def abstract():
    with stdlib.socket(stdlib.AF_UNIX) as server:
        server.bind("")  # Linux picks an abstract name
        server.listen()
        yield {"unix": server.getsockname().decode()}


targets = pytest.mark.parametrize(
    "target",
    [
        accepting,
        refused,
        pytest.param(silent, marks=linux_only),
        a_name,
        no_such_name,
        pytest.param(two_addresses, marks=needs_ipv6),
        pytest.param(two_silent_addresses, marks=[needs_ipv6, linux_only]),
        pytest.param(with_a_timeout, marks=linux_only),
        pytest.param(abstract, marks=linux_only),
    ],
)


async def attempt(options, notes):
    return await pybuntcp.connect(**options, socket=notes.handlers)


@contextlib.asynccontextmanager
async def no_more_descriptors():
    """Afterwards there are as many as before; a lookup that nobody waits for any more may still have some."""
    pybuntcp.connect(
        hostname="127.0.0.1", port=1, socket=QUIET
    ).cancel()  # what the loop opens with its first and keeps
    await nothing_open()
    before = len(descriptors())
    yield before
    await seen(lambda: len(descriptors()) <= before, "the descriptors given back")


async def outcome(task):
    """The socket, the error, or None for a task that was cancelled."""
    try:
        return await task
    except asyncio.CancelledError:
        return None
    except OSError as error:
        return error


def check(notes, result):
    """Of a cancelled attempt nothing is open; a socket that was given is the one that was opened."""
    if isinstance(result, pybuntcp.Socket):
        assert notes.sockets == [result]
        result.terminate()
    elif result is None:
        assert notes.count("connect_error") + notes.count("open") <= 1
    else:
        assert notes.args("connect_error") == [(result,)]


@targets
@on_every_loop(timeout=40)
async def test_c5_cancelled_after_each_turn_nothing_leaks(target):
    with target() as options:
        for count in range(TURNS):
            async with no_more_descriptors():
                notes = Notes(label=f"{count} turns")
                task = asyncio.ensure_future(attempt(options, notes))
                await turns(count)
                task.cancel()
                check(notes, await outcome(task))
                await nothing_open()
                assert notes.count("open") == notes.count("close")


@targets
@on_every_loop(timeout=40)
async def test_c5_cancelled_after_each_turn_no_descriptor_of_others_is_touched(target):
    with target() as options:
        for count in range(TURNS):
            async with no_more_descriptors():
                notes = Notes(label=f"{count} turns")
                task = asyncio.ensure_future(attempt(options, notes))
                await turns(count)
                task.cancel()
                with descriptors_untouched():
                    await turns(1)
                    with descriptors_untouched():
                        check(notes, await outcome(task))
                        with descriptors_untouched():
                            await nothing_open()


@targets
@on_every_loop(timeout=40)
async def test_c5_cancel_of_the_connecting_itself_after_each_turn(target):
    with target() as options:
        for count in range(TURNS):
            async with no_more_descriptors():
                notes = Notes(label=f"{count} turns")
                connecting = pybuntcp.connect(**options, socket=notes.handlers)
                await turns(count)
                told = notes.names()
                gave_up = connecting.cancel()
                with descriptors_untouched():
                    if gave_up:
                        assert connecting.cancelled()
                        with pytest.raises(asyncio.CancelledError):
                            await connecting
                        await nothing_open()
                        assert notes.names() == told == []
                    else:
                        check(notes, await outcome(connecting))
                        await nothing_open()


@linux_only
@on_every_loop
async def test_c5_cancelled_after_each_turn_it_is_met_at_every_stage(no_leaks):
    """The tests above mean something: in progress, standing and not taken yet, and taken are all among their turns."""
    stages = set()
    with accepting() as options:
        for count in range(TURNS):
            notes = Notes()
            task = asyncio.ensure_future(attempt(options, notes))
            await turns(count)
            task.cancel()
            result = await outcome(task)
            stages.add("taken" if result is not None else "standing" if notes.count("open") else "in progress")
            check(notes, result)
            await nothing_open()
    assert stages == {"in progress", "standing", "taken"}


@needs_ipv6
@linux_only
@on_every_loop
async def test_c5_cancelled_between_two_addresses_both_attempts_are_closed(no_leaks):
    with two_silent_addresses() as options:
        async with no_more_descriptors() as before:
            notes = Notes()
            task = asyncio.ensure_future(attempt(options, notes))
            await seen(lambda: len(descriptors()) >= before + 2, "the second attempt")
            task.cancel()
            with descriptors_untouched():
                assert await outcome(task) is None
                await nothing_open()
            assert notes.names() == []


@on_every_loop
async def test_c5_a_cancelled_await_cancels_the_attempt(no_leaks):
    with silent() as options:
        connecting = pybuntcp.connect(**options, socket=QUIET)
        task = asyncio.ensure_future(awaiting(connecting))
        await turns()
        assert gauges()["connecting"] == 1
        task.cancel()
        assert await outcome(task) is None
        assert connecting.cancelled()
        await nothing_open()


async def awaiting(awaitable):
    return await awaitable


@on_every_loop
async def test_c5_a_task_cancelled_between_the_connection_and_its_turn_leaves_no_socket(transport):
    """`open` runs when the connection stands; the task that awaits runs later, if at all."""
    server = transport.raw_server(accepting=1)
    notes = Notes(open=lambda socket: task.cancel())
    task = asyncio.ensure_future(attempt(transport.connect_options(server), notes))
    assert await outcome(task) is None
    await until(lambda: notes.count("close"))
    assert notes.names(without=("end",)) == ["open", "close"]
    assert gauges() == {}


@on_every_loop
async def test_c5_two_that_are_cancelled_between_the_connection_and_their_turn_leave_no_socket(transport):
    """Driven by hand, as two tasks are that wait before the connection stands and have no turn after it."""
    server = transport.raw_server(accepting=1)
    notes = Notes()
    connecting = transport.connect(notes, server)
    waiting = [connecting.__await__() for _ in range(2)]
    assert all(asyncio.isfuture(each.send(None)) for each in waiting)
    await until(lambda: notes.count("open"))
    for each in waiting:
        assert notes.sockets[0].ready_state == pybuntcp.ReadyState.ESTABLISHED
        with pytest.raises(asyncio.CancelledError):
            each.throw(asyncio.CancelledError())
    await until(lambda: notes.count("close"))
    assert notes.names(without=("end",)) == ["open", "close"]


@on_every_loop
async def test_c5_who_awaits_a_connect_that_another_cancels_is_cancelled(no_leaks):
    with silent() as options:
        connecting = pybuntcp.connect(**options, socket=QUIET)
        task = asyncio.ensure_future(awaiting(connecting))
        await turns(2)
        assert connecting.cancel()
        assert await outcome(task) is None
        assert task.cancelled()


@on_every_loop
async def test_c5_of_two_who_await_a_connect_one_that_is_cancelled_cancels_it_for_both(no_leaks):
    with silent() as options:
        connecting = pybuntcp.connect(**options, socket=QUIET)
        first, second = (asyncio.ensure_future(awaiting(connecting)) for _ in range(2))
        await turns(2)
        first.cancel()
        assert await outcome(first) is await outcome(second) is None
        assert connecting.cancelled()


@on_every_loop
async def test_c5_a_shielded_connect_goes_on_when_who_awaits_it_is_cancelled(transport):
    server = transport.raw_server(accepting=1)
    connecting = transport.connect(QUIET, server)
    task = asyncio.ensure_future(awaiting(asyncio.shield(connecting)))
    await turns(1)
    task.cancel()
    assert await outcome(task) is None
    assert not connecting.cancelled()
    assert (await connecting).write(b"x") == 1


@on_every_loop
async def test_c5_wait_for_around_a_connect_gives_it_up_in_time(no_leaks):
    with silent() as options:
        notes = Notes()
        connecting = pybuntcp.connect(**options, socket=notes.handlers)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connecting, 0.05)
        assert connecting.cancelled()
        await nothing_open()
        assert notes.names() == []


@pytest.mark.skipif(not hasattr(asyncio, "timeout"), reason="asyncio.timeout is of Python 3.11")
@on_every_loop
async def test_c5_timeout_around_a_connect_gives_it_up_in_time(no_leaks):
    async def within():
        async with asyncio.timeout(0.05):
            await connecting

    with silent() as options:
        connecting = pybuntcp.connect(**options, socket=QUIET)
        with pytest.raises(TimeoutError):
            await within()
        assert connecting.cancelled()
        await nothing_open()


@on_every_loop
async def test_c5_wait_for_around_a_connect_that_succeeds_gives_the_socket(transport):
    socket = await asyncio.wait_for(transport.connect(QUIET, transport.raw_server(accepting=1)), 10)
    assert isinstance(socket, pybuntcp.Socket)


@on_every_loop
async def test_c5_a_cancelled_connect_in_an_async_handler_leaves_nothing(tcp):
    """A proxy that dials in `open` and whose client goes: cancelling the handler's task cancels the dialling."""
    tasks = []

    async def opened(socket):
        tasks.append(asyncio.current_task())
        notes.note("begun", socket)
        with silent() as options:
            await pybuntcp.connect(**options, socket=QUIET)

    notes = Notes(open=opened)
    await async_accepted(tcp, notes)
    await until(lambda: notes.count("begun"))
    await turns()
    tasks[0].cancel()
    await until(lambda: notes.count("close"))
    await nothing_open()


# ---------------------------------------------------------------- other awaits


@on_every_loop
async def test_a_cancelled_drain_harms_nobody(transport):
    socket, peer = await async_accepted(transport, Notes(), rcvbuf=SMALL)
    sink = socket.sink()
    sink.write(pattern(BIG))
    given_up, other = (asyncio.ensure_future(sink.drain()) for _ in range(2))
    await turns()
    given_up.cancel()
    await turns()
    assert given_up.cancelled()
    assert not other.done()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
    await other


@on_every_loop
async def test_a_drain_that_is_given_up_in_time_may_be_awaited_again(transport):
    socket, peer = await async_accepted(transport, Notes(), rcvbuf=SMALL)
    sink = socket.sink()
    sink.write(pattern(BIG))
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sink.drain(), 0.01)
    got = peer.recv_exactly(BIG)
    await asyncio.wait_for(sink.drain(), 10)
    assert await done(got) == pattern(BIG)


@on_every_loop
async def test_a_cancelled_wait_closed_leaves_the_listener_as_it_is(transport):
    notes = Notes()
    listener = transport.listen(notes)
    peer = transport.peer(listener)
    await until(lambda: notes.sockets)
    task = asyncio.ensure_future(listener.wait_closed(30))
    await turns()
    task.cancel()
    assert await outcome(task) is None
    assert listener.connections == 1
    peer.close()
    await until(lambda: notes.count("close"))
    assert await listener.wait_closed() == 0
