"""[A12] What remains the standard library's, beside our transports: descriptors, signals, processes, pipes, tasks, a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import socket as stdlib
import sys

import pytest
from support.coroutines import read_exactly
from support.programs import run_program
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import abort, arrives, send

# ---------------------------------------------------------------- a descriptor of a transport


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
@on_ours_and_asyncio
async def test_a_descriptor_of_a_transport_cannot_be_watched(streams, call):
    loop = asyncio.get_running_loop()
    async with streams.accepted(Plain()) as (accepted, _):
        sock = accepted.transport.get_extra_info("socket")
        for fd in (sock.fileno(), sock):
            with pytest.raises(RuntimeError, match=r"is used by transport <.*Transport"):
                getattr(loop, call)(fd, print)
        for remove in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                remove(sock.fileno())


@on_ours_and_asyncio
async def test_a_descriptor_of_a_transport_cannot_be_waited_for_by_sock_recv(streams):
    loop = asyncio.get_running_loop()
    one, peer = streams.sockets()
    with peer:
        transport, protocol = await loop.connect_accepted_socket(Plain, one)
        transport.pause_reading()
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(one, 1)
        await abort(protocol)


@on_ours
async def test_a_socket_of_a_transport_cannot_get_another_one(streams):
    """asyncio's own loop checks this from Python 3.12 on."""
    loop = asyncio.get_running_loop()
    one, peer = streams.sockets()
    with peer:
        transport, protocol = await loop.connect_accepted_socket(Plain, one)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.connect_accepted_socket(Plain, one)
        transport.write(b"x")
        assert await read_exactly(peer, 1) == b"x"
        await abort(protocol)


@on_ours_and_asyncio
async def test_what_is_no_descriptor_is_a_value_error():
    with pytest.raises(ValueError, match="Invalid file object"):
        asyncio.get_running_loop().add_reader(object(), print)


# ---------------------------------------------------------------- the rest of a loop


@on_ours_and_asyncio
async def test_signals_come_beside_transports(streams):
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    async with streams.accepted(Plain()) as (accepted, peer):
        os.kill(os.getpid(), signal.SIGUSR1)
        await came.wait()
        await arrives(peer, accepted)
    assert loop.remove_signal_handler(signal.SIGUSR1)


@on_ours_and_asyncio
async def test_subprocesses_run_beside_transports(streams):
    async with streams.accepted(Plain()) as (accepted, peer):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input())", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(b"through pipes\n")
        assert out == b"through pipes\n"
        assert process.returncode == 0
        await arrives(peer, accepted)


@on_ours_and_asyncio
async def test_datagrams_come_beside_transports(streams):
    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            came.set_result(data)

    loop = asyncio.get_running_loop()
    came = loop.create_future()
    endpoint, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    async with streams.accepted(Plain()) as (accepted, peer):
        with stdlib.socket(type=stdlib.SOCK_DGRAM) as sender:
            sender.sendto(b"a datagram", endpoint.get_extra_info("sockname"))
        assert await came == b"a datagram"
        await arrives(peer, accepted)
    endpoint.close()
    await asyncio.sleep(0)


@on_ours_and_asyncio
async def test_pipes_work_beside_transports(streams):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    protocol = Plain()
    receiver, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
    sender, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    async with streams.accepted(Plain()) as (accepted, peer):
        sender.write(b"through a pipe")
        await protocol.received(b"through a pipe")
        await arrives(peer, accepted)
    sender.close()
    await protocol.called("connection_lost")
    receiver.close()


@on_ours_and_asyncio
async def test_raw_sockets_are_read_and_written_beside_transports(streams):
    loop = asyncio.get_running_loop()
    one, other = streams.sockets()
    with one, other:
        async with streams.accepted(Plain()) as (accepted, peer):
            await loop.sock_sendall(one, b"raw")
            assert await read_exactly(other, 3) == b"raw"
            await arrives(peer, accepted)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@on_ours_and_asyncio
async def test_eager_tasks_can_be_started_inside_a_method_of_a_protocol(streams):
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    steps = []

    async def work(protocol, data):
        steps.append(data)
        await asyncio.sleep(0)
        protocol.transport.write(data.upper())

    def start(protocol, data):
        steps.append(asyncio.ensure_future(work(protocol, data)))

    async with streams.accepted(Plain(data_received=start)) as (_, peer):
        await send(peer, b"eager")
        assert await read_exactly(peer, 5) == b"EAGER"
    assert steps[0] == b"eager"  # before the task was known


# ---------------------------------------------------------------- fork

FORKED = """
import asyncio

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        made.append(transport)
    def data_received(self, data):
        self.transport.write(data)

async def serve(port_of):
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    port_of.append(server.sockets[0].getsockname()[1])
    return server

async def talk(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return reader, writer

async def child():
    ports = []
    server = await serve(ports)
    reader, writer = await talk(ports[0])
    writer.close()
    server.close()

async def parent():
    ports = []
    server = await serve(ports)
    reader, writer = await talk(ports[0])
    made[0].write(b"unsent ")            # gathered: the child has a copy of it
    pid = os.fork()
    if pid == 0:
        asyncio._set_running_loop(None)
        try:
            loop = pybuntcp.new_event_loop()
            loop.run_until_complete(child())
            loop.close()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status[1]) == 0
    assert await reader.readexactly(7) == b"unsent "
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"      # nothing of the child's between
    writer.close()
    server.close()

made = []
pybuntcp.run(parent())
say("done")
"""


def test_a_forked_child_with_a_loop_of_its_own_leaves_its_parents_connections_alone():
    assert run_program(FORKED) == ["done"]
