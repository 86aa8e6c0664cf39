"""Inside an asyncio loop: every verb is carried out without another event.

The waits are futures that handlers resolve: nothing but what a verb asks for wakes the loop. What was lost
is told by the bound of `run_on`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from support import Peer, Recorder
from support.addresses import bound_not_listening, dialled, port_of, raw_tcp
from support.asyncio_loops import each_host, on_every_loop, run_on
from support.coroutines import LOCAL, connection, read_exactly, until
from support.handlers import QUIET, echo
from support.threads import in_a_thread_of_its_own

import pybuntcp

# ---------------------------------------------------------------- one thing alone


@on_every_loop
async def test_the_only_connection_accepted_in_a_turn_is_read():
    """Nothing else happens after the accept: its descriptor must be polled by then."""
    opened = asyncio.get_running_loop().create_future()
    table = {"open": lambda socket: opened.set_result(socket), "data": echo}
    with pybuntcp.listen(socket=table, **LOCAL) as listener, Peer(lambda: dialled(listener.port)) as peer:
        await opened
        await asyncio.sleep(0.02)  # the host polls, and nothing of ours is due
        peer.send(b"x")
        assert await asyncio.wrap_future(peer.recv_exactly(1)) == b"x"
    await listener.wait_closed()


@on_every_loop
async def test_a_connection_that_waited_before_the_listener_was_resumed_by_the_loop_is_accepted():
    """The connection is there before the loop turns for the first time."""
    recorder = Recorder(data=echo)
    with pybuntcp.listen(socket=recorder.handlers, **LOCAL) as listener, dialled(listener.port) as client:
        client.sendall(b"early")
        client.setblocking(False)
        assert await read_exactly(client, 5) == b"early"
    await listener.wait_closed()


@on_every_loop
async def test_a_write_that_the_kernel_does_not_take_at_once_needs_no_other_event():
    server, client = Recorder(), Recorder()
    listener, accepted, connected = await connection(server, client)
    connected.pause()
    await asyncio.sleep(0.01)
    taken = accepted.write(bytes(16 << 20))
    assert 0 < accepted.pending < taken < 16 << 20
    await asyncio.sleep(0.01)  # the host polls
    connected.resume()
    await until(lambda: server.count("drain") and len(client.received()) == taken)
    listener.stop(True)
    await until(lambda: client.count("close"))


@on_every_loop
async def test_a_write_that_the_kernel_does_not_take_at_once_needs_nothing_of_the_reader_but_to_read():
    """The other end is not ours: its reading is the only event there is."""
    server = Recorder()
    with pybuntcp.listen(socket=server.handlers, **LOCAL) as listener, Peer(lambda: dialled(listener.port)) as peer:
        await until(lambda: server.sockets)
        taken = server.socket.write(bytes(16 << 20))
        assert 0 < server.socket.pending < taken
        assert len(await asyncio.wrap_future(peer.recv_exactly(taken))) == taken
    await listener.wait_closed()


@each_host
@pytest.mark.parametrize("name", ["127.1", "localhost"])
@in_a_thread_of_its_own
def test_a_connect_by_name_needs_no_other_event(host, name):
    """The resolver's threads answer; nothing else of ours is open, and our loop has never turned before."""

    async def main():
        with raw_tcp("127.0.0.1") as server:
            for _ in range(3):
                socket = await pybuntcp.connect(hostname=name, port=port_of(server))
                socket.terminate()
                await asyncio.sleep(0.01)

    run_on(host, main)


@on_every_loop
async def test_a_reader_of_an_idle_socket_needs_no_other_event():
    """Its buffer is full each time it is read from, and reading goes on by that alone."""
    server = Recorder()
    with pybuntcp.listen(socket=server.handlers, **LOCAL) as listener:
        connected = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port)
        await until(lambda: server.sockets)
        server.socket.write(b"0123456789" * 10)
        reader = connected.reader(10)
        for _ in range(10):
            await asyncio.sleep(0.002)
            assert await reader.readexactly(10) == b"0123456789"
        connected.terminate()
    await listener.wait_closed()


@on_every_loop
async def test_an_async_handler_that_ends_needs_no_other_event_for_what_waited():
    async def data(socket, chunk):
        await asyncio.sleep(0.005)
        socket.write(chunk)

    client = Recorder()
    with pybuntcp.listen(socket={"data": data}, **LOCAL) as listener:
        socket = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=client.handlers)
        for count in range(1, 4):
            socket.write(b"x")
            await asyncio.sleep(0.002)  # the handler runs, and what comes next waits for it
            socket.write(b"x")
            await until(lambda count=count: client.received() == b"xx" * count)
        socket.terminate()
    await listener.wait_closed()


@on_every_loop
async def test_an_async_connect_error_that_ends_needs_no_other_event():
    async def connect_error(socket, error):
        await asyncio.sleep(0.005)

    with bound_not_listening() as port:
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await pybuntcp.connect(
                    hostname="127.0.0.1", port=port, socket={**QUIET, "connect_error": connect_error}
                )


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


@on_every_loop
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("place", PLACES)
async def test_a_verb_called_from_anywhere_is_carried_out_without_another_event(place, act):
    """The socket echoes; with "resume" a byte waits for it, and what another connection sends comes to the client too."""

    def data(socket, chunk):
        server.sockets[0].write(chunk)

    server, client = Recorder(data=data), Recorder()
    verb, event = ACTS[act]
    listener, accepted, connected = await connection(server, client)
    if act == "resume":
        accepted.pause()
        connected.write(b"x")
    place(asyncio.get_running_loop(), lambda: verb(accepted))
    await until(lambda: client.count(event))
    listener.stop(True)
    connected.terminate()
    await listener.wait_closed()
    while tasks:
        await asyncio.wait(tasks)
