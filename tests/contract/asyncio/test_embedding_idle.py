"""Inside an asyncio loop: timeouts keep to the clock, and an idle process sleeps."""

from __future__ import annotations

import asyncio
import resource
import socket as stdlib
import time

from support import Recorder, linux_only
from support.asyncio_loops import on_every_loop
from support.coroutines import LOCAL, connection, dialled_by, read_exactly, until

import pybuntcp

# ---------------------------------------------------------------- the clock


@on_every_loop
async def test_a_timeout_set_after_the_loop_slept_long_comes_neither_early_nor_late():
    """The loop's idea of the time is as old as its last turn."""
    loop = asyncio.get_running_loop()
    fired = None
    server = Recorder(timeout=lambda socket: (socket.timeout(0), fired.set_result(time.monotonic())))
    listener, accepted, client = await connection(server, Recorder())
    took = []
    for _ in range(3):  # the best of three: what a busy machine adds is not ours
        fired = loop.create_future()
        await asyncio.sleep(0.3)
        armed = time.monotonic()
        accepted.timeout(0.1)
        took.append(await fired - armed)
    listener.stop(True)
    client.terminate()
    await listener.wait_closed()
    assert min(took) >= 0.1
    assert min(took) < 0.15


@on_every_loop
async def test_a_timeout_set_in_a_slow_callback_comes_neither_early_nor_late():
    """The host's callback ran for 0.2 s before the call, and runs for 0.05 s after it."""
    fired = asyncio.get_running_loop().create_future()
    server = Recorder(timeout=lambda socket: fired.set_result(time.monotonic()))
    listener, accepted, _ = await connection(server, Recorder())
    listener.stop()
    time.sleep(0.2)
    armed = time.monotonic()
    accepted.timeout(0.1)
    time.sleep(0.05)
    assert 0.1 <= await fired - armed < 0.19
    await until(lambda: server.count("close"))


@on_every_loop
async def test_a_shorter_timeout_set_after_a_longer_one_moves_the_wake_up():
    fired = asyncio.get_running_loop().create_future()
    server = Recorder(timeout=lambda socket: fired.set_result(time.monotonic()))
    listener, accepted, client = await connection(server, Recorder())
    client.timeout(30)
    await asyncio.sleep(0.02)
    armed = time.monotonic()
    accepted.timeout(0.05)
    assert 0.05 <= await fired - armed < 1
    listener.stop(True)
    await listener.wait_closed()


# ---------------------------------------------------------------- idle

# In half a second: the turn that goes to sleep and the one that wakes, and one that the native loop
# makes at the beginning of a wait, to look who is told of signals.
FEW_TURNS = 3
FEW_SLEEPS = 4


@linux_only
@on_every_loop
async def test_an_idle_process_uses_no_cpu_and_makes_no_wake_ups():
    """A listener, an open connection with a far timeout and one without, and nothing to do."""
    server = Recorder()
    listener, accepted, connected = await connection(server, Recorder())
    accepted.timeout(30)
    _, raw = await dialled_by(listener, server)
    await asyncio.sleep(0.05)  # what the last events asked for is done
    spent = await cost_of(asyncio.sleep(0.5))
    raw.close()
    listener.stop(True)
    connected.terminate()
    await listener.wait_closed()
    turns, switches, cpu = spent
    assert turns <= FEW_TURNS
    assert switches <= FEW_SLEEPS
    assert cpu < 0.02


async def cost_of(awaitable):
    """Turns of our loop, times this thread went to sleep, seconds of CPU."""
    before = pybuntcp.stats()["turns"], sleeps(), time.thread_time()
    await awaitable
    after = pybuntcp.stats()["turns"], sleeps(), time.thread_time()
    return [later - earlier for earlier, later in zip(before, after, strict=True)]


def sleeps():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


@linux_only
@on_every_loop
async def test_a_paused_socket_with_bytes_to_read_makes_no_wake_ups():
    listener, accepted, connected = await connection(Recorder(), Recorder())
    accepted.pause()
    connected.write(bytes(1000))
    await asyncio.sleep(0.05)
    spent = await cost_of(asyncio.sleep(0.5))
    listener.stop(True)
    connected.terminate()
    await listener.wait_closed()
    turns, switches, _ = spent
    assert turns <= FEW_TURNS
    assert switches <= FEW_SLEEPS


@linux_only
@on_every_loop
async def test_a_connection_that_comes_and_goes_costs_few_wake_ups():
    """A connection in 20: no wake-up is one of a loop that turns by itself."""
    server = Recorder(data=lambda socket, chunk: socket.end(chunk))
    with pybuntcp.listen(socket=server.handlers, **LOCAL) as listener:

        async def talk():
            for _ in range(20):
                with stdlib.create_connection(("127.0.0.1", listener.port)) as client:
                    client.sendall(b"x")
                    client.setblocking(False)
                    assert await read_exactly(client, 1) == b"x"
            await until(lambda: server.count("close") == 20)

        turns, switches, _ = await cost_of(talk())
    await listener.wait_closed()
    assert turns <= 20 * 8
    assert switches <= 20 * 12
