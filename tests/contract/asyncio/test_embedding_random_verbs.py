"""Inside an asyncio loop: 10,000 random verbs from tasks, each of which is answered.

The clients are ours too and the waits are futures that handlers resolve: nothing but what a verb asks for
wakes the loop, least of all with a single task.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from support.asyncio_loops import each_host, run_on
from support.coroutines import LOCAL
from support.handlers import QUIET, echo

import pybuntcp

VERBS = 10_000


class Client:
    """A connection to an echo listener whose every verb has an answer to await."""

    def __init__(self, random):
        self.random = random
        self.got = b""
        self.told = {}

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
    client.socket.timeout(client.random.choice([0.0005, 0.001, 0.002]))
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


@each_host
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
        run_on(host, main, timeout=40)
    except asyncio.TimeoutError:
        pytest.fail(f"{len(answered)} of {VERBS} verbs were answered; waiting: {under_way}")
