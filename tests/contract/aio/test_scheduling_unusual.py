"""[A15] What a program may do to the loop's queues, times and handles, though few do: the loop goes on, as asyncio's does."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import socket
import weakref

import pytest
from support.asyncio_loops import hosts, open_host, run_in, run_turns
from support.kernel import TIMEOUT
from support.protocols import host_is_ours_or_asyncio


class SubclassOfDeque(collections.deque):
    pass


class OtherQueue:
    """What asyncio asks of `_ready`, and no more."""

    def __init__(self, handles):
        self.handles = list(handles)

    def append(self, handle):
        self.handles.append(handle)

    def popleft(self):
        return self.handles.pop(0)

    def __len__(self):
        return len(self.handles)

    def __iter__(self):
        return iter(self.handles)


@contextlib.contextmanager
def the_queue_put_back(loop):
    """What is left in another queue is in a deque again, in which the loop is closed."""
    try:
        yield
    finally:
        loop._ready = collections.deque(loop._ready)


@host_is_ours_or_asyncio
@pytest.mark.parametrize("queue", [collections.deque, SubclassOfDeque, OtherQueue])
def test_connections_are_served_while_callbacks_are_ready_in_another_queue(loop, queue):
    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def spin(until):
        while not until.is_set():
            await asyncio.sleep(0)

    async def main():
        loop._ready = queue(loop._ready)
        served = asyncio.Event()
        spinning = loop.create_task(spin(served))
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hi")
        assert await reader.readexactly(2) == b"hi"
        served.set()
        await spinning
        writer.close()
        await writer.wait_closed()
        server.close()

    with the_queue_put_back(loop):
        run_in(loop, main)


@host_is_ours_or_asyncio
@pytest.mark.parametrize("queue", [collections.deque, SubclassOfDeque, OtherQueue])
def test_the_queue_may_be_replaced_while_the_loop_waits(loop, queue):
    async def main():
        ours, theirs = socket.socketpair()
        received = loop.create_future()

        class Replaces(asyncio.Protocol):
            def data_received(self, data):
                loop._ready = queue(loop._ready)
                loop.call_soon(received.set_result, data)

        transport, _ = await loop.create_connection(Replaces, sock=ours)
        with theirs:
            loop.call_soon(theirs.send, b"x")
            assert await received == b"x"
        transport.close()

    with the_queue_put_back(loop):
        run_in(loop, main)


@host_is_ours_or_asyncio
@pytest.mark.parametrize("instead", [5, None])
def test_what_is_no_list_in_place_of_the_timers_is_an_error_and_no_more(loop, instead):
    before = loop._scheduled
    ours, theirs = socket.socketpair()

    class Replaces(asyncio.Protocol):
        def data_received(self, data):
            loop._scheduled = instead

    async def main():
        await loop.create_connection(Replaces, sock=ours)
        loop.call_later(TIMEOUT, int).cancel()
        theirs.send(b"x")
        await asyncio.sleep(TIMEOUT)

    try:
        with theirs, pytest.raises((TypeError, AttributeError)):
            loop.run_until_complete(main())
    finally:
        loop._scheduled = before


@host_is_ours_or_asyncio
def test_a_timer_that_is_started_after_many_were_cancelled_in_a_handler_wakes_the_loop(loop):
    """The list of timers is another one then, and the loop's next wait is for the new one's first."""

    async def main():
        ours, theirs = socket.socketpair()
        timers = [loop.call_later(10 * TIMEOUT, int) for _ in range(300)]
        woken = loop.create_future()

        class Restarts(asyncio.Protocol):
            def data_received(self, data):
                for timer in timers:
                    timer.cancel()
                loop.call_later(0.001, woken.set_result, data)

        transport, _ = await loop.create_connection(Restarts, sock=ours)
        with theirs:
            loop.call_later(0.001, theirs.send, b"x")
            assert await woken == b"x"
        transport.close()

    run_in(loop, main)


# ---------------------------------------------------------------- times that are no floats


@host_is_ours_or_asyncio
def test_a_time_that_is_no_number_is_due_at_once_as_in_asyncio(loop):
    log = []
    loop.call_later(float("nan"), log.append, "nan")
    run_turns(loop)
    assert log == ["nan"]


@host_is_ours_or_asyncio
def test_a_time_beyond_what_a_float_holds_is_later_than_any_other(loop):
    log = []
    far = [loop.call_at(10**400, log.append, "never"), loop.call_at(loop.time() + 1000, log.append, "never")]
    loop.call_later(0, log.append, "now")
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert log == ["now"]
    for handle in far:
        handle.cancel()


@host_is_ours_or_asyncio
def test_a_time_whose_comparison_empties_the_timers_is_an_error(loop):
    class Empties(float):
        def __lt__(self, other):
            loop._scheduled.clear()
            return True

    loop.call_later(TIMEOUT, int)
    with pytest.raises(RuntimeError, match="list changed size during iteration"):
        loop.call_at(Empties(1), int)
    loop._scheduled.clear()


# ---------------------------------------------------------------- handles


@hosts("native")
def test_cancel_of_a_timer_is_for_timers_alone(loop):
    handle = loop.call_later(TIMEOUT, int)
    for other in (5, object(), loop.call_soon(int)):
        with pytest.raises(TypeError, match="a TimerHandle is wanted"):
            type(handle).cancel(other)
    handle.cancel()


@host_is_ours_or_asyncio
def test_every_handle_that_the_collector_of_garbage_knows_can_be_shown(loop):
    for _ in range(50):
        loop.call_soon(int)
    run_turns(loop)
    for found in gc.get_objects():
        if isinstance(found, asyncio.Handle):
            assert "Handle" in repr(found)
            found.cancelled()


@host_is_ours_or_asyncio
@pytest.mark.parametrize(("cancelled", "called"), [(0, ["called"]), (1, [])])
def test_a_handle_is_cancelled_if_a_program_says_so_in_other_words(loop, cancelled, called):
    log = []
    loop.call_soon(log.append, "called")._cancelled = cancelled
    run_turns(loop)
    assert log == called


# ---------------------------------------------------------------- classes of a program's own


@host_is_ours_or_asyncio
def test_tasks_and_futures_are_of_the_classes_that_a_program_has_put_in_place(loop, monkeypatch):
    monkeypatch.setattr(asyncio.tasks, "Task", asyncio.tasks._PyTask)
    monkeypatch.setattr(asyncio.futures, "Future", asyncio.futures._PyFuture)

    async def main():
        return type(asyncio.current_task())

    task = loop.create_task(main())
    assert type(task) is asyncio.tasks._PyTask
    assert type(loop.create_future()) is asyncio.futures._PyFuture
    with contextlib.suppress(asyncio.CancelledError):
        task.cancel()
        loop.run_until_complete(task)


@host_is_ours_or_asyncio
def test_a_closed_loop_is_collected_though_its_task_factory_is_a_method_of_its_own(host):
    with open_host(host) as other:
        kind = type(other)

    class Loop(kind):
        def factory(self, loop, coro, **options):
            return asyncio.Task(coro, loop=loop, **options)

    loop = Loop()
    loop.set_task_factory(loop.factory)
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
