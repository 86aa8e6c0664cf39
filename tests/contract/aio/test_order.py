"""[A4] In which order callbacks and what the kernel reports are called: as asyncio's loop, which polls first and calls later."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.asyncio_loops import not_in, open_host, run_in, run_turns
from support.protocols import Plain, on_ours_and_asyncio
from support.streams import connect, no_tls_yet, serve

pytestmark = [no_tls_yet, pytest.mark.loops_that_stay]


async def pair(transport, protocol, other):
    """Two ends of a connection in one loop."""
    server = await serve(transport, lambda: other)
    await connect(transport, lambda: protocol, server)
    await other.called("connection_made")


@on_ours_and_asyncio
async def test_what_is_ready_runs_before_the_data_that_has_come_meanwhile(transport):
    log = []
    writer, reader = Plain(), Plain(data_received=lambda _, data: log.append("data"))
    await pair(transport, writer, reader)
    loop = asyncio.get_running_loop()

    def write_and_go_on():
        writer.transport.write(b"x")
        loop.call_soon(log.append, "ready")

    loop.call_soon(write_and_go_on)
    await reader.received(b"x")
    assert log == ["ready", "data"]


@on_ours_and_asyncio
async def test_tasks_that_were_made_beside_a_write_begin_before_its_answer_comes(transport):
    log = []
    asking = Plain(data_received=lambda _, data: log.append("answer"))
    answering = Plain(data_received=lambda protocol, data: protocol.transport.write(b"answer"))
    await pair(transport, asking, answering)

    async def task(name):
        log.append(name)

    asking.transport.write(b"question")
    tasks = [asyncio.create_task(task(name)) for name in ("first", "second")]
    await asking.received(b"answer")
    await asyncio.gather(*tasks)
    assert log == ["first", "second", "answer"]


@on_ours_and_asyncio
async def test_descriptors_of_asyncios_own_are_served_beside_a_loop_that_is_never_idle(transport):
    writer, reader = Plain(), Plain()
    await pair(transport, writer, reader)
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    await loop.run_in_executor(None, loop.call_soon_threadsafe, heard.set)  # by the pipe that wakes the loop
    while not heard.is_set():
        await asyncio.sleep(0)
    writer.transport.write(b"x")
    while not reader.data:
        await asyncio.sleep(0)
    assert reader.data == b"x"


def test_a_loop_that_is_stopped_at_once_has_sent_and_read():
    with open_host("native") as loop:
        protocol = Plain()

        async def go():
            server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
            writer = (await loop.create_connection(Plain, *server.sockets[0].getsockname()))[0]
            await protocol.called("connection_made")
            return server, writer

        server, writer = run_in(loop, go)
        writer.write(b"x")
        run_turns(loop, 3)
        assert protocol.data == b"x"
        writer.abort()
        server.close()
        run_in(loop, lambda: protocol.called("connection_lost"))


@on_ours_and_asyncio
async def test_a_program_may_put_its_own_write_in_place_of_a_transports(transport):
    protocol, other = Plain(), Plain()
    await pair(transport, protocol, other)
    written = []
    protocol.transport.write = written.append
    protocol.transport.write(b"kept")
    del protocol.transport.write
    protocol.transport.write(b"sent")
    assert written == [b"kept"]
    await other.received(b"sent")


@not_in("asyncio-ours", "a turn of ours is one callback of that loop, which logs it as well")
@not_in("uvloop-ours", "as above")
@on_ours_and_asyncio
async def test_debug_mode_logs_what_was_slow_once(transport, caplog):
    writer, reader = Plain(), Plain()
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.05
    await pair(transport, writer, reader)
    reader.answers["data_received"] = lambda *_: time.sleep(0.06)
    caplog.clear()
    with caplog.at_level("WARNING", "asyncio"):
        writer.transport.write(b"x")
        while not reader.data:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    loop.set_debug(False)
    assert len([each for each in caplog.messages if each.startswith("Executing")]) == 1
