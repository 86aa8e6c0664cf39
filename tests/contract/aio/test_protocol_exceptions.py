"""[A6] What a protocol's methods raise: a fatal error of its connection, or a report, as on asyncio's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket as stdlib

import pytest
from support import TIMEOUT
from support.asyncio_loops import hosts, open_host
from support.coroutines import loop_reports, read_exactly
from support.handlers import Boom
from support.protocols import Buffered, Plain, host_is_ours_or_asyncio, on_ours, on_ours_and_asyncio
from support.streams import address_of, collected, ends, send


def boom(*args):
    raise Boom("from a protocol")


def once(function):
    """The first call alone; the next ones answer with the protocol's memory, if it has one."""
    first = itertools.count()

    def call(protocol, *args):
        return function(protocol, *args) if next(first) == 0 else getattr(protocol, "memory", None)

    return call


def give(thing):
    """A `get_buffer` that returns this."""
    return lambda protocol, sizehint: thing


async def fails(streams, protocol, stimulus=b"x"):
    """The one report of a connection whose protocol fails when bytes arrive, or the peer's end."""
    with loop_reports() as reports:
        async with streams.accepted(protocol) as (accepted, peer):
            transport = accepted.transport
            if stimulus:
                await send(peer, stimulus)
            else:
                peer.shutdown(stdlib.SHUT_WR)
            await accepted.called("connection_lost")
            assert await ends(peer) == b""
    assert accepted.log.count("connection_lost") == 1
    assert accepted.log[-1] == "connection_lost"
    (report,) = reports
    assert report["transport"] is transport
    assert report["protocol"] is accepted
    assert report["exception"] is accepted.error
    return report


# ---------------------------------------------------------------- what ends the connection


@on_ours_and_asyncio
async def test_an_exception_in_data_received_is_reported_and_ends_the_connection_with_it(streams):
    report = await fails(streams, Plain(data_received=boom))
    assert set(report) == {"message", "exception", "transport", "protocol"}
    assert report["message"] == "Fatal error: protocol.data_received() call failed."
    assert isinstance(report["exception"], Boom)


@on_ours_and_asyncio
async def test_an_exception_in_eof_received_is_reported_and_ends_the_connection_with_it(streams):
    report = await fails(streams, Plain(eof_received=boom), None)
    assert report["message"] == "Fatal error: protocol.eof_received() call failed."
    assert isinstance(report["exception"], Boom)


@on_ours_and_asyncio
async def test_an_exception_in_get_buffer_is_reported_and_ends_the_connection_with_it(streams):
    report = await fails(streams, Buffered(get_buffer=boom))
    assert report["message"] == "Fatal error: protocol.get_buffer() call failed."
    assert isinstance(report["exception"], Boom)


@on_ours_and_asyncio
async def test_an_exception_in_buffer_updated_is_reported_and_ends_the_connection_with_it(streams):
    report = await fails(streams, Buffered(buffer_updated=boom))
    assert report["message"] == "Fatal error: protocol.buffer_updated() call failed."
    assert isinstance(report["exception"], Boom)


@on_ours_and_asyncio
async def test_an_empty_buffer_of_get_buffer_is_a_fatal_error(streams):
    report = await fails(streams, Buffered(get_buffer=give(bytearray())))
    assert report["message"] == "Fatal error: protocol.get_buffer() call failed."
    assert isinstance(report["exception"], RuntimeError)
    assert "get_buffer() returned an empty buffer" in str(report["exception"])


@on_ours_and_asyncio
async def test_a_get_buffer_that_returns_nothing_is_a_fatal_error(streams):
    report = await fails(streams, Buffered(get_buffer=give(None)))
    assert report["message"] == "Fatal error: protocol.get_buffer() call failed."
    assert isinstance(report["exception"], TypeError)


@pytest.mark.parametrize(
    "thing", [b"read-only", memoryview(b"read-only"), [1, 2], "text"], ids=lambda thing: type(thing).__name__
)
@on_ours_and_asyncio
async def test_a_get_buffer_that_returns_what_cannot_be_written_to_is_a_fatal_error(streams, thing):
    report = await fails(streams, Buffered(get_buffer=give(thing)))
    assert report["message"] == "Fatal read error on socket transport"
    assert isinstance(report["exception"], TypeError)


@on_ours_and_asyncio
async def test_what_was_written_before_data_received_raised_arrives(streams):
    def write_and_raise(protocol, data):
        protocol.transport.write(b"last words")
        raise Boom

    with loop_reports() as reports:
        async with streams.accepted(Plain(data_received=write_and_raise)) as (accepted, peer):
            await send(peer, b"x")
            assert await ends(peer) == b"last words"
            await accepted.called("connection_lost")
    assert len(reports) == 1


@on_ours_and_asyncio
async def test_an_oserror_in_data_received_ends_the_connection_without_a_report(streams):
    def fail(protocol, data):
        raise TimeoutError("of the protocol's own")

    with loop_reports() as reports:
        async with streams.accepted(Plain(data_received=fail)) as (accepted, peer):
            await send(peer, b"x")
            await accepted.called("connection_lost")
    assert isinstance(accepted.error, TimeoutError)
    assert reports == []


@pytest.mark.parametrize("verb", ["close", "abort"])
@on_ours_and_asyncio
async def test_a_get_buffer_that_ends_its_connection_ends_it(streams, verb):
    def ended(protocol, sizehint):
        getattr(protocol.transport, verb)()
        return protocol.memory

    async with streams.accepted(Buffered(get_buffer=ended)) as (accepted, peer):
        await send(peer, b"x")
        await accepted.called("connection_lost")
        await ends(peer)
    assert accepted.error is None
    assert accepted.log[-1] == "connection_lost"


@on_ours_and_asyncio
async def test_a_get_buffer_that_pauses_reading_loses_nothing(streams):
    def paused(protocol, sizehint):
        protocol.transport.pause_reading()
        asyncio.get_running_loop().call_soon(protocol.transport.resume_reading)
        return protocol.memory

    async with streams.accepted(Buffered(get_buffer=paused)) as (accepted, peer):
        await send(peer, b"all of it")
        await accepted.received(b"all of it")


# ---------------------------------------------------------------- what is reported


@contextlib.contextmanager
def reported():
    """One report comes meanwhile, of a Boom: in this list."""
    with loop_reports() as reports:
        yield reports
    (report,) = reports
    assert isinstance(report["exception"], Boom)


@on_ours_and_asyncio
async def test_an_exception_in_connection_made_of_a_server_is_reported_and_the_connection_goes_on(streams):
    with reported() as reports:
        async with streams.accepted(Plain(connection_made=boom)) as (accepted, peer):
            await send(peer, b"alive")
            await accepted.received(b"alive")
            accepted.transport.write(b"answer")
            assert await read_exactly(peer, 6) == b"answer"
    assert "connection_made" in reports[0]["message"]


@on_ours_and_asyncio
async def test_an_exception_in_connection_made_of_a_client_is_reported_and_the_connection_goes_on(streams):
    with reported() as reports:
        async with streams.pair(Plain(), Plain(connection_made=boom)) as (accepted, connected):
            accepted.transport.write(b"alive")
            await connected.received(b"alive")
            connected.transport.write(b"answer")
            await accepted.received(b"answer")
    assert "connection_made" in reports[0]["message"]


@on_ours_and_asyncio
async def test_an_exception_in_connection_lost_is_reported_and_the_loop_goes_on(streams):
    with reported() as reports:
        async with streams.pair(Plain(connection_lost=boom), Plain()) as (accepted, connected):
            accepted.transport.close()
            await accepted.called("connection_lost")
            await connected.called("connection_lost")
    assert "connection_lost" in reports[0]["message"]


@on_ours_and_asyncio
async def test_an_exception_in_connection_lost_after_pending_bytes_is_reported_and_the_loop_goes_on(streams):
    with reported():
        async with streams.accepted(Plain(connection_lost=boom)) as (accepted, peer):
            accepted.transport.write(bytes(8_000_000))
            accepted.transport.close()
            assert len(await ends(peer)) == 8_000_000
            await accepted.called("connection_lost")


@on_ours_and_asyncio
async def test_an_exception_in_pause_writing_is_reported_and_the_write_goes_on(streams):
    with reported() as reports:
        async with streams.accepted(Plain(pause_writing=boom)) as (accepted, peer):
            accepted.transport.write(bytes(8_000_000))
            assert len(await read_exactly(peer, 8_000_000)) == 8_000_000
            await accepted.called("resume_writing")
    assert set(reports[0]) == {"message", "exception", "transport", "protocol"}
    assert reports[0]["message"] == "protocol.pause_writing() failed"


@on_ours_and_asyncio
async def test_an_exception_in_resume_writing_is_reported_and_the_connection_goes_on(streams):
    with reported() as reports:
        async with streams.accepted(Plain(resume_writing=boom)) as (accepted, peer):
            accepted.transport.write(bytes(8_000_000))
            assert len(await read_exactly(peer, 8_000_000)) == 8_000_000
            await accepted.called("resume_writing")
            accepted.transport.write(b"more")
            assert await read_exactly(peer, 4) == b"more"
    assert set(reports[0]) == {"message", "exception", "transport", "protocol"}
    assert reports[0]["message"] == "protocol.resume_writing() failed"


# ---------------------------------------------------------------- what ends the program

LEAVING = ("connection_made", "data_received", "eof_received", "connection_lost")


@host_is_ours_or_asyncio
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", LEAVING)
def test_an_exit_that_a_protocol_raises_comes_out_of_the_loop(host, streams, method, leaving):
    passes_through(host, streams, Plain(**{method: once(raising(leaving))}))


@host_is_ours_or_asyncio
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
def test_an_exit_that_a_buffered_protocol_raises_comes_out_of_the_loop(host, streams, method, leaving):
    passes_through(host, streams, Buffered(**{method: once(raising(leaving))}))


@host_is_ours_or_asyncio
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_exit_that_pause_writing_raises_comes_out_of_the_loop(host, streams, leaving):
    passes_through(host, streams, Plain(pause_writing=once(raising(leaving)), data_received=write_much))


@hosts("native")
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_exit_that_resume_writing_raises_comes_out_of_the_loop(host, streams, leaving):
    """asyncio's own loop may report an AssertionError afterwards: it goes on to write what it has written."""
    passes_through(host, streams, Plain(resume_writing=once(raising(leaving)), data_received=write_much))


@host_is_ours_or_asyncio
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_exit_that_a_servers_factory_raises_comes_out_of_the_loop(host, streams, leaving):
    async def begin():
        async with streams.served(raising(leaving)) as server:
            with await streams.dial(address_of(server)):
                await asyncio.sleep(60)

    with open_host(host) as loop, collected():
        task = loop.create_task(begin())
        with pytest.raises(leaving, match="of a protocol"):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_exit_of_the_exception_handler_leaves_no_connection_that_has_no_protocol(streams, leaving):
    async def begin():
        async with streams.served(boom) as server:
            await asyncio.get_running_loop().sock_connect(client, address_of(server))
            await asyncio.sleep(60)

    with open_host("native") as loop, collected(), stdlib.socket(streams.family) as client:
        client.setblocking(False)
        loop.set_debug(True)  # else asyncio tells nobody
        loop.slow_callback_duration = TIMEOUT
        loop.set_exception_handler(raising(leaving))
        task = loop.create_task(begin())
        with pytest.raises(leaving, match="of a protocol"):
            loop.run_until_complete(task)
        loop.set_exception_handler(None)
        assert loop.run_until_complete(asyncio.wait_for(ends(client), TIMEOUT)) == b""
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)


@pytest.mark.parametrize("text", ["got a new connection", "received EOF", "data_received() call failed"])
@on_ours
async def test_a_connection_ends_as_ever_where_logging_raises(streams, text):
    def refuse(record):
        if text not in record.getMessage():
            return True
        raise Boom("from logging")

    def fail(protocol, data):
        if "failed" in text:
            raise OSError("which debug mode alone logs")

    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = TIMEOUT
    logger, level = logging.getLogger("asyncio"), logging.getLogger("asyncio").level
    logger.addFilter(refuse)
    logger.setLevel(logging.DEBUG)
    try:
        with loop_reports() as reports:
            async with streams.accepted(Plain(data_received=fail)) as (accepted, peer):
                await send(peer, b"x")
                peer.shutdown(stdlib.SHUT_WR)
                await accepted.called("connection_lost")
                assert await ends(peer) == b""
    finally:
        logger.removeFilter(refuse)
        logger.setLevel(level)
    assert accepted.log[0] == "connection_made"
    assert [str(report["exception"]) for report in reports] == ["from logging"]


def write_much(protocol, data):
    protocol.transport.write(bytes(8_000_000))


def raising(leaving):
    def leave(*args):
        raise leaving("of a protocol")

    return leave


def passes_through(host, streams, protocol):
    """It is raised by `run_until_complete`, and the loop can run again; nobody is told of it as of an error."""

    async def scenario():
        async with streams.served(lambda: protocol) as server:
            client = await streams.dial(address_of(server))
            await protocol.called("connection_made")
        with client:
            await send(client, b"x")
            client.shutdown(stdlib.SHUT_WR)
            left = asyncio.ensure_future(ends(client))
            await protocol.until(lambda: raised)
            protocol.transport.abort()
            await left
            await protocol.called("connection_lost")

    reports, raised = [], []
    with open_host(host) as loop:
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        task = loop.create_task(asyncio.wait_for(scenario(), TIMEOUT))
        with pytest.raises((KeyboardInterrupt, SystemExit), match="of a protocol"):
            loop.run_until_complete(task)
        raised.append(True)
        protocol.look()
        loop.run_until_complete(task)
    assert reports == []
