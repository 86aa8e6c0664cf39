"""How a loop of ours ends with its asyncio loop: what runs meanwhile, what is kept of it, and who turns it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import weakref

import pytest
from support import TIMEOUT, Recorder, descriptors, unraisable
from support_hosts import (
    GUESTS,
    HOSTS,
    LOCAL,
    answers,
    connection,
    echo,
    happened,
    host_loop,
    host_run,
    in_a_thread_of_its_own,
    new_host,
    run_in,
    unclosed,
    until,
    watched_backends,
)
from support_more import QUIET, dialled, ignore, in_thread, linux_only, raw_tcp, run_program

import pybuntcp

BIG = 32 << 20  # bytes, more than a kernel takes of a peer that does not read
SHORT = 0.1  # seconds


class Kept:
    """Something whose end can be seen."""


# ---------------------------------------------------------------- finalizers that run meanwhile

ASKING = """
    import asyncio, gc, warnings
    from support_hosts import answers, close_host, echo, new_host, run_in

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
            return await answers(listener.port)

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


@HOSTS
@pytest.mark.parametrize(
    ("whose", "ask"),
    [*[("the handlers", ask) for ask in ANSWERS], ("a socket's data", "listen"), ("a listener's data", "listen")],
)
def test_a_finalizer_may_use_pybuntcp_while_the_loop_closes(host, whose, ask):
    """A process of its own: what is given back twice is the end of it."""
    said, served = run_program(ASKING, host, whose, ask)
    assert said == [ANSWERS[ask]] * (3 if whose == "a socket's data" else 1)
    assert served is True


@HOSTS
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
    await until(lambda: mine.connections == 1, "the connection")
    await mine.wait_closed()


WAYS = [left_reading, left_in_drain, left_leaving, left_connecting, left_asleep, left_waiting_for_a_listener]


@HOSTS
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


@HOSTS
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


# ---------------------------------------------------------------- attached for nothing


def port_in_use(port):
    pybuntcp.listen(socket=QUIET, hostname="127.0.0.1", port=port)


def no_such_directory(port):
    pybuntcp.listen(socket=QUIET, unix="/no/such/directory/socket")


def not_our_address(port):
    pybuntcp.listen(socket=QUIET, hostname="192.0.2.1", port=0)


@linux_only
@GUESTS
@pytest.mark.parametrize("call", [port_in_use, no_such_directory, not_our_address])
@in_a_thread_of_its_own
def test_after_a_call_that_failed_the_host_has_no_reader_of_ours(host, call):
    async def main():
        before = watched_backends()
        with pytest.raises(OSError, match="listen"):
            call(server.getsockname()[1])
        await asyncio.sleep(0.01)  # uvloop watches what it was given when it polls
        await until(lambda: watched_backends() == before, "the host to let go of our reader")

    with raw_tcp("127.0.0.1") as server:
        host_run(host, main)


# ---------------------------------------------------------------- turned by another one later


@linux_only
@in_a_thread_of_its_own
def test_a_callback_left_in_a_loop_that_stopped_calls_no_handler_of_the_next_loops_sockets():
    """The last act of the first loop is a verb, after which our turn empties the loop that is then lent to the second.

    The stock loop alone stops before what it was asked for meanwhile.
    """

    def act():
        first.remove_reader(pipe[0])
        listener.stop()  # asks for a turn soon ...
        first.stop()  # ... which does not come any more

    async def open_first():
        first.add_reader(pipe[0], act)
        return pybuntcp.listen(socket=QUIET, **LOCAL)

    async def open_second():
        return pybuntcp.listen(socket=recorder.handlers, **LOCAL)

    async def pass_by():
        for _ in range(5):
            await asyncio.sleep(0)

    async def finish():
        await happened(lambda: recorder.count("data"))
        second_listener.stop(True)
        await happened(lambda: recorder.count("close"))

    running, watched = [], watched_backends()
    recorder = Recorder(data=lambda socket, chunk: running.append(asyncio.get_running_loop()))
    pipe = os.pipe()
    with host_loop("asyncio") as first, host_loop("asyncio") as second:
        listener = run_in(first, open_first)
        run_in(first, lambda: asyncio.sleep(SHORT))  # our loop is asleep now
        os.write(pipe[1], b"x")  # the first to be ready, and then the listener
        with dialled(listener.port):
            first.call_later(TIMEOUT, first.stop)
            first.run_forever()
        assert watched_backends() == watched
        second_listener = run_in(second, open_second)
        with dialled(second_listener.port) as client:
            client.sendall(b"x")
            run_in(first, pass_by)
            assert recorder.names() == []
            run_in(second, finish)
        assert running == [second]
    os.close(pipe[0])
    os.close(pipe[1])


# ---------------------------------------------------------------- closed from odd places


@HOSTS
def test_a_handler_cannot_close_the_loop_that_runs_it(host):
    def data(socket, chunk):
        with pytest.raises(RuntimeError, match="running"):
            asyncio.get_running_loop().close()
        socket.write(chunk)

    async def main():
        with pybuntcp.listen(socket={"data": data}, **LOCAL) as listener:
            assert await answers(listener.port)
        await listener.wait_closed()

    host_run(host, main)


@HOSTS
@in_a_thread_of_its_own
def test_p2_a_loop_closed_inside_a_handler_of_another_closes_its_own_sockets_alone(host):
    def data(socket, chunk):
        other.close()
        socket.write(chunk)

    async def start():
        return await connection(theirs, Recorder())

    async def main():
        with pybuntcp.listen(socket={"data": data}, **LOCAL) as listener:
            assert await answers(listener.port)
        await listener.wait_closed()

    theirs = Recorder()
    other = new_host(host)
    listener, accepted, connected = run_in(other, start)
    with unclosed() as told:
        host_run(host, main)
    assert (accepted.fileno(), connected.fileno(), listener.fd) == (-1, -1, -1)
    assert theirs.names() == ["open"]
    assert sorted(told) == ["Listener", "Socket", "Socket"]


@HOSTS
@in_a_thread_of_its_own
def test_p2_a_loop_closed_by_a_finalizer_inside_a_handler_of_another_harms_nobody(host):
    class Owner:
        def __init__(self):
            self.loop = new_host(host)
            self.left = run_in(self.loop, lambda: connection(Recorder(), Recorder()))

        def __del__(self):
            self.loop.close()
            fds.extend(each.fileno() for each in self.left[1:])

    def data(socket, chunk):
        owners.pop()
        socket.write(chunk)

    async def main():
        with pybuntcp.listen(socket={"data": data}, **LOCAL) as listener:
            assert await answers(listener.port)
        await listener.wait_closed()

    fds, owners = [], [Owner()]
    with unclosed() as told:
        host_run(host, main)
    assert fds == [-1, -1]
    assert sorted(told) == ["Listener", "Socket", "Socket"]


@HOSTS
@in_a_thread_of_its_own
def test_p2_a_loop_closed_by_the_finalizer_of_its_own_handlers_closes_once(host):
    class Handlers:
        def data(self, socket, chunk):
            pass

        def __del__(self):
            loop.close()
            closed.append(loop.is_closed())

    async def start():
        listener = pybuntcp.listen(socket=Handlers(), **LOCAL)
        with dialled(listener.port):
            await until(lambda: listener.connections == 1, "the connection")
            return len(descriptors())

    closed = []
    loop = new_host(host)
    run_in(loop, start)
    with unclosed():
        loop.close()
        gc.collect()
    assert closed == [True]


class Refusing(asyncio.SelectorEventLoop):
    """An asyncio loop whose public `remove_reader` raises; its own code does without."""

    def remove_reader(self, fd):
        raise OSError("remove_reader")


@in_a_thread_of_its_own
def test_a_host_that_refuses_to_let_go_of_us_is_reported_and_the_loop_closed_nevertheless():
    def leave():
        host = Refusing()
        hosts.append(host)
        listener = run_in(host, start)
        ports.append(listener.port)

    async def start():
        return pybuntcp.listen(socket={"data": echo}, **LOCAL)

    hosts, ports = [], []
    with unraisable() as reports:
        assert in_thread(leave) is None  # the thread ends, and its loops with it
        gc.collect()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ports[0]), timeout=TIMEOUT)
    assert [str(report) for report in reports] == ["remove_reader"]
    with unclosed():
        hosts.pop().close()
