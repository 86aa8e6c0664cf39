"""[A12] The end of a loop, and the connections that it leaves open when it stops: until it runs again, or is closed."""

from __future__ import annotations

import asyncio
import gc
import socket as stdlib
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.asyncio_loops import new_host, open_host, run_in
from support.coroutines import read_exactly
from support.leaks import without_collector
from support.protocols import Made, Plain, host_is_ours_or_asyncio
from support.streams import abort, address_of, arrives, send

import pybuntcp

pytestmark = pytest.mark.loops_that_stay


def left_open(loop, streams, count=1):
    """Protocols of connections that nobody closes, their raw peers, and the server, which is closed."""

    async def begin():
        made = Made()
        async with streams.served(made) as server:
            peers = [await streams.dial(address_of(server)) for _ in range(count)]
            return await made.count(count), peers

    return run_in(loop, begin)


async def close(protocol):
    protocol.transport.close()
    await protocol.called("connection_lost")


# ---------------------------------------------------------------- the end of a loop


def unclosed_at(closing):
    """The ResourceWarnings about transports that this call leads to."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        closing()
        gc.collect()
    return [str(warning.message) for warning in caught if "unclosed transport" in str(warning.message)]


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
def test_a_transport_that_was_closed_in_time_is_not_warned_of(host, streams):
    """Its peer has not ended, so the core still waits for that."""
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:

        async def write_and_close():
            protocol.transport.write(b"last")
            await close(protocol)

        run_in(loop, write_and_close)
        assert unclosed_at(loop.close) == []
        peer.settimeout(5)
        assert peer.recv(10) == b"last"


@host_is_ours_or_asyncio
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


@host_is_ours_or_asyncio
def test_a_server_that_is_open_when_its_loop_is_closed_is_warned_of_once_as_the_socket_that_it_is(host, streams):
    loop = new_host(host)

    kept = [run_in(loop, lambda: streams.server(Plain))]
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


@host_is_ours_or_asyncio
def test_a_transport_can_be_asked_and_ended_after_its_loop_was_closed(host, streams):
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:
        run_in(loop, lambda: close(protocol))
        loop.close()
        transport = protocol.transport
        assert transport.is_closing()
        assert "closed" in repr(transport)
        transport.close()
        assert transport.get_extra_info("peername") is not None


@host_is_ours_or_asyncio
def test_a_closed_loop_is_freed_without_a_collector_of_garbage(host, streams):
    loop = new_host(host)
    (protocol,), (peer,) = left_open(loop, streams)
    with peer:
        run_in(loop, lambda: abort(protocol))
        gone = weakref.ref(loop)
        with without_collector():
            loop.close()
            del loop
            assert gone() is None


# ---------------------------------------------------------------- many runs


@host_is_ours_or_asyncio
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
                    assert await read_exactly(peer, 1) == data

                run_in(loop, exchange)

            run_in(loop, lambda: abort(protocol))


@host_is_ours_or_asyncio
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
        await arrives(client, protocol)
        await abort(protocol)

    protocol = Plain()
    with asyncio.Runner(loop_factory=pybuntcp.new_event_loop) as runner:
        client = runner.run(begin())
        runner.run(end())
    client.close()


@host_is_ours_or_asyncio
def test_a_loop_that_has_stopped_may_go_on_in_another_thread(host, streams):
    with open_host(host) as loop:
        (protocol,), (peer,) = left_open(loop, streams)

        async def exchange():
            await arrives(peer, protocol)
            protocol.transport.write(b"y")
            assert await read_exactly(peer, 1) == b"y"

        with peer, ThreadPoolExecutor(1) as pool:
            pool.submit(run_in, loop, exchange).result()
            protocol.transport.write(b"z")  # it does not run: nobody is in the way

            async def end():
                assert await read_exactly(peer, 1) == b"z"
                await abort(protocol)

            run_in(loop, end)
