"""[A12] What debug mode logs, and what other threads may do with a transport."""

from __future__ import annotations

import asyncio
import logging
import socket as stdlib
import threading
import time

import pytest
from support.coroutines import read_exactly
from support.protocols import Buffered, Plain, on_ours, on_ours_and_asyncio
from support.streams import arrives, ends

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


async def one_message(streams, protocol):
    """All that comes on a connection of this protocol."""
    async with streams.accepted(protocol) as (accepted, peer):
        await arrives(peer, accepted)


def warnings_of(log):
    return [record.getMessage() for record in log.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
@on_ours_and_asyncio
async def test_in_debug_mode_a_slow_method_of_a_protocol_is_logged(streams, debug_log, method):
    slow_loop()
    async with streams.accepted(Plain(**{method: slow})) as (accepted, peer):
        await arrives(peer, accepted)
        peer.shutdown(stdlib.SHUT_WR)
        await accepted.called("connection_lost")
    assert any("Executing" in text and " took " in text for text in warnings_of(debug_log))


@on_ours_and_asyncio
async def test_in_debug_mode_a_slow_buffered_protocol_is_logged(streams, debug_log):
    slow_loop()
    await one_message(streams, Buffered(buffer_updated=slow))
    assert any("Executing" in text and " took " in text for text in warnings_of(debug_log))


@on_ours
async def test_in_debug_mode_a_slow_method_is_logged_once_and_named(streams, debug_log):
    slow_loop()
    await one_message(streams, Plain(data_received=slow))
    (text,) = [text for text in warnings_of(debug_log) if "data_received" in text]
    assert text.startswith("Executing <bound method Plain.data_received")


@on_ours_and_asyncio
async def test_without_debug_mode_a_slow_method_is_not_logged(streams, debug_log):
    asyncio.get_running_loop().slow_callback_duration = 0.02
    await one_message(streams, Plain(data_received=slow))
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
        assert await read_exactly(peer, 1) == b"x"
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
        assert await read_exactly(peer, 13) == b"from a thread"
        thread.join()


OTHERS = {
    "write": lambda transport: transport.write(b"x"),
    "writelines": lambda transport: transport.writelines([b"x"]),
    "write_eof": lambda transport: transport.write_eof(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
    "set_write_buffer_limits": lambda transport: transport.set_write_buffer_limits(1000),
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
        assert await read_exactly(peer, 1) == b"y"


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
        assert await read_exactly(peer, 1) == b"y"
    loop.set_debug(False)
