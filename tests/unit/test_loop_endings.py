"""How a loop of ours ends with its asyncio loop: what runs meanwhile, what is kept of it, and who turns it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import weakref

import pytest
from support import TIMEOUT, descriptors
from support.addresses import dialled, raw_tcp
from support.asyncio_loops import each_host, new_host, run_in
from support.coroutines import LOCAL, seen, unclosed
from support.handlers import QUIET, ignore
from support.programs import run_program
from support.threads import in_a_thread_of_its_own, in_thread

import pybuntcp

BIG = 32 << 20  # bytes, more than a kernel takes of a peer that does not read
SHORT = 0.1  # seconds


class Kept:
    """Something whose end can be seen."""


# ---------------------------------------------------------------- finalizers that run meanwhile

ASKING = """
    import asyncio, gc, warnings
    from support.coroutines import async_answers
    from support.asyncio_loops import close_host, new_host, run_in
    from support.handlers import echo

    LOCAL = {"hostname": "127.0.0.1", "port": 0}
    table = {"data": echo}

    def listen():
        with pybuntcp.listen(socket=table, **LOCAL) as listener:
            return listener.port > 0

    ASK = {
        "stats": lambda: pybuntcp.stats()["open_listeners"],
        "listen": listen,
        "connect": lambda: pybuntcp.connect(socket=table, hostname="127.0.0.1", port=1).cancel(),
        "run": pybuntcp.run,
        "verbs": lambda: [each.write(b"x") if isinstance(each, pybuntcp.Socket) else each.stop(True) for each in known],
    }

    class Asking:
        def __del__(self):
            said.append(ASK[sys.argv[3]]())

    class Handlers(Asking):
        def data(self, socket, chunk): pass

    async def open_all():
        first = sys.argv[2]
        def opened(socket):
            if first == "a socket's data":
                socket.data = Asking()
            else:
                known.append(socket)
        handlers = Handlers() if first == "the handlers" else {"data": lambda socket, chunk: None, "open": opened}
        listener = pybuntcp.listen(socket=handlers, **LOCAL)
        known.append(listener)
        if first == "a listener's data":
            listener.data = Asking()
        for _ in range(3):
            known.append(await pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=table))
        while listener.connections < 3:
            await asyncio.sleep(0.001)

    async def serve():
        with pybuntcp.listen(socket=table, **LOCAL) as listener:
            return await async_answers(listener.port)

    said, known = [], []
    warnings.simplefilter("ignore", ResourceWarning)
    loop = new_host(sys.argv[1])
    run_in(loop, open_all)
    if sys.argv[3] != "verbs":
        known.clear()
    loop.close()
    known.clear()
    gc.collect()
    say(said)
    later = new_host(sys.argv[1])
    say(run_in(later, serve))
    close_host(later)
"""

ANSWERS = {"stats": 0, "listen": True, "connect": True, "run": None}


@each_host
@pytest.mark.parametrize(
    ("whose", "ask"),
    [*[("the handlers", ask) for ask in ANSWERS], ("a socket's data", "listen"), ("a listener's data", "listen")],
)
def test_a_finalizer_may_use_pybuntcp_while_the_loop_closes(host, whose, ask):
    """A process of its own: what is given back twice is the end of it."""
    said, served = run_program(ASKING, host, whose, ask)
    assert said == [ANSWERS[ask]] * (3 if whose == "a socket's data" else 1)
    assert served is True


@each_host
def test_a_finalizer_may_call_the_verbs_of_what_dies_with_the_loop(host):
    said, served = run_program(ASKING, host, "a socket's data", "verbs")
    assert said == [[None, -1, -1, -1]] * 3
    assert served is True


# ---------------------------------------------------------------- nothing of it is kept


async def left_reading(listener, socket):
    await socket.reader().read()


async def left_in_drain(listener, socket):
    sink = socket.sink()
    sink.write(bytes(BIG))
    await sink.drain()


async def left_leaving(listener, socket):
    socket.sink().write(bytes(BIG))
    async with socket:
        pass


async def left_connecting(listener, socket):
    await pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=listener.getsockname()[1])
    await asyncio.sleep(TIMEOUT)


async def left_asleep(listener, socket):
    await asyncio.sleep(TIMEOUT, socket)


async def left_waiting_for_a_listener(listener, socket):
    mine = pybuntcp.listen(socket=QUIET, data=socket, **LOCAL)
    await pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=mine.port)
    await seen(lambda: mine.connections == 1, "the connection")
    await mine.wait_closed()


WAYS = [left_reading, left_in_drain, left_leaving, left_connecting, left_asleep, left_waiting_for_a_listener]


@each_host
@pytest.mark.parametrize("way", WAYS)
@in_a_thread_of_its_own
def test_p2_of_a_loop_closed_while_a_task_waits_nothing_is_kept(host, way):
    """Neither the loop, nor the socket, nor the task's frame."""

    def scenario(server):
        async def task(kept):
            await way(server, mine[0])

        async def start():
            kept, port = Kept(), server.getsockname()[1]
            mine.append(await pybuntcp.connect(socket={**QUIET, "drain": ignore}, hostname="127.0.0.1", port=port))
            mine[0].data = loop, kept
            tasks.append(asyncio.ensure_future(task(kept)))
            await asyncio.sleep(SHORT / 2)
            assert not tasks[0].done()
            return [weakref.ref(each) for each in (loop, mine[0], kept)]

        mine, tasks = [], []
        loop = new_host(host)
        loop.set_exception_handler(ignore)  # a task was destroyed but it is pending
        gone = run_in(loop, start)
        loop.close()
        return gone

    with raw_tcp("127.0.0.1") as server:
        with unclosed():  # a warning holds what it is about
            gone = scenario(server)
            gc.collect()
        gc.collect()
        assert [each() for each in gone] == [None] * 3


@each_host
@pytest.mark.parametrize("event", ["open", "data"])
@in_a_thread_of_its_own
def test_p2_of_a_loop_closed_while_an_async_handler_runs_nothing_is_kept(host, event):
    def scenario():
        async def handler(socket, *args):
            sockets.append(weakref.ref(socket))
            started.set()
            await socket.reader().read()

        async def start():
            nonlocal started
            started = asyncio.Event()
            kept = Kept()
            listener = pybuntcp.listen(socket={**QUIET, event: handler}, data=kept, **LOCAL)
            client = stack.enter_context(dialled(listener.port))
            client.sendall(b"x")
            await started.wait()
            return [weakref.ref(loop), weakref.ref(kept), *sockets]

        started, sockets = None, []
        loop = new_host(host)
        loop.set_exception_handler(ignore)
        gone = run_in(loop, start)
        loop.close()
        return gone

    with contextlib.ExitStack() as stack:
        with unclosed():
            gone = scenario()
            gc.collect()
        gc.collect()
        assert [each() for each in gone] == [None] * 3


@in_a_thread_of_its_own
def test_a_selector_of_ours_that_dies_in_a_circle_gives_its_descriptors_back():
    """The collector clears what it holds before it is given back itself."""

    def scenario():
        loop = new_host("native")
        make = type(loop._selector)
        loop.close()
        reader, writer = os.pipe()
        selector = make()
        selector.register(reader, 1, data=[selector])
        os.close(reader)
        os.close(writer)

    in_thread(scenario)
    gc.collect()
    before = len(descriptors())
    scenario()
    gc.collect()
    assert len(descriptors()) == before
