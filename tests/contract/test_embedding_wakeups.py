"""Inside an asyncio loop: every verb is carried out without another event.

The clients are ours too and the waits are futures that handlers resolve: nothing but what a verb asks for
wakes the loop. What was lost is told by the bound of `host_run`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading

import pytest
from support import Peer, Recorder
from support_hosts import (
    HOSTS,
    LOCAL,
    connection,
    echo,
    happened,
    host_run,
    read_exactly,
)
from support_more import QUIET, dialled

import pybuntcp

VERBS = 10_000


# ---------------------------------------------------------------- 10,000 random verbs


class Client:
    """A connection to an echo listener whose every verb has an answer to await."""

    def __init__(self, random):
        self.random = random
        self.got = b""
        self.told = {}

    handlers = None

    async def connect(self, port):
        self.told = {}
        self.got = b""
        table = {name: getattr(self, f"on_{name}") for name in ("data", "drain", "end", "close", "timeout")}
        self.socket = await pybuntcp.connect(hostname="127.0.0.1", port=port, socket=table)
        self.sink = self.socket.sink()
        return self

    def on_data(self, socket, chunk):
        self.got += chunk
        self.tell("data")

    def on_drain(self, socket):
        self.tell("drain")

    def on_end(self, socket):
        self.tell("end")

    def on_close(self, socket, error):
        self.tell("close")

    def on_timeout(self, socket):
        socket.timeout(0)
        self.tell("timeout")

    def tell(self, event):
        future = self.told.get(event)
        if future is not None and not future.done():
            future.set_result(None)

    def when(self, event):
        """The next event of this name."""
        future = self.told[event] = asyncio.get_running_loop().create_future()
        return future

    async def echoed(self, expected):
        while len(self.got) < len(expected):
            await self.when("data")
        assert self.got == expected
        self.got = b""


async def write(client, port):
    assert client.socket.write(b"written") == 7
    await client.echoed(b"written")


async def sink_write(client, port):
    client.sink.write(b"by the")
    client.sink.write(b" sink")
    await client.echoed(b"by the sink")


async def cork(client, port):
    with client.socket.cork():
        for _ in range(3):
            client.socket.write(b"corked ")
    await client.echoed(b"corked " * 3)


async def pause_and_resume(client, port):
    client.socket.pause()
    client.socket.write(b"paused")
    for _ in range(client.random.randrange(4)):
        await asyncio.sleep(0)
    assert client.got == b""
    client.socket.resume()
    await client.echoed(b"paused")


async def timeout(client, port):
    fired = client.when("timeout")
    client.socket.timeout(client.random.choice([0, 0, 0.0005, 0.001, 0.002]) or 0.001)
    await fired


async def timeout_taken_back(client, port):
    client.socket.timeout(0.001)
    client.socket.timeout(0)
    await write(client, port)


async def idle_turns(client, port):
    """The host gets to its own poll between two verbs."""
    for _ in range(client.random.randrange(4)):
        await asyncio.sleep(0)
    await write(client, port)


async def pause_for_nothing(client, port):
    client.socket.pause()
    client.socket.resume()
    await write(client, port)


def over(how):
    async def verb(client, port):
        closed = client.when("close")
        getattr(client.socket, how)()
        await closed
        await client.connect(port)

    return verb


async def connect_and_leave(client, port):
    other = await Client(client.random).connect(port)
    await write(other, port)
    closed = other.when("close")
    other.socket.close()
    await closed


async def connect_and_cancel(client, port):
    connecting = pybuntcp.connect(hostname="127.0.0.1", port=port, socket=QUIET)
    if client.random.randrange(2):
        await asyncio.sleep(0)
    connecting.cancel()
    await write(client, port)


async def listen_and_stop(client, port):
    with pybuntcp.listen(socket={"data": echo}, **LOCAL) as listener:
        other = await Client(client.random).connect(listener.port)
        await write(other, port)
        closed = other.when("close")
        listener.stop(True)
        await closed
    await listener.wait_closed()


# A verb, and its share: those that make connections are rarer, for the sake of time.
SHARES = {
    write: 20,
    sink_write: 20,
    cork: 10,
    pause_and_resume: 15,
    pause_for_nothing: 10,
    timeout: 5,
    timeout_taken_back: 5,
    idle_turns: 10,
    over("close"): 2,
    over("end"): 2,
    over("terminate"): 2,
    connect_and_leave: 2,
    connect_and_cancel: 1,
    listen_and_stop: 1,
}


@HOSTS
@pytest.mark.parametrize("tasks", [1, 16])
def test_no_wake_up_is_lost_in_10000_random_verbs_from_tasks(host, tasks):
    async def work(number):
        chance = random.Random(number * 1_000 + tasks)
        client = await Client(chance).connect(listener.port)
        for verb in chance.choices(list(SHARES), list(SHARES.values()), k=VERBS // tasks):
            under_way[number] = verb.__qualname__
            await verb(client, listener.port)
            answered.append(verb)
        client.socket.terminate()

    async def main():
        nonlocal listener
        with pybuntcp.listen(socket={"data": echo}, **LOCAL) as listener:
            await asyncio.gather(*map(work, range(tasks)))
            assert len(answered) == VERBS // tasks * tasks
        await listener.wait_closed()

    listener, under_way, answered = None, {}, []
    try:
        host_run(host, main, timeout=40)
    except asyncio.TimeoutError:
        pytest.fail(f"{len(answered)} of {VERBS} verbs were answered; waiting: {under_way}")


# ---------------------------------------------------------------- one thing alone


@HOSTS
def test_the_only_connection_accepted_in_a_turn_is_read(host):
    """Nothing else happens after the accept: its descriptor must be polled by then."""

    async def main():
        opened = asyncio.get_running_loop().create_future()
        table = {"open": lambda socket: opened.set_result(socket), "data": echo}
        with pybuntcp.listen(socket=table, **LOCAL) as listener, Peer(lambda: dialled(listener.port)) as peer:
            await opened
            await asyncio.sleep(0.02)  # the host polls, and nothing of ours is due
            peer.send(b"x")
            assert await asyncio.wrap_future(peer.recv_exactly(1)) == b"x"
        await listener.wait_closed()

    host_run(host, main)


@HOSTS
def test_a_connection_that_waited_before_the_listener_was_resumed_by_the_loop_is_accepted(host):
    """The connection is there before the loop turns for the first time."""

    async def main():
        recorder = Recorder(data=echo)
        with pybuntcp.listen(socket=recorder.handlers, **LOCAL) as listener, dialled(listener.port) as client:
            client.sendall(b"early")
            client.setblocking(False)
            assert await read_exactly(client, 5) == b"early"
        await listener.wait_closed()

    host_run(host, main)


# ---------------------------------------------------------------- from every place a program's code may run


def from_call_soon(loop, act):
    loop.call_soon(act)


def from_call_later(loop, act):
    loop.call_later(0.01, act)


def from_call_soon_threadsafe(loop, act):
    threading.Timer(0.01, loop.call_soon_threadsafe, [act]).start()


def from_a_reader(loop, act):
    reader, writer = os.pipe()

    def readable():
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)
        act()

    loop.add_reader(reader, readable)
    loop.call_later(0.01, os.write, writer, b"x")


def from_another_servers_protocol(loop, act):
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.close()
            act()

    async def serve():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.sleep(0.01)
        writer.write(b"x")
        await writer.drain()
        writer.close()
        server.close()

    tasks.add(task := loop.create_task(serve()))
    task.add_done_callback(tasks.discard)


def from_a_signal_handler(loop, act):
    def told():
        loop.remove_signal_handler(signal.SIGUSR1)
        act()

    loop.add_signal_handler(signal.SIGUSR1, told)
    loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)


tasks: set[asyncio.Task] = set()

PLACES = [
    from_call_soon,
    from_call_later,
    from_call_soon_threadsafe,
    from_a_reader,
    from_another_servers_protocol,
    from_a_signal_handler,
]

# What is done to the accepted socket, and what the client must be told of it.
ACTS = {
    "write": (lambda socket: socket.write(b"x"), "data"),
    "sink.write": (lambda socket: socket.sink().write(b"x"), "data"),
    "resume": (lambda socket: socket.resume(), "data"),
    "timeout": (lambda socket: socket.timeout(0.02), "end"),
    "end": (lambda socket: socket.end(), "end"),
    "close": (lambda socket: socket.close(), "end"),
    "terminate": (lambda socket: socket.terminate(), "close"),
    "connect": (lambda socket: pybuntcp.connect(hostname="127.0.0.1", port=socket.local_port, socket=ONE), "data"),
}
ONE = {"open": lambda socket: socket.end(b"1"), "data": print}


@HOSTS
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_verb_called_from_anywhere_is_carried_out_without_another_event(host, place, act):
    """The socket echoes; with "resume" a byte waits for it, and what another connection sends comes to the client too."""

    def data(socket, chunk):
        server.sockets[0].write(chunk)

    async def main():
        verb, event = ACTS[act]
        listener, accepted, connected = await connection(server, client)
        if act == "resume":
            accepted.pause()
            connected.write(b"x")
        place(asyncio.get_running_loop(), lambda: verb(accepted))
        await happened(lambda: client.count(event))
        listener.stop(True)
        connected.terminate()
        await listener.wait_closed()
        while tasks:
            await asyncio.wait(tasks)

    server, client = Recorder(data=data), Recorder()
    host_run(host, main)
