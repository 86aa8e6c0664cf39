"""[A14] `install` puts our connections in place of a loop's own, and takes them back."""

from __future__ import annotations

import asyncio
import socket

import pytest
from support.asyncio_loops import FOREIGN, close_host, each_foreign_host, new_host, on_loop, on_loops, open_host, run_in
from support.protocols import Plain
from support.streams import abort, address_of
from support.tls_peer import client_context, server_context

import pybuntcp
from pybuntcp import _aio, aio

on_foreign = on_loops(*FOREIGN)


async def connection():
    """The transport that the running loop makes of a new connection."""
    ours, theirs = socket.socketpair()
    transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Plain, ours)
    await abort(protocol)
    theirs.close()
    return transport


async def is_ours():
    return isinstance(await connection(), _aio.SocketTransport)


@on_foreign
async def test_methods_of_the_loop_make_our_connections_until_it_is_uninstalled():
    assert not await is_ours()
    aio.install()
    assert aio.is_installed(asyncio.get_running_loop())
    assert await is_ours()
    aio.uninstall()
    assert not aio.is_installed(asyncio.get_running_loop())
    assert not await is_ours()


@on_foreign
async def test_it_is_a_context_manager():
    loop = asyncio.get_running_loop()
    with aio.install(loop) as installed:
        assert installed.loop is loop
        assert await is_ours()
    assert not await is_ours()


@on_foreign
async def test_it_is_undone_when_the_block_raises():
    with pytest.raises(ZeroDivisionError), aio.install():
        raise ZeroDivisionError
    assert not await is_ours()


@on_foreign
async def test_to_install_twice_is_to_install_once():
    first = aio.install()
    with aio.install():
        pass
    assert await is_ours()  # the inner call had changed nothing, and took nothing back
    first.uninstall()
    assert not await is_ours()
    first.uninstall()
    aio.uninstall()
    with aio.install():
        first.uninstall()  # it has nothing to take back any more
        assert await is_ours()


@on_foreign
async def test_what_was_made_meanwhile_stays_what_it_is():
    accepted = Plain()
    with aio.install():
        server = await asyncio.get_running_loop().create_server(lambda: accepted, "127.0.0.1", 0)
    transport, protocol = await aio.create_connection(Plain, *address_of(server))
    transport.write(b"after")
    await accepted.received(b"after")
    assert isinstance(accepted.transport, _aio.SocketTransport)
    await abort(accepted, protocol)
    server.close()
    await server.wait_closed()


@on_foreign
async def test_attributes_that_the_loop_had_come_back():
    loop = asyncio.get_running_loop()
    before = dict(vars(loop))
    with aio.install():
        pass
    assert vars(loop) == before

    async def mine(*args, **options):
        return args

    loop.create_connection = mine
    with aio.install():
        assert loop.create_connection is not mine
    assert loop.create_connection is mine
    del loop.create_connection


@on_foreign
async def test_the_class_and_other_loops_are_left_alone():
    loop = asyncio.get_running_loop()
    own = type(loop).create_connection
    with aio.install():
        assert type(loop).create_connection is own
        assert "create_connection" in vars(loop)


@each_foreign_host
def test_it_may_be_installed_before_the_loop_runs(host):
    with open_host(host) as loop:
        aio.install(loop)
        assert run_in(loop, is_ours)


def test_without_a_loop_it_is_a_runtime_error():
    for function in (aio.install, aio.uninstall):
        with pytest.raises(RuntimeError, match="no running event loop"):
            function()


@on_loop("native")
async def test_a_loop_of_ours_has_nothing_to_install():
    before = dict(vars(asyncio.get_running_loop()))
    with aio.install() as installed:
        assert vars(asyncio.get_running_loop()) == before
        assert await is_ours()
    installed.uninstall()
    aio.uninstall()
    assert await is_ours()


def test_what_is_no_event_loop_is_a_type_error():
    with pytest.raises(TypeError, match="an event loop is wanted, not 'loop'"):
        aio.install("loop")


def test_the_extension_type_of_uvloop_is_a_type_error_that_says_what_to_do():
    bare = pytest.importorskip("uvloop.loop").Loop()
    try:
        with pytest.raises(
            TypeError, match=r"Make the loop of a subclass of it, or call pybuntcp.aio.create_connection"
        ):
            aio.install(bare)
    finally:
        bare.close()


# ---------------------------------------------------------------- what libraries call


@on_foreign
async def test_asyncios_streams_are_on_our_sockets():
    async def serve(reader, writer):
        served.append(writer.transport)
        writer.write(await reader.readline())
        writer.close()

    served = []
    with aio.install():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*address_of(server))
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            assert isinstance(writer.transport, _aio.SocketTransport)
            assert isinstance(served[0], _aio.SocketTransport)
            writer.close()
            await writer.wait_closed()


@on_foreign
async def test_a_transport_that_the_loop_made_before_goes_over_to_tls_by_the_loop():
    loop, accepted, over = asyncio.get_running_loop(), Plain(), []
    server = await loop.create_server(lambda: accepted, "127.0.0.1", 0)
    plain, protocol = await loop.create_connection(Plain, *address_of(server))
    await accepted.called("connection_made")
    with aio.install():
        theirs = asyncio.ensure_future(loop.start_tls(accepted.transport, accepted, server_context(), server_side=True))
        over.append(await loop.start_tls(plain, protocol, client_context(), server_hostname="127.0.0.1"))
        over.append(await theirs)
    over[0].write(b"secret")
    await accepted.received(b"secret")
    for each in over:
        each.abort()
    await protocol.called("connection_lost")
    await accepted.called("connection_lost")
    server.close()


@on_foreign
async def test_a_file_is_sent_by_the_loops_own_method(tmp_path):
    (tmp_path / "file").write_bytes(bytes(100_000))
    received = Plain()
    with aio.install():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: received, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Plain, *address_of(server))
        with (tmp_path / "file").open("rb") as file:
            assert await loop.sendfile(transport, file) == 100_000
        await received.received(bytes(100_000))
        await abort(received, protocol)
        server.close()


# ---------------------------------------------------------------- several at a time


@each_foreign_host
def test_loops_of_several_threads_do_not_meet(host):
    async def main():
        with aio.install():
            made = Plain()
            server = await asyncio.get_running_loop().create_server(lambda: made, "127.0.0.1", 0)
            transport, protocol = await asyncio.get_running_loop().create_connection(Plain, *address_of(server))
            for number in range(50):
                transport.write(bytes([number]))
                await made.received(bytes(range(number + 1)))
            await abort(made, protocol)
            server.close()
        return pybuntcp.stats()["open_listeners"]

    async def several():
        def thread():
            loop = new_host(host)
            try:
                return run_in(loop, main)
            finally:
                close_host(loop)

        return await asyncio.gather(*(asyncio.to_thread(thread) for _ in range(4)), main())

    with open_host(host) as loop:
        assert run_in(loop, several) is not None
