"""[A8] Cancelled and failing attempts: nothing leaks, and a descriptor of the caller's stays open until asyncio takes it."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket as stdlib
import struct

import pytest
from support import descriptors
from support.addresses import bound_not_listening
from support.coroutines import descriptors_untouched, loop_reports, read_exactly, turns
from support.handlers import Boom
from support.leaks import without_spares
from support.protocols import Made, Plain, on_ours, on_ours_and_asyncio
from support.streams import Streams, address_of, collected, ends, send
from support.threads import in_thread

STEPS = range(8)


def no_protocol():
    raise Boom("no protocol")


async def cancelled_after(coroutine, steps):
    """Cancel it after so many turns. What it returned, if it was done before."""
    task = asyncio.ensure_future(coroutine)
    await turns(steps)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


def opened():
    return without_spares(descriptors())


async def nothing_left(before):
    """Until the descriptors are those of before, garbage apart."""
    with collected():
        pass
    while opened() != before:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("steps", STEPS)
@on_ours_and_asyncio
async def test_a_connection_that_is_cancelled_at_any_step_leaves_nothing(streams, steps):
    with streams.bound() as listening:
        listening.listen()
        before = opened()
        with descriptors_untouched():
            made = await cancelled_after(streams.connect(Plain, listening.getsockname()), steps)
            if made is not None:
                made[0].close()
                await made[1].called("connection_lost")
            drop_waiting(listening)
        await nothing_left(before)


def drop_waiting(listening):
    """Close what the kernel has connected."""
    listening.setblocking(False)
    try:
        while True:
            listening.accept()[0].close()
    except BlockingIOError:
        pass


@pytest.mark.parametrize("steps", STEPS)
@on_ours_and_asyncio
async def test_an_accepted_socket_whose_transport_is_cancelled_at_any_step_is_closed_with_it(streams, steps):
    before = opened()
    one, peer = streams.sockets()
    with peer:
        made = await cancelled_after(asyncio.get_running_loop().connect_accepted_socket(Plain, one), steps)
        if made is not None:
            made[0].close()
        if steps == 0:
            one.close()  # it had not begun: the socket is still the caller's
        assert await ends(peer) == b""
    await nothing_left(before)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("start_serving", [True, False])
@on_ours
async def test_a_server_that_is_cancelled_at_any_step_leaves_nothing(streams, steps, start_serving):
    """On asyncio's own loop one that is cancelled at the last step goes on serving, and nobody has it."""
    before = opened()
    with descriptors_untouched():
        server = await cancelled_after(streams.server(Plain, start_serving=start_serving), steps)
        if server is not None:
            server.close()
    await nothing_left(before)


@on_ours_and_asyncio
async def test_a_refused_connection_leaves_nothing():
    before = opened()
    with bound_not_listening() as port, pytest.raises(ConnectionRefusedError):
        await asyncio.get_running_loop().create_connection(Plain, "127.0.0.1", port)
    await nothing_left(before)


# ---------------------------------------------------------------- whose socket it is


@on_ours_and_asyncio
async def test_a_socket_that_was_given_is_closed_with_its_transport(streams):
    one, peer = streams.sockets()
    with peer:
        transport, protocol = await connection_on(streams, Plain, one)
        transport.write(b"hello")
        assert await read_exactly(peer, 5) == b"hello"
        assert one.fileno() == transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.called("connection_lost")
        assert await ends(peer) == b""
    assert one.fileno() == -1


@functools.cache
def asyncio_closes_what_gets_no_protocol():
    """Since 3.14 and later releases of 3.13; before, the socket stays the caller's."""
    one, peer = stdlib.socketpair()

    async def main():
        with pytest.raises(Boom, match="no protocol"):
            await asyncio.get_running_loop().connect_accepted_socket(no_protocol, one)

    with peer, one:
        in_thread(lambda: asyncio.run(main()))
        return one.fileno() == -1


async def belongs_to_the_caller_as_in_asyncio(one, peer):
    if asyncio_closes_what_gets_no_protocol():
        assert one.fileno() == -1
        assert await ends(peer) == b""
    else:
        await asyncio.get_running_loop().sock_sendall(one, b"mine")
        assert await read_exactly(peer, 4) == b"mine"


@on_ours_and_asyncio
async def test_whose_a_given_socket_is_if_the_factory_raises(streams):
    one, peer = streams.sockets()
    with peer, one:
        with pytest.raises(Boom, match="no protocol"):
            await connection_on(streams, no_protocol, one)
        await belongs_to_the_caller_as_in_asyncio(one, peer)


@on_ours_and_asyncio
async def test_whose_a_given_socket_is_if_the_factory_of_an_accepted_one_raises(streams):
    one, peer = streams.sockets()
    with peer, one:
        with pytest.raises(Boom, match="no protocol"):
            await asyncio.get_running_loop().connect_accepted_socket(no_protocol, one)
        await belongs_to_the_caller_as_in_asyncio(one, peer)


async def connection_on(streams, factory, sock):
    loop = asyncio.get_running_loop()
    if streams.name == "unix":
        return await loop.create_unix_connection(factory, sock=sock)
    return await loop.create_connection(factory, sock=sock)


@on_ours_and_asyncio
async def test_a_factory_that_raises_leaves_nothing_of_the_connection_that_was_made_for_it(streams):
    with streams.bound() as listening:
        listening.listen()
        before = opened()
        with collected(), pytest.raises(Boom, match="no protocol"):
            await streams.connect(no_protocol, listening.getsockname())
        drop_waiting(listening)
        await nothing_left(before)


@on_ours_and_asyncio
async def test_a_servers_factory_that_raises_drops_that_connection_alone(streams):
    makers = iter([no_protocol, made := Made()])

    def factory():
        return next(makers)()

    with loop_reports() as reports, collected():
        async with streams.served(factory) as server:
            with await streams.dial(address_of(server)) as first:
                gc.collect()
                assert await ends(first) == b""
            with await streams.dial(address_of(server)) as second:
                await send(second, b"x")
                (protocol,) = await made.count(1)
                await protocol.received(b"x")
                protocol.transport.close()
                await protocol.called("connection_lost")
    assert reports == []  # debug mode alone tells


@on_ours_and_asyncio
async def test_in_debug_mode_a_servers_factory_that_raises_is_reported(streams):
    asyncio.get_running_loop().set_debug(True)
    with loop_reports() as reports, collected():
        async with streams.served(no_protocol) as server:
            with await streams.dial(address_of(server)):
                while not reports:
                    await asyncio.sleep(0)
        told = [(report["message"], type(report["exception"])) for report in reports]
        reports.clear()
    asyncio.get_running_loop().set_debug(False)
    assert told == [("Error on transport creation for incoming connection", Boom)]


@on_ours_and_asyncio
async def test_a_socket_of_a_server_is_closed_with_the_server(streams):
    sock = streams.bound()
    loop = asyncio.get_running_loop()
    make = loop.create_unix_server if streams.name == "unix" else loop.create_server
    server = await make(Plain, sock=sock)
    assert server.sockets[0].fileno() == sock.fileno()
    server.close()
    assert sock.fileno() == -1


@on_ours_and_asyncio
async def test_an_address_in_use_is_an_error_that_leaves_nothing():
    with stdlib.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        before = opened()
        with pytest.raises(OSError, match="in use"):
            await asyncio.get_running_loop().create_server(Plain, *taken.getsockname())
        await nothing_left(before)


# ---------------------------------------------------------------- a peer that is faster


@on_ours_and_asyncio
async def test_a_connection_that_is_reset_before_it_has_a_transport_is_lost_with_the_reset():
    """It was made, so that is no failure of `connect_accepted_socket`."""
    one, peer = Streams().sockets()
    peer.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(Plain, one)
    await protocol.called("connection_lost")
    assert protocol.log == ["connection_made", "connection_lost"]
    assert isinstance(protocol.error, ConnectionResetError)


@on_ours_and_asyncio
async def test_a_connection_whose_peer_has_ended_before_it_has_a_transport_has_its_bytes_and_its_end(streams):
    one, peer = streams.sockets()
    peer.send(b"hello and goodbye")
    peer.close()
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(Plain, one)
    await protocol.called("connection_lost")
    assert protocol.log == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.data == b"hello and goodbye"
