"""How a loop of ours and its asyncio loop part at odd places: after a call that failed, under another host, inside handlers."""

from __future__ import annotations

import asyncio
import gc
import os
import socket

import pytest
from support import TIMEOUT, Recorder, descriptors, linux_only, unraisable
from support.addresses import dialled, raw_tcp
from support.asyncio_loops import each_foreign_host, each_host, new_host, on_every_loop, open_host, run_in, run_on
from support.coroutines import LOCAL, async_answers, connection, seen, turns, unclosed, until, watched_backends
from support.handlers import QUIET, echo
from support.threads import in_a_thread_of_its_own, in_thread

import pybuntcp

SHORT = 0.1  # seconds

# ---------------------------------------------------------------- attached for nothing


def port_in_use(port):
    pybuntcp.listen(socket=QUIET, hostname="127.0.0.1", port=port)


def no_such_directory(port):
    pybuntcp.listen(socket=QUIET, unix="/no/such/directory/socket")


def not_our_address(port):
    pybuntcp.listen(socket=QUIET, hostname="192.0.2.1", port=0)


@linux_only
@each_foreign_host
@pytest.mark.parametrize("call", [port_in_use, no_such_directory, not_our_address])
@in_a_thread_of_its_own
def test_after_a_call_that_failed_the_host_has_no_reader_of_ours(host, call):
    async def main():
        before = watched_backends()
        with pytest.raises(OSError, match="listen"):
            call(server.getsockname()[1])
        await asyncio.sleep(0.01)  # uvloop watches what it was given when it polls
        await seen(lambda: watched_backends() == before, "the host to let go of our reader")

    with raw_tcp("127.0.0.1") as server:
        run_on(host, main)


# ---------------------------------------------------------------- turned by another one later


def stop_before_our_turn(host):
    """Run `host` until it is stopped by a callback that has called a verb of ours: the turn for that verb is left in its queue.

    The stock loop alone stops before what it was asked for meanwhile.
    """

    def last_callback():
        host.remove_reader(reader)
        listener.stop()  # asks `host` for a turn of ours, soon
        host.stop()

    async def listen():
        host.add_reader(reader, last_callback)
        return pybuntcp.listen(socket=QUIET, **LOCAL)

    reader, writer = os.pipe()
    listener = run_in(host, listen)
    run_in(host, lambda: asyncio.sleep(SHORT))  # our loop is asleep now
    os.write(writer, b"x")  # the pipe is readable first, and then the listener
    with dialled(listener.port):
        host.call_later(TIMEOUT, host.stop)
        host.run_forever()
    os.close(reader)
    os.close(writer)


@linux_only
@in_a_thread_of_its_own
def test_a_callback_left_in_a_loop_that_stopped_calls_no_handler_of_the_next_loops_sockets():
    """The same loop of ours serves one host after the other:

    first    listener.stop()  stop()                                   runs the turn that was left in its queue
    ours     asks first for a turn; its last handle is gone   listens in second
    second                                                    data comes        (not yet)            calls `data`
    """

    async def listen():
        return pybuntcp.listen(socket=recorder.handlers, **LOCAL)

    async def finish():
        await until(lambda: recorder.count("data"))
        listener.stop(True)
        await until(lambda: recorder.count("close"))

    running, watched = [], watched_backends()
    recorder = Recorder(data=lambda socket, chunk: running.append(asyncio.get_running_loop()))
    with open_host("asyncio") as first, open_host("asyncio") as second:
        stop_before_our_turn(first)
        assert watched_backends() == watched
        listener = run_in(second, listen)
        with dialled(listener.port) as client:
            client.sendall(b"x")
            run_in(first, turns)
            assert recorder.names() == []
            run_in(second, finish)
    assert running == [second]


# ---------------------------------------------------------------- closed from odd places


@on_every_loop
async def test_a_handler_cannot_close_the_loop_that_runs_it():
    def data(socket, chunk):
        with pytest.raises(RuntimeError, match="running"):
            asyncio.get_running_loop().close()
        socket.write(chunk)

    with pybuntcp.listen(socket={"data": data}, **LOCAL) as listener:
        assert await async_answers(listener.port)
    await listener.wait_closed()


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_inside_a_handler_of_another_closes_its_own_sockets_alone(host):
    def data(socket, chunk):
        other.close()
        socket.write(chunk)

    async def start():
        return await connection(theirs, Recorder())

    async def main():
        with pybuntcp.listen(socket={"data": data}, **LOCAL) as listener:
            assert await async_answers(listener.port)
        await listener.wait_closed()

    theirs = Recorder()
    other = new_host(host)
    listener, accepted, connected = run_in(other, start)
    with unclosed() as told:
        run_on(host, main)
    assert (accepted.fileno(), connected.fileno(), listener.fd) == (-1, -1, -1)
    assert theirs.names() == ["open"]
    assert sorted(told) == ["Listener", "Socket", "Socket"]


@each_host
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
            assert await async_answers(listener.port)
        await listener.wait_closed()

    fds, owners = [], [Owner()]
    with unclosed() as told:
        run_on(host, main)
    assert fds == [-1, -1]
    assert sorted(told) == ["Listener", "Socket", "Socket"]


@each_host
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
            await seen(lambda: listener.connections == 1, "the connection")
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
