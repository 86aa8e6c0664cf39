"""[A12] Debug mode, the wrong thread, the end of a loop; and what remains the standard library's, beside our transports."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket as stdlib
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.asyncio_loops import hosts, new_host, open_host, run_in
from support.programs import run_program
from support.streams import Buffered, Plain, abort, address_of, ends, on_ours, on_ours_and_asyncio, receive, send

import pybuntcp

on_both = hosts("asyncio", "native")

# ---------------------------------------------------------------- debug mode


@pytest.fixture
def debug_log(caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")
    return caplog


def slow(*args):
    time.sleep(0.03)  # what a slow callback does; nothing waits for it


def slow_loop():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.02


def warnings_of(log):
    return [record.getMessage() for record in log.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
@on_ours_and_asyncio
async def test_in_debug_mode_a_slow_method_of_a_protocol_is_logged(streams, debug_log, method):
    slow_loop()
    async with streams.accepted(Plain(**{method: slow})) as (accepted, peer):
        await send(peer, b"x")
        await accepted.received(b"x")
        peer.shutdown(stdlib.SHUT_WR)
        await accepted.called("connection_lost")
    assert any("Executing" in text and "took 0.0" in text for text in warnings_of(debug_log))


@on_ours_and_asyncio
async def test_in_debug_mode_a_slow_buffered_protocol_is_logged(streams, debug_log):
    slow_loop()
    async with streams.accepted(Buffered(buffer_updated=slow)) as (accepted, peer):
        await send(peer, b"x")
        await accepted.received(b"x")
    assert any("Executing" in text and "took 0.0" in text for text in warnings_of(debug_log))


@on_ours
async def test_in_debug_mode_a_slow_method_is_logged_once_and_named(streams, debug_log):
    slow_loop()
    async with streams.accepted(Plain(data_received=slow)) as (accepted, peer):
        await send(peer, b"x")
        await accepted.received(b"x")
    (text,) = [text for text in warnings_of(debug_log) if "data_received" in text]
    assert text.startswith("Executing <bound method Plain.data_received")


@on_ours_and_asyncio
async def test_without_debug_mode_a_slow_method_is_not_logged(streams, debug_log):
    asyncio.get_running_loop().slow_callback_duration = 0.02
    async with streams.accepted(Plain(data_received=slow)) as (accepted, peer):
        await send(peer, b"x")
        await accepted.received(b"x")
    assert warnings_of(debug_log) == []


@on_ours_and_asyncio
async def test_debug_mode_logs_pauses_ends_and_new_connections(streams, debug_log):
    asyncio.get_running_loop().set_debug(True)
    async with streams.accepted(Plain()) as (accepted, peer):
        accepted.transport.pause_reading()
        accepted.transport.resume_reading()
        peer.shutdown(stdlib.SHUT_WR)
        await accepted.called("connection_lost")
    said = " ".join(record.getMessage() for record in debug_log.records)
    for words in ("got a new connection", "pauses reading", "resumes reading", "received EOF"):
        assert words in said


# ---------------------------------------------------------------- threads


@on_ours_and_asyncio
async def test_in_debug_mode_a_call_of_another_thread_is_refused(streams):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    async with streams.accepted(Plain()) as (accepted, peer):
        refused = await loop.run_in_executor(None, call_from_elsewhere, loop)
        assert "Non-thread-safe operation" in str(refused)
        accepted.transport.write(b"x")
        assert await receive(peer, 1) == b"x"
    loop.set_debug(False)


def call_from_elsewhere(loop):
    with pytest.raises(RuntimeError) as raised:
        loop.call_soon(print)
    return raised.value


@on_ours_and_asyncio
async def test_another_thread_writes_by_call_soon_threadsafe(streams):
    loop = asyncio.get_running_loop()
    async with streams.accepted(Plain()) as (accepted, peer):
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(accepted.transport.write, b"from a thread"))
        thread.start()
        assert await receive(peer, 13) == b"from a thread"
        thread.join()


OTHERS = {
    "write": lambda transport: transport.write(b"x"),
    "writelines": lambda transport: transport.writelines([b"x"]),
    "write_eof": lambda transport: transport.write_eof(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
}


@pytest.mark.parametrize("method", list(OTHERS))
@on_ours
async def test_a_transport_that_is_used_in_another_thread_raises_and_names_both(streams, method):
    """On asyncio's own loop it may work. Here the loop turns its sockets while other threads run."""
    loop = asyncio.get_running_loop()
    async with streams.accepted(Plain()) as (accepted, peer):
        with pytest.raises(RuntimeError, match=rf"thread \d+.* thread {threading.get_ident()}.*call_soon_threadsafe"):
            await loop.run_in_executor(None, OTHERS[method], accepted.transport)
        accepted.transport.write(b"y")
        assert await receive(peer, 1) == b"y"


@pytest.mark.parametrize("method", ["close", "abort"])
@on_ours_and_asyncio
async def test_a_transport_that_is_ended_in_another_thread_ends(streams, method):
    """So does one that a garbage collector ends, which runs anywhere."""
    loop = asyncio.get_running_loop()
    async with streams.accepted(Plain()) as (accepted, peer):
        await loop.run_in_executor(None, getattr(accepted.transport, method))
        await accepted.called("connection_lost")
        assert await ends(peer) == b""


@pytest.mark.parametrize("method", ["close", "abort"])
@on_ours
async def test_in_debug_mode_a_transport_that_is_ended_in_another_thread_raises_and_stays_open(streams, method):
    """On asyncio's own loop it raises, too, and is half ended then."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    async with streams.accepted(Plain()) as (accepted, peer):
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            await loop.run_in_executor(None, getattr(accepted.transport, method))
        accepted.transport.write(b"y")
        assert await receive(peer, 1) == b"y"
    loop.set_debug(False)


@on_both
def test_a_loop_that_has_stopped_may_go_on_in_another_thread(host, streams):
    with open_host(host) as loop:
        (protocol,), (peer,) = left_open(loop, streams)

        async def exchange():
            await send(peer, b"x")
            await protocol.received(b"x")
            protocol.transport.write(b"y")
            assert await receive(peer, 1) == b"y"

        with peer, ThreadPoolExecutor(1) as pool:
            pool.submit(run_in, loop, exchange).result()
            protocol.transport.write(b"z")  # it does not run: nobody is in the way

            async def end():
                assert await receive(peer, 1) == b"z"
                await abort(protocol)

            run_in(loop, end)


# ---------------------------------------------------------------- the end of a loop


def left_open(loop, streams, count=1):
    """Protocols of connections that nobody closes, their raw peers, and the server, which is closed."""

    async def begin():
        protocols = []
        async with streams.served(lambda: protocols.append(Plain()) or protocols[-1]) as server:
            peers = [await streams.dial(address_of(server)) for _ in range(count)]
            while len([each for each in protocols if each.log]) < count:
                await asyncio.sleep(0)
        return protocols, peers

    return run_in(loop, begin)


def unclosed_at(closing):
    """The ResourceWarnings about transports that this call leads to."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        closing()
        gc.collect()
    return [str(warning.message) for warning in caught if "unclosed transport" in str(warning.message)]


@on_both
def test_each_transport_that_is_open_when_its_loop_is_closed_is_warned_of(host, streams):
    loop = new_host(host)
    protocols, peers = left_open(loop, streams, 3)

    def end():
        loop.close()
        for protocol in protocols:
            protocol.transport = None
        protocols.clear()

    assert len(unclosed_at(end)) == 3
    for peer in peers:
        with peer:
            peer.settimeout(5)
            assert peer.recv(1) == b""


@on_both
def test_no_method_of_a_protocol_is_called_when_its_loop_is_closed(host, streams):
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:
        before = list(protocol.log)

        def end():
            loop.close()
            protocol.transport = None

        unclosed_at(end)
        assert protocol.log == before


@on_both
def test_a_transport_that_was_closed_in_time_is_not_warned_of(host, streams):
    """Its peer has not ended, so the core still waits for that."""
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:

        async def close():
            protocol.transport.write(b"last")
            protocol.transport.close()
            await protocol.called("connection_lost")

        run_in(loop, close)
        assert unclosed_at(loop.close) == []
        peer.settimeout(5)
        assert peer.recv(10) == b"last"


@on_both
def test_a_transport_that_was_closed_with_bytes_pending_is_warned_of(host, streams):
    """They are lost: whoever reads the warning learns of it."""
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:

        async def close():
            protocol.transport.write(bytes(8_000_000))
            protocol.transport.close()

        run_in(loop, close)
        (text,) = unclosed_at(lambda: (loop.close(), setattr(protocol, "transport", None)))
        assert "closing" in text


def test_a_socket_of_ours_that_was_closed_is_not_warned_of_unless_bytes_of_it_are_lost():
    loop = new_host("native")
    opened = []

    async def begin():
        with pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"open": opened.append, "data": print}) as listener:
            peers = [stdlib.create_connection(("127.0.0.1", listener.port)) for _ in range(2)]
            while len(opened) < 2:
                await asyncio.sleep(0)
            opened[0].close()
            while opened[1].write(bytes(100_000)) == 100_000:
                pass
            opened[1].close()
        await asyncio.sleep(0)
        return peers

    peers = run_in(loop, begin)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        loop.close()
    assert len([warning for warning in caught if "unclosed <pybuntcp.Socket" in str(warning.message)]) == 1
    for peer in peers:
        peer.close()


@on_both
def test_a_server_that_is_open_when_its_loop_is_closed_is_warned_of_once_as_the_socket_that_it_is(host, streams):
    loop = new_host(host)

    async def begin():
        return await streams.server(Plain)

    kept = [run_in(loop, begin)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        loop.close()
        address = address_of(kept[0])
        del loop
        kept.clear()
        gc.collect()
    texts = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert len(texts) == 1
    assert texts[0].startswith("unclosed <socket.socket")
    with stdlib.socket(streams.family) as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)


@on_both
def test_a_transport_can_be_asked_and_ended_after_its_loop_was_closed(host, streams):
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:

        async def close():
            protocol.transport.close()
            await protocol.called("connection_lost")

        run_in(loop, close)
        loop.close()
        transport = protocol.transport
        assert transport.is_closing()
        assert "closed" in repr(transport)
        transport.close()
        assert transport.get_extra_info("peername") is not None


@on_both
def test_a_closed_loop_is_freed_without_a_collector_of_garbage(host, streams):
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:

        async def end():
            await abort(protocol)

        run_in(loop, end)
        gone = weakref.ref(loop)
        gc.collect()
        gc.disable()
        try:
            loop.close()
            del loop
            assert gone() is None
        finally:
            gc.enable()


# ---------------------------------------------------------------- many runs


@on_both
def test_a_loop_runs_many_times_with_the_same_connection(host, streams):
    with open_host(host) as loop:
        (protocol,), (peer,) = left_open(loop, streams)
        with peer:
            for number in range(20):
                data = bytes([number])

                async def exchange(data=data):
                    protocol.data.clear()
                    await send(peer, data)
                    await protocol.received(data)
                    protocol.transport.write(data)
                    assert await receive(peer, 1) == data

                run_in(loop, exchange)

            async def end():
                await abort(protocol)

            run_in(loop, end)


@on_both
def test_what_is_written_before_the_loop_stops_has_left(host, streams):
    with open_host(host) as loop:
        (protocol,), (peer,) = left_open(loop, streams)
        with peer:

            def write_and_stop(*args):
                protocol.transport.write(b"before the stop")
                loop.stop()

            protocol.answers["data_received"] = write_and_stop
            peer.setblocking(True)
            peer.send(b"x")
            loop.run_forever()
            peer.settimeout(5)
            assert peer.recv(100) == b"before the stop"
            protocol.answers.clear()
            peer.setblocking(False)

            async def end():
                await send(peer, b"y")
                await protocol.received(b"xy")
                await abort(protocol)

            run_in(loop, end)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with Python 3.11")
def test_a_runner_serves_in_several_runs(streams):
    async def begin():
        server = await streams.server(lambda: protocol)
        client = await streams.dial(address_of(server))
        await protocol.called("connection_made")
        server.close()
        return client

    async def end():
        await send(client, b"x")
        await protocol.received(b"x")
        await abort(protocol)

    protocol = Plain()
    with asyncio.Runner(loop_factory=pybuntcp.new_event_loop) as runner:
        client = runner.run(begin())
        runner.run(end())
    client.close()


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
        assert await receive(peer, 5) == b"EAGER"
    assert steps[0] == b"eager"  # before the task was known


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
        assert await receive(peer, 1) == b"x"
        await abort(protocol)


@on_ours_and_asyncio
async def test_what_is_no_descriptor_is_a_value_error():
    with pytest.raises(ValueError, match="Invalid file object"):
        asyncio.get_running_loop().add_reader(object(), print)


# ---------------------------------------------------------------- what remains the standard library's


@on_ours_and_asyncio
async def test_signals_come_beside_transports(streams):
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    async with streams.accepted(Plain()) as (accepted, peer):
        os.kill(os.getpid(), signal.SIGUSR1)
        await came.wait()
        await send(peer, b"x")
        await accepted.received(b"x")
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
        await send(peer, b"x")
        await accepted.received(b"x")


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
        await send(peer, b"x")
        await accepted.received(b"x")
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
        await send(peer, b"x")
        await accepted.received(b"x")
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
            assert await receive(other, 3) == b"raw"
            await send(peer, b"x")
            await accepted.received(b"x")


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
